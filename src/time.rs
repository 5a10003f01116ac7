//! Time limits over whole blocks of code, and ticks.
//!
//! [`timeout`] and [`deadline`] bound everything that waits inside a closure: reads, sleeps, joins,
//! locks, name look-ups, across all the functions it calls. [`Interval`] ticks. [`Timers`] call back. [`sleep`] and
//! [`sleep_until`] are those of [`thread`](crate::thread); `Duration` and `Instant` are std's.

mod interval;
mod timers;

use std::error::Error;
use std::fmt;
use std::io;
pub use std::time::{Duration, Instant};

pub use self::interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use self::timers::{TimerError, TimerHandle, Timers};
pub use crate::thread::{sleep, sleep_until};

use crate::clock;
use crate::limit;

/// Runs `f`, right here, with everything that waits inside of it bounded by `duration` from now.
///
/// When the time has passed:
///
/// * an I/O call in `f` (a read, an accept, a connect, a name look-up) fails with
///   [`TimedOut`](io::ErrorKind::TimedOut), and the error's source is [`Elapsed`];
/// * a wait that has no error to return (a sleep, a park, a join, a lock, the end of a scope)
///   unwinds to this call, past the panic hook, running destructors on its way, and this call
///   returns [`Elapsed`];
/// * every later wait in `f` is cut likewise, and so is an I/O call that would not have waited:
///   the limit is sticky, and a `catch_unwind` in between does not outlive it;
/// * code that calls nothing of the kind goes on.
///
/// If `f` returns, its value is returned, whatever the clock says. An I/O call that was cut is such
/// a case, if `f` hands its error on: `timeout(d, || stream.read(..))` gives `Ok(Err(..))`. In a
/// function that returns an `io::Result`, `timeout(d, f)??` treats both alike, since an
/// [`io::Error`] can be made of [`Elapsed`].
///
/// Nothing is lost: bytes, connections and wake-ups that come at the same moment are returned, or
/// are there for the next call.
///
/// # Limits inside limits
///
/// The one that passes first counts: an inner limit that is longer than the outer does not prolong
/// it, and the inner call then hands the unwind on to the outer. Timeouts of sockets, and those
/// of calls such as [`connect_timeout`](crate::net::TcpStream::connect_timeout), compose in the
/// same way. A limit is the calling coroutine's (on a plain thread, the thread's): coroutines
/// spawned inside are not bounded, though a [`scope`](crate::thread::scope) that is cut cancels its
/// own.
///
/// # What it does not cut
///
/// A [`shield`](crate::shield) inside of `f` holds the unwind back, but not the errors of I/O. While
/// a coroutine unwinds, nothing more is raised. A cancel that comes together with it goes first.
/// With `panic = "abort"` only I/O is cut, for nothing can unwind.
///
/// # Cost
///
/// A limit that does not pass allocates nothing and makes no system call; it reads the clock once.
/// It is noticed within a tick of 65.5 µs after its time, never before, and by calls that do not
/// wait when the worker next looks at its timers (at the latest after 128 of them).
///
/// ```
/// use cosocket::thread;
/// use cosocket::time::{Duration, timeout};
///
/// let limit = Duration::from_millis(5);
/// assert!(timeout(limit, || thread::sleep(Duration::from_secs(3600))).is_err());
/// assert_eq!(timeout(limit, || 6 * 7), Ok(42));
/// ```
///
/// A whole exchange under one limit, where the socket's own timeout would bound each read:
///
/// ```
/// use std::io::{self, Read, Write};
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::time::{Duration, timeout};
///
/// fn ask(stream: &mut TcpStream) -> io::Result<String> {
///     let mut answer = String::new();
///     timeout(Duration::from_millis(5), || {
///         stream.write_all(b"question\n")?;
///         stream.read_to_string(&mut answer)
///     })??;
///     Ok(answer)
/// }
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut stream = TcpStream::connect(listener.local_addr()?)?;
/// assert_eq!(ask(&mut stream).unwrap_err().kind(), io::ErrorKind::TimedOut);
/// # io::Result::Ok(())
/// ```
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let now = clock::now();
    limit::bounded(now, clock::later(now, duration), f)
}

/// [`timeout`] that ends at a given time. One that has passed already cuts the first wait.
///
/// ```
/// use cosocket::thread;
/// use cosocket::time::{Duration, Instant, deadline};
///
/// let end = Instant::now() + Duration::from_millis(5);
/// // Several steps share what is left.
/// assert_eq!(deadline(end, || thread::sleep(Duration::from_millis(1))), Ok(()));
/// assert!(deadline(end, || thread::sleep(Duration::from_millis(10))).is_err());
/// assert!(Instant::now() >= end);
/// ```
pub fn deadline<T>(at: Instant, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    timeout(at.saturating_duration_since(Instant::now()), f)
}

/// The time of a [`timeout`] or [`deadline`] has passed.
///
/// It is also the payload of the unwind, should a `catch_unwind` in between see it, and the source
/// of the errors of I/O.
///
/// ```
/// use std::io;
/// use cosocket::thread;
/// use cosocket::time::{Duration, timeout};
///
/// let elapsed = timeout(Duration::ZERO, thread::yield_now).unwrap_err();
/// assert_eq!(io::Error::from(elapsed).kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Elapsed(());

impl Elapsed {
    pub(crate) fn new() -> Elapsed {
        Elapsed(())
    }
}

impl fmt::Debug for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elapsed")
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
