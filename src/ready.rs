//! A first-in-first-out queue of coroutines, linked through their control blocks.
//!
//! Where thousands take turns, block and stack of the next one are in no cache. So whoever takes one
//! has the processor fetch the stack of the one behind it, with the handle of the descriptor that it
//! waited for, and the block of the one behind that, whose address is known by then:
//!
//! ```text
//!   head -> [first] -> [second] -> [third] -> ...
//!            taken      its stack   its block
//!                       and handle  fetched
//!                       fetched
//! ```

use std::cell::Cell;
use std::ptr;

use crate::arch;
use crate::coroutine::Coroutine;

/// Owner-thread only. A coroutine is in one queue at most.
pub(crate) struct ReadyQueue {
    head: Cell<*const Coroutine>,
    tail: Cell<*const Coroutine>,
}

impl ReadyQueue {
    pub(crate) const fn new() -> ReadyQueue {
        ReadyQueue { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// The one that `pop` would take.
    #[inline]
    pub(crate) fn front(&self) -> Option<&'static Coroutine> {
        // SAFETY: as in `push`.
        unsafe { self.head.get().as_ref() }
    }

    #[inline]
    pub(crate) fn push(&self, coroutine: &'static Coroutine) {
        coroutine.next.set(ptr::null());
        let tail = self.tail.replace(coroutine);
        // SAFETY: control blocks are never freed, and a queued one is its owner's, who we are.
        match unsafe { tail.as_ref() } {
            Some(tail) => tail.next.set(coroutine),
            None => self.head.set(coroutine),
        }
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<&'static Coroutine> {
        let coroutine = self.front()?;
        self.head.set(coroutine.next.get());
        if self.head.get().is_null() {
            self.tail.set(ptr::null());
        }
        Some(coroutine)
    }

    /// [`pop`](ReadyQueue::pop), of coroutines that are suspended; sees to the next two.
    #[inline]
    pub(crate) fn pop_suspended(&self) -> Option<&'static Coroutine> {
        let first = self.pop()?;
        // Two that take turns have only one behind the other.
        if let Some(second) = self.front()
            && !ptr::eq(second, self.tail.get())
        {
            fetch_ahead(second);
        }
        Some(first)
    }
}

/// Apart, so that two which take turns carry no registers for it.
#[inline(never)]
fn fetch_ahead(second: &Coroutine) {
    // SAFETY: it is suspended, so its context is not written to.
    arch::prefetch_stack(unsafe { &*second.context.get() });
    let subject = second.subject.get();
    for offset in [0, Coroutine::SUBJECT_BYTES / 2, Coroutine::SUBJECT_BYTES - 1] {
        arch::prefetch(subject.wrapping_byte_add(offset));
    }
    // Its context and links; its timer and limits.
    let third = second.next.get();
    arch::prefetch(third.cast());
    arch::prefetch(third.wrapping_byte_add(arch::LINE_BYTES).cast());
}
