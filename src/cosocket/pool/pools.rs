//! All pools of one runtime, by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::Pooled;
use super::key::Key;
use super::metrics::PoolMetrics;
use super::settings::Settings;
use super::stock::{Acquired, Refusal, Stock};
use super::ticket::Ticket;
use super::watch::Watch;
use crate::clock::Nanos;
use crate::current;

/// All pools of one runtime.
pub(crate) struct Pools<C: Pooled> {
    stocks: RwLock<Stocks<C>>,
    /// What pools did that are no more.
    past: Mutex<PoolMetrics>,
    /// One for each worker, and one for everybody else.
    shards: usize,
    is_closed: AtomicBool,
    watch: Watch<C>,
    /// Starts a coroutine on the runtime that calls [`Pools::watch_idle`]; false if it cannot.
    start_watch: fn(&Arc<Pools<C>>) -> bool,
}

type Stocks<C> = HashMap<Key, Arc<Stock<C>>>;

impl<C: Pooled> Pools<C> {
    pub(crate) fn new(workers: usize, start_watch: fn(&Arc<Pools<C>>) -> bool) -> Arc<Pools<C>> {
        Arc::new(Pools {
            stocks: RwLock::default(),
            past: Mutex::default(),
            shards: workers + 1,
            is_closed: AtomicBool::new(false),
            watch: Watch::new(),
            start_watch,
        })
    }

    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    /// The caller's: its worker's, if that is of this runtime.
    pub(super) fn shard_here(&self) -> usize {
        #[cfg(test)]
        if let Some(shard) = super::tests::shard_here() {
            return shard;
        }
        let outside = self.shards - 1;
        current::worker()
            .filter(|worker| worker.runtime.pools_address() == (&raw const *self).addr())
            .map_or(outside, |worker| worker.index)
    }

    pub(super) fn watch(&self) -> &Watch<C> {
        &self.watch
    }

    pub(super) fn start_watch(self: &Arc<Self>) -> bool {
        (self.start_watch)(self)
    }

    /// What the coroutine does; see [`Watch`].
    pub(crate) fn watch_idle(&self) {
        self.watch.run();
    }

    /// A connection for `key`: an idle one, or a place for a new one, which may have to be waited
    /// for. `None` if there is no such pool and none is asked for. `asked` are the settings of the
    /// pool to make, where there is none.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        key: &Key,
        mut asked: Option<impl FnOnce() -> Settings<C::Hooks>>,
        mut deadline: impl FnMut() -> Nanos,
    ) -> Result<Option<Acquired<C>>, Refusal> {
        let mut settings = None;
        loop {
            let stock = match self.find(key) {
                Some(stock) => stock,
                None => {
                    settings = settings.or_else(|| asked.take().map(|asked| asked()));
                    match settings.take().and_then(|its| self.find_or_make(key, its)) {
                        Some(stock) => stock,
                        None => return Ok(None),
                    }
                }
            };
            match stock.acquire(&mut deadline) {
                // Emptied and forgotten since we found it.
                Err(Refusal::Retired) => settings = None,
                other => return other.map(Some),
            }
        }
    }

    /// Parks a connection in the pool of `key`, which is made with `settings` if there is none.
    /// `ticket` is its place in some pool, if it has one. `idle_timeout` is the pool's, if not
    /// given.
    pub(crate) fn park(
        self: &Arc<Self>,
        key: &Key,
        settings: impl Fn() -> Settings<C::Hooks>,
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
                None => self.find(key).or_else(|| self.find_or_make(key, settings())),
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

    /// `None` once the runtime ends.
    pub(crate) fn find_or_make(
        self: &Arc<Self>,
        key: &Key,
        settings: Settings<C::Hooks>,
    ) -> Option<Arc<Stock<C>>> {
        let mut stocks = self.write();
        if self.is_closed() {
            return None;
        }
        Some(match stocks.entry(key.clone()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(vacant) => {
                let stock = Stock::new(key.clone(), settings, Arc::clone(self));
                Arc::clone(vacant.insert(Arc::new(stock)))
            }
        })
    }

    /// As [`Pools::find_or_make`], and it stays until [`Pools::release`].
    pub(crate) fn pin(
        self: &Arc<Self>,
        key: &Key,
        settings: &Settings<C::Hooks>,
    ) -> Option<Arc<Stock<C>>> {
        loop {
            let stock = self.find_or_make(key, settings.clone())?;
            // With the registry locked no stock retires.
            let stocks = self.read();
            if stocks.get(key).is_some_and(|found| Arc::ptr_eq(found, &stock)) {
                stock.handles.fetch_add(1, Ordering::SeqCst);
                return Some(stock);
            }
        }
    }

    /// A handle is gone.
    pub(crate) fn release(&self, stock: &Arc<Stock<C>>) {
        stock.handles.fetch_sub(1, Ordering::SeqCst);
        stock.retire_if_empty();
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
            stock.close_idle();
            self.add_past(&stock);
        }
        self.watch.close();
    }

    fn add_past(&self, stock: &Stock<C>) {
        let past = PoolMetrics { size: 0, backlog: None, ..stock.metrics() };
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

    fn read(&self) -> RwLockReadGuard<'_, Stocks<C>> {
        self.stocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Stocks<C>> {
        self.stocks.write().unwrap_or_else(PoisonError::into_inner)
    }
}
