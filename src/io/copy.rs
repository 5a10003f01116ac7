//! Copies both ways between two streams: the heart of a proxy.
//!
//! ```text
//!              coroutine: read a, write b ... end of a -> shut down b's write half
//!      a ====                                                                     ==== b
//!              coroutine: read b, write a ... end of b -> shut down a's write half
//!
//!      the caller waits for both; an error of one, or the end of the wait, cancels the other
//! ```

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::net::TcpStream;
use crate::os::unix::net::UnixStream;
use crate::scope::{Scope, ScopedJoinHandle, scope};
use crate::shared::{Options, Place};
use crate::unwind;
use crate::wait::{self, Reason, Shield, WaitSlot};

/// What each direction holds at most, in bytes.
const BUFFER: usize = 16 << 10;

/// A stream whose write half can end before its read half: what [`copy_bidirectional`] passes an
/// end on with. Implement it for your own streams, such as one of TLS that sends its closing alert.
pub trait ShutdownWrite {
    /// Sends what is buffered, and tells the other side that no more will come. Reading goes on.
    fn shutdown_write(&self) -> io::Result<()>;
}

impl ShutdownWrite for TcpStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl ShutdownWrite for UnixStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<T: ShutdownWrite + ?Sized> ShutdownWrite for &T {
    fn shutdown_write(&self) -> io::Result<()> {
        (**self).shutdown_write()
    }
}

/// How far [`copy_bidirectional`] came before it failed.
#[derive(Debug)]
pub struct CopyError {
    /// How many bytes of the first stream were written to the second.
    pub a_to_b: u64,
    /// How many bytes of the second stream were written to the first.
    pub b_to_a: u64,
    /// What ended the copy.
    pub error: io::Error,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CopyError { a_to_b, b_to_a, error } = self;
        write!(f, "copying both ways, after {a_to_b} bytes there and {b_to_a} back: {error}")
    }
}

impl Error for CopyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<CopyError> for io::Error {
    fn from(error: CopyError) -> io::Error {
        io::Error::new(error.error.kind(), error)
    }
}

