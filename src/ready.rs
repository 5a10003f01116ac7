//! A first-in-first-out queue of coroutines, linked through their control blocks.

use std::cell::Cell;
use std::ptr;

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
        // SAFETY: as in `push`.
        let coroutine = unsafe { self.head.get().as_ref() }?;
        self.head.set(coroutine.next.get());
        if self.head.get().is_null() {
            self.tail.set(ptr::null());
        }
        Some(coroutine)
    }
}
