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
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Call, Direction, Half, IoHandle, Op, ended};
use crate::driver::epoll::Epoll;
use crate::driver::source::Source;
use crate::driver::uring::{Uring, more_is_waiting};
use crate::unwind::abort_on_panic;
use crate::wait::{self, Kind, Reason, Signal};

/// How long a cancelled ring operation may take to end before it is cancelled again.
const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(10);

impl IoHandle {
    /// Under the ring: inline when the hint says it will succeed, else a ring operation.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid until this returns or unwinds; the claim is held.
    pub(super) unsafe fn inline_or_ring(
        &self,
        call: &Call,
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
        let full = call.direction == Direction::Write && moved as usize == len;
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
        call: &Call,
        ring: &Uring,
        op: &Op,
    ) -> io::Result<(i32, bool)> {
        let slot = &call.worker.current().op;
        let reason = reason(call, op);
        let deadline = call.deadline();
        let mut stopped: Option<Signal> = None;
        loop {
            abort_on_panic(|| {
                // SAFETY: the slot is the coroutine's own and idle; the pointers are the
                // caller's, and nothing leaves this closure before the slot is done.
                unsafe { ring.start(slot, op) };
                while !slot.is_done() {
                    let signal = match stopped {
                        None => wait::suspend(call.worker, reason, deadline, false),
                        // Some kernels miss a cancel that comes while they look at an operation.
                        Some(_) => {
                            let again = call.worker.after(CANCEL_AGAIN_AFTER);
                            wait::suspend(call.worker, reason, Some(again), true)
                        }
                    };
                    if signal != Signal::Wake && !slot.is_done() {
                        stopped = stopped.or(Some(signal));
                        // SAFETY: the slot's operation is in flight.
                        unsafe { ring.cancel(slot) };
                    }
                }
            });
            let ended_with = slot.take().expect("done");
            let result = ended_with.result;
            match -result {
                _ if result >= 0 => return Ok((result, more_is_waiting(ended_with.flags))),
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            // Nothing happened. Either we asked for that, or the socket turned non-blocking
            // under us, or the kernel would have us ask again.
            if let Some(signal) = stopped {
                return Err(ended(signal));
            }
            if -result == libc::EAGAIN && self.mode.became_nonblocking(self.fd.as_fd()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Attempts when ready, and waits for readiness in between. `len` is what the operation may
    /// move: less says that the socket is drained, or full.
    ///
    /// # Safety
    ///
    /// As [`IoHandle::inline_or_ring`].
    pub(super) unsafe fn by_readiness(
        &self,
        call: &Call,
        epoll: &Epoll,
        op: &Op,
        len: usize,
    ) -> io::Result<i32> {
        let half = |source: &'static Source| match call.direction {
            Direction::Read => &source.read,
            Direction::Write => &source.write,
        };
        let deadline = call.deadline();
        let mut stopped: Option<Signal> = None;
        loop {
            let known = self.source().map(|source| (half(source), half(source).snapshot()));
            if known.is_none_or(|(_, snapshot)| snapshot.is_ready()) {
                call.worker.counters.attempts.add(1);
                // SAFETY: the caller's pointers.
                match unsafe { op.attempt(false) } {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                    Ok(moved) => {
                        if let Some((readiness, snapshot)) = known
                            && self.short_means_empty.load(Ordering::Relaxed)
                            && moved != 0
                            && (moved as usize) < len
                            && len != usize::MAX
                            && !op.is_peek()
                        {
                            readiness.clear(snapshot);
                        }
                        return Ok(moved);
                    }
                }
                // Whoever asks for readiness asks to wait, whatever the descriptor's mode.
                let may_wait = matches!(op, Op::Poll { .. });
                if !may_wait && self.mode.is_nonblocking(self.fd.as_fd()) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
            if let Some(signal) = stopped {
                return Err(ended(signal));
            }
            let source = self.source_or_take();
            let readiness = half(source);
            let snapshot = known.map_or_else(|| readiness.snapshot(), |(_, snapshot)| snapshot);
            epoll.register(self.fd.as_raw_fd(), source)?;
            let me = std::ptr::from_ref(call.worker.current()).cast();
            if readiness.park(snapshot, me) {
                let signal = wait::suspend(call.worker, reason(call, op), deadline, false);
                readiness.unpark(me);
                if signal != Signal::Wake {
                    stopped = Some(signal);
                }
            }
        }
    }
}

fn reason(call: &Call, op: &Op) -> Reason {
    let kind = match (op, call.direction) {
        (Op::Poll { .. }, _) => Kind::Ready,
        (_, Direction::Read) => Kind::Read,
        (_, Direction::Write) => Kind::Write,
    };
    Reason::io(kind, op.fd())
}
