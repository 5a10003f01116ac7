//! From sockets of `net` to cosockets, and back, with every byte that was received on the way.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::connection::Connection;
use super::state::State;
use super::transport::Transport;
use super::{Cosocket, Error, ErrorKind};
use crate::io_handle::{AsIoHandle, IoHandle};
use crate::net::TcpStream;
use crate::os::unix::net::UnixStream;

/// What a cosocket is made of: the stream below, and what was received from it and not yet read.
///
/// As a `Read` it gives the unread bytes first, so protocol code can go on from where the cosocket
/// stopped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The stream, in blocking mode and without timeouts of its own.
    pub stream: Stream,
    /// Comes before everything that the stream still gives.
    pub unread: Vec<u8>,
}

/// A stream of either kind.
#[non_exhaustive]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Between processes of one machine.
    Unix(UnixStream),
}

impl Cosocket {
    /// A cosocket over a stream from which `unread` has been received already.
    ///
    /// Timeouts of the stream do not count; the cosocket has its own. A stream that was set to
    /// non-blocking mode is in blocking mode from then on, should it be taken out again.
    ///
    /// # Errors
    ///
    /// The system's, when the mode cannot be set.
    pub fn from_parts(stream: Stream, unread: Vec<u8>) -> io::Result<Cosocket> {
        let transport = match stream {
            Stream::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                Transport::Tcp(stream)
            }
            Stream::Unix(stream) => {
                stream.set_nonblocking(false)?;
                Transport::Unix(stream)
            }
        };
        let state = State::open(Connection::with_unread(transport, None, unread));
        Ok(Cosocket { state, ..Cosocket::default() })
    }

    /// Takes the connection apart. Nothing received is lost: what is in the buffer comes as
    /// [`Parts::unread`].
    ///
    /// ```
    /// use cosocket::{Cosocket, net::TcpListener, net::TcpStream};
    /// use std::io::{Read, Write};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let socket = Cosocket::from(listener.accept()?.0);
    /// client.write_all(b"greeting, and more")?;
    /// drop(client);
    ///
    /// assert_eq!(socket.receive_any(8)?, b"greeting");
    /// let mut rest = String::new();
    /// socket.into_parts()?.read_to_string(&mut rest)?;
    /// assert_eq!(rest, ", and more");
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection; `InvalidConnection` for one over TLS, which is closed.
    pub fn into_parts(self) -> Result<Parts, Error> {
        let Connection { link, receiver, details } = self.state.into_connection()?;
        drop(details);
        let unread = receiver.unread().to_vec();
        // A job of a send that was cut may still have it: then the connection is over.
        let link = Arc::into_inner(link).ok_or(ErrorKind::Closed)?;
        let stream = match link.transport {
            Transport::Tcp(stream) => Stream::Tcp(stream),
            Transport::Unix(stream) => Stream::Unix(stream),
            #[cfg(feature = "tls")]
            Transport::Tls(_) => {
                let text = "a TLS connection cannot be taken apart";
                return Err(Error::with_text(ErrorKind::InvalidConnection, text));
            }
        };
        Ok(Parts { stream, unread })
    }

    /// Two cosockets that are connected to each other (`socketpair(2)`).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn pair() -> io::Result<(Cosocket, Cosocket)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Cosocket::from(one), Cosocket::from(other)))
    }
}

macro_rules! from_stream {
    ($stream:ty, $variant:ident) => {
        impl From<$stream> for Cosocket {
            /// As [`Cosocket::from_parts`] with nothing unread, and for a stream whose mode cannot
            /// be set too: that one fails when it is used.
            fn from(stream: $stream) -> Cosocket {
                let _ = stream.set_nonblocking(false);
                let transport = Transport::$variant(stream);
                let state = State::open(Connection::new(transport, None));
                Cosocket { state, ..Cosocket::default() }
            }
        }
    };
}

from_stream!(TcpStream, Tcp);
from_stream!(UnixStream, Unix);

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            return self.stream.read(buffer);
        }
        let len = buffer.len().min(self.unread.len());
        buffer[..len].copy_from_slice(&self.unread[..len]);
        self.unread.drain(..len);
        Ok(len)
    }
}

impl Write for Parts {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsIoHandle for Stream {
    fn as_io_handle(&self) -> &IoHandle {
        match self {
            Stream::Tcp(stream) => stream.as_io_handle(),
            Stream::Unix(stream) => stream.as_io_handle(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stream::Tcp(stream) => stream.fmt(f),
            Stream::Unix(stream) => stream.fmt(f),
        }
    }
}
