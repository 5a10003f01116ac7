//! Records that end with a pattern.

use std::fmt;

use super::pattern::Progress;
use super::{Pattern, Receiver, Source};
use crate::cosocket::{Cosocket, Error, ErrorKind};

/// Records of a stream that end with a pattern; made by
/// [`Cosocket::receive_until`]. OpenResty's `receiveuntil`.
///
/// A record is received as a [`whole`](Until::whole), or in pieces by [`chunk`](Until::chunk). The
/// pattern is dropped, or with [`inclusive`](Until::inclusive) the record ends with it. It is found
/// however it comes in pieces, and where it overlaps itself.
///
/// This borrows the socket and holds nothing of the stream: other receive calls, and others of
/// these, may come in between. Bytes that could yet turn out to be the pattern are in the stream
/// until they have, for whoever asks next.
///
/// ```
/// # use cosocket::net::TcpListener;
/// # use std::io::Write;
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let socket = cosocket::connect(listener.local_addr()?)?;
/// # let mut server = listener.accept()?.0;
/// server.write_all(b"one--two--hello, world--")?;
/// let mut records = socket.receive_until("--")?;
/// assert_eq!(records.whole()?, b"one");
/// assert_eq!(records.whole()?, b"two");
/// let mut pieces = Vec::new();
/// while let Some(piece) = records.chunk(5)? {
///     pieces.push(piece);
/// }
/// assert_eq!(pieces, [&b"hello"[..], b", wor", b"ld"]);
/// # std::io::Result::Ok(())
/// ```
pub struct Until<'a> {
    socket: &'a Cosocket,
    pattern: Pattern,
    inclusive: bool,
    limit: usize,
    /// The last chunk met the pattern, and that was not told yet.
    record_over: bool,
}

impl<'a> Until<'a> {
    pub(super) fn new(socket: &'a Cosocket, pattern: &[u8]) -> Result<Until<'a>, Error> {
        let empty = || Error::with_text(ErrorKind::InvalidInput, "pattern is empty");
        let pattern = Pattern::new(pattern).ok_or_else(empty)?;
        let limit = usize::MAX;
        Ok(Until { socket, pattern, inclusive: false, limit, record_over: false })
    }

    /// The same, with the pattern at the end of each record.
    #[must_use]
    pub fn inclusive(self) -> Until<'a> {
        Until { inclusive: true, ..self }
    }

    /// The same, with records of at most so many bytes before the pattern when they are received as
    /// a whole. There is no limit else.
    #[must_use]
    pub fn limited(self, bytes: usize) -> Until<'a> {
        Until { limit: bytes, ..self }
    }

    /// Receives a record; of one that was begun in chunks, the rest.
    ///
    /// # Errors
    ///
    /// As [all receive calls](Cosocket#receiving), and `Oversized` for a longer record than
    /// [`limited`](Until::limited) allows: the error takes as many bytes of it as are allowed.
    pub fn whole(&mut self) -> Result<Vec<u8>, Error> {
        self.record_over = false;
        let Until { pattern, inclusive, limit, .. } = &*self;
        self.socket
            .receive_with(|receiver, source| receiver.until(source, pattern, *inclusive, *limit))
    }

    /// Receives a piece of a record, of `size` bytes. The last piece of a record may be shorter, and
    /// empty; with [`inclusive`](Until::inclusive) it is longer by the pattern. After it comes
    /// `None`, once, whatever else was received meanwhile; then the next record begins. A piece is
    /// also longer, by less than the pattern, when it ends with what first looked like the pattern.
    ///
    /// With `size` 0 it is the [`whole`](Until::whole) record, and no `None` follows.
    ///
    /// # Errors
    ///
    /// As [all receive calls](Cosocket#receiving).
    pub fn chunk(&mut self, size: usize) -> Result<Option<Vec<u8>>, Error> {
        if std::mem::take(&mut self.record_over) {
            return Ok(None);
        }
        if size == 0 {
            return self.whole().map(Some);
        }
        let Until { pattern, inclusive, .. } = &*self;
        let chunk = self.socket.receive_with(|receiver, source| {
            receiver.until_chunk(source, pattern, *inclusive, size)
        })?;
        self.record_over = chunk.is_last;
        Ok(Some(chunk.bytes))
    }
}

impl fmt::Debug for Until<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Until");
        debug.field("pattern", &self.pattern.bytes().escape_ascii().to_string());
        debug.field("inclusive", &self.inclusive).finish_non_exhaustive()
    }
}

/// A piece of a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Settled not to be part of the pattern, but for that of an inclusive record.
    pub bytes: Vec<u8>,
    /// The pattern was met: the record is over.
    pub is_last: bool,
}

impl Receiver {
    /// What comes before the pattern, and the pattern too if it is `inclusive`. Of more than
    /// `limit` bytes before it the error takes the first `limit` bytes.
    pub fn until(
        &mut self,
        source: &impl Source,
        pattern: &Pattern,
        inclusive: bool,
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        self.begin()?;
        let mut progress = Progress::default();
        loop {
            let found = pattern.find(self.buffer.data(), &mut progress);
            if found.unwrap_or(progress.scanned - progress.matched) > limit {
                return Err(self.oversized(limit));
            }
            if let Some(at) = found {
                return Ok(self.take_record(at, pattern, inclusive));
            }
            self.more(source, 1).map_err(|error| self.fail(error, progress.matched))?;
        }
    }

    /// The same in pieces of `size` bytes, not zero, or little more.
    pub fn until_chunk(
        &mut self,
        source: &impl Source,
        pattern: &Pattern,
        inclusive: bool,
        size: usize,
    ) -> Result<Chunk, Error> {
        self.begin()?;
        let mut progress = Progress::default();
        loop {
            match pattern.cut(self.buffer.data(), size, &mut progress) {
                Some(cut) if cut.at_pattern => {
                    let bytes = self.take_record(cut.len, pattern, inclusive);
                    return Ok(Chunk { bytes, is_last: true });
                }
                Some(cut) => return Ok(Chunk { bytes: self.take(cut.len, 0), is_last: false }),
                None => {}
            }
            self.more(source, 1).map_err(|error| self.fail(error, progress.matched))?;
        }
    }

    fn take_record(&mut self, len: usize, pattern: &Pattern, inclusive: bool) -> Vec<u8> {
        let pattern = pattern.bytes().len();
        if inclusive { self.take(len + pattern, 0) } else { self.take(len, pattern) }
    }
}
