//! A place for any number of waiters, first come, first served.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Chosen, ChosenList, Reason, Shield, Signal, Waiter, raise_cancelled};
use crate::clock::Nanos;
use crate::current;
use crate::list::List;

/// Waiters in the order of their arrival.
pub(crate) struct WaitQueue {
    list: Mutex<Waiters>,
}

struct Waiters(List<Waiter>);

// SAFETY: list and links are only touched under the queue's lock, and a waiter stays in its frame
// while it is linked, whichever thread unlinks it.
unsafe impl Send for Waiters {}

/// The queue, locked. The lock is held for a few instructions and never across a wait.
pub(crate) struct LockedQueue<'a>(MutexGuard<'a, Waiters>);

impl WaitQueue {
    pub(crate) const fn new() -> WaitQueue {
        WaitQueue { list: Mutex::new(Waiters(List::new())) }
    }

    pub(crate) fn lock(&self) -> LockedQueue<'_> {
        // Nothing in here panics while the lock is held, and a coroutine parked in mid-unwind on
        // this thread poisons it all the same (std counts panics a thread): poison means nothing.
        LockedQueue(self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits to be woken from this queue, into which the caller has put `waiter`.
    ///
    /// `Wake` means a waker chose this waiter: whatever it hands over is now the caller's, even
    /// if a timeout or a cancel came at the same time.
    pub(crate) fn wait(&self, waiter: &Waiter, reason: Reason, deadline: Option<Nanos>) -> Signal {
        self.wait_or_leave(waiter, reason, deadline, |_| ())
    }

    /// As [`WaitQueue::wait`]. If the waiter leaves unchosen, `leave` runs before the queue is
    /// unlocked: whoever looks into the queue finds what belongs to the waiter gone with it.
    pub(crate) fn wait_or_leave(
        &self,
        waiter: &Waiter,
        reason: Reason,
        deadline: Option<Nanos>,
        leave: impl FnOnce(&mut LockedQueue<'_>),
    ) -> Signal {
        loop {
            let signal = waiter.wait(reason, deadline, false);
            if waiter.is_woken() {
                return Signal::Wake;
            }
            if signal != Signal::Wake {
                let mut queue = self.lock();
                if queue.remove(waiter) {
                    leave(&mut queue);
                    return signal;
                }
                drop(queue);
                waiter.settle();
                return Signal::Wake;
            }
        }
    }

    /// Waits until `done` holds; false when the deadline passed before that. A cancel unwinds.
    ///
    /// Whoever makes `done` true calls [`WaitQueue::wake_all`] afterwards.
    pub(crate) fn wait_until(
        &self,
        done: impl Fn() -> bool,
        reason: Reason,
        deadline: Option<Nanos>,
    ) -> bool {
        let _shield = Shield::where_nothing_unwinds();
        match self.wait_by_turns(done, reason, deadline) {
            Signal::Wake => true,
            Signal::TimedOut => false,
            Signal::Cancelled => raise_cancelled(),
        }
    }

    /// As [`WaitQueue::wait_until`], for a call that can fail: what ends the wait from outside is an
    /// error, or unwinds, as in any I/O.
    #[cfg(feature = "dns")]
    pub(crate) fn wait_for(&self, done: impl Fn() -> bool, reason: Reason) -> std::io::Result<()> {
        match self.wait_by_turns(done, reason, None) {
            Signal::Wake => Ok(()),
            Signal::TimedOut | Signal::Cancelled => Err(super::cancelled()),
        }
    }

    /// `Wake` when `done` holds, or else what has ended the wait before.
    fn wait_by_turns(
        &self,
        done: impl Fn() -> bool,
        reason: Reason,
        deadline: Option<Nanos>,
    ) -> Signal {
        while !done() {
            let waiter = Waiter::new();
            let mut queue = self.lock();
            // Under the lock: who makes it true after this finds us when it wakes all.
            if done() {
                break;
            }
            // SAFETY: the waiter stays in this frame, and `wait` returns only when it is off the
            // queue.
            unsafe { queue.push(&waiter) };
            drop(queue);
            match self.wait(&waiter, reason, deadline) {
                Signal::Wake => {}
                _ if done() => break,
                ended => return ended,
            }
        }
        Signal::Wake
    }

    /// Wakes all who wait now.
    pub(crate) fn wake_all(&self) {
        let all = self.lock().take_all();
        all.wake();
    }
}

impl LockedQueue<'_> {
    /// # Safety
    ///
    /// The waiter stays where it is until it is woken or removed.
    pub(crate) unsafe fn push(&mut self, waiter: &Waiter) {
        // SAFETY: the caller keeps the waiter in place; the lock makes us the only one here.
        unsafe { self.0.0.push_back(waiter) };
    }

    /// As [`LockedQueue::push`], for one that waited before: at the head.
    ///
    /// # Safety
    ///
    /// As for `push`.
    pub(crate) unsafe fn push_front(&mut self, waiter: &Waiter) {
        // SAFETY: as in `push`.
        unsafe { self.0.0.push_front(waiter) };
    }

    /// The longest waiting one, left where it is.
    pub(crate) fn front(&self) -> Option<&Waiter> {
        // SAFETY: a linked waiter stays in place, and the lock, borrowed here, keeps it linked.
        self.0.0.front().map(|waiter| unsafe { &*waiter })
    }

    /// Takes the waiter back out; false when a waker has it already.
    fn remove(&mut self, waiter: &Waiter) -> bool {
        let linked = waiter.links.is_linked();
        if linked {
            // SAFETY: linked into this list, whose lock we hold.
            unsafe { self.0.0.remove(waiter) };
        }
        linked
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// How many they are, one by one.
    pub(crate) fn count(&self) -> usize {
        let list = &self.0.0;
        // SAFETY: linked waiters stay in place.
        std::iter::successors(list.front(), |&waiter| unsafe { list.after(waiter) }).count()
    }

    /// Takes all of them out; the caller wakes them after unlocking.
    pub(crate) fn take_all(&mut self) -> ChosenList {
        let mut all = ChosenList::new();
        while let Some(chosen) = self.pop() {
            all.push(chosen);
        }
        all
    }

    /// Takes the longest waiting one out; the caller wakes it after unlocking.
    pub(crate) fn pop(&mut self) -> Option<Chosen> {
        // SAFETY: linked waiters stay in place; out of the queue, it is ours to wake.
        unsafe { self.0.0.pop_front().map(|waiter| Chosen::new(waiter)) }
    }

    /// Takes out the longest waiting coroutine of this very worker, of the first `reach` waiters.
    pub(crate) fn pop_near(&mut self, reach: usize) -> Option<Chosen> {
        let worker = current::worker()?;
        let list = &self.0.0;
        let mut next = list.front();
        for _ in 0..reach {
            let waiter = next?;
            // SAFETY: linked waiters stay in place.
            if unsafe { (*waiter).is_near(worker) } {
                // SAFETY: linked into this list, whose lock we hold; then ours to wake.
                return Some(unsafe {
                    list.remove(waiter);
                    Chosen::new(waiter)
                });
            }
            // SAFETY: as above.
            next = unsafe { list.after(waiter) };
        }
        None
    }
}
