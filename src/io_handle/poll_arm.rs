//! Waiting on several descriptors at once, and on other things beside them.
//!
//! ```text
//!   start --> armed ---- the descriptor is ready: the coroutine is woken ----> done
//!               |                                                               |
//!               '-- cancel --> ... --.                                          |
//!                                    v                                          v
//!                                 finish: nothing is left behind, Some(mask) or None
//! ```
//!
//! An arm waits for readiness, as [`IoHandle::wait_ready`] does, but does not suspend. Its owner
//! starts as many as it likes, then waits once:
//!
//! ```text
//!   let arms = [PollArm::start(&a.io, POLLIN)?, PollArm::start(&b.io, POLLOUT)?];
//!   loop {
//!       if arms.iter().any(PollArm::is_done) || other_condition() { break }
//!       match wait::suspend(worker, Reason::io(Kind::Select, fd), deadline, false) { .. }
//!   }
//!   arms.iter().for_each(PollArm::cancel);          // all losers, at the cost of one
//!   for arm in arms { let mask = arm.finish()?; }   // or drop them
//! ```
//!
//! * A wake is a hint, for each arm as for everything else that the owner waits for.
//! * The `Reason` names a descriptor, of any of the arms: so the deadlock report knows that the
//!   wait may end by itself.
//! * An arm looks and does not take. It claims nothing: it does not wait for its turn behind a
//!   coroutine that reads from the same socket, and makes none wait. So what it says may be out
//!   of date by the time that its owner acts on it: another coroutine may have taken the data.
//! * An error of the descriptor makes it ready, as in `poll(2)`: the mask has `POLLERR`, `POLLHUP`
//!   or `POLLNVAL`, whatever was asked for.
//! * For urgent data under the ring the owner looks again at [`super::urgent::look_at`].
//! * Under the ring an arm is a poll operation, in a slot of its own (see [`ArmSlot`]). Under
//!   epoll it is a watch of the source (see [`crate::driver::watch`]).
//!
//! On a plain thread nothing wakes the owner: `is_done` asks the kernel each time, and the owner
//! waits in `wait_on_thread`.

#[cfg(any(test, feature = "futures"))]
mod on_thread;

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, RawFd};

#[cfg(any(test, feature = "futures"))]
pub(crate) use self::on_thread::wait_on_thread;

use super::complete::CANCEL_AGAIN_AFTER;
use super::urgent::is_missable;
use super::{IoHandle, Op, unwinding};
use crate::current;
use crate::driver::Driver;
use crate::driver::arm_slot::ArmSlot;
use crate::driver::epoll::Epoll;
use crate::driver::uring::Uring;
use crate::unwind::abort_on_panic;
use crate::wait::{self, Kind, Reason};
use crate::worker::Worker;

/// One descriptor of a wait on several; see the [module](self).
///
/// Dropped, it is finished: what it left with the driver is taken back first, for which the
/// coroutine may be suspended (shielded).
pub(crate) struct PollArm<H: Deref<Target = IoHandle>> {
    handle: H,
    events: i16,
    /// The ready mask, or the errno of a poll that failed.
    result: Cell<Option<Result<i16, i32>>>,
    party: Party,
    _not_send: PhantomData<*const ()>,
}

#[derive(Clone, Copy)]
enum Party {
    Coroutine { worker: &'static Worker, slot: &'static ArmSlot },
    Thread,
}

impl<H: Deref<Target = IoHandle>> PollArm<H> {
    /// Starts to wait for `events`, as `poll(2)` names them, and never waits itself. The calling
    /// coroutine, which alone may use the arm, is woken when it is done.
    ///
    /// It may be done at once. Under the ring that is seen after the next suspension only: whoever
    /// wants to know first asks [`IoHandle::ready_now`].
    ///
    /// # Errors
    ///
    /// Under epoll, a used-up quota of registrations. In a coroutine that unwinds, always: it may
    /// not wait for I/O.
    pub(crate) fn start(handle: H, events: i16) -> io::Result<PollArm<H>> {
        let party = match current::worker() {
            Some(worker) if worker.is_unwinding() => return Err(unwinding()),
            Some(worker) => {
                Party::Coroutine { worker, slot: worker.arm_slots.take(worker.current()) }
            }
            None => Party::Thread,
        };
        let result = Cell::new(None);
        let arm = PollArm { handle, events, result, party, _not_send: PhantomData };
        if let Party::Coroutine { worker, slot } = party {
            match &worker.driver {
                Driver::Uring(ring) => arm.start_poll(ring, slot),
                Driver::Epoll(epoll, _) => arm.watch(worker, epoll, slot)?,
            }
        }
        Ok(arm)
    }

    /// Whether the descriptor has become ready, or the poll has failed: [`PollArm::finish`] tells
    /// which.
    pub(crate) fn is_done(&self) -> bool {
        if self.result.get().is_none() {
            self.look();
        }
        self.result.get().is_some()
    }

    /// Asks for an early end, so that `finish` need not wait for those of several arms in turn.
    /// The arm may still come to be done.
    pub(crate) fn cancel(&self) {
        if let Party::Coroutine { worker, slot } = self.party
            && let Driver::Uring(ring) = &worker.driver
            && current::worker().is_some()
        {
            // SAFETY: what the slot has in flight, if anything, was started on this ring.
            unsafe { ring.cancel(&slot.op) };
        }
    }

