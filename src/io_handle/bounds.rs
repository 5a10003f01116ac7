//! What bounds one call, when the caller says so itself: a time limit that is no setting of the
//! socket, and a [`Cut`] by which another thread ends the wait.
//!
//! ```text
//!   read(2)-like calls of the std mirror:  timeout from the socket's mode
//!   calls with `Bounds`:                   timeout given, no system call to set it;
//!                                          cut set and the waiter woken -> Err(WasCut)
//! ```

use std::cell::OnceCell;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::call::{Call, begin, unwinding};
use super::transfer::{message, transfer_len};
use super::{Direction, IoHandle, Op, blocking};
use crate::clock::{self, Nanos};
use crate::coroutine::Coroutine;
use crate::current;
use crate::doorbell::Doorbell;
use crate::mailbox::WOKEN;
use crate::worker;

/// How long a call may wait, and by what it can be ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    /// From its first wait on; `None` is for ever.
    pub(crate) timeout: Option<Duration>,
    /// Whatever `timeout` says, not beyond this.
    pub(crate) deadline: Option<Nanos>,
    pub(crate) cut: &'a Cut,
}

/// Set by whoever ends another's wait. A set cut ends every wait that it bounds.
#[derive(Debug, Default)]
pub(crate) struct Cut(AtomicBool);

impl Cut {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Ends the waits of `caller`, now and later, until [`Cut::reset`].
    pub(crate) fn set(&self, caller: &Caller) {
        self.0.store(true, Ordering::Release);
        caller.wake();
    }

    pub(crate) fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The error of a call that was cut.
#[derive(Debug)]
pub(crate) struct WasCut;

impl fmt::Display for WasCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the wait was ended by another")
    }
}

impl Error for WasCut {}

impl WasCut {
    pub(crate) fn error() -> io::Error {
        io::Error::other(WasCut)
    }
}

/// Who makes a call: what another thread needs to wake it. A wake is a hint.
pub(crate) struct Caller(Party);

enum Party {
    Coroutine { block: &'static Coroutine, generation: u32 },
    Thread(Arc<Doorbell>),
}

// SAFETY: of the control block only that is used, in `worker::signal`, which any thread may touch.
unsafe impl Send for Caller {}
// SAFETY: as above.
unsafe impl Sync for Caller {}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Party::Coroutine { .. } => "a coroutine",
            Party::Thread(_) => "a thread",
        })
    }
}

thread_local! {
    /// Of a plain thread that has made a call with bounds.
    static BELL: OnceCell<Arc<Doorbell>> = const { OnceCell::new() };
}

impl Caller {
    /// The calling coroutine or plain thread.
    ///
    /// # Errors
    ///
    /// The system's: a plain thread needs a descriptor, once.
    pub(crate) fn current() -> io::Result<Caller> {
        if let Some(worker) = current::worker() {
            let block = worker.current();
            let generation = block.signals.generation();
            return Ok(Caller(Party::Coroutine { block, generation }));
        }
        Ok(Caller(Party::Thread(bell_of_thread()?)))
    }

    fn wake(&self) {
        match &self.0 {
            Party::Coroutine { block, generation } => worker::signal(block, *generation, WOKEN),
            Party::Thread(bell) => bell.ring(),
        }
    }
}

/// What ends the poll of the calling thread, a plain one.
pub(super) fn bell_of_thread() -> io::Result<Arc<Doorbell>> {
    let bell = BELL.try_with(|cell| {
        if let Some(bell) = cell.get() {
            return Ok(Arc::clone(bell));
        }
        let bell = Arc::new(Doorbell::new()?);
        Ok(Arc::clone(cell.get_or_init(|| bell)))
    });
    // A thread that is ending has no locals any more.
    bell.unwrap_or_else(|_| Doorbell::new().map(Arc::new))
}

impl IoHandle {
    /// [`recv`](IoHandle::recv) with bounds of its own.
    pub(crate) fn recv_bounded(&self, buffer: &mut [u8], bounds: &Bounds<'_>) -> io::Result<usize> {
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        let op = Op::Recv { fd, buffer: buffer.as_mut_ptr(), len, flags: 0 };
        // SAFETY: the buffer is ours for the call, and `perform_bounded` returns or unwinds only
        // when the kernel has let go of it.
        unsafe { self.perform_bounded(Direction::Read, &op, len, bounds) }
    }

