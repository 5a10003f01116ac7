//! Signals of the operating system, as waits.
//!
//! [`ctrl_c`] waits for one SIGINT; [`Signals`] is a stream of several, of which none is lost.
//!
//! Handlers do little here: ours counts the signal and rings those who wait, who then go on in
//! their coroutines and threads, where everything is allowed. It is installed when a signal is
//! first asked for, calls the handler that was there before, and stays for the rest of the
//! process; from then on the signal does not end, or stop, the program by itself.

mod event;
mod handler;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use libc::{SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGQUIT};
pub use libc::{SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGWINCH};

use self::event::Listener;
use crate::io_handle::begin_call;

/// Waits for SIGINT, which Ctrl-C sends to the program in the foreground.
///
/// Inside a coroutine the coroutine waits, on a plain thread the thread. All who wait go on; a
/// later call waits for a later signal. A signal that comes while nobody waits is not remembered:
/// where that matters, [`Signals`] does so.
///
/// The first call installs a handler, for the rest of the process: from then on SIGINT does not
/// end the program by itself. A handler that was there before is still called.
///
/// # Errors
///
/// The system's, when there is no descriptor left for an eventfd (`EMFILE`), or where a sandbox
/// forbids `sigaction`. In a coroutine that unwinds, "coroutine is unwinding".
///
/// # Cancel
///
/// A cancel of the coroutine ends the wait by unwinding, as everywhere.
///
/// ```no_run
/// use cosocket::{net::TcpListener, signal, thread};
///
/// cosocket::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:7000")?;
///     let server = thread::spawn(move || {
///         for stream in listener.incoming().flatten() {
///             thread::spawn(move || drop(stream));
///         }
///     });
///     signal::ctrl_c()?;
///     server.cancel(); // no more connections; those that are open end with `run`
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub fn ctrl_c() -> io::Result<()> {
    handler::install(SIGINT)?;
    wait_for(&[Source::new(SIGINT)], &AtomicUsize::new(0)).map(drop)
}

/// A stream of signals. It remembers what comes from [`new`](Signals::new) on, also while nobody
/// waits.
///
/// As the kernel does, it does not count: a signal that has come several times since it was last
/// returned is returned once. Several streams of one signal each see it. Several who wait on one
/// stream share it: each signal goes to one of them.
///
/// ```
/// use cosocket::signal::{SIGHUP, SIGTERM, Signals};
///
/// let signals = Signals::new(&[SIGTERM, SIGHUP])?;
/// let me = std::process::id().to_string();
/// let told = cosocket::run(|| {
///     cosocket::process::Command::new("kill").args(["-HUP", &me]).status()?;
///     signals.wait()
/// })?;
/// assert_eq!(told, SIGHUP);
/// assert_eq!(signals.try_wait(), None);
/// # std::io::Result::Ok(())
/// ```
pub struct Signals {
    sources: Box<[Source]>,
    /// Where the search for the next one begins, so that one that comes all the time does not
    /// hide the others.
    next: AtomicUsize,
}

impl Signals {
    /// A stream of these signals (`SIG...` of this module, or of `libc`). The handler is installed
    /// when this returns.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with the reason, for a signal that cannot be waited for: SIGKILL, SIGSTOP,
    /// those that an instruction raises (SIGSEGV and its like), those that the C library keeps for
    /// itself, numbers that are none; also for no signals at all. The system's, where a sandbox
    /// forbids `sigaction`.
    pub fn new(signals: &[i32]) -> io::Result<Signals> {
        if signals.is_empty() {
            let message = "a stream of no signals would never end a wait";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut signals = signals.to_vec();
        signals.sort_unstable();
        signals.dedup();
        signals.iter().try_for_each(|&signal| handler::check(signal))?;
        signals.iter().try_for_each(|&signal| handler::install(signal))?;
        let sources = signals.into_iter().map(Source::new).collect();
        Ok(Signals { sources, next: AtomicUsize::new(0) })
    }

    /// Waits for a signal, and says which it is. Those that have come already come first.
    ///
    /// # Errors
    ///
    /// As [`ctrl_c`].
    ///
    /// # Cancel
    ///
    /// Unwinds. A signal that comes at the same time is there for the next call.
    pub fn wait(&self) -> io::Result<i32> {
        begin_call()?;
        wait_for(&self.sources, &self.next)
    }

    /// A signal that has come already.
    pub fn try_wait(&self) -> Option<i32> {
        take(&self.sources, &self.next)
    }

    /// An endless iterator: each step is a [`wait`](Signals::wait).
    pub fn iter(&self) -> Iter<'_> {
        Iter { signals: self }
    }
}

impl<'a> IntoIterator for &'a Signals {
    type Item = io::Result<i32>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signals = self.sources.iter().map(|source| source.signal);
        f.debug_set().entries(signals).finish()
    }
}

/// The signals of a stream, one after the other; see [`Signals::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    signals: &'a Signals,
}

impl Iterator for Iter<'_> {
    type Item = io::Result<i32>;

    fn next(&mut self) -> Option<io::Result<i32>> {
        Some(self.signals.wait())
    }
}

/// One signal, as one stream sees it.
struct Source {
    signal: i32,
    /// The count up to which it has been returned.
    seen: AtomicU64,
}

impl Source {
    fn new(signal: i32) -> Source {
        Source { signal, seen: AtomicU64::new(handler::count(signal)) }
    }

    /// Whether it has come since it was last taken; of several who ask, one is told so.
    fn take(&self) -> bool {
        let count = handler::count(self.signal);
        self.seen.fetch_max(count, Ordering::AcqRel) < count
    }
}

fn wait_for(sources: &[Source], next: &AtomicUsize) -> io::Result<i32> {
    loop {
        // Before the look: what comes after it rings.
        let listener = Listener::new()?;
        if let Some(signal) = take(sources, next) {
            return Ok(signal);
        }
        listener.wait()?;
    }
}

fn take(sources: &[Source], next: &AtomicUsize) -> Option<i32> {
    let start = next.load(Ordering::Relaxed);
    let order = (0..sources.len()).map(|step| (start + step) % sources.len());
    let taken = order.into_iter().find(|&index| sources[index].take())?;
    next.store(taken + 1, Ordering::Relaxed);
    Some(sources[taken].signal)
}
