//! Waits for urgent data (`POLLPRI`) under the ring, which misses some of it.
//!
//! When other data comes just before the urgent byte, a poll for `POLLPRI` may sleep on (one time in
//! ten on Linux 6.18), or end for the other data. So whoever waits for that looks for himself now
//! and then, and believes no wake-up. A wait for `POLLIN` too is ended by the data in any case.
//!
//! Epoll has no such gap: what is woken there looks for itself anyway.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::blocking::poll_blocking;
use super::complete::poll_once_by_ring;
use super::{begin_call, ended};
use crate::clock::Nanos;
use crate::current;
use crate::driver::Driver;
use crate::driver::uring::Uring;
use crate::wait::Signal;
use crate::worker::Worker;

const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Whether a wait for these `events` is one that the ring may miss.
pub(super) fn is_missable(events: i16) -> bool {
    events & libc::POLLPRI != 0 && events & libc::POLLIN == 0
}

/// When a wait of the calling coroutine for `events` must look for itself; `None` if it need not.
pub(crate) fn look_at(events: i16) -> Option<Nanos> {
    let worker = current::worker().filter(|_| is_missable(events))?;
    matches!(worker.driver, Driver::Uring(_)).then(|| worker.after(LOOK_PERIOD))
}

/// Waits under the ring for what `poll(2)` calls `events`. When this returns, the kernel has
/// forgotten the descriptor, which may be somebody else's.
pub(crate) fn poll_by_ring(
    worker: &'static Worker,
    ring: &Uring,
    fd: BorrowedFd<'_>,
    events: i16,
    deadline: Option<Nanos>,
) -> io::Result<i16> {
    if !is_missable(events) {
        return poll_once_by_ring(worker, ring, fd, events, deadline, None);
    }
    loop {
        let look_at = worker.after(LOOK_PERIOD);
        let until = deadline.map_or(look_at, |deadline| deadline.min(look_at));
        match poll_once_by_ring(worker, ring, fd, events, Some(until), None) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => return Err(error),
            // Perhaps it was for the other data.
            Ok(_) => {}
        }
        match poll_blocking(fd.as_raw_fd(), events, Some(0)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            looked => return looked,
        }
        if deadline.is_some_and(|deadline| deadline <= worker.after(Duration::ZERO)) {
            return Err(ended(Signal::TimedOut));
        }
        // A limit around the wait is what ended it, perhaps.
        begin_call()?;
    }
}
