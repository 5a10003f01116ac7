//! The kernel's list of idle connections: an epoll of its own, beside those of the workers.
//!
//! A parked connection belongs to no worker: any may take it. So it cannot be watched by a
//! worker's ring, whose operation only that worker can cancel, and which would keep the socket
//! open behind the back of who closes it. An epoll takes and gives back descriptors from any
//! thread, and is itself a descriptor that can be waited on, under either driver.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::doorbell::Doorbell;
use crate::io_handle::IoHandle;

/// Not a connection's.
const BELL: u64 = u64::MAX;

/// What is asked of each connection, once at a time.
const EVENTS: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLONESHOT) as u32;

pub(super) struct IdleSet {
    epoll: IoHandle,
    bell: Doorbell,
}

impl IdleSet {
    pub(super) fn open() -> io::Result<IdleSet> {
        // SAFETY: no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        let epoll = IoHandle::new(unsafe { OwnedFd::from_raw_fd(epoll) }, false);
        let set = IdleSet { epoll, bell: Doorbell::new()? };
        let bell = set.bell.as_fd().as_raw_fd();
        set.control(libc::EPOLL_CTL_ADD, bell, libc::EPOLLIN as u32, BELL)?;
        Ok(set)
    }

    pub(super) fn add(&self, connection: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, connection.as_raw_fd(), EVENTS, token)
    }

    /// To be told of again. The descriptor may be gone by now: that is an error, and harmless.
    pub(super) fn rearm(&self, connection: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, connection, EVENTS, token)
    }

    pub(super) fn remove(&self, connection: BorrowedFd<'_>) {
        // What is not there need not be removed.
        let _ = self.control(libc::EPOLL_CTL_DEL, connection.as_raw_fd(), 0, 0);
    }

    /// Ends the wait, the next one if there is none.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Waits until there is something to be told of, for at most `timeout`.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.epoll.wait_ready(libc::POLLIN, Some(timeout)).map(drop)
    }

    /// Tells of all connections that can be read; never waits.
    pub(super) fn take_ready(&self, mut ready: impl FnMut(u64)) {
        const ROOM: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; ROOM];
        loop {
            let epoll = self.epoll.as_fd().as_raw_fd();
            // SAFETY: the array has that much room.
            let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), ROOM as i32, 0) };
            let count = usize::try_from(count).unwrap_or(0);
            for event in &events[..count] {
                match event.u64 {
                    BELL => drop(self.bell.answer()),
                    token => ready(token),
                }
            }
            if count < ROOM {
                return;
            }
        }
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the event lives through the call, which only reads it.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_fd().as_raw_fd(), operation, fd, &mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
