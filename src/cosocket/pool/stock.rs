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
    plan: Arc<Plan<C>>,
    pools: Arc<Pools<C>>,
    places: Places,
    shards: Box<[Shard<C>]>,
    queue: Queue<Grant<C>>,
    counters: Counters,
}

/// What one who waited gets.
struct Grant<C: Pooled> {
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
                (!entry.connection.is_quiet()).then_some(Eviction::Stale)
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
    fn evict_oldest(self: &Arc<Self>, now: Nanos) {
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
    fn take_from(
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
    fn ask_for_visit(self: &Arc<Self>, idle: &mut Idle<C>, shard: usize) -> Call {
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
    fn pass(
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

    /// The watch comes by, as it was asked to at `asked`: closes what has expired, has the rest
    /// watched, and is told when to come again.
    pub(super) fn visit(self: &Arc<Self>, shard: usize, asked: Nanos, now: Nanos) {
        let watch = self.pools.watch();
        let mut expired = Vec::new();
        let mut idle = self.shards[shard].lock();
        if idle.visit_at != asked {
            return;
        }
        while let Some(id) = idle.expired(now)
            && self.places.take_one_more()
        {
            expired.extend(idle.remove(id));
        }
        let until = now.saturating_sub(watch.patience());
        idle.settle(until, |entry| entry.token = watch.add(self, shard, entry));
        // What has expired, and is another's by right, is gone in a moment.
        idle.visit_at = idle.due(watch.patience()).max(now + watch.patience() / 10);
        // The one who is called is the caller.
        let (Call::Nothing | Call::Ring | Call::Start) =
            watch.expect(self, shard, asked, idle.visit_at);
        drop(idle);
        for entry in expired {
            watch.forget(&entry);
            let reason = self.why_expired(&entry, now);
            self.close(entry, reason, now);
        }
        self.retire_if_empty();
    }

    /// The watch has heard of a connection: closes it, unless that was nothing but noise of its
    /// transport. False if it is to be heard of again.
    pub(super) fn look_at(self: &Arc<Self>, shard: usize, id: u64) -> bool {
        let mut is_there = false;
        let taken = self.take_from(shard, |idle| {
            is_there = idle.has(id);
            (is_there && self.places.check_out()).then(|| idle.remove(id)).flatten()
        });
        // All that are idle may be somebody's by right: then who takes this one looks at it.
        let Some(mut entry) = taken else { return !is_there };
        let mut ticket = Ticket::vacant(self);
        if !entry.connection.is_quiet() {
            self.pools.watch().forget(&entry);
            self.close(entry, Eviction::Stale, clock::now());
            return true;
        }
        ticket.set_in_use();
        self.put_back(shard, entry, ticket);
        false
    }

    /// Puts a connection back that was looked at.
    fn put_back(self: &Arc<Self>, shard: usize, entry: Entry<C>, mut ticket: Ticket<C>) {
        let mut entry = entry;
        let is_evicting = loop {
            let mut idle = self.shards[shard].lock();
            if self.pools.is_closed() {
                drop(idle);
                self.pools.watch().forget(&entry);
                return self.close(entry, Eviction::Shutdown, clock::now());
            }
            match self.places.shelve(self.plan.settings.limits, true) {
                Shelving::MustPass => {
                    idle.counts.taken += 1;
                    drop(idle);
                    self.pools.watch().forget(&entry);
                    entry.token = None;
                    match self.pass(entry.connection, Some(ticket)) {
                        Ok(_) => return,
                        Err((connection, its)) => {
                            entry.connection = connection;
                            ticket = its.expect("it was passed");
                            self.shards[shard].lock().counts.taken -= 1;
                        }
                    }
                }
                shelving => {
                    idle.put_back(entry);
                    let call = self.ask_for_visit(&mut idle, shard);
                    drop(idle);
                    self.pools.watch().make(call, &self.pools);
                    break shelving == Shelving::Evicting;
                }
            }
        };
        drop(ticket.into_stock());
        if is_evicting {
            self.evict_oldest(clock::now());
        }
    }

    /// Closes all that are idle.
    pub(super) fn close_idle(self: &Arc<Self>, reason: Eviction) {
        let now = clock::now();
        for shard in 0..self.shards.len() {
            let take = |idle: &mut Idle<C>| {
                let is_one = idle.oldest().is_some() && self.places.take_one_more();
                is_one.then(|| idle.pop_oldest()).flatten()
            };
            while let Some(entry) = self.take_from(shard, take) {
                self.pools.watch().forget(&entry);
                self.close(entry, reason, now);
            }
        }
        self.retire_if_empty();
    }

    /// Closes an idle connection that is on no shard any more.
    fn close(&self, entry: Entry<C>, reason: Eviction, now: Nanos) {
        let counter = match reason {
            Eviction::Full | Eviction::Shutdown => &self.counters.evicted,
            Eviction::Idle => &self.counters.expired,
            Eviction::Age => &self.counters.aged,
            Eviction::Stale => &self.counters.stale,
        };
        counter.one_more();
        let idle_for = Duration::from_nanos(now.saturating_sub(entry.parked_at));
        entry.connection.evict(&self.plan.settings.hooks, reason, idle_for);
    }

    fn why_expired(&self, entry: &Entry<C>, now: Nanos) -> Eviction {
        let is_aged = self.plan.settings.too_old_at(entry.connection.opened_at()) <= now;
        if is_aged { Eviction::Age } else { Eviction::Idle }
    }

    /// Whether it may be forgotten; once this has said so, it is of no use any more.
    pub(super) fn try_retire(&self) -> bool {
        self.places.retire()
    }

    fn retire_if_empty(self: &Arc<Self>) {
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
