//! Poison: a panic while a lock was held for writing may have left the data half changed.
//!
//! As in std, with the finer sense of [`unwind::is_panicking`]: a cancel does not poison, nor does
//! the panic of another coroutine that is parked in the middle of it on the same worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

use crate::unwind;

/// Whether a lock is poisoned.
pub(super) struct Poison(AtomicBool);

/// What a guard that may write remembers: whether its holder was panicking when it got the lock.
/// Then the data is not what the panic broke, and the guard does not poison.
pub(super) struct Entry {
    panicking: bool,
}

impl Entry {
    #[inline]
    pub(super) fn new() -> Entry {
        Entry { panicking: unwind::is_panicking() }
    }
}

impl Poison {
    pub(super) const fn new() -> Poison {
        Poison(AtomicBool::new(false))
    }

    // Relaxed, all of them: whoever holds the lock is ordered by that.

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// `value` as what it is: an error while the lock is poisoned.
    #[inline]
    pub(super) fn judge<T>(&self, value: T) -> LockResult<T> {
        if self.is_set() { Err(PoisonError::new(value)) } else { Ok(value) }
    }

    /// The guard with this entry goes.
    #[inline]
    pub(super) fn leave(&self, entry: &Entry) {
        if !entry.panicking && unwind::is_panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
