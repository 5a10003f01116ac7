//! The connections of one key, of all workers: who gets one, and what becomes of one given back.
//!
//! ```text
//!   acquire --> idle here? -----> fit? --------------------------------> a connection
//!      |    --> idle elsewhere? --'  `- no: closed, next --.
//!      |    --> a place? ----------------------------------+-----------> a place: open one
//!      |    --> room in the queue? --> waits; granted either of the two
//!      `------> too many wait
//!
//!   park    --> somebody waits? --> the head of the queue gets it
//!           --> this worker's shard; over the size, the one idle for longest is closed
//! ```
//!
//! Locks are held one at a time, for some instructions, and no code of others runs under them:
//! connections are looked at and closed outside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::metrics::{Counters, PoolMetrics};
use super::places::{Admission, Places, Release, Shelving};
use super::plan::Plan;
use super::pools::Pools;
use super::queue::{Ended, Queue};
use super::settings::Settings;
use super::shard::{Entry, Idle, Shard};
use super::ticket::Ticket;
use super::watch::Call;
use super::{Eviction, Pooled};
use crate::clock::{self, NEVER, Nanos};
use crate::io_handle::bounds::Bounds;
use crate::{current, io_handle};

/// The connections of one key. It lives for as long as there are any, or somebody waits for one.
pub(crate) struct Stock<C: Pooled> {
    key: Key,
    pub(super) plan: Arc<Plan<C>>,
    pub(super) pools: Arc<Pools<C>>,
    pub(super) places: Places,
    pub(super) shards: Box<[Shard<C>]>,
    pub(super) queue: Queue<Grant<C>>,
    pub(super) counters: Counters,
}

/// What one who waited gets.
pub(super) struct Grant<C: Pooled> {
    ticket: Ticket<C>,
    connection: Option<C>,
}

/// What one who asked for a connection gets: a place, and perhaps a connection in it.
pub(crate) struct Acquired<C: Pooled> {
    /// `None` when it is to be opened.
    pub(crate) connection: Option<C>,
    pub(crate) ticket: Ticket<C>,
}

/// Why one who asked for a connection gets none.
#[derive(Debug)]
pub(crate) enum Refusal {
    TooManyWaiting,
    /// It waited, until its deadline.
    TimedOut,
    /// Another closed the socket while it waited.
    Cut,
    /// A limit around the call has passed while it waited.
    Interrupted(io::Error),
    /// This stock is no more.
    Retired,
}

