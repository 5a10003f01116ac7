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
    /// From what is no socket: a pipe, a terminal. At its own position, where there is one.
    Read {
        fd: RawFd,
        buffers: *const libc::iovec,
        count: usize,
    },
    Write {
        fd: RawFd,
        buffers: *const libc::iovec,
        count: usize,
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
            | Op::Read { fd, .. }
            | Op::Write { fd, .. }
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

    /// Whether it moves bytes by the calls that any descriptor has, not by those of sockets.
    pub(crate) fn is_plain_transfer(&self) -> bool {
        matches!(self, Op::Read { .. } | Op::Write { .. })
    }

    /// Whether `error` says that this descriptor, or this kernel, has no call that does not block
    /// unless the descriptor itself is in non-blocking mode: true of pipes before Linux 6.5, and
    /// of terminals.
    pub(crate) fn needs_mode(&self, error: &io::Error) -> bool {
        let refusals = [libc::EOPNOTSUPP, libc::ENOSYS, libc::EPERM];
        self.is_plain_transfer() && error.raw_os_error().is_some_and(|e| refusals.contains(&e))
    }

    /// Makes the system call once. Unless it `may_block`, it answers `WouldBlock` in place of
    /// waiting, whatever mode the descriptor is in (or, where [`Op::needs_mode`] says so, an
    /// error). One that may block and is interrupted by a signal says so: whoever waits knows for
    /// how long.
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
                    Op::Read { fd, buffers, count } if may_block => {
                        libc::readv(fd, buffers, count as i32)
                    }
                    Op::Read { fd, buffers, count } => {
                        without_waiting(libc::SYS_preadv2, fd, buffers, count)
                    }
                    Op::Write { fd, buffers, count } if may_block => {
                        libc::writev(fd, buffers, count as i32)
                    }
                    Op::Write { fd, buffers, count } => {
                        without_waiting(libc::SYS_pwritev2, fd, buffers, count)
                    }
                    Op::Poll { fd, events } => poll_once(fd, events, may_block),
                }
            }
        })
    }
}

/// `preadv2` or `pwritev2`, which not every C library has, at the descriptor's own position.
///
/// # Safety
///
/// The buffers, and what they point to, must be valid for the call.
unsafe fn without_waiting(
    call: libc::c_long,
    fd: RawFd,
    buffers: *const libc::iovec,
    count: usize,
) -> isize {
    let (here_low, here_high) = (-1_i64, -1_i64);
    // SAFETY: the caller vouches for the pointers.
    let result =
        unsafe { libc::syscall(call, fd, buffers, count, here_low, here_high, libc::RWF_NOWAIT) };
    result as isize
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
        if let Some(error) = failure(may_block) {
            return Err(error);
        }
    }
}

/// Why the last call failed; `None` when it is to be made again. Apart, for most calls succeed.
#[inline(never)]
fn failure(may_block: bool) -> Option<io::Error> {
    let error = io::Error::last_os_error();
    (may_block || error.kind() != io::ErrorKind::Interrupted).then_some(error)
}
