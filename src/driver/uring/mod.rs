//! The io_uring driver: one ring per worker, used by the thread that opened it and no other.
//!
//! One turn makes at most one `io_uring_enter` where the queues have room: it submits, runs the
//! completions that the kernel deferred (GETEVENTS is always set: without it they never run),
//! and sleeps, all in one.
//!
//! Invariants:
//! * `in_flight` counts the slots that are [out](OpSlot::is_out).
//! * A slot is in `cancels` exactly when its state is `CancelQueued`, in `reaped` exactly when it
//!   is `Reaped`.
//! * The driver sleeps only with the doorbell armed, both queues and the completion queue empty.
//!
//! After a fork, the child may only drop what it inherited: the queues are not mapped there.

mod completion;
mod encode;
mod probe;
mod queue;
mod refusal;
mod ring;
#[cfg(test)]
mod tests;
mod user_data;

use std::cell::Cell;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process;
use std::thread;

use io_uring::cqueue;
use io_uring::squeue::Entry;

use self::probe::Capabilities;
use self::queue::SlotQueue;
use self::ring::{Ring, Timeout};
use self::user_data::{CANCEL_ALL, DOORBELL, TAG_CANCEL};
use crate::clock::{self, Nanos};
use crate::driver::op::Op;
use crate::driver::{OpSlot, OpState, Refused, Turn, Wait};

/// How often a full submission queue is offered to a kernel that takes nothing (out of memory)
/// before the operation ends with EAGAIN.
const FLUSH_ATTEMPTS: u32 = 64;

/// How long a dropped driver waits for the kernel to let go of what is in flight.
const DRAIN_PATIENCE: Nanos = 5_000_000_000;
/// After so long without an end, the drain cancels again.
const DRAIN_STEP: Nanos = 100_000_000;

/// Longest relative timeout, so that the kernel's sum with its clock cannot overflow.
const TIMEOUT_MAX: Nanos = i64::MAX as Nanos / 2;

#[cfg(test)]
/// What the driver has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// System calls made.
    pub(crate) system_calls: u64,
    /// Entries the kernel took: operations, cancels, doorbells.
    pub(crate) submitted: u64,
    /// Operations ended.
    pub(crate) completed: u64,
    /// Completions of an operation that had ended already. Never, unless the kernel or the
    /// driver is wrong.
    pub(crate) stale: u64,
    /// Cancels that found nothing while their operation was still out.
    pub(crate) missed_cancels: u64,
    /// System calls that left completions in the kernel for want of room in the queue.
    pub(crate) overflows: u64,
}

/// See the [module](self) and the contract in [`driver`](crate::driver).
pub(crate) struct Uring {
    ring: ManuallyDrop<Ring>,
    capabilities: Capabilities,
    /// Our own copy, so that no one can close it under us.
    doorbell: OwnedFd,
    doorbell_armed: Cell<bool>,
    /// Rung, and not yet told by a turn.
    doorbell_rang: Cell<bool>,
    /// Set while the driver drains: the doorbell is not armed again.
    is_closing: Cell<bool>,
    cancels: SlotQueue,
    reaped: SlotQueue,
    in_flight: Cell<usize>,
    completed: Cell<u64>,
    stale: Cell<u64>,
    missed_cancels: Cell<u64>,
    overflows: Cell<u64>,
    /// A forked child has the driver's memory but not the ring's.
    process: u32,
}

/// How far one `enter` came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    /// The kernel took all entries, and slept if asked to.
    All,
    /// It took some, and did not sleep.
    Some,
    /// It took none for want of memory or room, and did not sleep.
    Stuck,
}

impl Uring {
    /// Opens a ring of `entries` submissions on this thread, with a completion queue eight times
    /// as long; smaller where locked memory is short. `doorbell` is a non-blocking eventfd.
    ///
    /// The first call in a process also tests the ring's behaviour, in well under a millisecond.
    ///
    /// # Panics
    ///
    /// If `doorbell` would block.
    pub(crate) fn open(entries: u32, doorbell: BorrowedFd<'_>) -> Result<Uring, Refused> {
        let (ring, capabilities) = probe::open(entries)?;
        Uring::over(ring, capabilities, doorbell)
    }

