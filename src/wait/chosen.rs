//! Waiters between their queue and their wake-up.
//!
//! A queue's lock is held for a few instructions; a wake may take a system call. So whoever wakes
//! takes the waiters out under the lock and wakes them after it.

use std::ptr;

use super::Waiter;
use crate::current;
use crate::worker::Worker;

/// A waiter that was taken out of its queue and must be woken.
#[must_use]
pub(crate) struct Chosen(*const Waiter);

impl Chosen {
    /// # Safety
    ///
    /// The caller took the waiter's node out of its queue, and nobody else wakes it.
    pub(crate) unsafe fn new(waiter: *const Waiter) -> Chosen {
        Chosen(waiter)
    }

    /// Leaves word for the waiter.
    pub(crate) fn set_note(&self, note: u64) {
        // SAFETY: out of the queue and not woken yet, it stays in place, and its note is ours.
        unsafe { (*self.0).note.set(note) };
    }

    pub(crate) fn wake(self) {
        self.wake_from(current::worker());
    }

    /// As `wake`, where the caller's worker is known.
    #[inline]
    pub(crate) fn wake_from(self, worker: Option<&Worker>) {
        // SAFETY: taking it out of the queue made us the one who wakes it.
        unsafe { Waiter::wake(self.0, worker) };
    }
}

/// Waiters that were taken out of a queue together, in that order; linked through themselves, for
/// they stay in place until they are woken.
#[must_use]
pub(crate) struct ChosenList {
    first: *const Waiter,
    last: *const Waiter,
    len: usize,
}

impl ChosenList {
    pub(crate) fn new() -> ChosenList {
        ChosenList { first: ptr::null(), last: ptr::null(), len: 0 }
    }

    pub(crate) fn push(&mut self, chosen: Chosen) {
        if self.first.is_null() {
            self.first = chosen.0;
        } else {
            // SAFETY: a chosen waiter stays in place until it is woken, and this link is ours.
            unsafe { (*self.last).next_chosen.set(chosen.0) };
        }
        self.last = chosen.0;
        self.len += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Wakes them all. The queue must not be locked.
    pub(crate) fn wake(self) {
        let mut next = self.first;
        while !next.is_null() {
            let chosen = Chosen(next);
            // SAFETY: as in `push`; it is woken only after this.
            next = unsafe { (*next).next_chosen.get() };
            chosen.wake();
        }
    }
}