impl<C: Pooled> Stock<C> {
    pub(super) fn new(key: Key, plan: Arc<Plan<C>>, pools: Arc<Pools<C>>) -> Stock<C> {
        Stock {
            key,
            plan,
            places: Places::new(),
            shards: (0..pools.shards()).map(|_| Shard::new()).collect(),
            pools,
            queue: Queue::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn settings(&self) -> &Settings<C::Hooks> {
        &self.plan.settings
    }

    pub(super) fn plan(&self) -> &Arc<Plan<C>> {
        &self.plan
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn pools(&self) -> &Arc<Pools<C>> {
        &self.pools
    }

    /// An idle connection, or a place for a new one; if there is neither, the caller waits within
    /// `bounds`, behind those who wait already.
    pub(crate) fn acquire(self: &Arc<Self>, bounds: &Bounds<'_>) -> Result<Acquired<C>, Refusal> {
        match self.places.admit(self.plan.settings.limits) {
            Admission::Idle => Ok(self.take_reserved()),
            Admission::Place => Ok(self.place()),
            Admission::Queued => self.queue_up(bounds),
            Admission::Refused => Err(self.refuse()),
            Admission::Retired => Err(Refusal::Retired),
        }
    }

    /// A place for one more connection, beside those that are idle; never waits.
    pub(crate) fn reserve(self: &Arc<Self>) -> Result<Ticket<C>, Refusal> {
        match self.places.reserve(self.plan.settings.limits) {
            Admission::Place => Ok(self.place().ticket),
            Admission::Retired => Err(Refusal::Retired),
            _ => Err(Refusal::TooManyWaiting),
        }
    }

    fn refuse(&self) -> Refusal {
        self.counters.refused.one_more();
        Refusal::TooManyWaiting
    }

    /// For who has just been given the right to one.
    fn place(self: &Arc<Self>) -> Acquired<C> {
        let mut ticket = Ticket::vacant(self);
        ticket.set_connecting();
        Acquired { connection: None, ticket }
    }

    fn queue_up(self: &Arc<Self>, bounds: &Bounds<'_>) -> Result<Acquired<C>, Refusal> {
        if current::worker().is_some_and(|worker| worker.is_unwinding()) {
            return Err(Refusal::Interrupted(io_handle::unwinding()));
        }
        let mut queue = self.queue.lock();
        let queued = match self.places.admit_or_queue(self.plan.settings.limits) {
            Admission::Queued => queue.join(),
            admission => {
                drop(queue);
                return match admission {
                    Admission::Idle => Ok(self.take_reserved()),
                    Admission::Place => Ok(self.place()),
                    Admission::Retired => Err(Refusal::Retired),
                    _ => Err(self.refuse()),
                };
            }
        };
        drop(queue);
        self.counters.waited.one_more();
        let deadline = bounds.deadline_from(clock::now()).unwrap_or(NEVER);
        match self.queue.wait(queued, deadline, bounds.cut, || self.places.leave_queue()) {
            Ok(Grant { ticket, connection }) => Ok(Acquired { connection, ticket }),
            Err(Ended::TimedOut) => {
                self.counters.timed_out.one_more();
                Err(Refusal::TimedOut)
            }
            Err(Ended::Cut) => Err(Refusal::Cut),
            Err(Ended::Interrupted(error)) => Err(Refusal::Interrupted(error)),
        }
    }

    /// For who has the right to one idle connection, and a place. Those that are of no use are
    /// closed on the way; if no other is left, the place is for a new one.
    fn take_reserved(self: &Arc<Self>) -> Acquired<C> {
        let mut ticket = Ticket::vacant(self);
        let here = self.pools.shard_here();
        loop {
            let mut entry = self.fetch(here);
            self.pools.watch().forget(&entry);
            let now = clock::now();
            let reason = if entry.expires_at <= now {
                Some(self.why_expired(&entry, now))
            } else {
                let connection = &mut entry.connection;
                let is_fit = connection.is_known_quiet() || connection.is_quiet();
                (!is_fit).then_some(Eviction::Stale)
            };
            let Some(reason) = reason else {
                ticket.set_in_use();
                return Acquired { connection: Some(entry.connection), ticket };
            };
            self.counters.unfit.one_more();
            self.close(entry, reason, now);
            if !self.places.take_one_more() {
                ticket.set_connecting();
                return Acquired { connection: None, ticket };
            }
        }
    }

    /// The connection that was parked last: on this worker, or else on any.
    fn fetch(self: &Arc<Self>, here: usize) -> Entry<C> {
        let take = |shard| {
            self.take_from(shard, |idle| {
                let entry = idle.pop()?;
                idle.counts.taken += 1;
                Some(entry)
            })
        };
        if let Some(entry) = take(here) {
            return entry;
        }
        loop {
            // Whoever has the right to one will find one: if it has moved, another has got its.
            let newest = (0..self.shards.len()).max_by_key(|&at| self.shards[at].lock().newest());
            if let Some(entry) = newest.and_then(take) {
                return entry;
            }
            std::hint::spin_loop();
        }
    }

    /// Closes the connection that has been idle for longest; for who has the right to one.
    pub(super) fn evict_oldest(self: &Arc<Self>, now: Nanos) {
        let oldest = |&at: &usize| self.shards[at].lock().oldest().unwrap_or(NEVER);
        let entry = loop {
            let shard = (0..self.shards.len()).min_by_key(oldest);
            if let Some(entry) = shard.and_then(|at| self.take_from(at, Idle::pop_oldest)) {
                break entry;
            }
            std::hint::spin_loop();
        };
        self.pools.watch().forget(&entry);
        self.close(entry, Eviction::Full, now);
    }

    /// Takes something off a shard. If nothing is left there, the watch need not come by, unless
    /// it does so in a moment.
    pub(super) fn take_from(
        self: &Arc<Self>,
        shard: usize,
        take: impl FnOnce(&mut Idle<C>) -> Option<Entry<C>>,
    ) -> Option<Entry<C>> {
        let watch = self.pools.watch();
        let mut idle = self.shards[shard].lock();
        let entry = take(&mut idle)?;
        let soon = entry.parked_at.saturating_add(watch.patience());
        if idle.oldest().is_none() && idle.visit_at > soon && idle.visit_at != NEVER {
            let before = std::mem::replace(&mut idle.visit_at, NEVER);
            let call = watch.expect(self, shard, before, NEVER);
            drop(idle);
            watch.make(call, &self.pools);
        }
        Some(entry)
    }

    /// Parks a connection, for others to take; `idle_timeout` of `None` is for ever. `ticket` is
    /// its place in this very stock, if it has one. One that is too old is closed instead, as all
    /// are when the runtime ends.
    ///
    /// # Errors
    ///
    /// The connection, if this stock is no more. (One with a ticket keeps it in being.)
    pub(crate) fn park(
        self: &Arc<Self>,
        connection: C,
        ticket: Option<Ticket<C>>,
        idle_timeout: Option<Duration>,
    ) -> Result<(), C> {
        let now = clock::now();
        let too_old_at = self.plan.settings.too_old_at(connection.opened_at());
        if too_old_at <= now {
            connection.evict(&self.plan.settings.hooks, Eviction::Age, Duration::ZERO);
            return Ok(());
        }
        let idle_until = idle_timeout.map_or(NEVER, |timeout| clock::later(now, timeout));
        let entry = Entry::new(connection, now, idle_until.min(too_old_at));
        self.shelve(entry, ticket)
    }

    fn shelve(
        self: &Arc<Self>,
        mut entry: Entry<C>,
        mut ticket: Option<Ticket<C>>,
    ) -> Result<(), C> {
        let here = self.pools.shard_here();
        let now = entry.parked_at;
        let is_evicting = loop {
            let mut idle = self.shards[here].lock();
            if self.pools.is_closed() {
                drop(idle);
                entry.connection.evict(
                    &self.plan.settings.hooks,
                    Eviction::Shutdown,
                    Duration::ZERO,
                );
                return Ok(());
            }
            match self.places.shelve(self.plan.settings.limits, ticket.is_some()) {
                Shelving::Retired => return Err(entry.connection),
                Shelving::MustPass => {
                    drop(idle);
                    match self.pass(entry.connection, ticket) {
                        Ok(is_new) => {
                            self.counters.handed_over.one_more();
                            self.count_adopted(is_new);
                            return Ok(());
                        }
                        Err((unwanted, its)) => (entry.connection, ticket) = (unwanted, its),
                    }
                }
                shelving => {
                    idle.push(entry);
                    idle.counts.parked += 1;
                    let call = self.ask_for_visit(&mut idle, here);
                    drop(idle);
                    self.count_adopted(ticket.is_none());
                    drop(ticket.map(Ticket::into_stock));
                    self.pools.watch().make(call, &self.pools);
                    break shelving == Shelving::Evicting;
                }
            }
        };
        if is_evicting {
            self.evict_oldest(now);
        }
        Ok(())
    }

    /// After a push: has the watch come by in time, if it does not anyhow.
    pub(super) fn ask_for_visit(self: &Arc<Self>, idle: &mut Idle<C>, shard: usize) -> Call {
        let watch = self.pools.watch();
        let (before, due) = (idle.visit_at, idle.due_for_newest(watch.patience()));
        if due >= before {
            return Call::Nothing;
        }
        idle.visit_at = due;
        watch.expect(self, shard, before, due)
    }

    fn count_adopted(&self, is_adopted: bool) {
        if is_adopted {
            self.counters.adopted.one_more();
        }
    }

    /// Hands a connection to the head of the queue, if anybody is left there; true if it had no
    /// place before.
    pub(super) fn pass(
        self: &Arc<Self>,
        connection: C,
        ticket: Option<Ticket<C>>,
    ) -> Result<bool, (C, Option<Ticket<C>>)> {
        let mut queue = self.queue.lock();
        if queue.is_empty() {
            return Err((connection, ticket));
        }
        let is_new = ticket.is_none();
        self.places.pass(!is_new);
        let ticket = ticket.unwrap_or_else(|| Ticket::in_use(self));
        let granted = queue.grant(Grant { ticket, connection: Some(connection) });
        drop(queue);
        granted.wake();
        Ok(is_new)
    }

    /// A place's connection is gone, and its ticket.
    pub(super) fn release(self: Arc<Self>) {
        loop {
            match self.places.release(self.plan.settings.limits) {
                Release::Freed { is_empty } => {
                    if is_empty {
                        self.pools.retire(&self);
                    }
                    return;
                }
                Release::MustPass => {
                    let mut queue = self.queue.lock();
                    if queue.is_empty() {
                        continue;
                    }
                    self.places.pass(true);
                    let Acquired { ticket, connection } = self.place();
                    let granted = queue.grant(Grant { ticket, connection });
                    drop(queue);
                    return granted.wake();
                }
            }
        }
    }

    /// Whether it may be forgotten; once this has said so, it is of no use any more.
    pub(super) fn try_retire(&self) -> bool {
        self.places.retire()
    }

    pub(super) fn retire_if_empty(self: &Arc<Self>) {
        let occupancy = self.places.occupancy();
        if (occupancy.out, occupancy.idle, occupancy.queued) == (0, 0, 0) {
            self.pools.retire(self);
        }
    }

    pub(crate) fn metrics(&self) -> PoolMetrics {
        let Counters { connecting, misses, opened, failed, adopted, closed, .. } = &self.counters;
        let Counters { evicted, expired, aged, stale, waited, timed_out, .. } = &self.counters;
        let Counters { refused, handed_over, unfit, .. } = &self.counters;
        let (mut parked, mut taken) = (handed_over.read(), handed_over.read());
        for shard in &self.shards {
            let counts = shard.lock().counts;
            parked += counts.parked;
            taken += counts.taken;
        }
        let occupancy = self.places.occupancy();
        let connecting = connecting.read();
        PoolMetrics {
            idle: occupancy.idle.into(),
            in_use: u64::from(occupancy.out).saturating_sub(connecting),
            connecting,
            queued: occupancy.queued.into(),
            size: self.plan.settings.limits.size.into(),
            backlog: self.plan.settings.limits.backlog.map(u64::from),
            hits: taken.saturating_sub(unfit.read()),
            misses: misses.read(),
            opened: opened.read(),
            failed: failed.read(),
            adopted: adopted.read(),
            parked,
            closed: closed.read(),
            evicted: evicted.read(),
            expired: expired.read(),
            aged: aged.read(),
            stale: stale.read(),
            waited: waited.read(),
            timed_out: timed_out.read(),
            refused: refused.read(),
        }
    }
}