    fn over(
        ring: Ring,
        capabilities: Capabilities,
        doorbell: BorrowedFd<'_>,
    ) -> Result<Uring, Refused> {
        // SAFETY: F_GETFL takes no pointer.
        let flags = unsafe { libc::fcntl(doorbell.as_raw_fd(), libc::F_GETFL) };
        assert!(
            flags >= 0 && flags & libc::O_NONBLOCK != 0,
            "the doorbell must be a non-blocking eventfd"
        );
        let doorbell = doorbell.try_clone_to_owned().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            refusal::call("dup", errno, "keeping the doorbell")
        })?;
        let uring = Uring {
            ring: ManuallyDrop::new(ring),
            capabilities,
            doorbell,
            doorbell_armed: Cell::new(false),
            doorbell_rang: Cell::new(false),
            is_closing: Cell::new(false),
            cancels: SlotQueue::new(),
            reaped: SlotQueue::new(),
            in_flight: Cell::new(0),
            completed: Cell::new(0),
            stale: Cell::new(0),
            missed_cancels: Cell::new(0),
            overflows: Cell::new(0),
            process: process::id(),
        };
        uring.arm_doorbell();
        Ok(uring)
    }

    /// Stages an operation. A full submission queue is handed to the kernel first.
    ///
    /// # Safety
    ///
    /// * The slot is `Idle` or `Done`, and outlives the driver. Its address fits 48 bits.
    /// * Until it is `Done` again, all that `op` points to stays valid and otherwise untouched,
    ///   and the descriptor stays open.
    #[inline]
    pub(crate) unsafe fn start(&self, slot: *const OpSlot, op: &Op) {
        // SAFETY: the caller vouches for the slot.
        let this = unsafe { &*slot };
        debug_assert!(matches!(this.state.get(), OpState::Idle | OpState::Done));
        this.state.set(OpState::InFlight);
        self.in_flight.set(self.in_flight.get() + 1);
        let entry = encode::operation(op).user_data(user_data::of(this));
        // SAFETY: the caller keeps what the entry points to.
        if !unsafe { self.stage(&entry) } {
            self.fail_to_start(this);
        }
    }

    #[cold]
    fn fail_to_start(&self, slot: &OpSlot) {
        self.land(slot, -libc::EAGAIN, 0, OpState::Reaped);
        // SAFETY: a slot that was out and not `CancelQueued` is in no queue.
        unsafe { self.reaped.push(slot) };
    }

    /// Asks for an early end of what the slot has in flight, if it has: the next turn sends it.
    ///
    /// # Safety
    ///
    /// The slot outlives the driver, and what it has in flight was started here.
    pub(crate) unsafe fn cancel(&self, slot: *const OpSlot) {
        // SAFETY: the caller vouches for the slot.
        let state = unsafe { &(*slot).state };
        if state.get() == OpState::InFlight {
            state.set(OpState::CancelQueued);
            // SAFETY: a slot that was `InFlight` is in no queue.
            unsafe { self.cancels.push(slot) };
        }
    }

    /// Sends what is staged, sleeps if there is nothing to report and `wait` allows it, and
    /// reports the slots that are `Done` now. `completed` may start and cancel operations, but
    /// takes no turn of its own.
    ///
    /// # Panics
    ///
    /// If the ring is broken beyond repair: completions lost, or `io_uring_enter` forbidden
    /// after the ring was opened.
    pub(crate) fn turn(&self, wait: Wait, completed: &mut impl FnMut(*const OpSlot)) -> Turn {
        let calls = self.ring.system_calls();
        let mut reported = 0;
        loop {
            reported += self.report(completed);
            self.arm_doorbell();
            self.stage_cancels();
            let pause = match self.may_sleep() && reported == 0 {
                true => wait,
                false => Wait::Poll,
            };
            if pause == Wait::Poll && self.ring.staged() == 0 && !self.ring.holds_completions() {
                break;
            }
            let entered = self.enter(pause);
            reported += self.report(completed);
            let is_over = match entered {
                Entered::All => pause == wait || reported > 0 || self.doorbell_rang.get(),
                Entered::Some => false,
                Entered::Stuck => true,
            };
            if is_over {
                break;
            }
        }
        Turn { doorbell: self.doorbell_rang.take(), entered: self.ring.system_calls() != calls }
    }

    #[cfg(test)]
    /// Operations whose terminal completion has not come.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// System calls made so far.
    pub(crate) fn system_calls(&self) -> u64 {
        self.ring.system_calls()
    }

    #[cfg(test)]
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            system_calls: self.ring.system_calls(),
            submitted: self.ring.submitted(),
            completed: self.completed.get(),
            stale: self.stale.get(),
            missed_cancels: self.missed_cancels.get(),
            overflows: self.overflows.get(),
        }
    }
}

