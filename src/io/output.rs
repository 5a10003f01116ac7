//! Standard output and standard error.
//!
//! ```text
//!   write --> lock (the caller may have it already) --> turn --> pool: std's handle --> 1 or 2
//! ```
//!
//! The buffer is std's own: lines are written when they end, and what is left is written when the
//! process exits, in the right order with what `print!` writes.

use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::errand::Errand;
use crate::blocking;
use crate::current;
use crate::io_handle::claim::{Claim, Held};
use crate::io_handle::ended;
use crate::wait::{self, Reason, Shield, Signal};

/// What one job of the pool writes at most, in bytes.
const CHUNK: usize = 64 << 10;

/// One of the two, and whose it is.
struct Output {
    fd: RawFd,
    /// Who has it locked; zero if nobody. The same caller may lock it again.
    owner: AtomicUsize,
    /// How often its owner has locked it; the owner's alone.
    depth: AtomicUsize,
    lock: Claim,
    /// The claim of `lock`, while it is locked.
    held: Mutex<Option<Held<'static>>>,
    /// Of those who share the lock (a caller may have several), one at a time.
    turn: Claim,
    writing: Errand<io::Result<usize>>,
}

static OUT: Output = Output::new(libc::STDOUT_FILENO);
static ERR: Output = Output::new(libc::STDERR_FILENO);

/// What to do with the bytes.
type Call = fn(&mut dyn Write, &[u8]) -> io::Result<usize>;

const WRITE: Call = |stream, bytes| stream.write(bytes);
const WRITE_ALL: Call = |stream, bytes| stream.write_all(bytes).map(|()| bytes.len());
const FLUSH: Call = |stream, _| stream.flush().map(|()| 0);

impl Output {
    const fn new(fd: RawFd) -> Output {
        Output {
            fd,
            owner: AtomicUsize::new(0),
            depth: AtomicUsize::new(0),
            lock: Claim::new(),
            held: Mutex::new(None),
            turn: Claim::new(),
            writing: Errand::new(),
        }
    }

    fn lock(&'static self) -> Result<Locked, Signal> {
        let me = caller();
        if self.owner.load(Ordering::Relaxed) != me {
            let held = self.lock.acquire(self.fd, || None)?;
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
            self.owner.store(me, Ordering::Relaxed);
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
        Ok(Locked { output: self, _not_send: PhantomData })
    }

    /// On a plain thread that no limit bounds right here, else in the pool, to which a copy of the bytes goes.
    fn call(&'static self, call: Call, bytes: &[u8]) -> io::Result<usize> {
        let _turn = self.turn.acquire(self.fd, || None).map_err(ended)?;
        // Of one who did not wait for it: its bytes come first, and its error was its own.
        let _ = self.writing.outcome()?;
        if blocking::may_block(Reason::CALL) {
            return self.carry_out(call, bytes);
        }
        let bytes = bytes.to_vec();
        self.writing.start(move || self.carry_out(call, &bytes))?;
        self.writing.outcome()?.expect("a job that was started has an outcome")
    }

    fn carry_out(&self, call: Call, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let result = match self.fd {
                libc::STDOUT_FILENO => call(&mut io::stdout(), bytes),
                _ => call(&mut io::stderr(), bytes),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The right to write, until it is dropped.
struct Locked {
    output: &'static Output,
    /// It counts for its owner, who stays on its thread.
    _not_send: PhantomData<*mut ()>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let output = self.output;
        if output.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
            output.owner.store(0, Ordering::Relaxed);
            let held = output.held.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(held);
        }
    }
}

impl Write for Locked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.call(WRITE, &bytes[..bytes.len().min(CHUNK)])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(CHUNK).try_for_each(|chunk| self.output.call(WRITE_ALL, chunk).map(drop))
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        // In one piece: a call for each piece of the format would be a job each.
        let mut whole = String::new();
        fmt::write(&mut whole, text).map_err(|_| io::Error::other("formatter error"))?;
        self.write_all(whole.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.call(FLUSH, &[]).map(drop)
    }
}

/// A number that no other coroutine or thread has at the same time; not zero.
fn caller() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    match current::worker() {
        Some(worker) => ptr::from_ref(worker.current()).addr(),
        None => HERE.with(|here| ptr::from_ref(here).addr()),
    }
}

