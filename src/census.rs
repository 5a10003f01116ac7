//! How many coroutines live, and where, at no atomic read-modify-write for those that a worker
//! spawns for itself.
//!
//! Each worker has three counts that only grow: those that it placed on itself and those that it
//! saw finish, which it alone writes, and those that others sent to it.
//!
//! ```text
//!   live on a worker    =  placed by itself + sent by others - finished
//!   live in a runtime   =  the sum, and the surplus, which is not placed yet
//! ```
//!
//! Who sums up reads all `finished` first and then all that were placed, so a sum is never too
//! small: whoever finished was placed, and had placed those that it spawned. In particular, zero
//! means that there was a moment at which nobody lived; and if nobody outside spawns, it lasts.

use crate::atomics::{AtomicU64, Ordering};
use crate::counter::Counter;

#[derive(Debug)]
pub(crate) struct Census {
    by_itself: Counter,
    finished: Counter,
    by_others: AtomicU64,
}

impl Census {
    pub(crate) fn new() -> Census {
        Census { by_itself: Counter::new(), finished: Counter::new(), by_others: AtomicU64::new(0) }
    }

    /// The worker itself: it has one more.
    #[inline]
    pub(crate) fn count_placed(&self) {
        self.by_itself.add(1);
    }

    /// Anybody: the worker is about to be sent one.
    pub(crate) fn count_sent(&self) {
        // Release, as in `Counter`.
        self.by_others.fetch_add(1, Ordering::AcqRel);
    }

    /// The worker itself: one is over.
    #[inline]
    pub(crate) fn count_finished(&self) {
        self.finished.add(1);
    }

    pub(crate) fn finished(&self) -> u64 {
        self.finished.read()
    }

    fn placed(&self) -> u64 {
        self.by_itself.read() + self.by_others.load(Ordering::Acquire)
    }

    /// Those of this worker that are not finished.
    pub(crate) fn live(&self) -> usize {
        let finished = self.finished();
        (self.placed() - finished) as usize
    }
}

/// Those of all workers that are not finished, and the surplus: never too few.
pub(crate) fn live<'a>(
    workers: impl Iterator<Item = &'a Census> + Clone,
    surplus: impl FnOnce() -> usize,
) -> usize {
    let finished: u64 = workers.clone().map(Census::finished).sum();
    // Before the placed ones: who takes one from there counts it on a worker first.
    let surplus = surplus();
    let placed: u64 = workers.map(Census::placed).sum();
    surplus + (placed - finished) as usize
}
