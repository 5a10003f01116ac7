//! The calls of plain threads: they block, as std's do.
//!
//! ```text
//!   no limit around it:   the blocking call itself -> result
//!                              | WouldBlock, where O_NONBLOCK was ours; or a signal
//!                              v
//!                            poll -> the call again
//!
//!   inside a limit:       attempt -> result
//!                          ^  | would block
//!                          |  v
//!                         poll, to the nearer of the socket's deadline and the limit
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use super::bounds::{Cut, WasCut, bell_of_thread};
use super::{Direction, IoHandle, ended};
use crate::clock::{self, Nanos};
use crate::limit;
use crate::wait::Signal;

impl IoHandle {
    /// On a plain thread: the blocking call itself. Where we have set O_NONBLOCK behind the
    /// user's back, `poll` does the waiting; and after a signal, when the kernel would start the
    /// socket's timeout anew.
    pub(super) fn block_on(
        &self,
        direction: Direction,
        attempt: impl Fn(bool) -> io::Result<i32>,
    ) -> io::Result<i32> {
        let deadline = self.timeout(direction).map(clock::after);
        if limit::of_thread(true).is_some() {
            return self.block_within_limits(direction, deadline, attempt);
        }
        loop {
            // Readiness that leads to nothing must not make it go on for ever.
            let is_last = deadline.is_some_and(|deadline| clock::now() >= deadline);
            let interrupted = match attempt(true) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
                result => return result,
            };
            if interrupted && deadline.is_none() {
                continue;
            }
            if interrupted && is_last {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if !interrupted && self.mode.is_nonblocking(self.fd.as_fd()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if !interrupted && !self.mode.is_borrowed_nonblocking() {
                // The kernel's own SO_RCVTIMEO or SO_SNDTIMEO.
                return Err(io::ErrorKind::TimedOut.into());
            }
            poll_blocking(self.fd.as_raw_fd(), events_of(direction), deadline)?;
        }
    }

    /// As `block_on`, on a thread whose waits a limit bounds: it waits in `poll` only.
    #[cold]
    fn block_within_limits(
        &self,
        direction: Direction,
        deadline: Option<Nanos>,
        attempt: impl Fn(bool) -> io::Result<i32>,
    ) -> io::Result<i32> {
        begin()?;
        loop {
            match attempt(false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.mode.is_nonblocking(self.fd.as_fd()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            poll_within_limits(self.fd.as_raw_fd(), events_of(direction), deadline)?;
        }
    }
}

/// A limit that has passed ends the call. While the thread unwinds it does not,
/// and the call is made once, as in a coroutine.
pub(super) fn begin() -> io::Result<()> {
    match limit::of_thread(true) {
        Some(limit) if limit <= clock::now() && !std::thread::panicking() => {
            Err(ended(Signal::Cancelled))
        }
        _ => Ok(()),
    }
}

pub(super) fn events_of(direction: Direction) -> i16 {
    match direction {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    }
}

/// The nearer of two deadlines.
pub(super) fn nearer(one: Option<Nanos>, other: Option<Nanos>) -> Option<Nanos> {
    [one, other].into_iter().flatten().min()
}

/// Waits for readiness, for at most `timeout`.
pub(crate) fn wait_ready(fd: RawFd, events: i16, timeout: Option<Duration>) -> io::Result<i16> {
    poll_within_limits(fd, events, timeout.map(clock::after))
}

/// Waits for readiness, up to `deadline`, and for no longer than the limits in force allow.
fn poll_within_limits(fd: RawFd, events: i16, deadline: Option<Nanos>) -> io::Result<i16> {
    loop {
        let limit = limit::of_thread(true);
        let until = nearer(deadline, limit);
        match poll_blocking(fd, events, until) {
            // It was for a look at the limits that it ended.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && until != deadline => {
                begin()?;
            }
            result => return result,
        }
    }
}

/// Waits for readiness, or until the cut is set and this thread's bell rung.
pub(super) fn poll_or_cut(
    fd: RawFd,
    events: i16,
    deadline: Option<Nanos>,
    cut: &Cut,
) -> io::Result<i16> {
    let bell = bell_of_thread()?;
    loop {
        if cut.is_set() {
            return Err(WasCut::error());
        }
        let bell_fd = bell.as_fd().as_raw_fd();
        let mut entries = [(fd, events), (bell_fd, libc::POLLIN)]
            .map(|(fd, events)| libc::pollfd { fd, events, revents: 0 });
        if !poll_or_look(&mut entries, deadline)? {
            continue;
        }
        if entries[1].revents != 0 {
            bell.answer();
        }
        if entries[0].revents != 0 {
            return Ok(entries[0].revents);
        }
    }
}

/// Whether one of them is ready; false when it is time to look whether the wait was ended: by a
/// limit, which this sees to, or by a cut. The error of the deadline has no source.
pub(super) fn poll_or_look(
    entries: &mut [libc::pollfd],
    deadline: Option<Nanos>,
) -> io::Result<bool> {
    let until = nearer(deadline, limit::of_thread(true));
    match poll_once(entries, until) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut && until != deadline => {
            begin().map(|()| false)
        }
        result => result,
    }
}

/// Whether one of them is ready; false after a signal, and when there is time left.
fn poll_once(entries: &mut [libc::pollfd], deadline: Option<Nanos>) -> io::Result<bool> {
    // Rounded up: a wait must not end early.
    let left_ms = deadline.map_or(-1, |deadline| {
        let left = deadline.saturating_sub(clock::now()).div_ceil(1_000_000);
        i32::try_from(left).unwrap_or(i32::MAX)
    });
    // SAFETY: the entries are valid for the call, and as many as it is told.
    match unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, left_ms) } {
        1.. => Ok(true),
        0 if left_ms != i32::MAX => {
            begin()?;
            Err(io::ErrorKind::TimedOut.into())
        }
        0 => Ok(false),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}

/// Waits for readiness, whatever limit is in force.
pub(crate) fn poll_blocking(fd: RawFd, events: i16, deadline: Option<Nanos>) -> io::Result<i16> {
    let mut entries = [libc::pollfd { fd, events, revents: 0 }];
    while !poll_once(&mut entries, deadline)? {}
    Ok(entries[0].revents)
}
