//! The two ways to a terminal completion: a ring operation, and readiness with an attempt.
//!
//! ```text
//!   ring:       start(op) -> suspend -> done? --------------------> result
//!                              ^  |  timed out or cancelled: ask the kernel to stop, once,
//!                              `--'  and wait on: the operation ends it, not the cancel
//!
//!   readiness:  ready? -> attempt -----------------------------> result
//!                 ^  | no     | would block
//!                 |  v        v
//!                suspend <- park                timed out or cancelled: just leave, for the
//!                                               kernel holds nothing of ours
//! ```
//!
//! In both, a result that is there wins over the timeout or the cancel that came with it: no
//! byte is lost. What came too late is reported by the next call.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bounds::Cut;
use super::call::{Call, Stop};
use super::half::Half;
use super::{Direction, IoHandle, Op};
use crate::clock::Nanos;
use crate::driver::Completion;
use crate::driver::epoll::Epoll;
use crate::driver::readiness::{Readiness, Snapshot};
use crate::driver::uring::{Uring, more_is_waiting};
use crate::unwind::Bomb;
use crate::wait::{self, Kind, Reason};
use crate::worker::Worker;

/// How long a cancelled ring operation may take to end before it is cancelled again.
pub(super) const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(10);

impl IoHandle {
    /// Under the ring: inline when the hint says it will succeed, else a ring operation.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid until this returns or unwinds; the claim is held.
    pub(super) unsafe fn inline_or_ring(
        &self,
        call: &Call<'_>,
        ring: &Uring,
        half: &Half,
        op: &Op,
        len: usize,
    ) -> io::Result<i32> {
        if half.inline.load(Ordering::Relaxed) {
            call.worker.counters.attempts.add(1);
            // SAFETY: the caller's pointers.
            match unsafe { op.attempt(false) } {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The ring itself needs no flag, nor mode.
                Err(error) if op.needs_mode(&error) => {}
                Err(error) => return Err(error),
                Ok(moved) => {
                    // Less than asked for: the socket is drained, or full.
                    let more = self.datagrams || moved as usize == len;
                    half.inline.store(more, Ordering::Relaxed);
                    return Ok(moved);
                }
            }
        }
        // SAFETY: the caller's pointers; the claim is held.
        let (moved, data_waits) = unsafe { self.by_ring(call, ring, op) }?;
        // Of a pipe the ring does not say whether it is empty.
        let counts = call.direction == Direction::Write || op.is_plain_transfer();
        let full = counts && moved as usize == len;
        let probe = self.datagrams && half.is_probe_due();
        half.inline.store(data_waits || full || probe, Ordering::Relaxed);
        Ok(moved)
    }

