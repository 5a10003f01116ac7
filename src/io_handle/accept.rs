//! Waiting for readiness without a transfer, and `accept`, which is made of that.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::call::{Call, ended, refused, unwinding};
use super::{Direction, IoHandle, Op, blocking, complete, poll_by_ring};
use crate::current;
use crate::driver::{Driver, op};

impl IoHandle {
    /// Waits for readiness, as `poll(2)` names it, for at most `timeout`.
    pub(crate) fn wait_ready(&self, events: i16, timeout: Option<Duration>) -> io::Result<i16> {
        let direction =
            if events & libc::POLLOUT != 0 { Direction::Write } else { Direction::Read };
        match current::worker() {
            Some(worker) => {
                let call = Call::new(worker, direction, timeout);
                self.wait_for(&call, events)
            }
            None => blocking::wait_ready(self.fd.as_raw_fd(), events, timeout),
        }
    }

    /// Accepts one connection. Errors of the call, `EMFILE` too, come back at once.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, socket2::SockAddr)> {
        // SAFETY: the kernel fills in address and length.
        let (connection, address) = unsafe {
            socket2::SockAddr::try_init(|storage, len| self.accept_fd(storage.cast(), len))
        }?;
        // SAFETY: just accepted, and nobody else's.
        Ok((unsafe { OwnedFd::from_raw_fd(connection) }, address))
    }

    /// # Safety
    ///
    /// As [`op::accept`].
    unsafe fn accept_fd(
        &self,
        address: *mut libc::sockaddr_storage,
        len: *mut libc::socklen_t,
    ) -> io::Result<RawFd> {
        let direction = Direction::Read;
        let attempt = |may_block: bool| {
            if !may_block {
                // Every time: a clone's conversion may have given the flag back meanwhile.
                self.mode.borrow_nonblocking(self.fd.as_fd())?;
            }
            // SAFETY: the caller's pointers.
            unsafe { op::accept(self.fd.as_raw_fd(), address, len, may_block) }
        };
        let Some(worker) = current::worker() else {
            return self.block_on(direction, attempt);
        };
        let nonblocking = self.begin(worker)?;
        let timeout = self.timeout(direction);
        let call = Call::new(worker, direction, timeout);
        loop {
            worker.counters.attempts.add(1);
            match attempt(false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if nonblocking {
                return Err(refused(worker));
            }
            self.wait_for(&call, libc::POLLIN)?;
        }
    }

    pub(super) fn wait_for(&self, call: &Call<'_>, events: i16) -> io::Result<i16> {
        if call.worker.is_unwinding() {
            return Err(unwinding());
        }
        let half = self.half(call.direction);
        let _held = half.claim.acquire(self.fd.as_raw_fd(), || call.deadline()).map_err(ended)?;
        match &call.worker.driver {
            Driver::Uring(ring) => {
                let (worker, fd, deadline) = (call.worker, self.fd.as_fd(), call.deadline());
                match call.cut() {
                    None => poll_by_ring(worker, ring, fd, events, deadline),
                    // Nobody asks for urgent data with bounds, so there is nothing to miss.
                    cut => complete::poll_once_by_ring(worker, ring, fd, events, deadline, cut),
                }
            }
            Driver::Epoll(epoll, _) => {
                let op = Op::Poll { fd: self.fd.as_raw_fd(), events };
                // SAFETY: the operation holds no pointers.
                let done = unsafe { self.by_readiness(call, epoll, &op, usize::MAX) }?;
                Ok(done as i16)
            }
        }
    }
}
