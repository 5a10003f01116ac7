//! Calls that would block and of whose end no readiness tells.
//!
//! ```text
//!   attempt --EAGAIN--> pause --> attempt --EAGAIN--> twice as long a pause --> ...
//!      | else             | cancel
//!      v                  v
//!    result             ended         timed out: one attempt more, then TimedOut
//! ```
//!
//! They are two, both on AF_UNIX: `connect` to a listener whose backlog is full, and a datagram
//! sent by address to a socket whose queue is full. In blocking mode the kernel waits on that
//! *other* socket; in non-blocking mode it says `EAGAIN`, and `poll` says of ours that it is
//! writable all the while. (Under the ring a kernel thread would have to block in our place.) So
//! a coroutine asks again after a while, and a plain thread makes the blocking call.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use socket2::{SockAddr, SockRef};

use super::bounds::{Bounds, WasCut};
use super::call::{Call, Stop, refused};
use super::{Direction, IoHandle, blocking, ended, unwinding};
use crate::clock::{self, Nanos};
use crate::wait::{self, Kind, Reason, Signal};
use crate::{current, limit};

/// Long enough for the other side to get its turn, if it is on this worker.
const FIRST_PAUSE: Duration = Duration::from_micros(100);

/// What a call may come late by. At a few microseconds an attempt, one that waits for long costs
/// less than a thousandth of a processor.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

impl IoHandle {
    /// Attempts until the answer is not `WouldBlock`. Takes no turn: one that waits for a full
    /// queue is in the way of nobody who sends elsewhere.
    pub(super) fn perform_with_pauses(
        &self,
        direction: Direction,
        bounds: Option<&Bounds<'_>>,
        attempt: impl Fn(bool) -> io::Result<i32>,
    ) -> io::Result<i32> {
        let Some(worker) = current::worker() else {
            return match (limit::of_thread(true), bounds) {
                (None, None) => self.block_on(direction, |_| attempt(true)),
                _ => self.attempt_within_limits(direction, bounds, attempt),
            };
        };
        let nonblocking = self.begin(worker)?;
        let call = match bounds {
            None => Call::new(worker, direction, self.timeout(direction)),
            Some(bounds) => Call::bounded(worker, direction, bounds),
        };
        let reason = Reason::io(Kind::Write, self.fd.as_raw_fd());
        let mut pause = FIRST_PAUSE;
        let mut timed_out = false;
        loop {
            worker.counters.attempts.add(1);
            match attempt(false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if nonblocking {
                return Err(refused(worker));
            }
            if worker.is_unwinding() {
                return Err(unwinding());
            }
            if timed_out {
                return Err(ended(Signal::TimedOut));
            }
            let again = worker.after(pause);
            let until = call.deadline().map_or(again, |deadline| deadline.min(again));
            let signal = wait::suspend(worker, reason, Some(until), false);
            match Stop::of(signal, call.cut()) {
                Some(Stop::By(Signal::TimedOut)) => timed_out = call.deadline() == Some(until),
                Some(stop) => return Err(stop.error()),
                None => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The same on a plain thread whose waits limits bound, or the caller.
    #[cold]
    fn attempt_within_limits(
        &self,
        direction: Direction,
        bounds: Option<&Bounds<'_>>,
        attempt: impl Fn(bool) -> io::Result<i32>,
    ) -> io::Result<i32> {
        blocking::begin()?;
        let deadline = match bounds {
            None => self.timeout(direction).map(clock::after),
            Some(bounds) => bounds.deadline_from(clock::now()),
        };
        let deadline = deadline.unwrap_or(Nanos::MAX);
        let mut pause = FIRST_PAUSE;
        loop {
            let until = limit::of_thread(true).unwrap_or(Nanos::MAX).min(deadline);
            let now = clock::now();
            match attempt(false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.mode.is_nonblocking(self.fd.as_fd()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if bounds.is_some_and(|bounds| bounds.cut.is_set()) {
                return Err(WasCut::error());
            }
            if now >= until {
                blocking::begin()?;
                return Err(ended(Signal::TimedOut));
            }
            thread::sleep(pause.min(Duration::from_nanos(until - now)));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects a fresh AF_UNIX socket, for as long as the blocking call would wait, or within
    /// bounds.
    pub(crate) fn connect_local(
        &self,
        address: &SockAddr,
        bounds: Option<&Bounds<'_>>,
    ) -> io::Result<()> {
        let may_block = current::worker().is_none() && limit::of_thread(true).is_none();
        if !may_block || bounds.is_some() {
            self.mode.borrow_nonblocking(self.fd.as_fd())?;
        }
        let connect = |_may_block| SockRef::from(self).connect(address).map(|()| 0);
        self.perform_with_pauses(Direction::Write, bounds, connect)?;
        self.mode.return_nonblocking(self.fd.as_fd());
        Ok(())
    }
}