    /// Ends the arm, and returns the ready mask if it is done; if it became ready just as it was
    /// cancelled, too. When this returns, neither the kernel nor another thread knows of it.
    ///
    /// This may suspend, shielded, until the kernel has let go.
    ///
    /// # Errors
    ///
    /// What the poll failed with.
    pub(crate) fn finish(self) -> io::Result<Option<i16>> {
        self.end();
        match self.result.get() {
            None => Ok(None),
            Some(Ok(mask)) => Ok(Some(mask)),
            Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The descriptor, for the `Reason` of the wait.
    pub(crate) fn fd(&self) -> RawFd {
        self.handle.as_fd().as_raw_fd()
    }

    fn look(&self) {
        match self.party {
            Party::Thread => self.ask(),
            // A forked child's copy of its parent's arm: to be asked like a thread's.
            Party::Coroutine { .. } if current::worker().is_none() => self.ask(),
            Party::Coroutine { worker, slot } => match &worker.driver {
                Driver::Uring(ring) => self.look_at_poll(ring, slot),
                Driver::Epoll(..) if slot.is_watching() => {}
                Driver::Epoll(epoll, _) => {
                    // Watched once, so registered: only that could have failed.
                    if let Err(error) = self.watch(worker, epoll, slot) {
                        self.fail(&error);
                    }
                }
            },
        }
    }

    /// Asks the kernel, without waiting.
    fn ask(&self) {
        match self.handle.ready_now(self.events) {
            Ok(ready) => self.result.set(ready.map(Ok)),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&self, error: &io::Error) {
        self.result.set(Some(Err(error.raw_os_error().unwrap_or(libc::EIO))));
    }

    /// The ring also tells of `POLLRDHUP`, which only who asks for it wants to know.
    fn set_ready(&self, mask: i32) {
        let asked = self.events | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
        self.result.set(Some(Ok(mask as i16 & asked)));
    }

    fn start_poll(&self, ring: &Uring, slot: &'static ArmSlot) {
        let op = Op::Poll { fd: self.fd(), events: self.events };
        // SAFETY: the slot is idle and never freed; the operation points to nothing; the handle
        // keeps the descriptor open until the slot is done.
        unsafe { ring.start(&slot.op, &op) };
    }

    fn look_at_poll(&self, ring: &Uring, slot: &'static ArmSlot) {
        let ended = slot.op.take();
        if is_missable(self.events) {
            self.ask();
            if self.result.get().is_some() {
                return;
            }
        }
        let Some(ended) = ended else { return };
        match -ended.result {
            // It was for other data.
            _ if ended.result >= 0 && is_missable(self.events) => self.start_poll(ring, slot),
            _ if ended.result >= 0 => self.set_ready(ended.result),
            // The kernel was short of memory, or cancelled it for reasons of its own.
            libc::EAGAIN | libc::EINTR | libc::ECANCELED => self.start_poll(ring, slot),
            errno => self.result.set(Some(Err(errno))),
        }
    }

    /// Under epoll: until it is ready, or watches.
    fn watch(&self, worker: &Worker, epoll: &Epoll, slot: &'static ArmSlot) -> io::Result<()> {
        loop {
            let source = self.handle.source_or_take();
            let snapshots = source.snapshots(self.events);
            worker.counters.attempts.add(1);
            self.ask();
            if self.result.get().is_some() {
                return Ok(());
            }
            epoll.register(self.fd(), source)?;
            if source.watch(slot, snapshots) {
                return Ok(());
            }
        }
    }

    /// Leaves nothing behind.
    fn end(&self) {
        let Party::Coroutine { worker, slot } = self.party else { return };
        if current::worker().is_none() {
            // In a forked child: driver and slots are the parent's.
            return;
        }
        match &worker.driver {
            Driver::Uring(ring) => {
                self.end_poll(worker, ring, slot);
                if let Some(ended) = slot.op.take()
                    && ended.result >= 0
                    && !is_missable(self.events)
                {
                    self.set_ready(ended.result);
                }
            }
            Driver::Epoll(..) => {
                if let Some(source) = self.handle.source() {
                    source.unwatch(slot);
                }
            }
        }
    }

    fn end_poll(&self, worker: &Worker, ring: &Uring, slot: &'static ArmSlot) {
        let reason = Reason::io(Kind::Ready, self.fd());
        abort_on_panic(|| {
            while slot.op.is_busy() {
                // SAFETY: what the slot has in flight was started on this ring.
                unsafe { ring.cancel(&slot.op) };
                // Some kernels miss a cancel that comes while they look at an operation.
                let again = worker.after(CANCEL_AGAIN_AFTER);
                wait::suspend(worker, reason, Some(again), true);
            }
        });
    }
}

impl<H: Deref<Target = IoHandle>> Drop for PollArm<H> {
    fn drop(&mut self) {
        self.end();
        if let Party::Coroutine { slot, .. } = self.party
            && let Some(worker) = current::worker()
        {
            worker.arm_slots.give(slot);
        }
    }
}

impl IoHandle {
    /// The mask of those of `events` that the descriptor is ready for, or `None`; never waits.
    pub(crate) fn ready_now(&self, events: i16) -> io::Result<Option<i16>> {
        let op = Op::Poll { fd: self.as_fd().as_raw_fd(), events };
        // SAFETY: the operation points to nothing.
        match unsafe { op.attempt(false) } {
            Ok(mask) => Ok(Some(mask as i16)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
