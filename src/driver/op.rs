//! One blocking-looking call, as plain data.
//!
//! An [`Op`] holds raw pointers into the frame of the coroutine that makes the call. That frame
//! is suspended, not gone, while the kernel works, so the pointers stay good exactly as they do
//! in a blocking system call; see the cancel protocol in [`crate::driver`].

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
    Accept {
        fd: RawFd,
        address: *mut libc::sockaddr_storage,
        len: *mut libc::socklen_t,
    },
    Connect {
        fd: RawFd,
        address: *const libc::sockaddr_storage,
        len: libc::socklen_t,
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
            | Op::Accept { fd, .. }
            | Op::Connect { fd, .. }
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

    /// Makes the system call once. `MSG_DONTWAIT` keeps it from blocking where the call has
    /// flags; for `Accept` and `Connect` the descriptor's `O_NONBLOCK` has to, when
    /// `may_block` is false. `EINTR` is retried here, unless
    /// `may_block`.
    ///
    /// # Safety
    ///
    /// Every pointer in the operation must be valid for the call.
    pub(crate) unsafe fn attempt(&self, may_block: bool) -> io::Result<i32> {
        let wait = if may_block { 0 } else { libc::MSG_DONTWAIT };
        loop {
            // SAFETY: the caller vouches for the pointers; the lengths come with them.
            let result = unsafe {
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
                    Op::Accept { fd, address, len } => {
                        libc::accept4(fd, address.cast(), len, libc::SOCK_CLOEXEC) as isize
                    }
                    Op::Connect { fd, address, len } => {
                        libc::connect(fd, address.cast(), len) as isize
                    }
                    Op::Poll { fd, events } => {
                        let mut entry = libc::pollfd { fd, events, revents: 0 };
                        match libc::poll(&mut entry, 1, if may_block { -1 } else { 0 }) {
                            0 => {
                                return Err(io::Error::from_raw_os_error(libc::EAGAIN));
                            }
                            1.. => entry.revents as isize,
                            error => error as isize,
                        }
                    }
                }
            };
            if result >= 0 {
                return Ok(result as i32);
            }
            let error = io::Error::last_os_error();
            if may_block || error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}
