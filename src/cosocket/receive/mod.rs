//! The receiving half of a [`Cosocket`](super::Cosocket): what has arrived, and the calls that take
//! from it.
//!
//! ```text
//!              taken by earlier calls | waits in the buffer | not read yet
//!   stream  ...-----------------------+---------------------+--------------...
//!                                     ^ every call begins here
//!
//!   call:   is the answer in what waits?  -- yes --> take it, with its delimiter
//!                |  ^                     -- no, and no more comes --> take all: an error with it
//!                v  |
//!            read once more               -- timed out --> take what is settled: an error with it
//! ```
//!
//! A call takes nothing before it knows its answer, so whatever ends it from outside, a cancel
//! too, loses nothing: the bytes still wait. What an error takes along is the caller's, once. What
//! could yet be part of a delimiter is not settled and stays, for the same call made again or
//! for any other. So a call's result depends on the stream, and never on how it came in pieces.
//!
//! # Memory
//!
//! ```text
//!   socket --(nothing waits)--> 1 KiB of the reader's stack --> buffer of that length
//!          --(that was filled)--> buffer of 4 KiB, doubled up to 64 KiB while it is filled
//!          --(much is asked for)--> the result itself, or the caller's slice
//! ```
//!
//! A connection that waits for its peer has no buffer: a reader waits with a piece of its stack,
//! and takes memory when that was filled. The buffer goes when it is empty and the socket was
//! found drained. The price is a second read for an answer longer than that piece. Beside a
//! reader that keeps 8 KiB it could not be told from the noise, a tenth, of `short answers` in
//! `benches/receive.rs`; nor did a piece of 4 KiB do better than one of 1 KiB.

mod buffer;
mod calls;
mod exact;
mod line;
mod packet;
mod pattern;
mod peek;
mod rest;
mod source;
mod until;

use std::fmt;
use std::io;

pub use line::LINE_LIMIT;
pub use pattern::Pattern;
pub use peek::PEEK_LIMIT;
pub use source::Source;
#[cfg(cosocket_internals)]
pub use until::Chunk;
pub use until::Until;

use super::{Error, ErrorKind};
use buffer::Buffer;

/// What a reader waits with when nothing has arrived: on its stack, in bytes.
const AT_REST: usize = 1 << 10;

/// The first buffer, in bytes, and from how many on bytes are read to where they are wanted.
const FIRST_READ: usize = 4 << 10;

/// The most that is read ahead, in bytes.
const LONGEST_READ: usize = 64 << 10;

/// See the module.
pub struct Receiver {
    buffer: Buffer,
    end: End,
    /// How long the next read into the buffer is.
    read_len: usize,
    longest_read: usize,
    /// The last read was filled: there is likely more.
    more_waits: bool,
    /// What the end of the stream is called where more was wanted.
    end_kind: ErrorKind,
}

/// What is known about the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotSeen,
    /// No more can be read. What waits can still be taken.
    Seen,
    /// As `Seen`, and TLS says that the stream was cut.
    Cut,
    /// A call has failed for it, and took what waited: every later one fails.
    Told,
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver::new()
    }
}

impl Receiver {
    /// With nothing received yet.
    pub fn new() -> Receiver {
        Receiver::with_longest_read(LONGEST_READ)
    }

    /// One that never reads more than `bytes` ahead; at least one.
    pub fn with_longest_read(bytes: usize) -> Receiver {
        let longest_read = bytes.max(1);
        Receiver {
            buffer: Buffer::default(),
            end: End::NotSeen,
            read_len: FIRST_READ.min(longest_read),
            longest_read,
            more_waits: false,
            end_kind: ErrorKind::Closed,
        }
    }

    /// One that begins with what somebody else has read already.
    pub fn with_unread(bytes: Vec<u8>) -> Receiver {
        Receiver { buffer: Buffer::from_bytes(bytes), ..Receiver::new() }
    }

    /// One that has received nothing yet, from the same peer over another transport.
    #[cfg(feature = "tls")]
    pub fn renewed(&self) -> Receiver {
        Receiver { end_kind: self.end_kind, ..Receiver::new() }
    }

    /// From now on the end of the stream, where more was wanted, is an error of this kind.
    pub fn call_end(&mut self, kind: ErrorKind) {
        self.end_kind = kind;
    }

    /// Whether the error tells the end of the stream.
    fn is_end(&self, error: &Error) -> bool {
        error.kind() == self.end_kind
    }

    /// What has arrived and was not taken.
    pub fn unread(&self) -> &[u8] {
        self.buffer.data()
    }

    /// How many bytes of memory the buffer takes.
    #[cfg(cosocket_internals)]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// No more can be read: the peer has ended the stream, or it has failed.
    pub fn at_end(&self) -> bool {
        self.end != End::NotSeen
    }

