//! What one arm of a wait on several descriptors leaves with the driver.
//!
//! A coroutine has one [`OpSlot`] in its control block, for the one call that it makes at a time.
//! Waiting on several descriptors takes one more place for each: an [`ArmSlot`], which says whom
//! to make ready.
//!
//! ```text
//!            take                start (ring), watch (epoll)
//!   free ----------> idle ---------------------------------------> out
//!     ^               | ^                                           |
//!     '----- give ----' '------ completion, event, unwatch ---------'
//! ```
//!
//! Slots are type-stable as control blocks are, and for the same reasons: the kernel names one by
//! its address, and a late answer of the kernel may have it looked at when it is long idle. So a
//! slot that a worker has taken stays with that worker until the worker's ring is gone.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::coroutine::Coroutine;
use crate::driver::OpSlot;
use crate::list::{Links, List, Node};

/// How many slots are made at a time, and how many move to a worker.
const BATCH: usize = 32;

static VACANT: Mutex<Vec<&'static ArmSlot>> = Mutex::new(Vec::new());

/// The place of one arm. Its owner's thread uses it; under epoll, another worker's thread also
/// does, while the slot is in the list of a source and under the lock of that list.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ArmSlot {
    /// Under the ring, the poll. At the start of the slot: see [`ArmSlot::of_op`].
    pub(crate) op: OpSlot,
    /// Of the worker's free slots, or of the arms that watch a source.
    links: Links<ArmSlot>,
    owner: Cell<*const Coroutine>,
    /// Under epoll: in the list of a source. Cleared by the event that takes it out.
    watching: AtomicBool,
}

// SAFETY: shared between threads only while it is in a source's list, whose lock then guards the
// links; `owner` is written before that; the rest is atomic, or the owner's alone.
unsafe impl Sync for ArmSlot {}

// SAFETY: always the same field, which belongs to the list that the slot is in.
unsafe impl Node for ArmSlot {
    unsafe fn links(node: *const ArmSlot) -> *const Links<ArmSlot> {
        // SAFETY: the caller passes a live node.
        unsafe { &raw const (*node).links }
    }
}

impl ArmSlot {
    fn new() -> ArmSlot {
        ArmSlot {
            op: OpSlot::of_arm(),
            links: Links::new(),
            owner: Cell::new(ptr::null()),
            watching: AtomicBool::new(false),
        }
    }

    /// The coroutine to make ready.
    pub(crate) fn owner(&self) -> *const Coroutine {
        self.owner.get()
    }

    /// The slot whose `op` this is.
    pub(crate) fn of_op(op: *const OpSlot) -> *const ArmSlot {
        op.cast()
    }

    /// Whether the next event of the source that it watches will take it.
    pub(crate) fn is_watching(&self) -> bool {
        // Acquire: what comes next sees what the event told of.
        self.watching.load(Ordering::Acquire)
    }

    pub(super) fn set_watching(&self, watching: bool) {
        self.watching.store(watching, Ordering::Release);
    }
}

/// A worker's slots. Declared after its driver, which may look at them until it is dropped.
pub(crate) struct ArmSlots {
    free: List<ArmSlot>,
    taken: Cell<usize>,
}

impl ArmSlots {
    pub(crate) const fn new() -> ArmSlots {
        ArmSlots { free: List::new(), taken: Cell::new(0) }
    }

    /// A slot for an arm of `owner`.
    pub(crate) fn take(&self, owner: &'static Coroutine) -> &'static ArmSlot {
        if self.free.is_empty() {
            self.refill();
        }
        self.taken.set(self.taken.get() + 1);
        // SAFETY: slots are never freed; they leave this list only here.
        let slot = unsafe { &*self.free.pop_front().expect("just filled") };
        slot.owner.set(owner);
        slot
    }

    /// Takes a slot back that nothing knows any more.
    pub(crate) fn give(&self, slot: &'static ArmSlot) {
        debug_assert!(!slot.op.is_out() && !slot.is_watching(), "an arm left something behind");
        slot.owner.set(ptr::null());
        self.taken.set(self.taken.get() - 1);
        // SAFETY: as in `take`; the slot is in no list, for it was taken.
        unsafe { self.free.push_back(slot) };
    }

    /// How many are taken and not given back.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.get()
    }

    #[cold]
    fn refill(&self) {
        let mut vacant = VACANT.lock().unwrap_or_else(PoisonError::into_inner);
        if vacant.len() < BATCH {
            let slots: Vec<ArmSlot> = (0..BATCH).map(|_| ArmSlot::new()).collect();
            vacant.extend(slots.leak().iter());
        }
        for _ in 0..BATCH {
            // SAFETY: as in `take`; what is vacant is in no list.
            unsafe { self.free.push_back(vacant.pop().expect("just made")) };
        }
    }
}

impl Drop for ArmSlots {
    fn drop(&mut self) {
        debug_assert!(self.taken.get() == 0 || std::thread::panicking(), "an arm was left behind");
        let mut vacant = VACANT.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in `take`.
        while let Some(slot) = unsafe { self.free.pop_front() } {
            // SAFETY: as in `take`.
            vacant.push(unsafe { &*slot });
        }
    }
}
