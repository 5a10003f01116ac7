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
    /// As [`send`](Cosocket::send), and the file's. `InvalidInput` for a part that is not within
    /// the file: nothing is sent then. A file that gets shorter meanwhile is an error of kind
    /// `Other`. It ends the write half, and so does every other error of the file once the sending
    /// has begun, such as that of one that is not open for reading. When a
    /// [`time::timeout`](crate::time::timeout) cuts it, up to a mebibyte more may have been sent than
    /// the error says.
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
            let send = move || lent.0.transport.io().send_file(&file, offset, len);
            match blocking::try_unblock(Reason::CALL, send)? {
                Ok(0) => return Err(io::Error::other("the file ended early")),
                Ok(sent) => {
                    self.sent += sent as u64;
                    offset += sent as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_writable()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(feature = "tls")]
impl Output<'_> {
    /// The kernel does not encrypt: what is read in the pool is written here.
    fn send_file_encrypted(&mut self, file: &Arc<File>, start: u64, end: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
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
            let piece = blocking::try_unblock(Reason::CALL, read)??;
            if piece.is_empty() {
                return Err(io::Error::other("the file ended early"));
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
