//! Numbers for coroutines: never used twice in a process, and in batches to each worker.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

const BATCH: u64 = 64;

/// The last one that was given out, to a worker or to a coroutine.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A number, for a thread that is no worker.
pub(crate) fn take() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// What is left of a worker's batch.
pub(crate) struct Ids {
    next: Cell<u64>,
    end: Cell<u64>,
}

impl Ids {
    pub(crate) const fn new() -> Ids {
        Ids { next: Cell::new(0), end: Cell::new(0) }
    }

    #[inline]
    pub(crate) fn take(&self) -> u64 {
        if self.next.get() == self.end.get() {
            let first = LAST.fetch_add(BATCH, Ordering::Relaxed) + 1;
            self.next.set(first);
            self.end.set(first + BATCH);
        }
        self.next.replace(self.next.get() + 1)
    }
}
