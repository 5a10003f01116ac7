//! epoll and the few socket calls of the load generator, by hand: no runtime stands between it and
//! the kernel.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub const READABLE: u32 = libc::EPOLLIN as u32;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;

/// Events taken in one call.
const BATCH: usize = 256;

pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        // SAFETY: no pointers.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Poller { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    pub fn add(&self, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn modify(&self, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, what: i32, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token as u64 };
        // SAFETY: the event lives through the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd, &mut event) }).map(drop)
    }

    /// How many events came, within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let (events, limit) = (self.events.as_mut_ptr(), BATCH as i32);
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: room for `limit` events; the timeout lives through the call.
        let count =
            check(unsafe { libc::epoll_pwait2(epoll, events, limit, &timeout, std::ptr::null()) });
        match count {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            count => Ok(count? as usize),
        }
    }

    /// Token and readiness of one of the events that came last.
    pub fn event(&self, index: usize) -> (usize, u32) {
        let event = self.events[index];
        (event.u64 as usize, event.events)
    }
}

/// `None` when it would block; zero is the end of the stream.
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer lives through the call.
    moved(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// `None` when it would block.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    // SAFETY: the bytes live through the call.
    moved(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) })
}

fn moved(result: isize) -> io::Result<Option<usize>> {
    if result >= 0 {
        return Ok(Some(result as usize));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(None),
        _ => Err(error),
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
