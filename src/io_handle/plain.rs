//! Descriptors that are no sockets: pipes above all.
//!
//! Their calls take no `MSG_DONTWAIT`. `RWF_NOWAIT` is its like, for pipes from Linux 6.5 on. Where
//! it is refused, an attempt puts the descriptor into non-blocking mode for as long as we have it;
//! conversions and the last drop undo that. Under the ring neither is needed for a wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use super::call::Call;
use super::transfer::transfer_len;
use super::{Direction, IoHandle, Op, begin_call};
use crate::driver::uring::Uring;

impl IoHandle {
    /// Reads into the buffers, which the kernel may write to until this returns.
    pub(crate) fn read(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let len = transfer_len(buffers);
        if len == 0 {
            return begin_call().map(|()| 0);
        }
        let count = buffers.len().min(libc::UIO_MAXIOV as usize);
        let op = Op::Read { fd: self.fd.as_raw_fd(), buffers: buffers.as_ptr().cast(), count };
        // SAFETY: `IoSliceMut` has the layout of `iovec`; the buffers are ours for the call, and
        // `perform` returns or unwinds only when the kernel has let go of them.
        unsafe { self.perform(Direction::Read, &op, len) }
    }

    /// Writes from the buffers; may write less.
    pub(crate) fn write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = transfer_len(buffers);
        let count = buffers.len().min(libc::UIO_MAXIOV as usize);
        let op = Op::Write { fd: self.fd.as_raw_fd(), buffers: buffers.as_ptr().cast(), count };
        // SAFETY: as in `read`.
        unsafe { self.perform(Direction::Write, &op, len) }
    }

    /// Makes the call once, without waiting.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid for the call.
    #[inline]
    pub(super) unsafe fn attempt(&self, op: &Op) -> io::Result<i32> {
        // SAFETY: the caller's pointers.
        match unsafe { op.attempt(false) } {
            Ok(moved) => Ok(moved),
            // SAFETY: the caller's pointers.
            Err(error) if op.needs_mode(&error) => unsafe { self.attempt_by_mode(op) },
            Err(error) => Err(error),
        }
    }

    /// Under the ring, of a descriptor that an attempt of ours has put into non-blocking mode: the
    /// ring then does not wait for the transfer itself.
    ///
    /// # Safety
    ///
    /// As [`IoHandle::by_ring`].
    #[cold]
    pub(super) unsafe fn by_ring_and_mode(
        &self,
        call: &Call<'_>,
        ring: &Uring,
        op: &Op,
    ) -> io::Result<(i32, bool)> {
        let events = match call.direction {
            Direction::Read => libc::POLLIN,
            Direction::Write => libc::POLLOUT,
        };
        let ready = Op::Poll { fd: op.fd(), events };
        loop {
            // SAFETY: this operation holds no pointers; the claim is held.
            unsafe { self.by_ring(call, ring, &ready) }?;
            // SAFETY: the caller's pointers.
            match unsafe { self.attempt(op) } {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(|moved| (moved, false)),
            }
        }
    }

    /// # Safety
    ///
    /// As [`IoHandle::attempt`].
    #[cold]
    unsafe fn attempt_by_mode(&self, op: &Op) -> io::Result<i32> {
        // Every time: a clone's conversion may have given the flag back meanwhile.
        self.mode.borrow_nonblocking(self.fd.as_fd())?;
        loop {
            // SAFETY: the caller's pointers.
            match unsafe { op.attempt(true) } {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}
