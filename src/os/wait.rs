//! Waiting for any descriptor: the door for C libraries that have a non-blocking mode.
//!
//! ```text
//!   wait --> a look: ready? --------------------------------------------> what it is ready for
//!              | no                                                         ^
//!              |--> io_uring: one poll, which ends with the wait -----------|
//!              `--> epoll: a duplicate, registered until the wait ends -----'
//! ```
//!
//! The descriptor is somebody else's, who may close it as soon as we return: so nothing of the wait
//! may outlast it. Under epoll that takes a descriptor of our own, also because a number can be
//! registered but once: two who wait for the same one, or its owner, would be in each other's way.

use std::fmt;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::clock::Nanos;
use crate::current;
use crate::driver::Driver;
use crate::driver::epoll::Epoll;
use crate::driver::readiness::Readiness;
use crate::driver::source::Source;
use crate::io_handle::blocking::{self, poll_blocking};
use crate::io_handle::{begin_call, ended, poll_by_ring, unwinding};
use crate::wait::{self, Kind, Reason, Signal};
use crate::worker::Worker;

/// What to wait for; `Interest::READ | Interest::WRITE` for either.
///
/// An error, or a peer that is gone, ends a wait whatever its interest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(i16);

impl Interest {
    /// A read would not block: there are bytes, a connection, or the end.
    pub const READ: Interest = Interest(libc::POLLIN);
    /// A write would not block.
    pub const WRITE: Interest = Interest(libc::POLLOUT);
    /// Something exceptional, such as TCP's urgent data or a change of a file in `/sys`.
    pub const PRIORITY: Interest = Interest(libc::POLLPRI);

    /// As `poll(2)` names them.
    pub(crate) fn bits(self) -> i16 {
        self.0
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interest({})", names(self.0))
    }
}

/// What a descriptor was found ready for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ready(i16);

impl Ready {
    /// What `poll(2)` says.
    pub(crate) fn of(bits: i16) -> io::Result<Ready> {
        if bits & libc::POLLNVAL != 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(Ready(bits))
    }

    /// A read would not block; it may find an error, or the end.
    pub fn is_readable(self) -> bool {
        self.0 & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// A write would not block; it may find an error.
    pub fn is_writable(self) -> bool {
        self.0 & (libc::POLLOUT | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// As [`Interest::PRIORITY`].
    pub fn is_priority(self) -> bool {
        self.0 & libc::POLLPRI != 0
    }

    /// The other side is gone, or there is an error to be fetched.
    pub fn is_closed(self) -> bool {
        self.0 & (libc::POLLHUP | libc::POLLERR) != 0
    }

    /// The bits, as `poll(2)` names them.
    pub fn bits(self) -> i16 {
        self.0
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({})", names(self.0))
    }
}

fn names(bits: i16) -> String {
    let all = [
        (libc::POLLIN, "read"),
        (libc::POLLOUT, "write"),
        (libc::POLLPRI, "priority"),
        (libc::POLLERR, "error"),
        (libc::POLLHUP, "closed"),
    ];
    let names: Vec<&str> =
        all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    names.join(" | ")
}

/// Waits until a descriptor is ready, for at most `timeout`, and says for what.
///
/// This is how a C library that can work without blocking waits here: call it, and when it says
/// that it would have to read or write first, wait for that and call it again. Any descriptor that
/// `poll(2)` takes will do; a regular file is always ready. The descriptor's mode does not matter
/// and is not changed. When this returns nothing of it remains: the descriptor may be closed at
/// once. Any number of coroutines and threads may wait for the same one.
///
/// A coroutine is suspended, a plain thread blocks. `None` waits for ever, zero just has a look.
///
/// # Errors
///
/// `TimedOut` when it is not ready by then; the system's (`EBADF`; under epoll `EMFILE`, since it
/// takes one more descriptor for as long as it waits). In a coroutine that unwinds, "coroutine is
/// unwinding", unless it is ready.
///
/// # Cancel
///
/// Unwinds, and leaves the descriptor as it is.
///
/// ```
/// use cosocket::os::{self, Interest};
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// let (mut near, far) = UnixStream::pair()?;
/// cosocket::run(|| {
///     let soon = Duration::from_millis(1);
///     let error = os::wait(&far, Interest::READ, Some(soon)).unwrap_err();
///     assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
///     near.write_all(b"!")?;
///     assert!(os::wait(&far, Interest::READ, None)?.is_readable());
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
pub fn wait(fd: impl AsFd, interest: Interest, timeout: Option<Duration>) -> io::Result<Ready> {
    let fd = fd.as_fd();
    let Some(worker) = current::worker() else {
        return Ready::of(blocking::wait_ready(fd.as_raw_fd(), interest.0, timeout)?);
    };
    begin_call()?;
    match poll_blocking(fd.as_raw_fd(), interest.0, Some(0)) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
        looked => return Ready::of(looked?),
    }
    if timeout == Some(Duration::ZERO) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    if worker.is_unwinding() {
        return Err(unwinding());
    }
    let deadline = timeout.map(|timeout| worker.after(timeout));
    match &worker.driver {
        Driver::Uring(ring) => Ready::of(poll_by_ring(worker, ring, fd, interest.0, deadline)?),
        Driver::Epoll(epoll, _) => {
            Ready::of(Watch::of(fd)?.wait(worker, epoll, interest, deadline)?)
        }
    }
}

/// A duplicate of somebody's descriptor, in a worker's epoll until it is dropped.
struct Watch {
    fd: OwnedFd,
    source: &'static Source,
}

impl Watch {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Watch> {
        Ok(Watch { fd: fd.try_clone_to_owned()?, source: Source::take() })
    }

    fn wait(
        &self,
        worker: &Worker,
        epoll: &Epoll,
        interest: Interest,
        deadline: Option<Nanos>,
    ) -> io::Result<i16> {
        let me = std::ptr::from_ref(worker.current()).cast();
        let reason = Reason::io(Kind::Ready, self.fd.as_raw_fd());
        let is_writing = interest.0 & libc::POLLOUT != 0;
        let is_reading = interest.0 & (libc::POLLIN | libc::POLLPRI) != 0;
        let halves: [(&Readiness, bool); 2] =
            [(&self.source.read, is_reading), (&self.source.write, is_writing)];
        let halves = halves.iter().filter(|(_, is_wanted)| *is_wanted).map(|(half, _)| *half);
        let mut stopped: Option<Signal> = None;
        loop {
            // Before the look, so that a change after it is one that parking notices.
            let before = (self.source.read.snapshot(), self.source.write.snapshot());
            match poll_blocking(self.fd.as_raw_fd(), interest.0, Some(0)) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                looked => return looked,
            }
            if let Some(signal) = stopped {
                return Err(ended(signal));
            }
            epoll.register(self.fd.as_raw_fd(), self.source)?;
            let park = |half: &Readiness| {
                let is_read = std::ptr::eq(half, &self.source.read);
                half.park(if is_read { before.0 } else { before.1 }, me)
            };
            if halves.clone().all(park) {
                let signal = wait::suspend(worker, reason, deadline, false);
                stopped = (signal != Signal::Wake).then_some(signal);
            }
            halves.clone().for_each(|half| {
                half.unpark(me);
            });
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.source.release(self.fd.as_raw_fd());
    }
}
