//! Stacks for coroutines: many, guarded, and cheap to use again.
//!
//! ```text
//!    a slab: one mapping, carved into equal slots
//!    +--------+--------+--------+-- - - --+
//!    | slot 0 | slot 1 | slot 2 |         |     slots are an odd number of pages long
//!    +--------+--------+--------+-- - - --+
//!            /          \
//!    +-------+----------------------+--------+
//!    | guard |  usable              | colour |
//!    +-------+----------------------+--------+
//!    low     bottom                 top      high addresses
//!             <--- the stack grows this way
//! ```
//!
//! * A **guard** faults on any access, and [`crate::overflow`] turns that into a report. Where the
//!   kernel can mark pages (Linux 6.13) guards cost no mapping, so that a million stacks fit under
//!   the stock `vm.max_map_count`.
//! * **Odd slots and colours**: equal offsets in slots of a power of two would put the tops of all
//!   stacks into the same few cache and TLB sets, which makes a switch several times dearer.
//! * **Lazy memory**: a slot costs memory only from its first touch on, page by page.
//!
//! The way of a slot:
//!
//! ```text
//!    mapped --> idle in the pool <--> idle in one worker's cache
//!                     |                     |
//!                     +----- reserve -------+
//!                               v
//!                           Reserved ---- dropped ----> back to the pool
//!                               | take (on any worker)
//!                               v
//!                             Stack ------- give -----> that worker's cache
//! ```
//!
//! A [`Reserved`] holds a slot of its own, so that `take` cannot fail, wherever it happens and
//! whatever the other workers hold. `take` prefers the worker's hottest idle stack and leaves the
//! reserved one in its place.

mod advice;
mod cache;
mod guard;
mod pool;
mod size;
mod slab;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use cache::StackCache;
pub(crate) use pool::{StackPool, Warm};
pub(crate) use size::page_bytes;

use size::SizeClass;
use slab::SlabRef;

/// A slot that somebody may run on. It is not given back by dropping it: a stack that still has
/// frames, and is never run again, must stay mapped. [`StackCache::give`] ends its use.
#[must_use = "a stack that is not given back is never used again"]
#[derive(Debug)]
pub(crate) struct Stack {
    slab: SlabRef,
    place: Place,
}

/// Which slot of its slab, and of which class, in one word: a stack is moved in two registers,
/// and in and out of lists without partial stores, which the processor could not forward.
#[derive(Clone, Copy, Debug)]
struct Place(u32);

impl Place {
    fn new(index: u16, class: SizeClass) -> Place {
        Place(class.number() << u16::BITS | u32::from(index))
    }

    fn index(self) -> u16 {
        self.0 as u16
    }

    fn class(self) -> SizeClass {
        SizeClass::numbered(self.0 >> u16::BITS)
    }
}

impl Stack {
    /// One past the highest usable byte; aligned to 64 bytes.
    pub(crate) fn top(&self) -> *mut u8 {
        self.slab.slab().top(self.place.index())
    }

    /// The lowest usable byte; aligned to a page. The guard ends here.
    pub(crate) fn bottom(&self) -> *mut u8 {
        self.slab.slab().bottom(self.place.index())
    }

    /// The addresses whose access is an overflow of this stack.
    pub(crate) fn guard(&self) -> Range<usize> {
        let bottom = self.bottom().addr();
        bottom - self.slab.slab().guard_bytes()..bottom
    }

    /// The bytes that were asked for, rounded as [`StackPool::reserve`] says. From `bottom` to
    /// `top` there are at least as many.
    pub(crate) fn size(&self) -> usize {
        self.place.class().bytes()
    }

    /// Gives the memory of the stack back, so that [`Stack::high_water`] counts from nothing.
    ///
    /// # Safety
    ///
    /// Nobody runs on the stack, and nothing on it is needed any more.
    pub(crate) unsafe fn empty(&self) {
        let bottom = self.bottom();
        let iov_len = self.slab.slab().end(self.place.index()).addr() - bottom.addr();
        let range = libc::iovec { iov_base: bottom.cast(), iov_len };
        // SAFETY: the caller's promise. What is refused merely stays in memory.
        let _ = unsafe { advice::advise(&[range], advice::Advice::Empty) };
    }

    /// How many bytes below `top` were ever used, since the stack was last emptied.
    ///
    /// It looks for the lowest word that is not zero, and brings no page in to do so. So it errs
    /// to the low side only: by the part of the deepest frames that held zeros or was never
    /// written, and by pages that are swapped out at the moment. An idle stack is emptied by
    /// `trim`, partly or wholly, which starts the count anew.
    ///
    /// # Safety
    ///
    /// Nobody else may run on the stack meanwhile: its coroutine is suspended, finished, not yet
    /// started, or the caller.
    pub(crate) unsafe fn high_water(&self) -> usize {
        let top = self.top().addr();
        let mut page = self.bottom();
        let page_bytes = page_bytes();
        while page.addr() < top {
            if advice::is_resident(page) {
                let words = page_bytes.min(top - page.addr()) / size_of::<u64>();
                for word in 0..words {
                    // SAFETY: the word lies between bottom and top, which stay mapped readable
                    // while the `Stack` exists; nobody writes there meanwhile.
                    let word = unsafe { page.cast::<u64>().add(word) };
                    // SAFETY: as above; volatile, since the bytes belong to foreign frames.
                    if unsafe { word.read_volatile() } != 0 {
                        return top - word.addr();
                    }
                }
            }
            page = page.wrapping_add(page_bytes);
        }
        0
    }
}

/// A promise of one stack, kept whichever worker asks for it. Dropped, it goes back to the pool.
#[derive(Debug)]
pub(crate) struct Reserved {
    stack: Stack,
}

impl Reserved {
    /// Of a slot that was promised, or that [`into_slot`](Reserved::into_slot) gave.
    pub(crate) fn of_slot(stack: Stack) -> Reserved {
        Reserved { stack }
    }

    /// The slot itself: [`StackCache::take`] has a better one, perhaps.
    pub(crate) fn into_slot(self) -> Stack {
        let Stack { slab, place } = self.stack;
        std::mem::forget(self);
        Stack { slab, place }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Stack { slab, place } = self.stack;
        pool::take_home(Stack { slab, place });
    }
}