/// Copies from `a` to `b` and from `b` to `a` at the same time, until both have ended, and returns
/// how many bytes went there and back.
///
/// The end of one stream is passed on: when a read of it returns 0, the write half of the other is
/// shut down, and the other direction goes on. Each direction is a coroutine of its own, with a
/// buffer of 16 KiB: what a slow reader does not take is not read. On a plain thread they run in the
/// global runtime while the thread waits.
///
/// # Errors
///
/// The first error of either direction ends both. It comes with what had been copied; bytes that
/// were read and not yet written are lost. Timeouts of the streams are such errors. Neither stream
/// is shut down or closed then: drop them.
///
/// # Cancel
///
/// Ends both directions, and unwinds when they are over.
///
/// ```
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::{io, thread};
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let pair = || -> io::Result<(TcpStream, TcpStream)> {
///     let near = TcpStream::connect(listener.local_addr()?)?;
///     Ok((near, listener.accept()?.0))
/// };
/// let ((mut client, from_client), (to_server, mut server)) = (pair()?, pair()?);
/// let proxy = thread::spawn(move || io::copy_bidirectional(&from_client, &to_server));
///
/// client.write_all(b"question")?;
/// client.shutdown(Shutdown::Write)?;
/// let mut text = String::new();
/// server.read_to_string(&mut text)?; // to the end, which has come through
/// server.write_all(b"the answer")?;
/// drop(server);
/// client.read_to_string(&mut text)?;
/// assert_eq!(text, "questionthe answer");
/// assert_eq!(proxy.join().unwrap()?, (8, 10));
/// # io::Result::Ok(())
/// ```
#[track_caller]
pub fn copy_bidirectional<A, B>(a: &A, b: &B) -> Result<(u64, u64), CopyError>
where
    A: ShutdownWrite + Sync + ?Sized,
    B: ShutdownWrite + Sync + ?Sized,
    for<'a> &'a A: Read + Write,
    for<'b> &'b B: Read + Write,
{
    let options = || Options { place: Place::Here, ..Options::new() };
    let (there, back) = (Flow::new(), Flow::new());
    let both = Both::new();
    // Raised when the wait for both is over: the end of the scope is not to be cut short as well,
    // which would go past the error.
    let mut shield = None;
    let result = scope(|scope| {
        let first = both.spawn(scope, options(), || there.run(a, b))?;
        let second = both.spawn(scope, options(), || back.run(b, a));
        let waited = match &second {
            Ok(_) => both.wait(),
            Err(_) => Ok(()),
        };
        shield = Some(Shield::raise());
        if second.is_err() || waited.is_err() || both.has_failed.load(Ordering::Acquire) {
            first.cancel();
            second.iter().for_each(ScopedJoinHandle::cancel);
        }
        finish(first);
        finish(second?);
        waited
    });
    drop(shield);
    let (a_to_b, b_to_a) = (there.copied(), back.copied());
    match result.and_then(|()| both.outcome()) {
        Ok(()) => Ok((a_to_b, b_to_a)),
        Err(error) => Err(CopyError { a_to_b, b_to_a, error }),
    }
}

/// Joins one that is over, or cancelled. Its panic goes on here.
fn finish(flow: ScopedJoinHandle<'_, ()>) {
    if let Err(payload) = flow.join()
        && !payload.is::<crate::Cancelled>()
    {
        unwind::unwind(payload);
    }
}

/// One direction.
struct Flow {
    copied: AtomicU64,
}

impl Flow {
    fn new() -> Flow {
        Flow { copied: AtomicU64::new(0) }
    }

    fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// Copies to the end, and passes the end on.
    fn run<From, To>(&self, mut from: &From, mut to: &To) -> io::Result<()>
    where
        From: ?Sized,
        To: ShutdownWrite + ?Sized,
        for<'a> &'a From: Read,
        for<'a> &'a To: Write,
    {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut unwritten = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while !unwritten.is_empty() {
                match to.write(unwritten) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        self.copied.fetch_add(count as u64, Ordering::Relaxed);
                        unwritten = &unwritten[count..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            to.flush()?;
        }
        match to.shutdown_write() {
            // It has gone already; whether that lost anything, the other direction finds out.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

/// Where the caller waits for both directions, or for the first failure.
struct Both {
    running: AtomicUsize,
    has_failed: AtomicBool,
    first_error: Mutex<Option<io::Error>>,
    waiter: WaitSlot,
}

impl Both {
    fn new() -> Both {
        Both {
            running: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            first_error: Mutex::new(None),
            waiter: WaitSlot::new(),
        }
    }

    fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        options: Options,
        flow: impl FnOnce() -> io::Result<()> + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, ()>> {
        let running = Running::one_of(self);
        scope.spawn_with(options, move || running.end(flow()))
    }

    fn wait(&self) -> io::Result<()> {
        let is_over =
            || self.has_failed.load(Ordering::Acquire) || self.running.load(Ordering::Acquire) == 0;
        match self.waiter.wait(is_over, Reason::SCOPE, false) {
            true => Ok(()),
            false => Err(wait::cancelled()),
        }
    }

    fn outcome(&self) -> io::Result<()> {
        let error = self.first_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        match error {
            Some(error) => Err(error),
            None if self.has_failed.load(Ordering::Acquire) => {
                Err(io::Error::other(crate::Cancelled))
            }
            None => Ok(()),
        }
    }
}

/// Tells when a direction is over, however it ends.
struct Running<'a> {
    both: &'a Both,
    has_ended_well: bool,
}

impl<'a> Running<'a> {
    fn one_of(both: &'a Both) -> Running<'a> {
        both.running.fetch_add(1, Ordering::Relaxed);
        Running { both, has_ended_well: false }
    }

    fn end(mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.has_ended_well = true,
            Err(error) => {
                let first = &self.both.first_error;
                first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.has_ended_well {
            self.both.has_failed.store(true, Ordering::Release);
        }
        self.both.running.fetch_sub(1, Ordering::Release);
        self.both.waiter.wake();
    }
}
