//! What happens to idle connections by itself: they expire, and their peers leave or speak.
//!
//! ```text
//!   park --> agenda: "visit this shard in 10 ms" --.            .--> expired: closed
//!            (unless it is to be visited anyway)   v            |
//!                              the watch: sleep -> visit -------+--> still there: into the idle set
//!                                           ^                   |
//!              idle set: this one speaks ---'--> look at it ----+--> data, end, error: closed
//!                                                               '--> noise (a TLS ticket): stays
//! ```
//!
//! One coroutine a runtime, while there are idle connections at all. It is not in anybody's way:
//!
//! * Parking and taking make no system call for it. A connection goes into the [`IdleSet`] only
//!   when it has been idle for a while ([`PATIENCE`]); until then, that it is looked at when it is
//!   taken has to do (or is known to be quiet then: see `quiet.rs`). At the pace of a busy server
//!   few ever get there.
//! * A shard is on the agenda once, with the time of the next thing to do there; parking on a
//!   shard that is to be visited soon does not touch the agenda. So idle timeouts cost no timer
//!   each.
//! * With nothing on the agenda the coroutine ends. It keeps no runtime from ending either.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Pooled;
use super::idle_set::IdleSet;
use super::pools::Pools;
use super::shard::Entry;
use super::stock::Stock;
use crate::clock::{self, Nanos};
use crate::thread;

/// How long a connection is idle before it is watched.
const PATIENCE: Nanos = 10_000_000;

/// What the watch of one runtime knows.
pub(crate) struct Watch<C: Pooled> {
    agenda: Mutex<Agenda<C>>,
    sites: Mutex<HashMap<u64, Site<C>>>,
    next_token: AtomicU64,
    set: OnceLock<IdleSet>,
}

struct Agenda<C: Pooled> {
    visits: BTreeMap<Visit, Arc<Stock<C>>>,
    /// The coroutine is there, or is being started.
    is_running: bool,
    /// It sleeps, and gets up then.
    sleeps_until: Nanos,
}

/// When, and of which stock (its address) which shard.
type Visit = (Nanos, usize, usize);

/// Where a connection of the idle set is parked.
struct Site<C: Pooled> {
    stock: Arc<Stock<C>>,
    shard: usize,
    id: u64,
    fd: RawFd,
}

/// What is to be done so that the watch comes in time.
#[must_use]
pub(super) enum Call {
    Nothing,
    Ring,
    Start,
}

impl<C: Pooled> Watch<C> {
    pub(super) fn new() -> Watch<C> {
        let agenda =
            Agenda { visits: BTreeMap::new(), is_running: false, sleeps_until: Nanos::MAX };
        Watch {
            agenda: Mutex::new(agenda),
            sites: Mutex::default(),
            next_token: AtomicU64::new(0),
            set: OnceLock::new(),
        }
    }

