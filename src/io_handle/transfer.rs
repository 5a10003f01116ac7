//! The calls that move bytes: what a socket's methods come to, and the one way they all go.

use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use super::call::{Call, begin_call, ended, refused, unwinding};
use super::{Direction, IoHandle, Op};
use crate::current;
use crate::driver::Driver;
use crate::worker::Worker;

impl IoHandle {
    /// Receives into `buffer`, which the kernel may write to until this returns.
    pub(crate) fn recv(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        if buffer.is_empty() && !self.datagrams {
            return begin_call().map(|()| 0);
        }
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        let op = Op::Recv { fd, buffer: buffer.as_mut_ptr(), len, flags };
        // SAFETY: the buffer is ours for the call, and `perform` returns or unwinds only when
        // the kernel has let go of it.
        unsafe { self.perform(Direction::Read, &op, len) }
    }

    /// Sends from `buffer`; may send less.
    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        let op = Op::Send { fd, buffer: buffer.as_ptr(), len };
        // SAFETY: as in `recv`.
        unsafe { self.perform(Direction::Write, &op, len) }
    }

    /// Sends all of `buffer`, as [`write_all`](io::Write::write_all) promises.
    pub(crate) fn send_all(&self, mut buffer: &[u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.send(buffer) {
                Ok(0) => {
                    let message = "failed to write whole buffer";
                    return Err(io::Error::new(io::ErrorKind::WriteZero, message));
                }
                Ok(sent) => buffer = &buffer[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives into several buffers.
    pub(crate) fn recv_vectored(&self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        let len = transfer_len(buffers);
        if len == 0 {
            return begin_call().map(|()| 0);
        }
        let mut message = message(buffers.as_mut_ptr().cast(), buffers.len());
        let op = Op::RecvMsg { fd: self.fd.as_raw_fd(), message: &mut message, flags: 0 };
        // SAFETY: as in `recv`; `IoSliceMut` has the layout of `iovec`, and header and array
        // live in this frame and the caller's.
        unsafe { self.perform(Direction::Read, &op, len) }
    }

    /// Sends from several buffers; may send less.
    pub(crate) fn send_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let len = transfer_len(buffers);
        let message = message(buffers.as_ptr().cast_mut().cast(), buffers.len());
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `recv_vectored`.
        unsafe { self.perform(Direction::Write, &op, len) }
    }

    /// [`IoHandle::recv`] that never waits: `WouldBlock`, also while it is another's turn.
    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        let op = Op::Recv { fd, buffer: buffer.as_mut_ptr(), len, flags: 0 };
        // SAFETY: the buffer is ours for the call.
        unsafe { self.attempt_in_turn(Direction::Read, &op) }
    }

    /// [`IoHandle::send`] that never waits.
    #[cfg(any(feature = "futures", feature = "tls"))]
    pub(crate) fn try_send(&self, buffer: &[u8]) -> io::Result<usize> {
        let op = Op::Send { fd: self.fd.as_raw_fd(), buffer: buffer.as_ptr(), len: buffer.len() };
        // SAFETY: as in `try_recv`.
        unsafe { self.attempt_in_turn(Direction::Write, &op) }
    }

    /// [`IoHandle::recv_vectored`] that never waits.
    #[cfg(feature = "futures")]
    pub(crate) fn try_recv_vectored(
        &self,
        buffers: &mut [io::IoSliceMut<'_>],
    ) -> io::Result<usize> {
        let mut message = message(buffers.as_mut_ptr().cast(), buffers.len());
        let op = Op::RecvMsg { fd: self.fd.as_raw_fd(), message: &mut message, flags: 0 };
        // SAFETY: as in `recv_vectored`.
        unsafe { self.attempt_in_turn(Direction::Read, &op) }
    }

    /// [`IoHandle::send_vectored`] that never waits.
    #[cfg(feature = "futures")]
    pub(crate) fn try_send_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let message = message(buffers.as_ptr().cast_mut().cast(), buffers.len());
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `recv_vectored`.
        unsafe { self.attempt_in_turn(Direction::Write, &op) }
    }

    /// Makes a call that moves up to `len` bytes.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid until this returns or unwinds.
    #[inline]
    pub(super) unsafe fn perform(
        &self,
        direction: Direction,
        op: &Op,
        len: usize,
    ) -> io::Result<usize> {
        match current::worker() {
            Some(worker) if len != 0 && self.mode.is_blocking() && worker.begins_plainly() => {
                let call = Call::new(worker, direction, self.mode.known_timeout(direction));
                // SAFETY: the caller's pointers, for as long as this call.
                unsafe { self.transfer(&call, op, len) }
            }
            // SAFETY: the caller's pointers.
            worker => unsafe { self.perform_specially(worker, direction, op, len) },
        }
    }

    /// As [`perform`](IoHandle::perform), where not all is as usual: a plain thread, non-blocking
    /// mode, an unwind, a cancel.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(never)]
    unsafe fn perform_specially(
        &self,
        worker: Option<&'static Worker>,
        direction: Direction,
        op: &Op,
        len: usize,
    ) -> io::Result<usize> {
        let Some(worker) = worker else {
            let attempt = |may_block| {
                // SAFETY: the caller's pointers.
                if may_block { unsafe { op.attempt(true) } } else { unsafe { self.attempt(op) } }
            };
            return self.block_on(direction, attempt).map(|moved| moved as usize);
        };
        let nonblocking = self.begin(worker)?;
        if len == 0 {
            // A stream takes nothing at any time, full or not; a datagram may have to wait.
            // SAFETY: the caller's pointers.
            match unsafe { self.attempt(op) } {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(|moved| moved as usize),
            }
        }
        let unwinding = !nonblocking && worker.is_unwinding();
        if unwinding || nonblocking {
            // SAFETY: the caller's pointers.
            return unsafe { self.attempt_once(worker, direction, op, unwinding) };
        }
        let call = Call::new(worker, direction, self.timeout(direction));
        // SAFETY: the caller's pointers, for as long as this call.
        unsafe { self.transfer(&call, op, len) }
    }

    /// Waits for its turn on the half, then makes the call, which may wait too.
    ///
    /// # Safety
    ///
    /// As [`perform`](IoHandle::perform).
    #[inline]
    pub(super) unsafe fn transfer(
        &self,
        call: &Call<'_>,
        op: &Op,
        len: usize,
    ) -> io::Result<usize> {
        let half = self.half(call.direction);
        let turn = half.claim.acquire(self.fd.as_raw_fd(), || call.deadline());
        let _held = turn.map_err(ended)?;
        let moved = match &call.worker.driver {
            // SAFETY: the caller's pointers, for as long as this call; the claim is held.
            Driver::Uring(ring) => unsafe { self.inline_or_ring(call, ring, half, op, len) },
            // SAFETY: as above.
            Driver::Epoll(epoll, _) => unsafe { self.by_readiness(call, epoll, op, len) },
        };
        moved.map(|moved| moved as usize)
    }

    /// One attempt, for those who must not wait.
    unsafe fn attempt_once(
        &self,
        worker: &Worker,
        direction: Direction,
        op: &Op,
        is_unwinding: bool,
    ) -> io::Result<usize> {
        worker.counters.attempts.add(1);
        // SAFETY: the caller's pointers.
        match unsafe { self.attempt_in_turn(direction, op) } {
            Err(error) if is_unwinding && error.kind() == io::ErrorKind::WouldBlock => {
                Err(unwinding())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(refused(worker)),
            result => result,
        }
    }

    /// The system call, without waiting, if it is nobody else's turn.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid for the call.
    pub(super) unsafe fn attempt_in_turn(
        &self,
        direction: Direction,
        op: &Op,
    ) -> io::Result<usize> {
        // Bytes must not overtake those of a coroutine whose call is in the ring.
        let Some(_held) = self.half(direction).claim.try_acquire() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // SAFETY: the caller's pointers.
        unsafe { self.attempt(op) }.map(|moved| moved as usize)
    }
}

/// What one call may move: of more buffers than the kernel takes at once, the rest is for later
/// and says nothing about the socket.
pub(super) fn transfer_len(buffers: &[impl Deref<Target = [u8]>]) -> usize {
    buffers.iter().take(libc::UIO_MAXIOV as usize).map(|buffer| buffer.len()).sum()
}

pub(super) fn message(buffers: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all zeroes is an empty message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers;
    // More than the kernel takes at once is a shorter transfer, as in std.
    message.msg_iovlen = count.min(libc::UIO_MAXIOV as usize) as _;
    message
}