/// Whether the completion of a receive or an accept said that more is waiting.
pub(crate) fn more_is_waiting(flags: u32) -> bool {
    cqueue::sock_nonempty(flags)
}

/// Submission.
impl Uring {
    /// Stages an entry, making room if need be; `false` if the kernel makes none.
    ///
    /// # Safety
    ///
    /// All that the entry points to stays valid until its terminal completion.
    #[inline]
    unsafe fn stage(&self, entry: &Entry) -> bool {
        // SAFETY: the caller vouches for the entry.
        unsafe { self.ring.push(entry) || self.make_room_and_stage(entry) }
    }

    /// # Safety
    ///
    /// As [`Uring::stage`].
    #[cold]
    unsafe fn make_room_and_stage(&self, entry: &Entry) -> bool {
        for _ in 0..FLUSH_ATTEMPTS {
            let entered = self.enter(Wait::Poll);
            // The enter may have completed operations. They are taken out of the completion
            // queue, lest a long row of starts overflows it, and reported by the next turn.
            self.reap(OpState::Reaped, |slot| {
                // SAFETY: a slot that has just landed is in no queue, and outlives the driver.
                unsafe { self.reaped.push(slot) };
            });
            // SAFETY: the caller vouches for the entry.
            if unsafe { self.ring.push(entry) } {
                return true;
            }
            if entered == Entered::Stuck {
                thread::yield_now();
            }
        }
        false
    }

    /// Stages as many cancels as the submission queue has room for. The others wait for the next
    /// enter; their operations may end meanwhile, which takes them off the queue.
    fn stage_cancels(&self) {
        while let Some(slot) = self.cancels.pop() {
            // SAFETY: a queued slot is in flight, so its owner keeps it.
            let this = unsafe { &*slot };
            let target = user_data::of(this);
            let entry = encode::cancel(target).user_data(target | TAG_CANCEL);
            // SAFETY: the entry points to nothing.
            if unsafe { self.ring.push(&entry) } {
                this.state.set(OpState::CancelSent);
            } else {
                // SAFETY: it has just left the queue. Which cancel goes first does not matter.
                unsafe { self.cancels.push(slot) };
                break;
            }
        }
    }

    /// Stages the poll of the doorbell, unless it stands.
    fn arm_doorbell(&self) {
        if !self.doorbell_armed.get() && !self.is_closing.get() {
            let entry = encode::doorbell(self.doorbell.as_raw_fd()).user_data(DOORBELL);
            // SAFETY: the entry points to nothing.
            self.doorbell_armed.set(unsafe { self.stage(&entry) });
        }
    }

    /// Whether nothing that could be reported or sent later would be left behind.
    fn may_sleep(&self) -> bool {
        self.doorbell_armed.get()
            && !self.doorbell_rang.get()
            && self.reaped.is_empty()
            && self.cancels.is_empty()
    }

