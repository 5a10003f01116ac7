//! All pools of one runtime, by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::key::Key;
use super::metrics::PoolMetrics;
use super::plan::Plan;
use super::recent::{Recent, Shortcut};
use super::settings::Settings;
use super::stock::{Acquired, Refusal, Stock};
use super::ticket::Ticket;
use super::watch::Watch;
use super::{Eviction, Pooled};
use crate::current;
use crate::io_handle::bounds::Bounds;
use crate::shared::{Options, Shared};
use crate::{registry, thread};

/// All pools of one runtime.
pub(crate) struct Pools<C: Pooled> {
    stocks: RwLock<Stocks<C>>,
    plans: Mutex<HashMap<Box<str>, Weak<Plan<C>>>>,
    /// What pools did that are no more.
    past: Mutex<PoolMetrics>,
    /// One for each worker, and one for everybody else.
    recent: Box<[Recent<C>]>,
    is_closed: AtomicBool,
    watch: Watch<C>,
    /// None in tests.
    runtime: OnceLock<Weak<Shared>>,
    /// Of its first worker.
    mailbox: OnceLock<usize>,
}

type Stocks<C> = HashMap<Key, Arc<Stock<C>>>;

// Hooks are called outside of all locks, so none of them leaves anything half done.
impl<C: Pooled> UnwindSafe for Pools<C> {}
impl<C: Pooled> RefUnwindSafe for Pools<C> {}

impl<C: Pooled> Pools<C> {
    pub(crate) fn new(workers: usize) -> Arc<Pools<C>> {
        Arc::new(Pools {
            stocks: RwLock::default(),
            plans: Mutex::default(),
            past: Mutex::default(),
            recent: (0..=workers).map(|_| Recent::new()).collect(),
            is_closed: AtomicBool::new(false),
            watch: Watch::new(),
            runtime: OnceLock::new(),
            mailbox: OnceLock::new(),
        })
    }

    /// Says whose they are.
    pub(crate) fn belong_to(&self, runtime: &Arc<Shared>) {
        let _ = self.runtime.set(Arc::downgrade(runtime));
        let _ = self.mailbox.set(runtime.seats[0].mailbox.index());
    }

    /// Whether this is a forked child's copy of its parent's, whose locks may be held for ever.
    pub(super) fn is_inherited(&self) -> bool {
        self.mailbox.get().is_some_and(|&mailbox| registry::is_inherited(mailbox))
    }

    pub(super) fn shards(&self) -> usize {
        self.recent.len()
    }

    /// The caller's: its worker's, if that is of this runtime.
    pub(super) fn shard_here(&self) -> usize {
        #[cfg(test)]
        if let Some(shard) = super::tests::shard_here() {
            return shard;
        }
        let outside = self.shards() - 1;
        current::worker()
            .filter(|worker| Arc::as_ptr(&worker.runtime.pools).addr() == (&raw const *self).addr())
            .map_or(outside, |worker| worker.index)
    }

    pub(super) fn watch(&self) -> &Watch<C> {
        &self.watch
    }

    /// Starts the coroutine that watches, on the runtime that these are of; false if it cannot.
    pub(super) fn start_watch(self: &Arc<Self>) -> bool {
        let Some(runtime) = self.runtime.get().and_then(Weak::upgrade) else { return false };
        let pools = Arc::clone(self);
        let options = Options { name: Some("keepalive pools".into()), ..Options::new() };
        !self.is_closed() && thread::spawn_on(&runtime, options, move || pools.watch.run()).is_ok()
    }

