//! A queue of slots, linked through the slots themselves: it allocates nothing, so queueing
//! cannot fail, and any slot leaves it in constant time.
//!
//! A slot is in one queue at most; `OpSlot::state` says in which (`CancelQueued`, `Reaped`).

use std::cell::Cell;
use std::ptr;

use crate::driver::OpSlot;

pub(super) struct SlotQueue {
    first: Cell<*const OpSlot>,
    last: Cell<*const OpSlot>,
}

impl SlotQueue {
    pub(super) const fn new() -> SlotQueue {
        SlotQueue { first: Cell::new(ptr::null()), last: Cell::new(ptr::null()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.get().is_null()
    }

    /// Appends a slot.
    ///
    /// # Safety
    ///
    /// The slot is in no queue, and stays valid until it has left this one.
    pub(super) unsafe fn push(&self, slot: *const OpSlot) {
        let last = self.last.replace(slot);
        // SAFETY: the caller vouches for `slot`; `last` was vouched for when it was pushed.
        unsafe {
            (*slot).next.set(ptr::null());
            (*slot).previous.set(last);
            match last.as_ref() {
                Some(last) => last.next.set(slot),
                None => self.first.set(slot),
            }
        }
    }

    /// Takes the slot that has waited longest.
    pub(super) fn pop(&self) -> Option<*const OpSlot> {
        let first = self.first.get();
        if first.is_null() {
            return None;
        }
        // SAFETY: `first` is in this queue.
        unsafe { self.unlink(first) };
        Some(first)
    }

    /// Takes a slot out, wherever it stands.
    ///
    /// # Safety
    ///
    /// The slot is in this queue.
    pub(super) unsafe fn unlink(&self, slot: *const OpSlot) {
        // SAFETY: the slot and its neighbours are in this queue, so they are valid.
        unsafe {
            let next = (*slot).next.replace(ptr::null());
            let previous = (*slot).previous.replace(ptr::null());
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first.set(next),
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last.set(previous),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_in_order_and_from_any_place() {
        let slots: [OpSlot; 5] = [const { OpSlot::new() }; 5];
        let queue = SlotQueue::new();
        let order = |queue: &SlotQueue| -> Vec<usize> {
            std::iter::from_fn(|| queue.pop())
                .map(|slot| slots.iter().position(|s| ptr::eq(s, slot)).unwrap())
                .collect()
        };
        for removed in 0..5 {
            for slot in &slots {
                // SAFETY: the slot is in no queue and outlives this one.
                unsafe { queue.push(slot) };
            }
            // SAFETY: it was pushed above.
            unsafe { queue.unlink(&slots[removed]) };
            let expected: Vec<usize> = (0..5).filter(|&slot| slot != removed).collect();
            assert_eq!(order(&queue), expected);
            assert!(queue.is_empty());
        }
    }
}
