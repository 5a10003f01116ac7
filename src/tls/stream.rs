//! A TLS connection as a stream.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::acceptor::{TlsAcceptor, WITH_CLIENT};
use super::buffer::RECORD;
use super::duplex::Duplex;
use super::engine::Engine;
use super::error::{Error, ErrorKind};
use super::identity::Certificate;
use super::options::{TlsOptions, TlsVersion};
use super::transport::Transport;
use crate::time;

/// A TLS connection over a [`Transport`]: a [`TcpStream`](crate::net::TcpStream) or a
/// [`UnixStream`](crate::os::unix::net::UnixStream).
///
/// `Read` and `Write` are implemented for `&TlsStream` too: one coroutine may read while another
/// writes, and neither waits for the other. Several readers take turns, as do several writers.
///
/// # Waiting
///
/// Calls wait as the transport's do, for as long as its timeouts allow. A read that times out or is
/// cancelled has lost nothing. A write returns how much it has accepted; that may still be on its
/// way when the timeout passes, and is then sent by the next `write`, `flush` or `shutdown`. When
/// writes time out, [`flush`](Write::flush) tells.
///
/// # Ends
///
/// The peer's goodbye (`close_notify`) is the end of the stream: `Ok(0)`. An end without it is the
/// error `UnexpectedEof` with [`ErrorKind::Truncated`] inside, after all that came before it was
/// read. Our goodbye is sent by [`close`](TlsStream::close) and [`shutdown`](TlsStream::shutdown);
/// dropping the stream sends it too, if that takes no waiting, but not while unwinding: then the
/// peer is to see that the stream was cut.
///
/// An error of TLS itself, a changed record say, ends both directions for good. An error of the
/// transport ends its direction.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use cosocket::net::TcpStream;
/// use cosocket::tls::{TlsOptions, TlsStream};
///
/// let stream = TcpStream::connect("example.com:443")?;
/// let mut stream = TlsStream::connect(stream, "example.com", &TlsOptions::new())?;
/// stream.write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")?;
/// let mut answer = Vec::new();
/// stream.read_to_end(&mut answer)?;
/// # std::io::Result::Ok(())
/// ```
pub struct TlsStream<S: Transport> {
    duplex: Duplex<S>,
}

impl<S: Transport> TlsStream<S> {
    /// Makes the client's side of a handshake with `server`, a DNS name or an IP address: it is the
    /// name that the certificate must be valid for, and that the server is told (SNI), unless the
    /// options have [another](TlsOptions::server_name).
    ///
    /// # Errors
    ///
    /// `TimedOut` after the options' handshake timeout, the transport's errors, and TLS's, with an
    /// [`Error`] inside. In all cases the connection is closed.
    pub fn connect(transport: S, server: &str, options: &TlsOptions) -> io::Result<TlsStream<S>> {
        TlsStream::connect_after(transport, server, options, &[])
    }

    /// [`connect`](TlsStream::connect) in the middle of a connection (STARTTLS): `received` is what
    /// was read beyond the plain part, into a buffer. It goes into the handshake and is never taken
    /// for something that the server sent encrypted.
    ///
    /// # Errors
    ///
    /// As for [`connect`](TlsStream::connect).
    pub fn connect_after(
        transport: S,
        server: &str,
        options: &TlsOptions,
        received: &[u8],
    ) -> io::Result<TlsStream<S>> {
        let settings = options.settings();
        let name = settings.server_name.as_deref().unwrap_or(server);
        let what = format!("TLS handshake with {name:?} failed");
        let engine = options.setup()?.engine(name).map_err(|error| error.during(&what).to_io())?;
        TlsStream::handshake(transport, engine, received, settings.handshake_timeout, &what)
    }