    /// [`send`](IoHandle::send) with bounds of its own.
    pub(crate) fn send_bounded(&self, buffer: &[u8], bounds: &Bounds<'_>) -> io::Result<usize> {
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        let op = Op::Send { fd, buffer: buffer.as_ptr(), len };
        // SAFETY: as in `recv_bounded`.
        unsafe { self.perform_bounded(Direction::Write, &op, len, bounds) }
    }

    /// [`send_vectored`](IoHandle::send_vectored) with bounds of its own.
    pub(crate) fn send_vectored_bounded(
        &self,
        buffers: &[io::IoSlice<'_>],
        bounds: &Bounds<'_>,
    ) -> io::Result<usize> {
        let len = transfer_len(buffers);
        let message = message(buffers.as_ptr().cast_mut().cast(), buffers.len());
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `recv_bounded`; `IoSlice` has the layout of `iovec`, and header and array
        // live in this frame and the caller's.
        unsafe { self.perform_bounded(Direction::Write, &op, len, bounds) }
    }

    /// [`wait_ready`](IoHandle::wait_ready) with bounds of its own.
    pub(crate) fn wait_ready_bounded(&self, events: i16, bounds: &Bounds<'_>) -> io::Result<i16> {
        let direction =
            if events & libc::POLLOUT != 0 { Direction::Write } else { Direction::Read };
        let Some(worker) = current::worker() else {
            let deadline = bounds.deadline_from(clock::now());
            return blocking::poll_or_cut(self.fd.as_raw_fd(), events, deadline, bounds.cut);
        };
        let call = Call::bounded(worker, direction, bounds);
        self.wait_for(&call, events)
    }

    /// [`perform`](IoHandle::perform) with bounds of its own, whatever mode the descriptor is in.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid until this returns or unwinds.
    unsafe fn perform_bounded(
        &self,
        direction: Direction,
        op: &Op,
        len: usize,
        bounds: &Bounds<'_>,
    ) -> io::Result<usize> {
        bounds.check()?;
        let Some(worker) = current::worker() else {
            // SAFETY: the caller's pointers.
            let attempt = || unsafe { self.attempt(op) };
            return self.block_bounded(direction, bounds, attempt).map(|moved| moved as usize);
        };
        begin(worker)?;
        if worker.is_unwinding() {
            worker.counters.attempts.add(1);
            // SAFETY: the caller's pointers.
            return match unsafe { self.attempt_in_turn(direction, op) } {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(unwinding()),
                result => result,
            };
        }
        let call = Call::bounded(worker, direction, bounds);
        // SAFETY: the caller's pointers, for as long as this call.
        unsafe { self.transfer(&call, op, len) }
    }

    /// On a plain thread: attempts, and polls in between.
    fn block_bounded(
        &self,
        direction: Direction,
        bounds: &Bounds<'_>,
        attempt: impl Fn() -> io::Result<i32>,
    ) -> io::Result<i32> {
        blocking::begin()?;
        let deadline = OnceCell::new();
        let events = blocking::events_of(direction);
        loop {
            if bounds.cut.is_set() {
                return Err(WasCut::error());
            }
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let until = *deadline.get_or_init(|| bounds.deadline_from(clock::now()));
            blocking::poll_or_cut(self.fd.as_raw_fd(), events, until, bounds.cut)?;
        }
    }
}

impl Bounds<'_> {
    /// What ends a call that has not waited.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.cut.is_set() {
            return Err(WasCut::error());
        }
        match self.deadline.is_some_and(|deadline| deadline <= clock::now()) {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(()),
        }
    }

    /// When a wait that begins `now` must end.
    pub(crate) fn deadline_from(&self, now: Nanos) -> Option<Nanos> {
        let timeout = self.timeout.map(|timeout| clock::later(now, timeout));
        blocking::nearer(timeout, self.deadline)
    }
}
