//! One call of a coroutine: how it begins, how long it may wait, and how it ends.

use std::cell::OnceCell;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::bounds::{Bounds, Cut, WasCut};
use super::{IoHandle, blocking};
use crate::clock::Nanos;
use crate::current;
use crate::driver::op::Direction;
use crate::wait::{self, Signal};
use crate::worker::Worker;

/// Every call that may wait begins so: after a run of calls that did not, others get their turn
/// first; and a pending cancel, or a limit that has passed, ends it.
#[inline]
pub(super) fn begin(worker: &Worker) -> io::Result<()> {
    if worker.begins_plainly() { Ok(()) } else { begin_slowly(worker) }
}

#[inline(never)]
fn begin_slowly(worker: &Worker) -> io::Result<()> {
    worker.charge();
    if wait::is_io_cut(worker) {
        // One who swallows its cancel and calls again starves nobody.
        worker.yield_now();
        return Err(ended(Signal::Cancelled));
    }
    Ok(())
}

impl IoHandle {
    /// [`begin`] on a handle, which may be in non-blocking mode: whether it is. Such a call is never
    /// suspended before its attempt.
    pub(super) fn begin(&self, worker: &Worker) -> io::Result<bool> {
        let nonblocking = self.mode.is_nonblocking(self.fd.as_fd());
        if !nonblocking {
            begin(worker)?;
        } else if wait::is_io_cut(worker) {
            worker.charge_refusal();
            return Err(ended(Signal::Cancelled));
        }
        Ok(nonblocking)
    }
}

/// [`begin`] for a call that is made elsewhere, such as `connect`.
pub(crate) fn begin_call() -> io::Result<()> {
    current::worker().map_or_else(blocking::begin, begin)
}

/// One call of a coroutine: who makes it, on which half, for how long it may wait.
pub(super) struct Call<'a> {
    pub(super) worker: &'static Worker,
    pub(super) direction: Direction,
    timeout: Option<Duration>,
    /// Set when the first wait begins: all waits of a call end at the same time.
    deadline: OnceCell<Nanos>,
    bounds: Option<&'a Bounds<'a>>,
}

impl<'a> Call<'a> {
    #[inline]
    pub(super) fn new(
        worker: &'static Worker,
        direction: Direction,
        timeout: Option<Duration>,
    ) -> Call<'a> {
        Call { worker, direction, timeout, deadline: OnceCell::new(), bounds: None }
    }

    #[inline]
    pub(super) fn bounded(
        worker: &'static Worker,
        direction: Direction,
        bounds: &'a Bounds<'a>,
    ) -> Call<'a> {
        let call = Call::new(worker, direction, bounds.timeout);
        Call { bounds: Some(bounds), ..call }
    }

    #[inline]
    pub(super) fn cut(&self) -> Option<&'a Cut> {
        self.bounds.map(|bounds| bounds.cut)
    }

    /// Counted from now. The turn's cached clock would save a clock read, but a coroutine that
    /// has computed since would be timed out early; only calls that wait with a timeout pay.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let by_timeout =
            self.timeout.map(|timeout| *self.deadline.get_or_init(|| self.worker.after(timeout)));
        match self.bounds {
            Some(bounds) => blocking::nearer(by_timeout, bounds.deadline),
            None => by_timeout,
        }
    }
}

/// Why a wait was ended before what was waited for came.
#[derive(Clone, Copy)]
pub(super) enum Stop {
    By(Signal),
    Cut,
}

impl Stop {
    pub(super) fn error(self) -> io::Error {
        match self {
            Stop::By(signal) => ended(signal),
            Stop::Cut => WasCut::error(),
        }
    }

    /// Of a wait that ended with `signal`; `None` when nothing stopped it.
    #[inline]
    pub(super) fn of(signal: Signal, cut: Option<&Cut>) -> Option<Stop> {
        match signal {
            Signal::Wake if cut.is_some_and(Cut::is_set) => Some(Stop::Cut),
            Signal::Wake => None,
            Signal::TimedOut | Signal::Cancelled => Some(Stop::By(signal)),
        }
    }
}

/// The error of a wait that did not end with what was waited for. A cancel unwinds instead.
pub(crate) fn ended(signal: Signal) -> io::Error {
    match signal {
        Signal::Cancelled => wait::cancelled(),
        Signal::TimedOut | Signal::Wake => io::ErrorKind::TimedOut.into(),
    }
}

pub(crate) fn unwinding() -> io::Error {
    io::Error::other("coroutine is unwinding: an I/O call made by a destructor would have to wait")
}

/// The answer to a call in non-blocking mode that would have to wait.
#[cold]
pub(super) fn refused(worker: &Worker) -> io::Error {
    worker.charge_refusal();
    io::ErrorKind::WouldBlock.into()
}