    /// [`connect_after`](TlsStream::connect_after), bounded by how the transport is read and
    /// written.
    pub(crate) fn connect_by(
        transport: S,
        server: &str,
        options: &TlsOptions,
        received: &[u8],
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<TlsStream<S>> {
        let settings = options.settings();
        let name = settings.server_name.as_deref().unwrap_or(server);
        let what = format!("TLS handshake with {name:?} failed");
        let engine = options.setup()?.engine(name).map_err(|error| error.during(&what).to_io())?;
        TlsStream::finish(Duplex::new(transport, engine, received), &what, |duplex| {
            duplex.shake_hands(read, write)
        })
    }

    /// The server's side of it.
    pub(crate) fn accept_by(
        transport: S,
        acceptor: &TlsAcceptor,
        received: &[u8],
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<TlsStream<S>> {
        let engine = acceptor.engine()?;
        TlsStream::finish(Duplex::new(transport, engine, received), WITH_CLIENT, |duplex| {
            duplex.shake_hands(read, write)
        })
    }

    pub(super) fn handshake(
        transport: S,
        engine: Engine,
        received: &[u8],
        timeout: Duration,
        what: &str,
    ) -> io::Result<TlsStream<S>> {
        let duplex = Duplex::new(transport, engine, received);
        TlsStream::finish(duplex, what, |duplex| {
            time::timeout(timeout, || duplex.shake_hands(Transport::read, Transport::write))?
        })
    }

    fn finish(
        duplex: Duplex<S>,
        what: &str,
        shake_hands: impl FnOnce(&Duplex<S>) -> io::Result<()>,
    ) -> io::Result<TlsStream<S>> {
        let Err(error) = shake_hands(&duplex) else {
            return Ok(TlsStream { duplex });
        };
        Err(match Error::of(&error) {
            Some(error) => error.clone().during(what).to_io(),
            None if error.kind() == io::ErrorKind::TimedOut => {
                let text = "the peer took too long";
                Error::new(ErrorKind::Timeout, text).during(what).to_io()
            }
            // Somebody else's, who wants it back.
            None if error.kind() == io::ErrorKind::Other => error,
            None => io::Error::new(error.kind(), format!("{what}: {error}")),
        })
    }

    pub(crate) fn read_by(
        &self,
        buffer: &mut [u8],
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.duplex.read(buffer, read)
    }

    pub(crate) fn write_by(
        &self,
        data: &[u8],
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.duplex.write(data, write)
    }

    pub(crate) fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        self.duplex.try_write(data)
    }

    /// Short pieces go into one record together.
    pub(crate) fn write_vectored_by(
        &self,
        buffers: &[IoSlice<'_>],
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut filled = buffers.iter().filter(|buffer| !buffer.is_empty());
        let Some(first) = filled.next() else { return self.duplex.write(&[], write) };
        if first.len() >= RECORD / 2 || filled.next().is_none() {
            return self.duplex.write(first, write);
        }
        let mut record = Vec::with_capacity(RECORD);
        for buffer in buffers {
            let room = RECORD - record.len();
            record.extend_from_slice(&buffer[..buffer.len().min(room)]);
        }
        self.duplex.write(&record, write)
    }

    /// See [`Duplex::look`].
    pub(crate) fn look(&self) -> Option<bool> {
        self.duplex.look()
    }

    /// Ends one direction, or both, and waits for nothing: our goodbye is sent if it can be.
    pub(crate) fn shutdown_at_once(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            self.duplex.say_goodbye_at_once();
        }
        self.transport().shutdown(how)
    }

    /// The transport, for its addresses, timeouts and options. What is read from it or written to
    /// it past the TLS stream breaks the connection.
    pub fn transport(&self) -> &S {
        self.duplex.transport()
    }

    /// Sends our goodbye after all that was written, and closes the connection.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the peer does not take what was written within the transport's write
    /// timeout, and the transport's other errors. In all cases the connection is closed.
    pub fn close(self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    /// Ends one direction, or both.
    ///
    /// * `Write` sends our goodbye after all that was written, and ends the transport's direction.
    ///   It waits for its turn if others write. The second time it does nothing.
    /// * `Read` ends the transport's direction; there is nothing to tell the peer.
    /// * `Both` waits for nothing: it sends our goodbye if it can, and ends both directions of the
    ///   transport. Who reads or writes at the time gets an error.
    ///
    /// # Errors
    ///
    /// As for writes.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.duplex.shutdown(how)
    }

    /// Reads what is there, and never waits: `WouldBlock` when there is no data, or another reads.
    ///
    /// Messages of TLS's own, session tickets say, are taken care of on the way. So a connection at
    /// rest is good as long as this says `WouldBlock`.
    ///
    /// # Errors
    ///
    /// `WouldBlock`; and those of `read`.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.duplex.try_read(buffer)
    }

    /// Changes the keys of both directions (RFC 8446, 4.6.3). It happens by itself when it must; for
    /// connections that live for months. Not more often than there is data: a peer takes many changes
    /// without any for an attack and ends the connection (rustls after 32, answers included).
    ///
    /// # Errors
    ///
    /// `InvalidData` under TLS 1.2, which knows no such thing; and those of writes.
    pub fn update_keys(&self) -> io::Result<()> {
        if self.version() < TlsVersion::V1_3 {
            return Err(Error::new(ErrorKind::Other, "TLS 1.2 cannot change its keys").to_io());
        }
        self.duplex.update_keys()
    }

    /// The version that was agreed on.
    pub fn version(&self) -> TlsVersion {
        self.duplex.ask(Engine::version)
    }

    /// The cipher suite that was agreed on, as the IANA registry names it:
    /// `TLS_AES_128_GCM_SHA256`.
    pub fn cipher_suite(&self) -> &'static str {
        self.duplex.ask(Engine::cipher_suite)
    }

    /// The application protocol that was agreed on (ALPN); `None` if the peer has no opinion.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.duplex.ask(|engine| engine.alpn().map(<[u8]>::to_vec))
    }

    /// Whether the handshake resumed a former session.
    pub fn is_resumed(&self) -> bool {
        self.duplex.ask(Engine::is_resumed)
    }

    /// The peer's certificate and those that came with it; empty when it showed none.
    pub fn peer_certificates(&self) -> Vec<Certificate> {
        self.duplex.ask(Engine::peer_certificates)
    }

    /// On a server: the name that the client asked for (SNI).
    pub fn requested_name(&self) -> Option<String> {
        self.duplex.ask(|engine| engine.seen().server_name.as_deref().map(str::to_owned))
    }

    /// On a client: the OCSP response that the server stapled to its certificate (RFC 6960, as DER).
    /// It is asked for, and not looked at. `None` on a resumed connection.
    pub fn ocsp_response(&self) -> Option<Vec<u8>> {
        self.duplex.ask(|engine| engine.seen().ocsp.as_deref().map(<[u8]>::to_vec))
    }
}

impl<S: Transport> Drop for TlsStream<S> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.duplex.finish();
        }
    }
}

impl<S: Transport> Read for TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.duplex.read(buffer, Transport::read)
    }
}

impl<S: Transport> Read for &TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.duplex.read(buffer, Transport::read)
    }
}

impl<S: Transport> Write for TlsStream<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.duplex.write(buffer, Transport::write)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored_by(buffers, Transport::write)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.duplex.flush()
    }
}

impl<S: Transport> Write for &TlsStream<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.duplex.write(buffer, Transport::write)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored_by(buffers, Transport::write)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.duplex.flush()
    }
}

impl<S: Transport + fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("transport", self.transport())
            .field("version", &self.version())
            .field("cipher_suite", &self.cipher_suite())
            .finish_non_exhaustive()
    }
}
