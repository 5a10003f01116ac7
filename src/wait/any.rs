//! Waiting at several slots at once, with a waiter in each.

use super::{Reason, Signal, WaitSlot, Waiter};

/// Waits until `done` holds, which whoever wakes one of `slots` may have brought about; false when
/// the wait was cut before that. In a coroutine, for it is one that all the waiters wake.
///
/// # Panics
///
/// When somebody waits in one of the slots already.
pub(crate) fn wait_at_any<'a>(
    slots: impl ExactSizeIterator<Item = &'a WaitSlot> + Clone,
    done: impl Fn() -> bool,
    reason: Reason,
) -> bool {
    // One for each: its waker's last touch is of that very waiter.
    let waiters: Vec<Waiter> = slots.clone().map(|_| Waiter::new()).collect();
    let mut entered = Entered { places: Vec::with_capacity(waiters.len()) };
    for (slot, waiter) in slots.zip(&waiters) {
        // First, so that it is taken back even if the slot turns out not to be free.
        entered.places.push((slot, waiter));
        // SAFETY: it stays where it is until `entered` is dropped, which is before `waiters` are.
        unsafe { slot.put(waiter) };
    }
    let mut signal = Signal::Wake;
    // Published, so a completion from here on wakes us; one before is seen here.
    while !done() && signal == Signal::Wake {
        signal = waiters[0].wait(reason, None, false);
    }
    drop(entered);
    done()
}

/// The waiters that are in their slots.
struct Entered<'a> {
    places: Vec<(&'a WaitSlot, &'a Waiter)>,
}

impl Drop for Entered<'_> {
    /// Takes them out again, and waits for those who have one in their hands.
    fn drop(&mut self) {
        self.places.iter().for_each(|(slot, waiter)| slot.remove(waiter));
    }
}
