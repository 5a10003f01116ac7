//! The one place that suspends, and the one kind of node that others wake.
//!
//! Every wait in the library is the same small loop:
//!
//! ```text
//!   publish a waiter  ->  condition true? ------------------------------> withdraw, go on
//!                              ^  | no
//!                              |  v
//!                              suspend(reason, deadline) -> Wake        (a hint: look again)
//!                                                        -> TimedOut    (withdraw, say so)
//!                                                        -> Cancelled   (withdraw, unwind)
//! ```
//!
//! `Cancelled` is what ends a wait from outside: a cancel, or an enclosing limit that has passed
//! (see [`crate::limit`]). Which of them it was matters only where the wait ends, in
//! [`cancelled`] and [`raise_cancelled`].
//!
//! A [`Waiter`] lies in the frame that waits, so waiting allocates nothing. Whoever wakes it
//! copies what it needs first; its last touch is the store of `woken`, after which the frame may
//! be gone. A waiter that finds itself unlinked but not yet woken therefore waits for that store
//! before it leaves (`Waiter::settle`).

mod any;
mod chosen;
mod cut;
mod queue;
mod reason;
mod shield;
mod slot;
mod waiter;

use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::current;
use crate::limit::{self, Limit};
use crate::worker::Worker;

pub(crate) use self::any::wait_at_any;
pub(crate) use self::chosen::{Chosen, ChosenList};
pub(crate) use self::cut::{
    cancelled, is_cancellable, is_cancelled, is_elapsed, is_io_cut, raise_cancelled,
};
pub(crate) use self::queue::{LockedQueue, WaitQueue};
pub(crate) use self::reason::{Kind, Reason};
pub(crate) use self::shield::Shield;
pub(crate) use self::slot::WaitSlot;
pub(crate) use self::waiter::Waiter;

/// How a wait ended. A wake is a hint: every caller looks at its own condition again. `Cancelled`
/// also stands for an enclosing limit: see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Wake,
    TimedOut,
    Cancelled,
}

/// Gives the worker to others until something makes this coroutine ready again.
///
/// `deadline` bounds this one wait. Unless `shielded`, a pending cancel or a limit that has passed
/// ends it. Both are sticky: a coroutine that caught the unwind and waits again yields once, then
/// is told again.
///
/// All that lies below it in a wait is inlined into it: who goes on after a switch returns by addresses
/// that the processor did not see pushed last, so each frame in between costs a mispredicted return.
pub(crate) fn suspend(
    worker: &Worker,
    reason: Reason,
    deadline: Option<Nanos>,
    shielded: bool,
) -> Signal {
    let me = worker.current();
    let shielded = shielded || worker.may_be_unwinding();
    let is_cut = || {
        !shielded
            && me.signals.is_interrupted()
            && limit::interruption(me, reason.is_io()).is_some()
    };
    if is_cut() {
        worker.yield_now();
        return Signal::Cancelled;
    }
    worker.enter_wait_of(me, reason);
    let limit = Limit::of_wait(deadline);
    // SAFETY: it is left below, in this frame, and a panic in between would abort.
    unsafe { limit.enter_wait(worker, me) };
    worker.switch_away(me);
    let timed_out = limit.leave_wait(me);
    worker.leave_wait_of(me, reason);
    if timed_out {
        Signal::TimedOut
    } else if is_cut() {
        Signal::Cancelled
    } else {
        Signal::Wake
    }
}

/// The time, for what need not be exact: for a coroutine as of its worker's last look at the clock.
pub(crate) fn recent_time() -> Nanos {
    current::worker().map_or_else(clock::now, Worker::recent_time)
}

/// The deadline of a wait that is to last no longer than `timeout` from now.
pub(crate) fn deadline_after(timeout: Duration) -> Nanos {
    current::worker().map_or_else(|| clock::after(timeout), |worker| worker.after(timeout))
}
