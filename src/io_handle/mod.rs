//! A descriptor with what it takes to wait on it: the one path of every I/O call.
//!
//! ```text
//!            plain thread --> the blocking system call itself; inside a limit, poll comes first
//!            nonblocking  --> one attempt, WouldBlock
//!   call --> unwinding    --> one attempt, "coroutine is unwinding"
//!            coroutine    --> claim the half --> hinted inline attempt --> driver --> result
//!                                |  waits            EAGAIN |              ^   |
//!                                `- its turn                `--------------'   | waits for its
//!                                                                             terminal completion
//! ```
//!
//! Each half (read, write) has its own claim and its own hint, so one coroutine reads while
//! another writes, on the same worker or not.
//!
//! Hints: a ring operation costs less than an inline attempt that fails and more than one that
//! succeeds. Reads therefore go inline when the last result says that data waits (the buffer was
//! filled, the kernel said "not empty", the connection is fresh); writes go inline unless the
//! last one found the socket full. The length of a datagram says nothing about the next one, and
//! of UDP the ring does not either: datagrams go inline until an attempt fails, and then one
//! operation in eight is followed by a probe. (Always trying first cost 10 % of a ping-pong, never
//! trying on 30 % of a flood.)

pub(crate) mod blocking;
pub(crate) mod bounds;
pub(crate) mod claim;
mod complete;
pub(crate) mod datagram;
mod message;
mod mode;
mod pauses;
mod plain;
pub(crate) mod poll_arm;
mod send_file;
pub(crate) mod undelivered;
pub(crate) mod urgent;
mod wait_any;

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use std::time::Duration;

use socket2::{Protocol, SockRef};

pub(crate) use self::urgent::poll_by_ring;
pub(crate) use self::wait_any::wait_any;
pub(crate) use crate::driver::op::{Direction, Op};
pub use message::Received;

use crate::clock::Nanos;
use crate::current;
use crate::driver::source::Source;
use crate::driver::{Driver, op};
use crate::wait::{self, Signal};
use crate::worker::Worker;

use self::bounds::{Bounds, Cut, WasCut};
use self::claim::Claim;
use self::mode::Mode;

pub struct IoHandle {
    fd: OwnedFd,
    mode: Arc<Mode>,
    read: Half,
    write: Half,
    /// Set on the first wait under epoll; released before the descriptor closes.
    source: AtomicPtr<Source>,
    /// Known once there is a source: a transfer of less than asked for shows that the socket is
    /// drained, or full.
    short_means_empty: AtomicBool,
    /// What is moved are datagrams: the length of one says nothing about the next.
    datagrams: bool,
}

/// A socket of ours, or an end of a pipe, whichever type it has.
pub trait AsIoHandle {
    fn as_io_handle(&self) -> &IoHandle;
}

struct Half {
    claim: Claim,
    /// An inline attempt is likely to succeed.
    inline: AtomicBool,
    /// Ring operations since the last probe.
    unprobed: AtomicU8,
}

/// Of so many ring operations on datagrams, one has an inline attempt follow.
const PROBE_PERIOD: u8 = 8;

impl Half {
    const fn new(inline: bool) -> Half {
        let unprobed = AtomicU8::new(0);
        Half { claim: Claim::new(), inline: AtomicBool::new(inline), unprobed }
    }

    /// Counts a ring operation. Only who holds the claim asks.
    fn is_probe_due(&self) -> bool {
        let count = (self.unprobed.load(Ordering::Relaxed) + 1) % PROBE_PERIOD;
        self.unprobed.store(count, Ordering::Relaxed);
        count == 0
    }
}

impl IoHandle {
    /// A descriptor that we made: blocking, no timeouts. `data_waits` when data is likely to be
    /// there already, as on a connection just accepted.
    pub(crate) fn new(fd: OwnedFd, data_waits: bool) -> IoHandle {
        let handle = IoHandle::with_mode(fd, Arc::new(Mode::fresh()));
        handle.read.inline.store(data_waits, Ordering::Relaxed);
        handle
    }

