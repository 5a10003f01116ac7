//! Drivers: what carries an [`Op`](op::Op) to the kernel and its result back.
//!
//! One driver belongs to one worker, and to the thread that made it. The life of one operation,
//! as its [`OpSlot`] shows it:
//!
//! ```text
//!           start                     turn: terminal completion
//!    Idle ---------> InFlight -----------------------------------------> Done --take--> Idle
//!                     |    ^                                              ^ ^ ^
//!              cancel |    | the kernel had nothing to cancel             | | |
//!                     v    |                                              | | |
//!             CancelQueued -- turn --> CancelSent ------------------------+ | |
//!                     |                                                     | |
//!                     +--- completed before its cancel went out ------------+ |
//!                                                                             |
//!    any of the three --- reaped while a start made room ---> Reaped -- turn -+
//! ```
//!
//! # What a driver must do
//!
//! * `start` takes an operation and never fails. When it returns, the operation is staged: it
//!   reaches the kernel at the latest in the next `turn`. What goes wrong later, goes wrong in
//!   its result.
//! * `cancel` asks for an early end and never fails, allocates nothing and completes nothing.
//!   It is a wish: the operation may still succeed. A wish for a slot that is idle, done, or
//!   being cancelled already does nothing. If the kernel finds nothing to cancel although the
//!   operation is still out (it may be running on a kernel thread at that moment), the slot is
//!   `InFlight` again and may be cancelled again.
//! * `turn` submits all that is staged, waits if it may, and reports every operation that has
//!   ended. It never sleeps when there is something to report. It may return early and empty
//!   handed (a signal, memory pressure), so its caller looks at the clock itself; but a turn
//!   that ends *because of* [`Wait::Until`] never ends before that time.
//! * An operation is reported exactly once: its slot is `Done` with `result` and `flags` set,
//!   and then the callback runs. The callback queues its coroutine; it does not run it.
//! * The doorbell (an eventfd) is the only thing other threads may touch. One ring of it ends
//!   the current wait or the next one; rings may be merged, and none is lost.
//!
//! # What is terminal
//!
//! Only the completion of the operation itself. Not the answer to a cancel, not a timeout, not
//! closing the descriptor: until the slot is `Done`, the kernel may read or write everything the
//! operation points to, and the descriptor must stay open. A stack may be given back only when
//! nothing is in flight on it, a driver may be dropped only when [`in_flight`] is zero.
//!
//! # Results
//!
//! `result` follows the kernel: a count, a descriptor or a ready mask when it is not negative,
//! else a negated errno.
//!
//! | result | meaning | what the caller does |
//! |---|---|---|
//! | `>= 0` | it happened, cancelled or not | deliver it; close an unwanted descriptor |
//! | `-ECANCELED` | nothing happened; not one byte was taken | report why it cancelled |
//! | `-EINTR` | nothing happened | as for `-ECANCELED` if it cancelled, else start again |
//! | `-EAGAIN` | nothing happened; the kernel was short of memory | start again |
//! | other | the call's own error | report it |
//!
//! # Who may touch what, and when
//!
//! * Everything here is for the owner's thread. Other threads ring the doorbell.
//! * A slot has at most one operation. From `start` until `Done`, its fields belong to the
//!   driver; others may read the state. Between `Done` and the next `start` the driver does not
//!   write to it, but it may still *read* `generation`, to see that a late answer concerns an
//!   operation of the past. So the memory of a slot outlives the driver.
//! * Each end of an operation counts `generation` up, and everything sent to the kernel carries
//!   it: neither a stale answer nor a stale cancel can reach a later operation of the slot.
//!
//! [`in_flight`]: uring::Uring::in_flight

pub(crate) mod arm_slot;
pub(crate) mod epoll;
pub(crate) mod op;
pub(crate) mod readiness;
mod select;
pub(crate) mod source;
pub(crate) mod uring;
pub(crate) mod watch;

pub use select::Choice;
pub(crate) use select::Driver;

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::clock::Nanos;

/// How long a turn may sleep when it has nothing to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Poll,
    /// Until this time of [`clock::now`](crate::clock::now).
    Until(Nanos),
    /// Until something happens.
    Forever,
}