    /// A connection for `key`: an idle one, or a place for a new one, which may have to be waited
    /// for. `None` if there is no such pool and none is asked for. `asked` are the settings of the
    /// pool to make, where there is none.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        key: &Key,
        asked: Option<Settings<C::Hooks>>,
        bounds: &Bounds<'_>,
    ) -> Result<Option<Acquired<C>>, Refusal> {
        loop {
            let found = self.find(key).or_else(|| self.find_or_make(key, asked.as_ref()));
            let Some(stock) = found else { return Ok(None) };
            match stock.acquire(bounds) {
                // Emptied and forgotten since we found it.
                Err(Refusal::Retired) => {}
                other => return other.map(Some),
            }
        }
    }

    /// [`acquire`](Pools::acquire) from a pool that was found lately on this worker. `None` if that
    /// is not known here, or is no more: then `acquire` is to be called.
    pub(super) fn acquire_recent(
        &self,
        shortcut: Shortcut<'_>,
        bounds: &Bounds<'_>,
    ) -> Option<Result<Acquired<C>, Refusal>> {
        let stock = self.recent[self.shard_here()].find(shortcut)?;
        match stock.acquire(bounds) {
            Err(Refusal::Retired) => None,
            other => Some(other),
        }
    }

    /// A stock that has been found the long way.
    pub(super) fn remember(&self, shortcut: Shortcut<'_>, stock: &Arc<Stock<C>>) {
        self.recent[self.shard_here()].remember(shortcut, stock);
    }

    /// A place for one more connection beside those that are idle, if there is room; never waits.
    /// For pools with a plan, or that are there.
    pub(crate) fn reserve(self: &Arc<Self>, key: &Key) -> Option<Ticket<C>> {
        loop {
            let stock = self.find(key).or_else(|| self.find_or_make(key, None))?;
            match stock.reserve() {
                Err(Refusal::Retired) => {}
                other => return other.ok(),
            }
        }
    }

    /// Parks a connection in the pool of `key`, which is made with `settings` if there is none.
    /// `ticket` is its place in some pool, if it has one. `idle_timeout` is the pool's, if not
    /// given.
    pub(crate) fn park(
        self: &Arc<Self>,
        key: &Key,
        settings: &Settings<C::Hooks>,
        mut connection: C,
        ticket: Option<Ticket<C>>,
        idle_timeout: Option<Option<Duration>>,
    ) {
        let (mut mine, other) = match ticket {
            Some(ticket) if ticket.is_of(self, key) => (Some(ticket), None),
            other => (None, other),
        };
        loop {
            let stock = match &mine {
                Some(ticket) => Some(Arc::clone(ticket.stock())),
                None => self.find(key).or_else(|| self.find_or_make(key, Some(settings))),
            };
            // The runtime ends: the connection does, too.
            let Some(stock) = stock else { break };
            let idle_timeout = idle_timeout.unwrap_or(stock.settings().idle_timeout);
            match stock.park(connection, mine.take(), idle_timeout) {
                Ok(()) => break,
                Err(unwanted) => connection = unwanted,
            }
        }
        // Of another pool, or another runtime's: who waits there may open a connection now.
        drop(other);
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Stock<C>>> {
        self.read().get(key).map(Arc::clone)
    }

    /// The pool of `key`; if there is none, one made by the plan of that name, or else with the
    /// settings that were asked for. `None` if there are neither, and once the runtime ends.
    fn find_or_make(
        self: &Arc<Self>,
        key: &Key,
        asked: Option<&Settings<C::Hooks>>,
    ) -> Option<Arc<Stock<C>>> {
        let planned = self.plans().get(&key.name).and_then(Weak::upgrade);
        let plan = planned.or_else(|| asked.map(|its| Arc::new(Plan::new(its.clone()))))?;
        let mut stocks = self.write();
        if self.is_closed() {
            return None;
        }
        Some(match stocks.entry(key.clone()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(vacant) => {
                let stock = Stock::new(key.clone(), plan, Arc::clone(self));
                Arc::clone(vacant.insert(Arc::new(stock)))
            }
        })
    }

    /// The plan for pools of this name, made with `settings` if there is none. It is in force for
    /// as long as the caller keeps it, for pools that are made from now on.
    pub(crate) fn plan(&self, name: &str, settings: Settings<C::Hooks>) -> Arc<Plan<C>> {
        let mut plans = self.plans();
        plans.retain(|_, plan| plan.strong_count() != 0);
        if let Some(plan) = plans.get(name).and_then(Weak::upgrade) {
            return plan;
        }
        let plan = Arc::new(Plan::new(settings));
        plans.insert(name.into(), Arc::downgrade(&plan));
        plan
    }

    /// What the pools of a plan have and did.
    pub(crate) fn of_plan(&self, plan: &Arc<Plan<C>>) -> PoolMetrics {
        let stocks: Vec<_> = self.read().values().map(Arc::clone).collect();
        let mut metrics = plan.past();
        for stock in stocks.iter().filter(|stock| Arc::ptr_eq(stock.plan(), plan)) {
            metrics.add(&stock.metrics());
        }
        metrics
    }

    /// Closes all idle connections of the pools of a plan.
    pub(crate) fn close_idle(&self, plan: &Arc<Plan<C>>) {
        let stocks: Vec<_> = self.read().values().map(Arc::clone).collect();
        for stock in stocks.iter().filter(|stock| Arc::ptr_eq(stock.plan(), plan)) {
            stock.close_idle(Eviction::Full);
        }
    }

    /// Forgets a stock, if it is empty and nobody has a handle.
    pub(super) fn retire(&self, stock: &Arc<Stock<C>>) {
        let mut stocks = self.write();
        if !stock.try_retire() {
            return;
        }
        let forgotten = stocks.remove(stock.key());
        drop(stocks);
        // A registry that is closed has forgotten it already.
        if let Some(forgotten) = forgotten {
            self.add_past(&forgotten);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// The runtime ends: closes what is idle. From now on nothing is parked.
    pub(crate) fn close(&self) {
        let stocks = {
            let mut stocks = self.write();
            self.is_closed.store(true, Ordering::SeqCst);
            std::mem::take(&mut *stocks)
        };
        for stock in stocks.into_values() {
            stock.close_idle(Eviction::Shutdown);
            self.add_past(&stock);
        }
        self.watch.close();
    }

    /// What it did; it has nothing any more.
    fn add_past(&self, stock: &Stock<C>) {
        let past = PoolMetrics {
            size: 0,
            backlog: None,
            idle: 0,
            in_use: 0,
            connecting: 0,
            queued: 0,
            ..stock.metrics()
        };
        stock.plan().add_past(&past);
        self.past.lock().unwrap_or_else(PoisonError::into_inner).add(&past);
    }

    /// Each pool with what it has and did.
    pub(crate) fn each(&self) -> Vec<(Key, PoolMetrics)> {
        let stocks: Vec<_> = self.read().values().map(Arc::clone).collect();
        stocks.into_iter().map(|stock| (stock.key().clone(), stock.metrics())).collect()
    }

    /// What all have and did, those that are no more included.
    pub(crate) fn total(&self) -> PoolMetrics {
        let mut total = *self.past.lock().unwrap_or_else(PoisonError::into_inner);
        self.each().iter().for_each(|(_, metrics)| total.add(metrics));
        total
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<Box<str>, Weak<Plan<C>>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Stocks<C>> {
        self.stocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Stocks<C>> {
        self.stocks.write().unwrap_or_else(PoisonError::into_inner)
    }
}