    /// A descriptor from elsewhere, whose settings the kernel knows.
    pub(crate) fn adopt(fd: OwnedFd) -> IoHandle {
        IoHandle::with_mode(fd, Arc::new(Mode::adopted()))
    }

    /// The same, of datagrams.
    pub(crate) fn of_datagrams(mut self) -> IoHandle {
        self.datagrams = true;
        self
    }

    fn with_mode(fd: OwnedFd, mode: Arc<Mode>) -> IoHandle {
        IoHandle {
            fd,
            mode,
            read: Half::new(true),
            write: Half::new(true),
            source: AtomicPtr::default(),
            short_means_empty: AtomicBool::new(false),
            datagrams: false,
        }
    }

    /// Another descriptor of the same socket, with waits of its own and the same settings.
    pub(crate) fn try_clone(&self) -> io::Result<IoHandle> {
        let mut clone = IoHandle::with_mode(self.fd.try_clone()?, Arc::clone(&self.mode));
        clone.datagrams = self.datagrams;
        Ok(clone)
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.mode.set_nonblocking(self.fd.as_fd(), nonblocking)
    }

    pub(crate) fn timeout(&self, direction: Direction) -> Option<Duration> {
        self.mode.timeout(self.fd.as_fd(), direction)
    }

    pub(crate) fn set_timeout(
        &self,
        direction: Direction,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.mode.set_timeout(self.fd.as_fd(), direction, timeout)
    }

    /// Receives into `buffer`, which the kernel may write to until this returns.
    pub(crate) fn recv(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        if buffer.is_empty() && !self.datagrams {
            return begin_call().map(|()| 0);
        }
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        let op = Op::Recv { fd, buffer: buffer.as_mut_ptr(), len, flags };
        // SAFETY: the buffer is ours for the call, and `perform` returns or unwinds only when
        // the kernel has let go of it.
        unsafe { self.perform(Direction::Read, op, len) }
    }

