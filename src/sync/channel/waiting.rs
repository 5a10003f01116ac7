//! One who waits at a channel: a node in its frame, with the place its value lies in.

use std::cell::Cell;
use std::ptr;

use crate::list::{Links, Node};
use crate::sync::select::{Decision, Round};
use crate::wait::{Chosen, Waiter};

/// A sender waits with its value and is done when that is gone; a receiver is done when there is
/// one. If it is woken and neither is so, the other side has gone.
///
/// While it is linked, everything here is touched under the channel's lock alone.
pub(crate) struct Waiting<T> {
    links: Links<Waiting<T>>,
    value: Cell<Option<T>>,
    waiter: Cell<*const Waiter>,
    /// Of the select this is an arm of; null for one who waits here alone.
    decision: Cell<*const Decision>,
    arm: Cell<usize>,
}

// SAFETY: always the same field, which belongs to the channel's list.
unsafe impl<T> Node for Waiting<T> {
    unsafe fn links(node: *const Waiting<T>) -> *const Links<Waiting<T>> {
        // SAFETY: the caller passes a live node.
        unsafe { &raw const (*node).links }
    }
}

impl<T> Waiting<T> {
    /// For a call that waits for nothing else.
    pub(crate) fn alone(waiter: &Waiter, value: Option<T>) -> Waiting<T> {
        let waiting = Waiting::arm(value);
        waiting.waiter.set(waiter);
        waiting
    }

    /// For an arm of a select, which [`enters`](Waiting::enter) it for each of its rounds.
    pub(crate) fn arm(value: Option<T>) -> Waiting<T> {
        Waiting {
            links: Links::new(),
            value: Cell::new(value),
            waiter: Cell::new(ptr::null()),
            decision: Cell::new(ptr::null()),
            arm: Cell::new(0),
        }
    }

    pub(crate) fn enter(&self, round: &Round, arm: usize) {
        self.waiter.set(&raw const round.waiter);
        self.decision.set(&raw const round.decision);
        self.arm.set(arm);
    }

    pub(crate) fn give(&self, value: T) {
        self.value.set(Some(value));
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.value.take()
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.links.is_linked()
    }

    /// Chooses this one, if it can still be had: a select may have been chosen elsewhere.
    ///
    /// # Safety
    ///
    /// The caller has just taken it out of its list and holds the channel's lock.
    pub(crate) unsafe fn choose(&self) -> Option<Chosen> {
        // SAFETY: the round outlives the node's time in the list, and waits for this lock
        // before it ends.
        if let Some(decision) = unsafe { self.decision.get().as_ref() }
            && !decision.decide(self.arm.get())
        {
            return None;
        }
        // SAFETY: taken out by the caller, and decided in its favour.
        Some(unsafe { Chosen::new(self.waiter.get()) })
    }

    /// Whether a select with this decision could meet it.
    pub(crate) fn is_open_to(&self, decision: &Decision) -> bool {
        // SAFETY: as in `choose`; this is linked, and the caller holds the lock.
        let own = unsafe { self.decision.get().as_ref() };
        own.is_none_or(|own| !ptr::eq(own, decision) && own.is_open())
    }
}