/// The two types of a stream, which differ in name only.
macro_rules! output {
    ($output:ident, $name:literal, $make:ident, $stream:ident, $lock:ident,
     $(#[$make_doc:meta])* | $(#[$stream_doc:meta])*) => {
        $(#[$make_doc])*
        pub fn $make() -> $stream {
            $stream { _private: () }
        }

        $(#[$stream_doc])*
        ///
        /// # Waiting
        ///
        /// In a coroutine, a write waits for a thread of the blocking pool. A write that is cut
        /// short by a cancel or a timeout is not taken back: its bytes are written, once, and
        /// before those of the next write. On a plain thread the thread writes.
        ///
        /// # Errors
        ///
        /// The system's (`BrokenPipe`, after SIGPIPE as in std); in a coroutine also that no thread
        /// could be had to write with.
        pub struct $stream {
            _private: (),
        }

        #[doc = concat!("Standard ", $name, ", locked: others who write wait for the drop of it.")]
        /// The same coroutine, or thread, may lock it again. Stays with its thread.
        pub struct $lock<'a> {
            locked: Locked,
            _stream: PhantomData<&'a ()>,
        }

        impl $stream {
            #[doc = concat!("Locks standard ", $name, ", so that several writes are not mixed with")]
            /// others'. Waits for its turn; a cancel unwinds out of that.
            pub fn lock(&self) -> $lock<'static> {
                let _shield = Shield::where_nothing_unwinds();
                match $output.lock() {
                    Ok(locked) => $lock { locked, _stream: PhantomData },
                    Err(_) => wait::raise_cancelled(),
                }
            }

            /// Whether it is a terminal. (A method of ours, since [`io::IsTerminal`] is for std's
            /// own types.)
            pub fn is_terminal(&self) -> bool {
                io::IsTerminal::is_terminal(&self.as_fd())
            }
        }

        impl Write for &$stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                $output.lock().map_err(ended)?.write(bytes)
            }

            fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
                $output.lock().map_err(ended)?.write_all(bytes)
            }

            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                $output.lock().map_err(ended)?.write_fmt(text)
            }

            fn flush(&mut self) -> io::Result<()> {
                $output.lock().map_err(ended)?.flush()
            }
        }

        output!(@writes $stream, self => (&*self));
        output!(@writes $lock<'_>, self => self.locked);
        output!(@descriptor $output, $stream, $stream);
        output!(@descriptor $output, $lock<'_>, $lock);
    };
    (@writes $type:ty, $self:ident => $through:expr) => {
        impl Write for $type {
            fn write(&mut $self, bytes: &[u8]) -> io::Result<usize> {
                $through.write(bytes)
            }

            fn write_all(&mut $self, bytes: &[u8]) -> io::Result<()> {
                $through.write_all(bytes)
            }

            fn write_fmt(&mut $self, text: fmt::Arguments<'_>) -> io::Result<()> {
                $through.write_fmt(text)
            }

            fn flush(&mut $self) -> io::Result<()> {
                $through.flush()
            }
        }
    };
    (@descriptor $output:ident, $type:ty, $name:ident) => {
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                // SAFETY: std's own handle says the same of this descriptor: it is open for ever.
                unsafe { BorrowedFd::borrow_raw($output.fd) }
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                $output.fd
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

output! {
    OUT, "output", stdout, Stdout, StdoutLock,
    /// Standard output; [`std::io::stdout`] for coroutines.
    ///
    /// ```
    /// use cosocket::io::{self, Write};
    ///
    /// cosocket::run(|| writeln!(io::stdout(), "a line from a coroutine"))?;
    /// # io::Result::Ok(())
    /// ```
    |
    /// A handle to the standard output of the process. All of them, and std's with its `print!`,
    /// share one buffer, which is written when a line ends, when it is full, on
    /// [`flush`](Write::flush), and when the process exits.
}

output! {
    ERR, "error", stderr, Stderr, StderrLock,
    /// Standard error; [`std::io::stderr`] for coroutines.
    |
    /// A handle to the standard error of the process, which is not buffered.
}
