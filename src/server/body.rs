//! The body of a request, of a length that is known: OpenResty's `ngx.req.socket()`.
//!
//! ```text
//!   connection  ... head \r\n\r\n | body, so many bytes | the next request ...
//!                  receive_line     RequestBody           receive_line
//! ```
//!
//! It has a receive buffer of its own, which is filled with bytes of the body and no others. What
//! had come together with the head waits in the socket's buffer and is taken from there first.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

use crate::cosocket::receive::{Pattern, Receiver, Source};
use crate::{Cosocket, Error, ErrorKind, LINE_LIMIT};

/// Reads the body of a request off a connection, and nothing that comes after it. At its end the
/// calls find the end of a stream.
///
/// It receives as a [`Cosocket`] does, by its timeouts, and reads as a [`Read`]. The socket may
/// send meanwhile, but should not receive. A peer that leaves before the body is whole is an error of
/// the kind [`ClientAborted`](ErrorKind::ClientAborted).
///
/// When it is dropped before its end ([`remaining`](RequestBody::remaining) is not 0), what follows
/// on the connection is no request: close that, or [`discard`](RequestBody::discard) the rest.
///
/// ```
/// use cosocket::server::RequestBody;
/// use cosocket::{Cosocket, ErrorKind};
///
/// let (client, server) = Cosocket::pair()?;
/// client.send("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\nhello worldGET / HTTP/1.1\r\n")?;
/// while !server.receive_line()?.is_empty() {}
///
/// let mut body = RequestBody::new(&server, 11)?;
/// assert_eq!(body.receive_exact(5)?, b"hello");
/// assert_eq!(body.receive_exact(5)?, b" worl");
/// let error = body.receive_exact(5).unwrap_err();
/// assert_eq!((error.kind(), error.partial()), (ErrorKind::Closed, &b"d"[..]));
///
/// assert_eq!(server.receive_line()?, b"GET / HTTP/1.1");
/// # std::io::Result::Ok(())
/// ```
pub struct RequestBody<'a> {
    receiver: Receiver,
    source: Bounded<'a>,
}

/// So much of a connection.
struct Bounded<'a> {
    socket: &'a Cosocket,
    left: Cell<u64>,
    /// The client waits to be told to send it.
    is_expected: Cell<bool>,
}

impl Source for Bounded<'_> {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        if len == 0 {
            return Ok(0);
        }
        if self.is_expected.get() {
            let told = self.socket.send("HTTP/1.1 100 Continue\r\n\r\n");
            told.map_err(|_| Error::with_text(ErrorKind::Other, "test expect failed"))?;
            self.is_expected.set(false);
        }
        let data = self.socket.receive_any(len).map_err(|error| match error.kind() {
            ErrorKind::Closed => Error::new(ErrorKind::ClientAborted),
            _ => error,
        })?;
        buffer[..data.len()].copy_from_slice(&data);
        self.left.set(self.left.get() - data.len() as u64);
        Ok(data.len())
    }
}

impl<'a> RequestBody<'a> {
    /// The next `length` bytes of the connection.
    ///
    /// # Errors
    ///
    /// "no body" for a length of 0.
    pub fn new(socket: &'a Cosocket, length: u64) -> Result<RequestBody<'a>, Error> {
        if length == 0 {
            return Err(Error::with_text(ErrorKind::Other, "no body"));
        }
        let source = Bounded { socket, left: Cell::new(length), is_expected: Cell::new(false) };
        Ok(RequestBody { receiver: Receiver::new(), source })
    }

    /// The same, of a client that has sent `Expect: 100-continue`: it is told to go on when the
    /// body is first read, and not if it never is. "test expect failed" is the error of a read that
    /// could not tell.
    #[must_use]
    pub fn expect_continue(self) -> RequestBody<'a> {
        self.source.is_expected.set(true);
        self
    }