    /// One `io_uring_enter`: submits, runs deferred completions, sleeps.
    fn enter(&self, wait: Wait) -> Entered {
        let staged = self.ring.staged();
        let entered = match wait {
            Wait::Poll => self.ring.enter(0, None),
            Wait::Forever => self.ring.enter(1, None),
            Wait::Until(at) => self.ring.enter(1, Some(self.timeout(at))),
        };
        // The kernel also says EBADR, but only to an enter that has nothing to submit.
        if self.ring.lost_completions() > 0 {
            fatal(libc::EBADR);
        }
        if self.ring.has_overflowed() {
            self.overflows.set(self.overflows.get() + 1);
        }
        match entered {
            Ok(taken) if taken == staged => Entered::All,
            Ok(0) => Entered::Stuck,
            Ok(_) => Entered::Some,
            // These end a sleep, so there was nothing to submit, or it was submitted.
            Err(libc::EINTR | libc::ETIME) => Entered::All,
            // The completion queue is full and more is waiting behind it: reap, then come back.
            Err(libc::EBUSY) => Entered::Stuck,
            // No memory for a request. Deferred completions give some back.
            Err(libc::EAGAIN) => {
                let _ = self.ring.run_deferred_work();
                Entered::Stuck
            }
            Err(errno) => fatal(errno),
        }
    }

    fn timeout(&self, at: Nanos) -> Timeout {
        if self.capabilities.absolute_timeout {
            return Timeout::At(at);
        }
        // The kernel adds this to a clock that it reads after we have read ours, and its timers
        // never fire early.
        Timeout::After(at.saturating_sub(clock::now()).min(TIMEOUT_MAX))
    }
}

/// The end.
impl Uring {
    /// Cancels all operations and waits for their ends, which are not reported. Tells whether
    /// nothing is in flight now.
    fn drain(&self, patience: Nanos) -> bool {
        self.is_closing.set(true);
        let deadline = clock::now().saturating_add(patience);
        loop {
            while let Some(slot) = self.reaped.pop() {
                // SAFETY: a reaped slot outlives the driver.
                unsafe { (*slot).state.set(OpState::Done) };
            }
            let now = clock::now();
            if self.in_flight.get() == 0 || now >= deadline {
                return self.in_flight.get() == 0;
            }
            // SAFETY: the entry points to nothing.
            unsafe { self.stage(&encode::cancel_all().user_data(CANCEL_ALL)) };
            self.enter(Wait::Until(deadline.min(now + DRAIN_STEP)));
            self.reap(OpState::Done, |_| {});
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if process::id() != self.process {
            return self.ring.disown();
        }
        let left_behind = self.in_flight.get();
        if self.drain(DRAIN_PATIENCE) {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        }
        // Otherwise the ring is leaked on purpose. Closing it would not stop what is in flight
        // either (the kernel tears a ring down later, on a thread of its own), but this way the
        // kernel keeps its queues, and ends the rest when this thread ends.
        debug_assert!(
            left_behind == 0 || thread::panicking(),
            "driver dropped with {left_behind} operations in flight"
        );
    }
}

fn fatal(errno: i32) -> ! {
    let reason = match errno {
        libc::EBADR => {
            "the kernel lost completions, because it was out of memory while the completion \
             queue was full; coroutines that wait for them would wait for ever. Give the \
             process more memory, or the ring more entries"
        }
        libc::EEXIST => "the ring was used on another thread than the one that opened it",
        libc::EPERM | libc::ENOSYS | libc::EACCES => {
            "io_uring_enter was forbidden after the ring was opened; install seccomp filters \
             before the runtime starts, or set COSOCKET_DRIVER=epoll"
        }
        _ => "the ring does not work any more; set COSOCKET_DRIVER=epoll",
    };
    panic!("io_uring_enter: {reason} ({})", io::Error::from_raw_os_error(errno));
}
