//! Standard input.

use std::fmt;
use std::io::{self, BufRead, Lines, Read};
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use super::errand::Errand;
use crate::blocking;
use crate::io_handle::claim::{Claim, Held};
use crate::wait::{self, Reason, Shield};

/// What one job of the pool reads at most, in bytes.
const CHUNK: usize = 64 << 10;

/// Standard input; [`std::io::stdin`] for coroutines.
///
/// ```no_run
/// use cosocket::io;
///
/// cosocket::run(|| {
///     for line in io::stdin().lines() {
///         println!("{}", line?.to_uppercase());
///     }
///     io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
pub fn stdin() -> Stdin {
    Stdin { _private: () }
}

/// A handle to the standard input of the process. All share one buffer.
///
/// # Waiting
///
/// In a coroutine, reading waits for a thread of the blocking pool, which is kept for as long as
/// nothing comes. Nothing is lost when that wait is cut short: what the thread gets goes to the
/// next reader, whoever that is, and a cancelled [`read_line`](Stdin::read_line) leaves the part of
/// the line that had come. On a plain thread the thread reads.
///
/// What `std`'s own handle has buffered is read first. What this one has buffered, std's does not
/// see: use one of them.
pub struct Stdin {
    _private: (),
}

/// Standard input, locked: others who read wait for the drop of it. Stays with its thread.
pub struct StdinLock<'a> {
    /// In here while locked, else in `INPUT`.
    buffer: Buffer,
    held: Option<Held<'static>>,
    _not_send: PhantomData<(&'a (), *mut ())>,
}

struct Input {
    turn: Claim,
    buffer: Mutex<Buffer>,
    reading: Errand<io::Result<Vec<u8>>>,
}

static INPUT: Input = Input {
    turn: Claim::new(),
    buffer: Mutex::new(Buffer { bytes: Vec::new(), start: 0 }),
    reading: Errand::new(),
};

/// Bytes that have come and that nobody has taken.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Stdin {
    /// Locks standard input, so that several reads are not mixed with others'. Waits for its turn;
    /// a cancel unwinds out of that.
    pub fn lock(&self) -> StdinLock<'static> {
        let _shield = Shield::where_nothing_unwinds();
        match StdinLock::take() {
            Some(lock) => lock,
            None => wait::raise_cancelled(),
        }
    }

    /// Reads a line, with its end, and appends it to `line`. Returns how many bytes it has; 0 at
    /// the end of the input.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the line is not UTF-8 (it is then taken all the same), or the system's.
    /// In a coroutine also that no thread could be had to read with.
    pub fn read_line(&self, line: &mut String) -> io::Result<usize> {
        self.enter()?.read_line(line)
    }

    /// An iterator over the lines, without their ends. It keeps standard input locked.
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }

    /// Whether it is a terminal. (A method of ours, since [`io::IsTerminal`] is for std's own
    /// types.)
    pub fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&io::stdin())
    }

    fn enter(&self) -> io::Result<StdinLock<'static>> {
        StdinLock::take().ok_or_else(wait::cancelled)
    }
}

impl StdinLock<'static> {
    /// `None` when the wait for the turn was ended from outside.
    fn take() -> Option<StdinLock<'static>> {
        let held = INPUT.turn.acquire(libc::STDIN_FILENO, || None).ok()?;
        let buffer = mem::take(&mut *INPUT.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        Some(StdinLock { buffer, held: Some(held), _not_send: PhantomData })
    }
}

impl StdinLock<'_> {
    /// Waits for more bytes; how many have come. None at the end of the input.
    fn fetch(&mut self) -> io::Result<usize> {
        let chunk = match INPUT.reading.outcome()? {
            // Of one who did not wait to the end.
            Some(chunk) => chunk,
            None if blocking::may_block(Reason::CALL) => read_chunk(),
            None => {
                INPUT.reading.start(read_chunk)?;
                INPUT.reading.outcome()?.expect("a job that was started has an outcome")
            }
        }?;
        let count = chunk.len();
        self.buffer.append(chunk);
        Ok(count)
    }

    /// How many bytes there are up to `delimiter`, with it, or up to the end of the input. Nothing
    /// is taken, so that a wait which is cut short leaves all there is.
    fn find(&mut self, delimiter: u8) -> io::Result<usize> {
        let mut searched = 0;
        loop {
            let unread = self.buffer.unread();
            if let Some(found) = unread[searched..].iter().position(|&byte| byte == delimiter) {
                return Ok(searched + found + 1);
            }
            searched = unread.len();
            if self.fetch()? == 0 {
                return Ok(searched);
            }
        }
    }
}

impl Buffer {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn append(&mut self, chunk: Vec<u8>) {
        if self.unread().is_empty() {
            *self = Buffer { bytes: chunk, start: 0 };
        } else {
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.extend(chunk);
        }
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
    }
}

/// Whatever std's handle has, or else one read of the descriptor.
fn read_chunk() -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match io::stdin().lock().read(&mut chunk) {
            Ok(count) => {
                chunk.truncate(count);
                return Ok(chunk);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Drop for StdinLock<'_> {
    fn drop(&mut self) {
        let mut place = INPUT.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        *place = mem::take(&mut self.buffer);
        drop(place);
        self.held = None;
    }
}

impl Read for StdinLock<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for StdinLock<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer.unread().is_empty() {
            self.fetch()?;
        }
        Ok(self.buffer.unread())
    }

    fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }

    fn read_until(&mut self, delimiter: u8, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.find(delimiter)?;
        bytes.extend_from_slice(&self.buffer.unread()[..count]);
        self.consume(count);
        Ok(count)
    }

    fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        let count = self.find(b'\n')?;
        let text = str::from_utf8(&self.buffer.unread()[..count]);
        let result = match text {
            Ok(text) => {
                line.push_str(text);
                Ok(count)
            }
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        self.consume(count);
        result
    }
}

impl Read for &Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.enter()?.read(buffer)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.enter()?.read_exact(buffer)
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.enter()?.read_to_end(bytes)
    }

    fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        self.enter()?.read_to_string(text)
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buffer)
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(bytes)
    }

    fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(text)
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        standard_input()
    }
}

impl AsFd for StdinLock<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        standard_input()
    }
}

fn standard_input() -> BorrowedFd<'static> {
    // SAFETY: std's own handle says the same of this descriptor: it is open for ever.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}

impl AsRawFd for Stdin {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

impl AsRawFd for StdinLock<'_> {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}
