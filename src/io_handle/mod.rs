//! A descriptor with what it takes to wait on it: the one path of every I/O call.
//!
//! ```text
//!            plain thread --> the blocking system call itself; inside a limit, poll comes first
//!            nonblocking  --> one attempt, WouldBlock
//!   call --> unwinding    --> one attempt, "coroutine is unwinding"
//!            coroutine    --> claim the half --> hinted inline attempt --> driver --> result
//!                                |  waits            EAGAIN |              ^   |
//!                                `- its turn                `--------------'   | waits for its
//!                                                                             terminal completion
//! ```
//!
//! Each half (read, write) has its own claim and its own hint, so one coroutine reads while
//! another writes, on the same worker or not.
//!
//! Hints: a ring operation costs less than an inline attempt that fails and more than one that
//! succeeds. Reads therefore go inline when the last result says that data waits (the buffer was
//! filled, the kernel said "not empty", the connection is fresh); writes go inline unless the
//! last one found the socket full. The length of a datagram says nothing about the next one, and
//! of UDP the ring does not either: datagrams go inline until an attempt fails, and then one
//! operation in eight is followed by a probe. (Always trying first cost 10 % of a ping-pong, never
//! trying on 30 % of a flood.)

mod accept;
pub(crate) mod blocking;
pub(crate) mod bounds;
mod call;
pub(crate) mod claim;
mod complete;
pub(crate) mod datagram;
mod drained;
mod half;
mod is_tcp;
mod message;
mod mode;
mod pauses;
mod plain;
pub(crate) mod poll_arm;
mod send_file;
mod transfer;
pub(crate) mod undelivered;
pub(crate) mod urgent;
mod wait_any;

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

pub(crate) use self::call::{begin_call, ended, unwinding};
pub(crate) use self::urgent::poll_by_ring;
pub(crate) use self::wait_any::wait_any;
pub(crate) use crate::driver::op::{Direction, Op};
pub use message::Received;

use self::half::Half;
use self::is_tcp::IsTcp;
use self::mode::Mode;
use crate::coroutine::Coroutine;
use crate::driver::source::Source;

pub struct IoHandle {
    fd: OwnedFd,
    mode: Mode,
    read: Half,
    write: Half,
    /// Set on the first wait under epoll; released before the descriptor closes.
    source: AtomicPtr<Source>,
    is_tcp: IsTcp,
    /// What is moved are datagrams: the length of one says nothing about the next.
    datagrams: bool,
}

/// A socket of ours, or an end of a pipe, whichever type it has.
pub trait AsIoHandle {
    fn as_io_handle(&self) -> &IoHandle;
}

impl IoHandle {
    /// A descriptor that we made: blocking, no timeouts. `data_waits` when data is likely to be
    /// there already, as on a connection just accepted.
    pub(crate) fn new(fd: OwnedFd, data_waits: bool) -> IoHandle {
        let handle = IoHandle::with_mode(fd, Mode::fresh());
        handle.read.inline.store(data_waits, Ordering::Relaxed);
        handle
    }

    /// A descriptor from elsewhere, whose settings the kernel knows.
    pub(crate) fn adopt(fd: OwnedFd) -> IoHandle {
        IoHandle::with_mode(fd, Mode::adopted())
    }

    /// The same descriptor, known to be a TCP connection.
    pub(crate) fn of_tcp(mut self) -> IoHandle {
        self.is_tcp = IsTcp::yes();
        self
    }

    /// A connection that this socket has accepted.
    pub(crate) fn accepted(&self, fd: OwnedFd) -> IoHandle {
        self.is_tcp.learn(&self.fd);
        let mut accepted = IoHandle::new(fd, true);
        accepted.is_tcp = self.is_tcp.copy();
        accepted
    }

    /// The same descriptor, of datagrams.
    pub(crate) fn of_datagrams(mut self) -> IoHandle {
        self.datagrams = true;
        self
    }

    fn with_mode(fd: OwnedFd, mode: Mode) -> IoHandle {
        IoHandle {
            fd,
            mode,
            read: Half::new(true),
            write: Half::new(true),
            source: AtomicPtr::default(),
            is_tcp: IsTcp::unknown(),
            datagrams: false,
        }
    }

    /// Another descriptor of the same socket, with waits of its own and the same settings.
    pub(crate) fn try_clone(&self) -> io::Result<IoHandle> {
        let mut clone = IoHandle::with_mode(self.fd.try_clone()?, self.mode.share());
        clone.datagrams = self.datagrams;
        Ok(clone)
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.mode.set_nonblocking(self.fd.as_fd(), nonblocking)
    }

    pub(crate) fn timeout(&self, direction: Direction) -> Option<Duration> {
        self.mode.timeout(self.fd.as_fd(), direction)
    }

    pub(crate) fn set_timeout(
        &self,
        direction: Direction,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.mode.set_timeout(self.fd.as_fd(), direction, timeout)
    }

    fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    #[inline]
    fn source(&self) -> Option<&'static Source> {
        // SAFETY: sources live for ever.
        unsafe { self.source.load(Ordering::Acquire).as_ref() }
    }

    /// The source, taken now if this is the first wait. Two halves may race for it.
    fn source_or_take(&self) -> &'static Source {
        if let Some(source) = self.source() {
            return source;
        }
        self.is_tcp.learn(&self.fd);
        let taken = Source::take();
        let none = std::ptr::null_mut();
        let new = std::ptr::from_ref(taken).cast_mut();
        match self.source.compare_exchange(none, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => taken,
            Err(first) => {
                taken.release(self.fd.as_raw_fd());
                // SAFETY: sources live for ever.
                unsafe { &*first }
            }
        }
    }

    /// Forgets what was set up for waiting, before the descriptor closes or is handed out.
    fn release_source(&mut self) {
        // SAFETY: sources live for ever.
        if let Some(source) = unsafe { (*self.source.get_mut()).as_ref() } {
            source.release(self.fd.as_raw_fd());
            *self.source.get_mut() = std::ptr::null_mut();
        }
    }

    /// The descriptor, as std would hand it out: blocking unless the user asked otherwise.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        self.release_source();
        self.mode.return_nonblocking(self.fd.as_fd());
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so each field moves out once.
        unsafe {
            drop(std::ptr::read(&this.mode));
            std::ptr::read(&this.fd)
        }
    }
}

impl Drop for IoHandle {
    fn drop(&mut self) {
        self.release_source();
        // Another process may have the same open file: a pipe that we inherited, say.
        if !self.mode.is_shared() {
            self.mode.return_nonblocking(self.fd.as_fd());
        }
    }
}

impl fmt::Debug for IoHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoHandle").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl AsFd for IoHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Fetched whole for the coroutine that is to go on with it.
const _: () = assert!(size_of::<IoHandle>() <= Coroutine::SUBJECT_BYTES);