    /// How many bytes of it were not received by the caller yet.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.source.left.get() + self.receiver.unread().len() as u64
    }

    /// As [`Cosocket::receive_exact`].
    ///
    /// # Errors
    ///
    /// As there; `Closed` at the end of the body, `ClientAborted` at an earlier end of the stream.
    pub fn receive_exact(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        self.receiver.exact(&self.source, len)
    }

    /// As [`Cosocket::receive_any`].
    ///
    /// # Errors
    ///
    /// As [`receive_exact`](RequestBody::receive_exact).
    pub fn receive_any(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        self.receiver.any(&self.source, max)
    }

    /// As [`Cosocket::receive_line`].
    ///
    /// # Errors
    ///
    /// As [`receive_exact`](RequestBody::receive_exact), and `Oversized`.
    pub fn receive_line(&mut self) -> Result<Vec<u8>, Error> {
        self.receive_line_limited(LINE_LIMIT)
    }

    /// As [`Cosocket::receive_line_limited`].
    ///
    /// # Errors
    ///
    /// As [`receive_line`](RequestBody::receive_line).
    pub fn receive_line_limited(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        self.receiver.line(&self.source, limit)
    }

    /// Receives the rest of the body, of up to `limit` bytes.
    ///
    /// # Errors
    ///
    /// As [`receive_exact`](RequestBody::receive_exact), but the body's end is none; `Oversized`,
    /// before anything is received, when more is left.
    pub fn receive_all(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        if self.remaining() > limit as u64 {
            return Err(Error::new(ErrorKind::Oversized));
        }
        self.receiver.all(&self.source, limit)
    }

    /// Records that end with `pattern`; as [`Cosocket::receive_until`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty pattern.
    pub fn receive_until<'b>(
        &'b mut self,
        pattern: impl AsRef<[u8]>,
    ) -> Result<BodyUntil<'b, 'a>, Error> {
        let empty = || Error::with_text(ErrorKind::InvalidInput, "pattern is empty");
        let pattern = Pattern::new(pattern.as_ref()).ok_or_else(empty)?;
        Ok(BodyUntil { body: self, pattern, inclusive: false, record_over: false })
    }

    /// Receives the rest and throws it away, so that the next request can be received.
    ///
    /// # Errors
    ///
    /// As [`receive_exact`](RequestBody::receive_exact), but the body's end is none; `Oversized`,
    /// before anything is received, when more than `limit` bytes are left: then close the
    /// connection.
    pub fn discard(mut self, limit: u64) -> Result<(), Error> {
        if self.remaining() > limit {
            return Err(Error::new(ErrorKind::Oversized));
        }
        while self.remaining() > 0 {
            self.receive_any(64 << 10)?;
        }
        Ok(())
    }
}

impl Read for RequestBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.remaining() == 0 {
            return Ok(0);
        }
        let data = self.receive_any(buffer.len())?;
        buffer[..data.len()].copy_from_slice(&data);
        Ok(data.len())
    }
}

impl fmt::Debug for RequestBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

/// Records of a body that end with a pattern; made by [`RequestBody::receive_until`].
pub struct BodyUntil<'b, 'a> {
    body: &'b mut RequestBody<'a>,
    pattern: Pattern,
    inclusive: bool,
    record_over: bool,
}

impl BodyUntil<'_, '_> {
    /// As [`Until::inclusive`](crate::Until::inclusive).
    #[must_use]
    pub fn inclusive(self) -> Self {
        BodyUntil { inclusive: true, ..self }
    }

    /// As [`Until::whole`](crate::Until::whole).
    ///
    /// # Errors
    ///
    /// As [`RequestBody::receive_exact`].
    pub fn whole(&mut self) -> Result<Vec<u8>, Error> {
        self.record_over = false;
        let RequestBody { receiver, source } = &mut *self.body;
        receiver.until(source, &self.pattern, self.inclusive, usize::MAX)
    }

    /// As [`Until::chunk`](crate::Until::chunk).
    ///
    /// # Errors
    ///
    /// As [`RequestBody::receive_exact`].
    pub fn chunk(&mut self, size: usize) -> Result<Option<Vec<u8>>, Error> {
        if std::mem::take(&mut self.record_over) {
            return Ok(None);
        }
        if size == 0 {
            return self.whole().map(Some);
        }
        let RequestBody { receiver, source } = &mut *self.body;
        let chunk = receiver.until_chunk(source, &self.pattern, self.inclusive, size)?;
        self.record_over = chunk.is_last;
        Ok(Some(chunk.bytes))
    }
}

impl fmt::Debug for BodyUntil<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("BodyUntil");
        debug.field("pattern", &self.pattern.bytes().escape_ascii().to_string());
        debug.field("inclusive", &self.inclusive).finish_non_exhaustive()
    }
}
