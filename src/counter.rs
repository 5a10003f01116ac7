//! A count with one writer and many readers: a plain load and store, no read-modify-write.

use crate::atomics::{AtomicU64, Ordering};

/// Who reads a count sees what the writer did before it counted.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Release);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for Counter {
    fn default() -> Counter {
        Counter::new()
    }
}
