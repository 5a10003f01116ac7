//! A place for one waiter.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Reason, Signal, Waiter};
use crate::clock::Nanos;

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
    pub(crate) fn wait(&self, done: impl Fn() -> bool, reason: Reason, shielded: bool) -> bool {
        self.wait_until(done, reason, None, shielded)
    }

    /// [`WaitSlot::wait`] up to `deadline`; false when that came first, too.
    pub(crate) fn wait_until(
        &self,
        done: impl Fn() -> bool,
        reason: Reason,
        deadline: Option<Nanos>,
        shielded: bool,
    ) -> bool {
        while !done() {
            let waiter = Waiter::new();
            self.enter(&waiter);
            let mut signal = Signal::Wake;
            // Published, so a completion from here on wakes us; one before is seen here.
            while !done() && !waiter.is_woken() && signal == Signal::Wake {
                signal = waiter.wait(reason, deadline, shielded);
            }
            self.leave(&waiter);
            if signal != Signal::Wake {
                return done();
            }
        }
        true
    }

    /// Publishes a waiter, which stays where it is until [`WaitSlot::leave`] has returned.
    ///
    /// # Panics
    ///
    /// When somebody waits here already.
    pub(super) fn enter(&self, waiter: &Waiter) {
        let mine = ptr::from_ref(waiter).cast_mut();
        let none = ptr::null_mut();
        let entered = self.waiter.compare_exchange(none, mine, Ordering::AcqRel, Ordering::Acquire);
        assert!(entered.is_ok(), "two waiters in a slot made for one");
    }

    /// Takes it back, or waits for whoever has it in its hands.
    pub(super) fn leave(&self, waiter: &Waiter) {
        let mine = ptr::from_ref(waiter).cast_mut();
        let none = ptr::null_mut();
        if self.waiter.compare_exchange(mine, none, Ordering::AcqRel, Ordering::Acquire).is_err() {
            waiter.settle();
        }
    }

    /// Wakes the waiter, if there is one. Call it after `done` has become true.
    pub(crate) fn wake(&self) {
        let waiter = self.waiter.swap(ptr::null_mut(), Ordering::AcqRel);
        if !waiter.is_null() {
            // SAFETY: the swap made us the one who wakes it.
            unsafe { Waiter::wake(waiter) };
        }
    }
}