    pub(super) fn patience(&self) -> Nanos {
        PATIENCE
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda<C>> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sites(&self) -> MutexGuard<'_, HashMap<u64, Site<C>>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a shard visited at `at`, rather than `before`. For who has the shard locked; the call
    /// is to be made when it is not.
    pub(super) fn expect(
        &self,
        stock: &Arc<Stock<C>>,
        shard: usize,
        before: Nanos,
        at: Nanos,
    ) -> Call {
        let address = Arc::as_ptr(stock).addr();
        let mut agenda = self.agenda();
        agenda.visits.remove(&(before, address, shard));
        if at == Nanos::MAX {
            // With nothing left to do it ends.
            let is_over = agenda.visits.is_empty() && agenda.is_running;
            return if is_over { Call::Ring } else { Call::Nothing };
        }
        agenda.visits.insert((at, address, shard), Arc::clone(stock));
        if !agenda.is_running {
            agenda.is_running = true;
            Call::Start
        } else if at < agenda.sleeps_until {
            // It will find out when it wakes up, so one ring will do.
            agenda.sleeps_until = 0;
            Call::Ring
        } else {
            Call::Nothing
        }
    }

    pub(super) fn make(&self, call: Call, pools: &Arc<Pools<C>>) {
        match call {
            Call::Nothing => {}
            Call::Ring => {
                if let Some(set) = self.set.get() {
                    set.ring();
                }
            }
            Call::Start => {
                if !pools.start_watch() {
                    // Without a watch connections are looked at when they are taken.
                    self.agenda().is_running = false;
                }
            }
        }
    }

    /// Adds a connection to the idle set; the number under which it is there, if it is.
    pub(super) fn add(&self, stock: &Arc<Stock<C>>, shard: usize, entry: &Entry<C>) -> Option<u64> {
        let (set, fd) = (self.set.get()?, entry.connection.descriptor()?);
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let stock = Arc::clone(stock);
        let site = Site { stock, shard, id: entry.id, fd: fd.as_raw_fd() };
        let mut sites = self.sites();
        set.add(fd, token).ok()?;
        sites.insert(token, site);
        Some(token)
    }

    /// A connection leaves the pool.
    pub(super) fn forget(&self, entry: &Entry<C>) {
        let Some(token) = entry.token else { return };
        let mut sites = self.sites();
        let site = sites.remove(&token);
        if let (Some(set), Some(fd)) = (self.set.get(), entry.connection.descriptor()) {
            set.remove(fd);
        }
        drop(sites);
        drop(site);
    }

    fn rearm(&self, token: u64) {
        let sites = self.sites();
        if let (Some(site), Some(set)) = (sites.get(&token), self.set.get()) {
            // Under the lock, so that the descriptor is still this one's.
            let _ = set.rearm(site.fd, token);
        }
    }

    /// Forgets everything.
    pub(super) fn close(&self) {
        let visits = std::mem::take(&mut self.agenda().visits);
        let sites = std::mem::take(&mut *self.sites());
        drop((visits, sites));
        if let Some(set) = self.set.get() {
            set.ring();
        }
    }

    /// The coroutine: until there is nothing left to watch.
    pub(super) fn run(&self) {
        let mut running = Running { watch: self, is_over: false };
        while let Some(next) = self.next_visit(&mut running) {
            self.sleep_until(next);
            self.agenda().sleeps_until = 0;
            self.hear();
            self.go_round(clock::now());
        }
    }

    /// When to get up. `None` when there is nothing to do, and from then on nobody who does it.
    fn next_visit(&self, running: &mut Running<'_, C>) -> Option<Nanos> {
        let mut agenda = self.agenda();
        let next = agenda.visits.first_key_value().map(|((at, ..), _)| *at);
        agenda.is_running = next.is_some();
        agenda.sleeps_until = next.unwrap_or(Nanos::MAX);
        running.is_over = next.is_none();
        next
    }

    fn sleep_until(&self, at: Nanos) {
        let left = Duration::from_nanos(at.saturating_sub(clock::now()));
        let set = match self.set.get() {
            Some(set) => Some(set),
            None => IdleSet::open().ok().map(|set| self.set.get_or_init(|| set)),
        };
        match set {
            // How it ended is found out by looking.
            Some(set) => drop(set.wait(left)),
            // No descriptors: without the set nobody can ring either.
            None => thread::sleep(left.min(Duration::from_nanos(PATIENCE))),
        }
    }

    /// Looks at those that speak.
    pub(super) fn hear(&self) {
        let Some(set) = self.set.get() else { return };
        set.take_ready(|token| {
            let site =
                self.sites().get(&token).map(|site| (Arc::clone(&site.stock), site.shard, site.id));
            let Some((stock, shard, id)) = site else { return };
            if !stock.look_at(shard, id) {
                self.rearm(token);
            }
        });
    }

    /// Makes the visits that are due.
    pub(super) fn go_round(&self, now: Nanos) {
        while let Some((visit, stock)) = self.due(now) {
            let (at, _, shard) = visit;
            stock.visit(shard, at, now);
        }
    }

    fn due(&self, now: Nanos) -> Option<(Visit, Arc<Stock<C>>)> {
        let mut agenda = self.agenda();
        let first = agenda.visits.first_entry()?;
        (first.key().0 <= now).then(|| first.remove_entry())
    }
}

/// While the coroutine runs; also if it is cancelled.
struct Running<'a, C: Pooled> {
    watch: &'a Watch<C>,
    is_over: bool,
}

impl<C: Pooled> Drop for Running<'_, C> {
    fn drop(&mut self) {
        if !self.is_over {
            self.watch.agenda().is_running = false;
        }
    }
}
