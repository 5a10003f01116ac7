//! How many wait at a condition variable, for who notifies to see without a lock that nobody does.
//!
//! ```text
//!   waiter:    mutex locked .. queue locked: one_more .. mutex unlocked -> waits
//!   notifier:  mutex locked .. the condition changes .. mutex unlocked -> is_zero? -> no need
//! ```
//!
//! Written with the queue locked, so plain loads and stores do. Read without, and relaxed: a waiter
//! that found the condition unchanged had the mutex before the notifier, and counted itself before
//! it gave the mutex up, so the mutex orders the two. Who changes the condition without the mutex
//! may miss a waiter, as in std.
//!
//! `tests/loom_condvar.rs` includes this file and models these claims.

use crate::atomics::{AtomicU32, Ordering};

#[derive(Debug)]
pub(crate) struct WaiterCount(AtomicU32);

impl WaiterCount {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> WaiterCount {
        WaiterCount(AtomicU32::new(0))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> WaiterCount {
        WaiterCount(AtomicU32::new(0))
    }

    /// Nobody waits whom the caller has to notify.
    #[inline]
    pub(crate) fn is_zero(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// The caller has locked the queue.
    pub(crate) fn one_more(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The caller has locked the queue.
    pub(crate) fn less(&self, count: u32) {
        self.0.store(self.0.load(Ordering::Relaxed) - count, Ordering::Relaxed);
    }
}
