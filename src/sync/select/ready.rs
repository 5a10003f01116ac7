//! The arm on a socket: it waits for readiness, and moves nothing.
//!
//! ```text
//!                  in a coroutine                        on a plain thread
//!   enlist         a poll starts in the driver,          a coroutine of the global runtime waits
//!                  which wakes us when it is done        for a duplicate, then sends what it found
//!   is decided     by us: an attempt asks the kernel     by that value, as with any channel
//!   withdraw       cancelled, and waited for until       cancelled, and joined
//!                  nothing of it is left
//! ```
//!
//! What a poll found that did not decide the round is forgotten: by the next attempt somebody may
//! have read.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::{Arm, End, Operation, Round};
use crate::clock::Nanos;
use crate::current;
use crate::io_handle::poll_arm::PollArm;
use crate::io_handle::{AsIoHandle, IoHandle, urgent};
use crate::os::{Interest, Ready};
use crate::sync::channel::{Side, Waiting};
use crate::sync::mpmc;
use crate::thread;

/// What [`ready`] takes: the sockets of [`net`](crate::net) and of
/// [`os::unix::net`](crate::os::unix::net), and pipes.
pub trait Pollable: AsIoHandle {}

impl<S: AsIoHandle> Pollable for S {}

/// An arm that is done when a socket is ready, as [`os::wait`](crate::os::wait) would say. It
/// yields what the socket is ready for, or why that cannot be known.
///
/// It transfers nothing, so nothing is lost when another arm is chosen: the body then makes the
/// call. By that time another coroutine may have read what was there, if several use the socket;
/// then the call waits.
///
/// In a coroutine that unwinds, which may not wait for I/O, it yields an error unless the socket is
/// ready. On a plain thread, the global runtime does the waiting.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
///
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::os::Interest;
/// use cosocket::sync::{mpsc, select};
///
/// cosocket::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut client = TcpStream::connect(listener.local_addr()?)?;
///     let (mut server, _) = listener.accept()?;
///     let (_stop, stopped) = mpsc::channel::<()>();
///     client.write_all(b"hello")?;
///     let mut buffer = [0; 16];
///     let length = select! {
///         ready = select::ready(&server, Interest::READ) => {
///             assert!(ready?.is_readable());
///             server.read(&mut buffer)?
///         }
///         _ = select::recv(&stopped) => 0,
///         () = select::after(Duration::from_secs(10)) => 0,
///     };
///     assert_eq!(&buffer[..length], b"hello");
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
pub fn ready<S: Pollable>(socket: &S, interest: Interest) -> Readiness<'_> {
    Readiness {
        io: socket.as_io_handle(),
        interest,
        outcome: Cell::new(None),
        is_chosen: Cell::new(false),
        watch: RefCell::new(None),
        waiting: Waiting::arm(None),
    }
}

/// The arm made by [`ready`].
pub struct Readiness<'a> {
    io: &'a IoHandle,
    interest: Interest,
    outcome: Cell<Option<io::Result<i16>>>,
    is_chosen: Cell<bool>,
    watch: RefCell<Option<Watch<'a>>>,
    /// Where a plain thread's deputy puts what it found.
    waiting: Waiting<io::Result<i16>>,
}

/// What watches the socket for the time of a round.
enum Watch<'a> {
    Poll(PollArm<&'a IoHandle>),
    Deputy { found: mpmc::Receiver<io::Result<i16>>, handle: thread::JoinHandle<()> },
}

impl<'a> Readiness<'a> {
    fn poll(&self) -> io::Result<bool> {
        let poll = PollArm::start(self.io, self.interest.bits())?;
        let is_done = poll.is_done();
        *self.watch.borrow_mut() = Some(Watch::Poll(poll));
        Ok(is_done)
    }

    /// # Safety
    ///
    /// As [`Operation::enlist`].
    unsafe fn send_deputy(&self, round: &Round, index: usize) -> io::Result<bool> {
        let (duplicate, events) = (self.io.try_clone()?, self.interest.bits());
        let (report, found) = mpmc::channel();
        let handle = thread::Builder::new().name("select".into()).spawn(move || {
            // The select may have withdrawn: then nobody wants to know.
            let _ = report.send(duplicate.wait_ready(events, None));
        })?;
        self.waiting.enter(round, index);
        // SAFETY: the caller's promise.
        let is_enlisted =
            unsafe { found.channel().enlist(Side::Receiver, &self.waiting, &round.decision) };
        *self.watch.borrow_mut() = Some(Watch::Deputy { found, handle });
        Ok(!is_enlisted)
    }

    /// Ends the watch, and waits until nothing of it is left.
    fn end_watch(&self) {
        let watch = self.watch.borrow_mut().take();
        match watch {
            None => {}
            Some(Watch::Poll(poll)) => {
                // An error would come again and again, and the wait never end.
                if let Err(error) = poll.finish() {
                    self.outcome.set(Some(Err(error)));
                }
            }
            Some(Watch::Deputy { found, handle }) => {
                found.channel().withdraw(Side::Receiver, &self.waiting);
                handle.cancel();
                // Cancelled or not: all that it could say is in what it sent.
                let _ = thread::shield(|| handle.join());
                if let Ok(Err(error)) = found.try_recv() {
                    self.outcome.set(Some(Err(error)));
                }
            }
        }
    }
}

impl Operation for Readiness<'_> {
    fn attempt(&self) -> bool {
        let known = self.outcome.take();
        let outcome = known.or_else(|| self.io.ready_now(self.interest.bits()).transpose());
        let is_done = outcome.is_some();
        self.outcome.set(outcome);
        is_done
    }

    unsafe fn enlist(&self, round: &Round, index: usize) -> bool {
        let is_ready = match current::worker() {
            Some(_) => self.poll(),
            // SAFETY: the caller's promise.
            None => unsafe { self.send_deputy(round, index) },
        };
        match is_ready {
            Ok(false) => return true,
            Ok(true) => self.end_watch(),
            // The next attempt has its outcome.
            Err(error) => self.outcome.set(Some(Err(error))),
        }
        false
    }

    fn is_ready(&self) -> bool {
        match &*self.watch.borrow() {
            Some(Watch::Poll(poll)) => poll.is_done(),
            Some(Watch::Deputy { .. }) | None => false,
        }
    }

    fn cancel(&self) {
        match &*self.watch.borrow() {
            Some(Watch::Poll(poll)) => poll.cancel(),
            Some(Watch::Deputy { handle, .. }) => handle.cancel(),
            None => {}
        }
    }

    fn withdraw(&self) {
        self.end_watch();
    }

    fn choose(&self) {
        if let Some(found) = self.waiting.take() {
            self.outcome.set(Some(found));
        }
        self.end_watch();
        self.is_chosen.set(true);
    }

    fn deadline(&self) -> Option<Nanos> {
        urgent::look_at(self.interest.bits())
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.io.as_fd().as_raw_fd())
    }
}

impl Arm for Readiness<'_> {
    type Output = io::Result<Ready>;

    fn take(&mut self) -> Option<io::Result<Ready>> {
        if !self.is_chosen.replace(false) {
            return None;
        }
        let abandoned = || Err(io::Error::other("nobody watches the socket any more"));
        Some(self.outcome.take().unwrap_or_else(abandoned).and_then(Ready::of))
    }
}

impl fmt::Debug for Readiness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Readiness");
        debug.field("fd", &self.io.as_fd().as_raw_fd()).field("interest", &self.interest);
        debug.finish_non_exhaustive()
    }
}