impl Wait {
    pub(crate) fn no_later_than(self, at: Nanos) -> Wait {
        match self {
            Wait::Poll => Wait::Poll,
            Wait::Until(earlier) => Wait::Until(earlier.min(at)),
            Wait::Forever => Wait::Until(at),
        }
    }
}

/// What a turn found besides the operations it reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The doorbell was rung since the last turn.
    pub(crate) doorbell: bool,
    /// The turn made a system call.
    pub(crate) entered: bool,
}

/// Where one operation stands. The picture in the [module](self) has the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpState {
    /// No operation.
    Idle,
    /// The driver or the kernel has it.
    InFlight,
    /// As `InFlight`, and a cancel waits in the driver.
    CancelQueued,
    /// As `InFlight`, and a cancel went out.
    CancelSent,
    /// The kernel has finished; the next turn reports it.
    Reaped,
    /// Reported: `result` and `flags` are valid.
    Done,
}

/// The end of one operation: see "Results" in the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) result: i32,
    /// The ring's completion flags; zero from a driver that has none.
    pub(crate) flags: u32,
}

/// The place of one operation at a time, embedded in a coroutine's control block, or in the
/// [`ArmSlot`](arm_slot::ArmSlot) of one that waits on several descriptors.
///
/// The ring driver names it to the kernel by its address, which must fit 48 bits, and its
/// generation: see [`uring`].
#[derive(Debug)]
#[repr(C, align(8))]
pub(crate) struct OpSlot {
    pub(crate) result: Cell<i32>,
    pub(crate) flags: Cell<u32>,
    /// Only the owner writes it. Atomic, at the cost of a plain load and store, because the block
    /// may have a new owner when the first one's ring looks at it for a late answer.
    generation: AtomicU16,
    pub(crate) state: Cell<OpState>,
    /// Which of the two it is embedded in.
    pub(crate) is_of_arm: bool,
    /// Links of the one driver queue the slot may be in: cancels to send, or ends to report.
    pub(crate) next: Cell<*const OpSlot>,
    pub(crate) previous: Cell<*const OpSlot>,
}

impl OpSlot {
    pub(crate) const fn new() -> OpSlot {
        OpSlot::embedded(false)
    }

    pub(crate) const fn of_arm() -> OpSlot {
        OpSlot::embedded(true)
    }

    const fn embedded(is_of_arm: bool) -> OpSlot {
        OpSlot {
            result: Cell::new(0),
            flags: Cell::new(0),
            generation: AtomicU16::new(0),
            state: Cell::new(OpState::Idle),
            is_of_arm,
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
        }
    }

    /// Of the operation that is in flight, or of the next one.
    pub(crate) fn generation(&self) -> u16 {
        // Relaxed: a worker whose ring had an operation of this slot has counted it up itself, so
        // it never sees the old number again, whoever counts on.
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn set_generation(&self, generation: u16) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Whether the kernel may still touch what the operation points to.
    pub(crate) fn is_out(&self) -> bool {
        use OpState::{CancelQueued, CancelSent, InFlight};
        matches!(self.state.get(), InFlight | CancelQueued | CancelSent)
    }

    /// Whether a report of the slot's operation is still to come.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.state.get(), OpState::Idle | OpState::Done)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.get() == OpState::Done
    }

    /// Takes the end of a `Done` operation and leaves the slot idle.
    pub(crate) fn take(&self) -> Option<Completion> {
        if self.state.get() != OpState::Done {
            return None;
        }
        self.state.set(OpState::Idle);
        Some(Completion { result: self.result.get(), flags: self.flags.get() })
    }
}

/// Why a driver cannot be used here: one line that names the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The system call or the check that said no.
    pub(crate) call: &'static str,
    /// Its errno; zero where a check of ours said no.
    pub(crate) errno: i32,
    pub(crate) reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.reason)?;
        if self.errno != 0 {
            write!(f, " ({})", io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl Error for Refused {}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        let kind = match refused.errno {
            0 => io::ErrorKind::Unsupported,
            errno => io::Error::from_raw_os_error(errno).kind(),
        };
        io::Error::new(kind, refused)
    }
}
