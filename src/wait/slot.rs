//! A place for one waiter.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Reason, Signal, Waiter};
use crate::clock::Nanos;
use crate::current;

/// A place for one waiter at a time: a join, the end of a scope, a blocking job.
pub(crate) struct WaitSlot {
    waiter: AtomicPtr<Waiter>,
}

impl WaitSlot {
    pub(crate) const fn new() -> WaitSlot {
        WaitSlot { waiter: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Waits until `done` holds; false when the wait was cancelled before that.
    ///
    /// # Panics
    ///
    /// When somebody waits here already.
    #[inline]
    pub(crate) fn wait(&self, done: impl Fn() -> bool, reason: Reason, shielded: bool) -> bool {
        self.wait_until(done, reason, None, shielded)
    }

    /// [`WaitSlot::wait`] up to `deadline`; false when that came first, too.
    #[inline]
    pub(crate) fn wait_until(
        &self,
        done: impl Fn() -> bool,
        reason: Reason,
        deadline: Option<Nanos>,
        shielded: bool,
    ) -> bool {
        while !done() {
            let waiter = Waiter::new();
            // SAFETY: it stays in this frame, which it leaves by `remove`.
            unsafe { self.put(&waiter) };
            let mut signal = Signal::Wake;
            // Published, so a completion from here on wakes us; one before is seen here.
            while !done() && !waiter.is_woken() && signal == Signal::Wake {
                signal = waiter.wait(reason, deadline, shielded);
            }
            self.remove(&waiter);
            if signal != Signal::Wake {
                return done();
            }
        }
        true
    }

    /// Publishes a waiter: a completion from here on wakes it, one before is to be looked for.
    ///
    /// # Safety
    ///
    /// The waiter stays where it is until [`WaitSlot::remove`] has returned.
    ///
    /// # Panics
    ///
    /// When somebody waits here already.
    pub(crate) unsafe fn put(&self, waiter: &Waiter) {
        let old = self.waiter.swap(ptr::from_ref(waiter).cast_mut(), Ordering::AcqRel);
        assert!(old.is_null(), "two waiters in a slot made for one");
    }

    /// Takes a waiter back that was put here, whether it was woken or not.
    pub(crate) fn remove(&self, waiter: &Waiter) {
        if waiter.is_woken() {
            return;
        }
        let (mine, none) = (ptr::from_ref(waiter).cast_mut(), ptr::null_mut());
        let taken = self.waiter.compare_exchange(mine, none, Ordering::AcqRel, Ordering::Acquire);
        if taken.is_err() {
            waiter.settle();
        }
    }

    /// Wakes the waiter, if there is one. Call it after `done` has become true.
    pub(crate) fn wake(&self) {
        let waiter = self.waiter.swap(ptr::null_mut(), Ordering::AcqRel);
        if !waiter.is_null() {
            // SAFETY: the swap made us the one who wakes it.
            unsafe { Waiter::wake(waiter, current::worker()) };
        }
    }
}