    /// A call has failed for the end of the stream, so that every later one will.
    pub fn has_told_end(&self) -> bool {
        self.end == End::Told
    }

    /// The check every call begins with.
    fn begin(&self) -> Result<(), Error> {
        match self.end {
            End::Told => Err(ErrorKind::Closed.into()),
            End::NotSeen | End::Seen | End::Cut => Ok(()),
        }
    }

    /// Reads once, for at least one more byte; `wanted` are known to be missing.
    fn more(&mut self, source: &impl Source, wanted: usize) -> Result<(), Error> {
        self.read_once(|receiver| receiver.read(source, wanted)).map(drop)
    }

    /// Reads straight into `destination`, which is not empty. Only while nothing waits.
    fn more_into(&mut self, source: &impl Source, destination: &mut [u8]) -> Result<usize, Error> {
        debug_assert!(self.buffer.is_empty(), "what waits goes first");
        self.read_once(|receiver| {
            receiver.buffer.release();
            let len = source.read(destination)?;
            receiver.more_waits = len == destination.len();
            Ok(len)
        })
    }

    fn read_once(
        &mut self,
        read: impl FnOnce(&mut Receiver) -> io::Result<usize>,
    ) -> Result<usize, Error> {
        match self.end {
            End::NotSeen => {}
            End::Cut => return Err(Error::truncated()),
            End::Seen | End::Told => return Err(self.end_kind.into()),
        }
        match read(self) {
            Ok(0) => {
                self.end = End::Seen;
                Err(self.end_kind.into())
            }
            Ok(len) => Ok(len),
            Err(error) => {
                let error = Error::from(error);
                if error.kind().ends_the_half() {
                    self.end = if error.is_truncated() { End::Cut } else { End::Seen };
                }
                Err(error)
            }
        }
    }

    fn read(&mut self, source: &impl Source, wanted: usize) -> io::Result<usize> {
        let waiting = self.buffer.len();
        let space = if wanted >= FIRST_READ {
            // The result is known to be long, and is made here. Twice what there is at most: who
            // only announces much is not given much.
            self.buffer.exact_space(wanted.min(self.longest_read.max(waiting)))
        } else if waiting == 0 && !self.more_waits {
            return self.read_at_rest(source);
        } else if waiting < self.read_len / 2 {
            self.buffer.space(self.read_len - waiting)
        } else {
            self.buffer.space(self.read_len.max(waiting).min(self.longest_read))
        };
        let asked = space.len();
        let len = source.read(space)?;
        self.buffer.commit(len);
        self.more_waits = len == asked;
        if self.more_waits {
            self.read_len = (self.read_len * 2).min(self.longest_read);
        }
        Ok(len)
    }

    /// Waits with no buffer. A frame of its own, so that only such a wait has the array in it.
    #[inline(never)]
    fn read_at_rest(&mut self, source: &impl Source) -> io::Result<usize> {
        self.buffer.release();
        self.read_len = FIRST_READ.min(self.longest_read);
        let mut bytes = [0; AT_REST];
        let bytes = &mut bytes[..AT_REST.min(self.longest_read)];
        let len = source.read(bytes)?;
        self.more_waits = len == bytes.len();
        self.buffer.push(&bytes[..len]);
        Ok(len)
    }

    fn take(&mut self, len: usize, dropped: usize) -> Vec<u8> {
        let bytes = self.buffer.take(len, dropped);
        self.rest();
        bytes
    }

    /// Leaves out bytes that wait.
    fn skip(&mut self, len: usize) {
        self.buffer.consume(len);
        self.rest();
    }

    fn take_into(&mut self, destination: &mut [u8]) -> usize {
        let len = self.buffer.take_into(destination);
        self.rest();
        len
    }

    /// Gives the buffer back if the next read will have to wait.
    fn rest(&mut self) {
        if self.buffer.is_empty() && !self.more_waits {
            self.buffer.release();
        }
    }

    /// The end of a call that could not be answered. Its error takes along what waits: all of it
    /// when no more comes; else all but the last `unsettled` bytes.
    fn fail(&mut self, error: Error, unsettled: usize) -> Error {
        let kept = if self.at_end() { 0 } else { unsettled };
        let partial = self.take(self.buffer.len() - kept, 0);
        if self.end == End::Seen {
            self.end = End::Told;
        }
        error.with_partial(partial)
    }

    /// The error of a call that found more than `limit` bytes: it takes along the first of them.
    fn oversized(&mut self, limit: usize) -> Error {
        let text = format!("oversized: more than {limit} bytes");
        Error::with_text(ErrorKind::Oversized, text).with_partial(self.take(limit, 0))
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Receiver");
        debug.field("unread", &self.buffer.len()).field("end", &self.end).finish()
    }
}