    /// Sends from `buffer`; may send less.
    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        let (fd, len) = (self.fd.as_raw_fd(), buffer.len());
        // SAFETY: as in `recv`.
        unsafe {
            self.perform(Direction::Write, Op::Send { fd, buffer: buffer.as_ptr(), len }, len)
        }
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
        unsafe { self.perform(Direction::Read, op, len) }
    }

    /// Sends from several buffers; may send less.
    pub(crate) fn send_vectored(&self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let len = transfer_len(buffers);
        let message = message(buffers.as_ptr().cast_mut().cast(), buffers.len());
        let op = Op::SendMsg { fd: self.fd.as_raw_fd(), message: &message };
        // SAFETY: as in `recv_vectored`.
        unsafe { self.perform(Direction::Write, op, len) }
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

    fn wait_for(&self, call: &Call<'_>, events: i16) -> io::Result<i16> {
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

    /// Makes a call that moves up to `len` bytes.
    ///
    /// # Safety
    ///
    /// The operation's pointers are valid until this returns or unwinds.
    unsafe fn perform(&self, direction: Direction, op: Op, len: usize) -> io::Result<usize> {
        let Some(worker) = current::worker() else {
            let attempt = |may_block| {
                // SAFETY: the caller's pointers.
                if may_block { unsafe { op.attempt(true) } } else { unsafe { self.attempt(&op) } }
            };
            return self.block_on(direction, attempt).map(|moved| moved as usize);
        };
        let nonblocking = self.begin(worker)?;
        if len == 0 {
            // A stream takes nothing at any time, full or not; a datagram may have to wait.
            // SAFETY: the caller's pointers.
            match unsafe { self.attempt(&op) } {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(|moved| moved as usize),
            }
        }
        let fd = self.fd.as_fd();
        let unwinding = !nonblocking && worker.is_unwinding();
        if unwinding || nonblocking {
            // SAFETY: the caller's pointers.
            return unsafe { self.attempt_once(worker, direction, &op, unwinding) };
        }
        let timeout = self.mode.timeout(fd, direction);
        let call = Call::new(worker, direction, timeout);
        let half = self.half(direction);
        let _held = half.claim.acquire(fd.as_raw_fd(), || call.deadline()).map_err(ended)?;
        let moved = match &worker.driver {
            // SAFETY: the caller's pointers, for as long as this call.
            Driver::Uring(ring) => unsafe { self.inline_or_ring(&call, ring, half, &op, len) }?,
            // SAFETY: as above.
            Driver::Epoll(epoll, _) => unsafe { self.by_readiness(&call, epoll, &op, len) }?,
        };
        Ok(moved as usize)
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
    unsafe fn attempt_in_turn(&self, direction: Direction, op: &Op) -> io::Result<usize> {
        // Bytes must not overtake those of a coroutine whose call is in the ring.
        let Some(_held) = self.half(direction).claim.try_acquire() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // SAFETY: the caller's pointers.
        unsafe { self.attempt(op) }.map(|moved| moved as usize)
    }

    /// Every call of a coroutine begins so; whether it is one in non-blocking mode, which is never
    /// suspended before its attempt.
    fn begin(&self, worker: &Worker) -> io::Result<bool> {
        let nonblocking = self.mode.is_nonblocking(self.fd.as_fd());
        if !nonblocking {
            begin(worker)?;
        } else if wait::is_io_cut(worker) {
            worker.charge_refusal();
            return Err(ended(Signal::Cancelled));
        }
        Ok(nonblocking)
    }

    fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    fn source(&self) -> Option<&'static Source> {
        // SAFETY: sources live for ever.
        unsafe { self.source.load(Ordering::Acquire).as_ref() }
    }

    /// The source, taken now if this is the first wait. Two halves may race for it.
    ///
    /// On TCP alone does a short read say that no more is there: a socket that keeps records
    /// apart gives one at a time, and AF_UNIX stops before bytes that came with descriptors.
    fn source_or_take(&self) -> &'static Source {
        if let Some(source) = self.source() {
            return source;
        }
        let is_tcp = SockRef::from(&self.fd).protocol().is_ok_and(|p| p == Some(Protocol::TCP));
        self.short_means_empty.store(is_tcp, Ordering::Relaxed);
        let taken = Source::take();
        let none = std::ptr::null_mut();
        let new = std::ptr::from_ref(taken).cast_mut();
        match self.source.compare_exchange(none, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => taken,
            Err(first) => {
                taken.release(self.fd.as_raw_fd());
                // SAFETY: sources live for ever.
                unsafe { &*first }
            }
        }
    }

    /// Forgets what was set up for waiting, before the descriptor closes or is handed out.
    fn release_source(&mut self) {
        // SAFETY: sources live for ever.
        if let Some(source) = unsafe { (*self.source.get_mut()).as_ref() } {
            source.release(self.fd.as_raw_fd());
            *self.source.get_mut() = std::ptr::null_mut();
        }
    }

    /// The descriptor, as std would hand it out: blocking unless the user asked otherwise.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        self.release_source();
        self.mode.return_nonblocking(self.fd.as_fd());
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so each field moves out once.
        unsafe {
            drop(std::ptr::read(&this.mode));
            std::ptr::read(&this.fd)
        }
    }
}

impl Drop for IoHandle {
    fn drop(&mut self) {
        self.release_source();
        // Another process may have the same open file: a pipe that we inherited, say.
        if Arc::strong_count(&self.mode) == 1 {
            self.mode.return_nonblocking(self.fd.as_fd());
        }
    }
}

