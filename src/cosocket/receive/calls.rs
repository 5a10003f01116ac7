//! The receive calls of a cosocket.

use std::io::IoSliceMut;

use super::{LINE_LIMIT, Until};
use crate::cosocket::framing::{Framing, Packet};
use crate::cosocket::{Cosocket, Error};

/// # Receiving
///
/// All of these suspend until they have what was asked for, unless it has arrived already. They
/// may follow each other in any order: each goes on where the one before it stopped.
///
/// They fail with `Timeout` when the peer is silent for as long as the read timeout says, with
/// `Closed` when the stream ends too early, with `Cancelled` when [`close`](Cosocket::close) or
/// [`cancel_receive`](Cosocket::cancel_receive) ends the wait, with `BusyReading` while another
/// coroutine receives, with `BusyConnecting`, or with the system's error. A timeout leaves the
/// connection as it is; the end and an error of the system end its read half, and every later call
/// fails with `Closed`.
///
/// The error has what was received by then, once: see [`Error::take_partial`]. What is only half
/// of a delimiter stays in the stream after a timeout, so that the same call, made again, finds
/// the whole. When the coroutine is cancelled, all bytes stay readable.
impl Cosocket {
    /// Receives a line: what comes before the next `"\n"` or `"\r\n"`, of up to [`LINE_LIMIT`]
    /// bytes. The ending is dropped, and no other byte is. (OpenResty drops every `"\r"` in it.)
    ///
    /// # Errors
    ///
    /// As all receive calls, and `Oversized` for a longer line: see
    /// [`receive_line_limited`](Cosocket::receive_line_limited).
    ///
    /// ```
    /// # use cosocket::{Cosocket, ErrorKind, net::TcpListener};
    /// # use std::io::Write;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let socket = cosocket::connect(listener.local_addr()?)?;
    /// # let mut server = listener.accept()?.0;
    /// server.write_all(b"HTTP/1.1 200 OK\r\n\r\nhel")?;
    /// drop(server);
    /// assert_eq!(socket.receive_line()?, b"HTTP/1.1 200 OK");
    /// assert_eq!(socket.receive_line()?, b"");
    /// let error = socket.receive_line().unwrap_err();
    /// assert_eq!((error.kind(), error.partial()), (ErrorKind::Closed, &b"hel"[..]));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn receive_line(&self) -> Result<Vec<u8>, Error> {
        self.receive_line_limited(LINE_LIMIT)
    }

    /// [`receive_line`](Cosocket::receive_line) of up to `limit` bytes, the ending not counted.
    ///
    /// # Errors
    ///
    /// As all receive calls, and `Oversized` for a longer line: the error takes the first `limit`
    /// bytes of it, and the next call goes on behind them.
    pub fn receive_line_limited(&self, limit: usize) -> Result<Vec<u8>, Error> {
        self.receive_with(|receiver, source| receiver.line(source, limit))
    }

    /// [`receive_line_limited`](Cosocket::receive_line_limited) to the end of `line`: returns how
    /// long it is. With a vector that is cleared and used again, a line that
    /// has arrived already costs no allocation.
    ///
    /// # Errors
    ///
    /// As `receive_line_limited`. Then nothing is added: what was received is in the error.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// use cosocket::Cosocket;
    /// use cosocket::os::unix::net::UnixStream;
    ///
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// theirs.write_all(b"+OK\r\n$5\r\n")?;
    /// let (socket, mut line) = (Cosocket::from(ours), Vec::new());
    /// assert_eq!(socket.receive_line_into(&mut line, 1024)?, 3);
    /// assert_eq!(socket.receive_line_into(&mut line, 1024)?, 2);
    /// assert_eq!(line, b"+OK$5");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn receive_line_into(&self, line: &mut Vec<u8>, limit: usize) -> Result<usize, Error> {
        self.receive_with(|receiver, source| receiver.line_into(source, limit, line))
    }

    /// Receives exactly `len` bytes. Memory is taken as they come: who announces a gigabyte and
    /// sends a byte costs 64 KiB.
    ///
    /// With `len` 0 it returns at once, of an open connection.
    ///
    /// # Errors
    ///
    /// As all receive calls. After a timeout a new call counts anew: ask for what is missing.
    #[doc(alias = "waitall")]
    #[doc(alias = "recvAll")]
    pub fn receive_exact(&self, len: usize) -> Result<Vec<u8>, Error> {
        self.receive_with(|receiver, source| receiver.exact(source, len))
    }

    /// Fills `destination`. A long one is read into directly.
    ///
    /// # Errors
    ///
    /// As all receive calls. What was received then is at the beginning of `destination`, and in
    /// the error as well.
    pub fn receive_exact_into(&self, destination: &mut [u8]) -> Result<(), Error> {
        self.receive_with(|receiver, source| receiver.exact_into(source, destination))
    }

    /// Fills the slices, one after the other; returns how many bytes that were. They are fewer than
    /// the slices take only when the stream ends before.
    ///
    /// # Errors
    ///
    /// As all receive calls; `Closed` only when the stream ends before the first byte. What was
    /// received then is in the slices, and in the error as well.
    #[doc(alias = "readVectorAll")]
    pub fn receive_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> Result<usize, Error> {
        self.receive_with(|receiver, source| receiver.vectored(source, slices))
    }

    /// Receives everything until the peer ends the stream. At the end that is nothing, as often as
    /// it is asked for. See [`receive_all_limited`](Cosocket::receive_all_limited) for a peer that
    /// is not trusted to come to an end.
    ///
    /// # Errors
    ///
    /// As all receive calls, but the end is none, unless TLS says that the stream was
    /// [cut](Error::is_truncated).
    pub fn receive_all(&self) -> Result<Vec<u8>, Error> {
        self.receive_all_limited(usize::MAX)
    }

    /// [`receive_all`](Cosocket::receive_all) of up to `limit` bytes.
    ///
    /// # Errors
    ///
    /// As all receive calls, and `Oversized` for more: the error takes the first `limit` bytes.
    pub fn receive_all_limited(&self, limit: usize) -> Result<Vec<u8>, Error> {
        self.receive_with(|receiver, source| receiver.all(source, limit))
    }

    /// Receives what is there, at least a byte and at most `max`: waits for the first one only.
    ///
    /// # Errors
    ///
    /// As all receive calls, and `InvalidInput` for a `max` of zero.
    pub fn receive_any(&self, max: usize) -> Result<Vec<u8>, Error> {
        self.receive_with(|receiver, source| receiver.any(source, max))
    }

    /// [`receive_any`](Cosocket::receive_any) to the beginning of `destination`, which is read into
    /// directly: returns how many bytes that were. It allocates nothing.
    ///
    /// # Errors
    ///
    /// As all receive calls, and `InvalidInput` for an empty `destination`.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// use cosocket::Cosocket;
    /// use cosocket::os::unix::net::UnixStream;
    ///
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// theirs.write_all(b"+PONG\r\n")?;
    /// let (socket, mut reply) = (Cosocket::from(ours), [0; 64]);
    /// let len = socket.receive_any_into(&mut reply)?;
    /// assert_eq!(&reply[..len], b"+PONG\r\n");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn receive_any_into(&self, destination: &mut [u8]) -> Result<usize, Error> {
        self.receive_with(|receiver, source| receiver.any_into(source, destination))
    }

    /// Records that end with `pattern`: see [`Until`]. Receives nothing yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty pattern.
    #[doc(alias = "receiveuntil")]
    pub fn receive_until(&self, pattern: impl AsRef<[u8]>) -> Result<Until<'_>, Error> {
        Until::new(self, pattern.as_ref())
    }

    /// Receives the next `len` bytes and leaves them in the stream, for whichever call comes next.
    ///
    /// # Errors
    ///
    /// As all receive calls, but none takes anything along; and `BufferTooSmall` for more than
    /// [`PEEK_LIMIT`](crate::PEEK_LIMIT) bytes.
    pub fn peek(&self, len: usize) -> Result<Vec<u8>, Error> {
        self.receive_with(|receiver, source| receiver.peek(source, len).map(<[u8]>::to_vec))
    }

    /// Receives what is there, at least a byte and at most `max`, and leaves it in the stream.
    ///
    /// # Errors
    ///
    /// As [`peek`](Cosocket::peek), and `InvalidInput` for a `max` of zero.
    pub fn peek_any(&self, max: usize) -> Result<Vec<u8>, Error> {
        self.receive_with(|receiver, source| receiver.peek_any(source, max).map(<[u8]>::to_vec))
    }

    /// Receives a packet as `framing` cuts it. A packet is taken whole or not at all: after a
    /// timeout, the same call goes on with what has come.
    ///
    /// # Errors
    ///
    /// As all receive calls, but only `Closed` and the system's errors take something along: the
    /// beginning of a packet. And what the framing finds: `Oversized` for a packet beyond its limit,
    /// told before memory is taken for it, and `Protocol`; both leave the stream as it is, so they
    /// come again.
    ///
    /// ```
    /// # use cosocket::net::TcpListener;
    /// use cosocket::framing::{ByteOrder, LengthField, LengthPrefixed};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let client = cosocket::connect(listener.local_addr()?)?;
    /// # let server = cosocket::Cosocket::from(listener.accept()?.0);
    ///
    /// let framing = LengthPrefixed::new(LengthField::U32(ByteOrder::Big));
    /// client.send_packet(&framing, b"hello")?;
    /// let packet = server.receive_packet(&framing)?;
    /// assert_eq!(packet.as_bytes(), b"\0\0\0\x05hello");
    /// assert_eq!(packet.into_body(), b"hello");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn receive_packet(&self, framing: &(impl Framing + ?Sized)) -> Result<Packet, Error> {
        self.receive_with(|receiver, source| receiver.packet(source, framing))
    }
}
