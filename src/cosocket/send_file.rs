//! Sending a file, or a part of one.
//!
//! ```text
//!   pool:       sendfile(2) ---- sent some ----> sendfile(2) ---- WouldBlock --.
//!                  ^                                                           |
//!   coroutine:     `------------------------- the socket takes more <----------'
//! ```
//!
//! The disk may keep a thread waiting, so the call is made in the pool of blocking threads; the
//! peer keeps only the coroutine waiting.

use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::connection::Link;
use super::output::Output;
#[cfg(feature = "tls")]
use super::transport::Transport;
use super::{Cosocket, Error, ErrorKind};
use crate::blocking;
use crate::wait::Reason;

/// What one call in the pool sends at most, in bytes: a cancel waits for no more.
const CHUNK: u64 = 1 << 20;

impl Cosocket {
    /// Sends a part of a file, by `sendfile(2)`: `..` is all of it, `100..` what comes after the
    /// first hundred bytes. The file's own position counts for nothing, and stays. Returns how many
    /// bytes were sent.
    ///
    /// The send timeout bounds each wait for the peer to take some.
    ///
    /// ```
    /// use cosocket::net::TcpListener;
    /// use std::io::Read;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = cosocket::connect(listener.local_addr()?)?;
    /// let file = std::fs::File::open("Cargo.toml")?;
    /// let sent = socket.send_file(&file, 1..10)?;
    /// socket.close()?;
    ///
    /// let mut text = String::new();
    /// listener.accept()?.0.read_to_string(&mut text)?;
    /// assert_eq!((sent, &*text), (9, "package]\n"));
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Cosocket::send), and the file's: `InvalidInput` for a part that is not within
    /// the file; the system's, such as `bad file descriptor` for one that is not open for reading;
    /// `Other` when the file gets shorter meanwhile. An error of the file leaves the socket as it
    /// is, as long as nothing was sent. Once something was ([`Error::sent`]), it ends the write half:
    /// the peer waits for the rest, and would take what comes next for it.
    ///
    /// When a [`time::timeout`](crate::time::timeout) cuts it, up to a mebibyte more may have been
    /// sent than the error says.
    pub fn send_file(&self, file: &File, part: impl RangeBounds<u64>) -> Result<u64, Error> {
        let (start, end) = bounds_within(&part, file.metadata()?.len())?;
        let file = Arc::new(file.try_clone()?);
        self.send_with(|output| Ok(output.send_file(&file, start, end)?))
    }
}

fn bounds_within(part: &impl RangeBounds<u64>, len: u64) -> Result<(u64, u64), Error> {
    let start = match part.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match part.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    if start > end || end > len {
        let text = format!("no part of the file: {start}..{end} of {len} bytes");
        return Err(Error::with_text(ErrorKind::InvalidInput, text));
    }
    Ok((start, end))
}

/// A socket that does not block, for as long as the coroutine or its job has this. A job that is
/// left alone, by a cancel or a limit, comes to its end by itself, and then the socket may close.
struct Lent(Arc<Link>);

impl Lent {
    fn new(link: Arc<Link>) -> io::Result<Lent> {
        link.transport.io().borrow_nonblocking()?;
        Ok(Lent(link))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.transport.io().return_nonblocking();
    }
}

impl Output<'_> {
    fn send_file(&mut self, file: &Arc<File>, mut offset: u64, end: u64) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(_) = &self.link.transport {
            return self.send_file_encrypted(file, offset, end);
        }
        let lent = Arc::new(Lent::new(Arc::clone(self.link))?);
        while offset < end {
            self.check()?;
            let (lent, file) = (Arc::clone(&lent), Arc::clone(file));
            let len = CHUNK.min(end - offset) as usize;
            let send = move || {
                let sent = lent.0.transport.io().send_file(&file, offset, len);
                sent.map_err(|error| Failure::new(error, &file, offset))
            };
            match blocking::try_unblock(Reason::CALL, send)? {
                Ok(0) => return Err(self.fail(ended_early())),
                Ok(sent) => {
                    self.sent += sent as u64;
                    offset += sent as u64;
                }
                Err(Failure::File(error)) => return Err(self.fail(error)),
                Err(Failure::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_writable()?;
                }
                Err(Failure::Socket(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// It is the file that failed.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.source_failed = true;
        error
    }
}

/// Which of its two ends a `sendfile(2)` has failed at: it has one number for both.
enum Failure {
    File(io::Error),
    Socket(io::Error),
}

impl Failure {
    fn new(error: io::Error, file: &File, offset: u64) -> Failure {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Failure::Socket(error);
        }
        match file.read_at(&mut [0], offset) {
            Err(error) => Failure::File(error),
            // Can be read, but not so. No socket has this number.
            Ok(_) if error.raw_os_error() == Some(libc::EINVAL) => Failure::File(error),
            Ok(_) => Failure::Socket(error),
        }
    }
}

fn ended_early() -> io::Error {
    io::Error::other("the file ended early")
}

#[cfg(feature = "tls")]
impl Output<'_> {
    /// The kernel does not encrypt: what is read in the pool is written here.
    fn send_file_encrypted(&mut self, file: &Arc<File>, start: u64, end: u64) -> io::Result<()> {
        let mut offset = start;
        while offset < end {
            let file = Arc::clone(file);
            let len = ENCRYPTED_CHUNK.min(end - offset) as usize;
            let read = move || {
                let mut piece = vec![0; len];
                let count = file.read_at(&mut piece, offset)?;
                piece.truncate(count);
                io::Result::Ok(piece)
            };
            let piece = blocking::try_unblock(Reason::CALL, read)?;
            let piece = piece.map_err(|error| self.fail(error))?;
            if piece.is_empty() {
                return Err(self.fail(ended_early()));
            }
            self.write_all(&piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// What is read at a time to be encrypted, in bytes.
#[cfg(feature = "tls")]
const ENCRYPTED_CHUNK: u64 = 256 << 10;