impl fmt::Debug for IoHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoHandle").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl AsFd for IoHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Every call that may wait begins so: after a run of calls that did not, others get their turn
/// first; and a pending cancel, or a limit that has passed, ends it.
fn begin(worker: &Worker) -> io::Result<()> {
    worker.charge();
    if wait::is_io_cut(worker) {
        // One who swallows its cancel and calls again starves nobody.
        worker.yield_now();
        return Err(ended(Signal::Cancelled));
    }
    Ok(())
}

/// [`begin`] for a call that is made elsewhere, such as `connect`.
pub(crate) fn begin_call() -> io::Result<()> {
    current::worker().map_or_else(blocking::begin, begin)
}

/// One call of a coroutine: who makes it, on which half, for how long it may wait.
struct Call<'a> {
    worker: &'static Worker,
    direction: Direction,
    timeout: Option<Duration>,
    /// Set when the first wait begins: all waits of a call end at the same time.
    deadline: OnceCell<Nanos>,
    bounds: Option<&'a Bounds<'a>>,
}

impl<'a> Call<'a> {
    fn new(worker: &'static Worker, direction: Direction, timeout: Option<Duration>) -> Call<'a> {
        Call { worker, direction, timeout, deadline: OnceCell::new(), bounds: None }
    }

    fn bounded(worker: &'static Worker, direction: Direction, bounds: &'a Bounds<'a>) -> Call<'a> {
        let call = Call::new(worker, direction, bounds.timeout);
        Call { bounds: Some(bounds), ..call }
    }

    fn cut(&self) -> Option<&'a Cut> {
        self.bounds.map(|bounds| bounds.cut)
    }

    /// Counted from now. The turn's cached clock would save a clock read, but a coroutine that
    /// has computed since would be timed out early; only calls that wait with a timeout pay.
    fn deadline(&self) -> Option<Nanos> {
        let by_timeout =
            self.timeout.map(|timeout| *self.deadline.get_or_init(|| self.worker.after(timeout)));
        match self.bounds {
            Some(bounds) => blocking::nearer(by_timeout, bounds.deadline),
            None => by_timeout,
        }
    }
}

/// Why a wait was ended before what was waited for came.
#[derive(Clone, Copy)]
enum Stop {
    By(Signal),
    Cut,
}

impl Stop {
    fn error(self) -> io::Error {
        match self {
            Stop::By(signal) => ended(signal),
            Stop::Cut => WasCut::error(),
        }
    }

    /// Of a wait that ended with `signal`; `None` when nothing stopped it.
    fn of(signal: Signal, cut: Option<&Cut>) -> Option<Stop> {
        match signal {
            Signal::Wake if cut.is_some_and(Cut::is_set) => Some(Stop::Cut),
            Signal::Wake => None,
            Signal::TimedOut | Signal::Cancelled => Some(Stop::By(signal)),
        }
    }
}

/// The error of a wait that did not end with what was waited for. A cancel unwinds instead.
pub(crate) fn ended(signal: Signal) -> io::Error {
    match signal {
        Signal::Cancelled => wait::cancelled(),
        Signal::TimedOut | Signal::Wake => io::ErrorKind::TimedOut.into(),
    }
}

pub(crate) fn unwinding() -> io::Error {
    io::Error::other("coroutine is unwinding: an I/O call made by a destructor would have to wait")
}

/// The answer to a call in non-blocking mode that would have to wait.
#[cold]
fn refused(worker: &Worker) -> io::Error {
    worker.charge_refusal();
    io::ErrorKind::WouldBlock.into()
}

/// What one call may move: of more buffers than the kernel takes at once, the rest is for later
/// and says nothing about the socket.
fn transfer_len(buffers: &[impl Deref<Target = [u8]>]) -> usize {
    buffers.iter().take(libc::UIO_MAXIOV as usize).map(|buffer| buffer.len()).sum()
}

fn message(buffers: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all zeroes is an empty message header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers;
    // More than the kernel takes at once is a shorter transfer, as in std.
    message.msg_iovlen = count.min(libc::UIO_MAXIOV as usize) as _;
    message
}
