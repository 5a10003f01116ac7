//! One blocking-looking call, as plain data.
//!
//! An [`Op`] holds raw pointers into the frame of the coroutine that makes the call. That frame
//! is suspended, not gone, while the kernel works, so the pointers stay good exactly as they do
//! in a blocking system call; see the cancel protocol in [`crate::driver`].
//!
//! Only transfers, and the wait for readiness, are operations. `accept` and `connect` are made of
//! that wait and of a call that does not block: then a timeout or a cancel never finds a
//! descriptor that was accepted for nobody.

use std::io;
use std::os::fd::RawFd;

/// Which of a descriptor's two independent halves an operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A system call to make without blocking, or to hand to the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Recv {
        fd: RawFd,
        buffer: *mut u8,
        len: usize,
        flags: i32,
    },
    Send {
        fd: RawFd,
        buffer: *const u8,
        len: usize,
    },
    RecvMsg {
        fd: RawFd,
        message: *mut libc::msghdr,
        flags: i32,
    },
    SendMsg {
        fd: RawFd,
        message: *const libc::msghdr,
    },
    /// Completes with the ready mask, as `poll(2)` names it.
    Poll {
        fd: RawFd,
        events: i16,
    },
}

impl Op {
    /// The descriptor the operation works on.
    pub(crate) fn fd(&self) -> RawFd {
        match *self {
            Op::Recv { fd, .. }
            | Op::Send { fd, .. }
            | Op::RecvMsg { fd, .. }
            | Op::SendMsg { fd, .. }
            | Op::Poll { fd, .. } => fd,
        }
    }

    /// Whether the data stays in the socket.
    pub(crate) fn is_peek(&self) -> bool {
        match *self {
            Op::Recv { flags, .. } | Op::RecvMsg { flags, .. } => flags & libc::MSG_PEEK != 0,
            _ => false,
        }
    }

    /// Makes the system call once. Unless it `may_block`, it answers `WouldBlock` in place of
    /// waiting, whatever mode the descriptor is in. One that may block and is interrupted by a
    /// signal says so: whoever waits knows for how long.
    ///
    /// # Safety
    ///
    /// Every pointer in the operation must be valid for the call.
    pub(crate) unsafe fn attempt(&self, may_block: bool) -> io::Result<i32> {
        let wait = if may_block { 0 } else { libc::MSG_DONTWAIT };
        complete(may_block, || {
            // SAFETY: the caller vouches for the pointers; the lengths come with them.
            unsafe {
                match *self {
                    Op::Recv { fd, buffer, len, flags } => {
                        libc::recv(fd, buffer.cast(), len, flags | wait)
                    }
                    Op::Send { fd, buffer, len } => {
                        libc::send(fd, buffer.cast(), len, libc::MSG_NOSIGNAL | wait)
                    }
                    Op::RecvMsg { fd, message, flags } => libc::recvmsg(fd, message, flags | wait),
                    Op::SendMsg { fd, message } => {
                        libc::sendmsg(fd, message, libc::MSG_NOSIGNAL | wait)
                    }
                    Op::Poll { fd, events } => poll_once(fd, events, may_block),
                }
            }
        })
    }
}

/// Accepts a connection, close-on-exec. Whether it blocks is up to the descriptor's mode;
/// interrupts are as for [`Op::attempt`].
///
/// # Safety
///
/// `address` and `len` must be valid for the call, or null.
pub(crate) unsafe fn accept(
    fd: RawFd,
    address: *mut libc::sockaddr_storage,
    len: *mut libc::socklen_t,
    may_block: bool,
) -> io::Result<RawFd> {
    complete(may_block, || {
        // SAFETY: the caller vouches for the pointers.
        unsafe { libc::accept4(fd, address.cast(), len, libc::SOCK_CLOEXEC) as isize }
    })
}

/// `poll(2)` of one descriptor; "not ready" is `EAGAIN`, as for the other calls.
fn poll_once(fd: RawFd, events: i16, may_block: bool) -> isize {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry, valid for the call.
    match unsafe { libc::poll(&mut entry, 1, if may_block { -1 } else { 0 }) } {
        1.. => entry.revents as isize,
        0 => {
            // SAFETY: the thread's own errno.
            unsafe { *libc::__errno_location() = libc::EAGAIN };
            -1
        }
        error => error as isize,
    }
}

/// The call's result. One that cannot have waited is made again after a signal.
fn complete(may_block: bool, call: impl Fn() -> isize) -> io::Result<i32> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result as i32);
        }
        let error = io::Error::last_os_error();
        if may_block || error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
