//! What comes back from the kernel: from the completion queue into the slots.

use std::io;
use std::mem::MaybeUninit;

use io_uring::cqueue;

use super::ring::{BATCH, Room};
use super::user_data::{self, CANCEL_ALL, DOORBELL, TAG_CANCEL, TAG_MASK, TAG_OPERATION};
use super::{Uring, probe};
use crate::driver::{OpSlot, OpState};

impl Uring {
    /// Reports what was reaped earlier, then what is in the completion queue now.
    pub(super) fn report(&self, completed: &mut impl FnMut(*const OpSlot)) -> usize {
        let mut reported = 0;
        while let Some(slot) = self.reaped.pop() {
            // SAFETY: a reaped slot outlives the driver.
            unsafe { (*slot).state.set(OpState::Done) };
            completed(slot);
            reported += 1;
        }
        reported + self.reap(OpState::Done, completed)
    }

    /// Empties the completion queue, and leaves ended slots in `state`.
    pub(super) fn reap(&self, state: OpState, mut landed: impl FnMut(*const OpSlot)) -> usize {
        let mut count = 0;
        loop {
            let mut room: Room = [const { MaybeUninit::uninit() }; BATCH];
            let batch = self.ring.take(&mut room);
            for cqe in batch {
                if cqe.user_data() & TAG_MASK == TAG_OPERATION {
                    if let Some(slot) = self.operation_ended(cqe, state) {
                        count += 1;
                        landed(slot);
                    }
                } else {
                    self.answered(cqe);
                }
            }
            if batch.len() < BATCH {
                return count;
            }
        }
    }

    /// A completion that is no operation's.
    #[cold]
    fn answered(&self, cqe: &cqueue::Entry) {
        match cqe.user_data() {
            DOORBELL => self.doorbell_woke(cqe),
            CANCEL_ALL => {}
            user_data if user_data & TAG_MASK == TAG_CANCEL => {
                self.cancel_missed(user_data, cqe.result());
            }
            user_data => panic!(
                "io_uring completed {user_data:#x}, which nobody asked for (seen on old WSL2 \
                 kernels); set COSOCKET_DRIVER=epoll"
            ),
        }
    }

    #[inline]
    fn operation_ended(&self, cqe: &cqueue::Entry, state: OpState) -> Option<*const OpSlot> {
        let slot = user_data::slot(cqe.user_data());
        // SAFETY: only `start` sends this tag, with the address of a slot that outlives us.
        let this = unsafe { &*slot };
        let is_current = user_data::of(this) == cqe.user_data();
        let is_ours = this.is_out() && is_current && !cqueue::more(cqe.flags());
        if !is_ours {
            self.stale.set(self.stale.get() + 1);
            debug_assert!(false, "{cqe:?} for {this:?}");
            return None;
        }
        if this.state.get() == OpState::CancelQueued {
            // SAFETY: that state says that it is in this queue.
            unsafe { self.cancels.unlink(slot) };
        }
        self.land(this, cqe.result(), cqe.flags(), state);
        Some(slot)
    }

    /// Writes down the end of an operation.
    #[inline]
    pub(super) fn land(&self, slot: &OpSlot, result: i32, flags: u32, state: OpState) {
        /// "Restart the system call": it is for the kernel's own use, but has leaked.
        const ERESTARTSYS: i32 = 512;
        let result = match result {
            errno if errno == -ERESTARTSYS => -libc::EINTR,
            result => result,
        };
        slot.result.set(result);
        slot.flags.set(flags);
        slot.set_generation(slot.generation().wrapping_add(1));
        slot.state.set(state);
        self.in_flight.set(self.in_flight.get() - 1);
        self.completed.set(self.completed.get() + 1);
    }

    /// The kernel answers a cancel only if it failed: the operation had ended (ENOENT), or runs
    /// on a kernel thread, which was told (EALREADY). In either case its own completion is to
    /// come, so nobody is woken; but should it not come, the cancel may be repeated.
    pub(super) fn cancel_missed(&self, user_data: u64, result: i32) {
        debug_assert_ne!(result, -libc::EINVAL, "the kernel knows no such cancel");
        // SAFETY: only `stage_cancels` sends this tag, with the address of a slot that outlives
        // us.
        let this = unsafe { &*user_data::slot(user_data) };
        let is_current = user_data::of(this) == user_data & !TAG_MASK;
        if is_current && this.state.get() == OpState::CancelSent && result < 0 {
            this.state.set(OpState::InFlight);
            self.missed_cancels.set(self.missed_cancels.get() + 1);
        }
    }

    fn doorbell_woke(&self, cqe: &cqueue::Entry) {
        self.doorbell_armed.set(cqueue::more(cqe.flags()));
        match -cqe.result() {
            errno if errno <= 0 => {
                self.ring.count_call();
                probe::silence(&self.doorbell);
                self.doorbell_rang.set(true);
            }
            // Armed again by the next turn; the eventfd remembers what it was told.
            libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::ENOMEM => {}
            errno => panic!(
                "io_uring cannot watch the doorbell: {}",
                io::Error::from_raw_os_error(errno)
            ),
        }
    }
}