    /// A ring operation, to its terminal completion. Also says whether more data waits.
    ///
    /// # Safety
    ///
    /// As [`IoHandle::inline_or_ring`].
    pub(super) unsafe fn by_ring(
        &self,
        call: &Call<'_>,
        ring: &Uring,
        op: &Op,
    ) -> io::Result<(i32, bool)> {
        let reason = reason(call, op);
        let deadline = call.deadline();
        call.worker.current().subject.set(std::ptr::from_ref(self).cast());
        let mut stopped: Option<Stop> = None;
        loop {
            // SAFETY: the caller's pointers.
            let ended_with = unsafe {
                run_to_end(call.worker, ring, op, reason, deadline, call.cut(), &mut stopped)
            };
            let result = ended_with.result;
            match -result {
                _ if result >= 0 => return Ok((result, more_is_waiting(ended_with.flags))),
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            // Nothing happened. Either we asked for that, or the socket turned non-blocking
            // under us, or the kernel would have us ask again.
            if let Some(stop) = stopped {
                return Err(stop.error());
            }
            if -result == libc::EAGAIN && self.mode.became_nonblocking(self.fd.as_fd()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // The ring does not wait where O_NONBLOCK is set, ours or not.
            let by_mode = op.is_plain_transfer() || self.mode.is_borrowed_nonblocking();
            if -result == libc::EAGAIN && by_mode {
                // SAFETY: the caller's pointers; the claim is held.
                return unsafe { self.by_ring_and_mode(call, ring, op) };
            }
        }
    }

    /// Attempts when ready, and waits for readiness in between. `len` is what the operation may
    /// move: less says that the socket is drained, or full.
    ///
    /// # Safety
    ///
    /// As [`IoHandle::inline_or_ring`].
    #[inline]
    pub(super) unsafe fn by_readiness(
        &self,
        call: &Call<'_>,
        epoll: &Epoll,
        op: &Op,
        len: usize,
    ) -> io::Result<i32> {
        let known = self.readiness(call.direction);
        if known.is_none() && self.half(call.direction).exhausted.load(Ordering::Relaxed) {
            // SAFETY: the caller's pointers; the claim is held.
            return unsafe { self.wait_and_attempt(call, epoll, op, len, known) };
        }
        // SAFETY: the caller's pointers.
        match unsafe { self.attempt_if_ready(call, op, len, known) }? {
            Some(moved) => Ok(moved),
            // SAFETY: the caller's pointers; the claim is held.
            None => unsafe { self.wait_and_attempt(call, epoll, op, len, known) },
        }
    }

    /// The half of the source, if there is one yet, and its state now.
    #[inline]
    fn readiness(&self, direction: Direction) -> Option<(&'static Readiness, Snapshot)> {
        let readiness = self.source()?.half(direction);
        Some((readiness, readiness.snapshot()))
    }

    /// One attempt, unless the descriptor is known not to be ready; `None` when it has to wait.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid for the call.
    #[inline(always)]
    unsafe fn attempt_if_ready(
        &self,
        call: &Call<'_>,
        op: &Op,
        len: usize,
        known: Option<(&'static Readiness, Snapshot)>,
    ) -> io::Result<Option<i32>> {
        if known.is_some_and(|(_, snapshot)| !snapshot.is_ready()) {
            return Ok(None);
        }
        call.worker.counters.attempts.add(1);
        // SAFETY: the caller's pointers.
        match unsafe { self.attempt(op) } {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Whoever asks for readiness asks to wait, whatever the descriptor's mode.
                let may_wait = matches!(op, Op::Poll { .. });
                if !may_wait && self.mode.is_nonblocking(self.fd.as_fd()) {
                    return Err(error);
                }
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(moved) => {
                if (moved as usize) < len
                    && self.is_tcp.is_known()
                    && moved != 0
                    && len != usize::MAX
                    && !op.is_peek()
                {
                    match known {
                        Some((readiness, snapshot)) => readiness.clear(snapshot),
                        // The next one waits at once: what comes until then is told then.
                        None => self.half(call.direction).exhausted.store(true, Ordering::Relaxed),
                    }
                }
                Ok(Some(moved))
            }
        }
    }

    /// Waits, after an attempt had to, or would have had to; then attempts, and so on. Apart, for
    /// most calls of a busy connection need no more than their first attempt.
    ///
    /// # Safety
    ///
    /// As [`IoHandle::by_readiness`].
    #[inline(never)]
    unsafe fn wait_and_attempt(
        &self,
        call: &Call<'_>,
        epoll: &Epoll,
        op: &Op,
        len: usize,
        mut known: Option<(&'static Readiness, Snapshot)>,
    ) -> io::Result<i32> {
        let me = std::ptr::from_ref(call.worker.current()).cast();
        let mut stopped: Option<Stop> = None;
        loop {
            if let Some(stop) = stopped {
                return Err(stop.error());
            }
            let source = self.source_or_take();
            let readiness = source.half(call.direction);
            let snapshot = known.map_or_else(|| readiness.snapshot(), |(_, snapshot)| snapshot);
            match epoll.register(self.fd.as_raw_fd(), source) {
                // There is nothing to wait for: a file, which takes as long as its disk does.
                Err(error)
                    if error.raw_os_error() == Some(libc::EPERM) && op.is_plain_transfer() =>
                {
                    // SAFETY: the caller's pointers.
                    return unsafe { op.attempt(true) };
                }
                registered => registered?,
            }
            if readiness.park(snapshot, me) {
                call.worker.current().subject.set(std::ptr::from_ref(self).cast());
                let signal = wait::suspend(call.worker, reason(call, op), call.deadline(), false);
                readiness.unpark(me);
                stopped = Stop::of(signal, call.cut());
            }
            known = Some((readiness, readiness.snapshot()));
            // SAFETY: the caller's pointers.
            if let Some(moved) = unsafe { self.attempt_if_ready(call, op, len, known) }? {
                return Ok(moved);
            }
        }
    }
}

/// One ring operation, until the kernel has let go of it. `stopped` is what ended the wait before
/// that, this time or an earlier one.
///
/// # Safety
///
/// The operation's pointers are valid until this returns.
#[inline(always)]
unsafe fn run_to_end(
    worker: &'static Worker,
    ring: &Uring,
    op: &Op,
    reason: Reason,
    deadline: Option<Nanos>,
    cut: Option<&Cut>,
    stopped: &mut Option<Stop>,
) -> Completion {
    let slot = &worker.current().op;
    let bomb = Bomb;
    // SAFETY: the slot is the coroutine's own and idle; the pointers are the caller's, and nothing
    // leaves this function before the slot is done.
    unsafe { ring.start(slot, op) };
    while !slot.is_done() {
        let stop = match stopped {
            None => Stop::of(wait::suspend(worker, reason, deadline, false), cut),
            // Some kernels miss a cancel that comes while they look at an operation.
            Some(_) => {
                let again = worker.after(CANCEL_AGAIN_AFTER);
                Stop::of(wait::suspend(worker, reason, Some(again), true), None)
            }
        };
        if stop.is_some() && !slot.is_done() {
            *stopped = stopped.or(stop);
            // SAFETY: the slot's operation is in flight.
            unsafe { ring.cancel(slot) };
        }
    }
    bomb.defuse();
    slot.take().expect("done")
}

/// Waits under the ring for what `poll(2)` calls `events`. When this returns, the kernel has
/// forgotten the descriptor, which may be somebody else's. See [`super::urgent`] for what it misses.
pub(super) fn poll_once_by_ring(
    worker: &'static Worker,
    ring: &Uring,
    fd: BorrowedFd<'_>,
    events: i16,
    deadline: Option<Nanos>,
    cut: Option<&Cut>,
) -> io::Result<i16> {
    let op = Op::Poll { fd: fd.as_raw_fd(), events };
    let reason = Reason::io(Kind::Ready, fd.as_raw_fd());
    let mut stopped = None;
    loop {
        // SAFETY: the operation holds no pointers, and the descriptor is borrowed until we return.
        let ended_with =
            unsafe { run_to_end(worker, ring, &op, reason, deadline, cut, &mut stopped) };
        match (-ended_with.result, stopped) {
            (..=0, _) => return Ok(ended_with.result as i16),
            (libc::ECANCELED | libc::EINTR | libc::EAGAIN, Some(stop)) => {
                return Err(stop.error());
            }
            (libc::ECANCELED | libc::EINTR | libc::EAGAIN, None) => {}
            (errno, _) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn reason(call: &Call<'_>, op: &Op) -> Reason {
    let kind = match (op, call.direction) {
        (Op::Poll { .. }, _) => Kind::Ready,
        (_, Direction::Read) => Kind::Read,
        (_, Direction::Write) => Kind::Write,
    };
    Reason::io(kind, op.fd())
}
