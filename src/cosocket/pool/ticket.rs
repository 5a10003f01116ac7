//! A place in a pool, as somebody has it: dropped, it is free again, on whichever path.

use std::fmt;
use std::sync::Arc;

use super::Pooled;
use super::key::Key;
use super::pools::Pools;
use super::stock::Stock;

/// A place in a pool, for a connection that is open or is being opened.
///
/// It travels with the connection. When it is dropped (the connection is closed, was never
/// opened, or its owner unwinds), the place goes to the head of the queue, or is free.
pub(crate) struct Ticket<C: Pooled> {
    stock: Option<Arc<Stock<C>>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The connection is being opened.
    Connecting,
    InUse,
    /// There is none: it was closed by the pool itself, which counts that in its own way.
    Vacant,
}

impl<C: Pooled> Ticket<C> {
    /// For a place just got, and nothing in it yet.
    pub(super) fn vacant(stock: &Arc<Stock<C>>) -> Ticket<C> {
        Ticket { stock: Some(Arc::clone(stock)), stage: Stage::Vacant }
    }

    /// For a place whose connection is there.
    pub(super) fn in_use(stock: &Arc<Stock<C>>) -> Ticket<C> {
        Ticket { stock: Some(Arc::clone(stock)), stage: Stage::InUse }
    }

    pub(super) fn set_in_use(&mut self) {
        debug_assert_eq!(self.stage, Stage::Vacant);
        self.stage = Stage::InUse;
    }

    /// A connection is going to be opened.
    pub(super) fn set_connecting(&mut self) {
        debug_assert_eq!(self.stage, Stage::Vacant);
        self.stage = Stage::Connecting;
        let counters = self.stock().counters();
        counters.misses.one_more();
        counters.connecting.one_more();
    }

    /// It has been opened.
    pub(crate) fn set_connected(&mut self) {
        debug_assert_eq!(self.stage, Stage::Connecting);
        self.stage = Stage::InUse;
        let counters = self.stock().counters();
        counters.connecting.one_less();
        counters.opened.one_more();
    }

    /// Whether it is of the pool of this key in that runtime.
    pub(super) fn is_of(&self, pools: &Arc<Pools<C>>, key: &Key) -> bool {
        Arc::ptr_eq(self.stock().pools(), pools) && self.stock().key() == key
    }

    pub(crate) fn stock(&self) -> &Arc<Stock<C>> {
        self.stock.as_ref().expect("until it is given back")
    }

    /// Without the place: whoever calls this has accounted for it.
    pub(super) fn into_stock(mut self) -> Arc<Stock<C>> {
        self.stock.take().expect("until it is given back")
    }
}

impl<C: Pooled> Drop for Ticket<C> {
    fn drop(&mut self) {
        let Some(stock) = self.stock.take() else { return };
        if stock.pools().is_inherited() {
            return;
        }
        let counters = stock.counters();
        match self.stage {
            Stage::Connecting => {
                counters.connecting.one_less();
                counters.failed.one_more();
            }
            Stage::InUse => counters.closed.one_more(),
            Stage::Vacant => {}
        }
        stock.release();
    }
}

impl<C: Pooled> fmt::Debug for Ticket<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.stock.as_ref().map(|stock| stock.key().to_string());
        f.debug_struct("Ticket").field("pool", &key).field("stage", &self.stage).finish()
    }
}
