//! A connection, as a handler has it.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::ProxyHeader;
use super::abort::AbortWatch;
use super::proxy::Peek;
use super::service::Service;
use crate::io_handle::AsIoHandle;
use crate::net::TcpStream;
use crate::os::Interest;
use crate::os::unix::net::UnixStream;
use crate::sync::select;
use crate::time::{Elapsed, timeout};
use crate::unwind;
use crate::{Address, Cosocket, Stream};

/// A connection that a [`Server`](super::Server) has accepted. Dropping it closes it.
///
/// It reads and writes as a [`TcpStream`] does, through a shared reference too, and
/// [`into_stream`](Connection::into_stream) gives the stream itself,
/// [`into_cosocket`](Connection::into_cosocket) a cosocket over it.
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
///
/// use cosocket::net::TcpStream;
/// use cosocket::server::Server;
///
/// let server = Server::new().listen("127.0.0.1:0").start(|connection| {
///     for line in BufReader::new(&connection).lines() {
///         writeln!(&connection, "{}", line?.to_uppercase())?;
///     }
///     Ok(())
/// })?;
/// let stream = TcpStream::connect(server.tcp_addr().unwrap())?;
/// writeln!(&stream, "hello")?;
/// let mut line = String::new();
/// BufReader::new(&stream).read_line(&mut line)?;
/// assert_eq!(line, "HELLO\n");
/// # std::io::Result::Ok(())
/// ```
pub struct Connection {
    stream: Stream,
    peer: Arc<Address>,
    listener: Arc<Address>,
    header: Option<ProxyHeader>,
    abort: AbortWatch,
    /// A watch for the peer's leaving was begun, and taken.
    is_watched_elsewhere: bool,
    service: Arc<Service>,
}

/// How [`Connection::close_lingering`] waits for the peer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lingering {
    /// For how long in all.
    pub total: Duration,
    /// For how long while nothing comes.
    pub idle: Duration,
}

impl Default for Lingering {
    /// 30 s and 5 s, as nginx's `lingering_time` and `lingering_timeout`.
    fn default() -> Lingering {
        Lingering { total: Duration::from_secs(30), idle: Duration::from_secs(5) }
    }
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        peer: Arc<Address>,
        listener: Arc<Address>,
        service: Arc<Service>,
    ) -> Connection {
        Connection {
            stream,
            peer,
            listener,
            header: None,
            abort: AbortWatch::new(),
            is_watched_elsewhere: false,
            service,
        }
    }

    pub(super) fn set_header(&mut self, header: ProxyHeader) {
        self.header = Some(header);
    }

    pub(super) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub(super) fn socket_peer_shared(&self) -> Arc<Address> {
        Arc::clone(&self.peer)
    }

    /// Whom this serves: as a trusted proxy tells, else as the kernel does.
    #[must_use]
    pub fn peer(&self) -> &Address {
        self.header.as_ref().and_then(ProxyHeader::source).unwrap_or(&self.peer)
    }

    /// The other end of the socket, as the kernel tells: a proxy's, perhaps.
    #[must_use]
    pub fn socket_peer(&self) -> &Address {
        &self.peer
    }

    /// The address that the peer has connected to: as a trusted proxy tells, else as the kernel
    /// does. One of the machine's, where the server listens on all of them.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local(&self) -> io::Result<Address> {
        match self.header.as_ref().and_then(ProxyHeader::destination) {
            Some(told) => Ok(told.clone()),
            None => self.socket_local(),
        }
    }

    /// This end of the socket, as the kernel tells.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn socket_local(&self) -> io::Result<Address> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().map(Address::Ip),
            Stream::Unix(stream) => stream.local_addr().map(Address::Unix),
        }
    }

    /// Where the server listens that accepted it.
    #[must_use]
    pub fn listener(&self) -> &Address {
        &self.listener
    }

    /// What the proxy has told, if it is one of those trusted to.
    #[must_use]
    pub fn proxy_header(&self) -> Option<&ProxyHeader> {
        self.header.as_ref()
    }

    /// The stream, if it came over TCP.
    #[must_use]
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream),
            Stream::Unix(_) => None,
        }
    }

    /// The stream, if it came over a Unix socket.
    #[must_use]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match &self.stream {
            Stream::Unix(stream) => Some(stream),
            Stream::Tcp(_) => None,
        }
    }

    /// The stream itself. Nobody watches for the peer's leaving any more, unless the watch was
    /// [taken](Connection::take_watch) before.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// As a [`Cosocket`], with its buffer, its timeouts and its ways to receive. Of the watch
    /// for the peer's leaving as [`into_stream`](Connection::into_stream).
    ///
    /// If that was begun and taken, a receive that wants more than the peer has sent at its end
    /// fails with [`ClientAborted`](crate::ErrorKind::ClientAborted) and not with `Closed`.
    ///
    /// ```
    /// use cosocket::Cosocket;
    /// use cosocket::server::Server;
    ///
    /// let server = Server::new().listen("127.0.0.1:0").start(|connection| {
    ///     let socket = connection.into_cosocket();
    ///     let line = socket.receive_line()?;
    ///     socket.send([&line[..], b"!\n"])?;
    ///     Ok(())
    /// })?;
    /// let client = Cosocket::new();
    /// client.connect(server.tcp_addr().unwrap())?;
    /// client.send(b"hello\r\n")?;
    /// assert_eq!(client.receive_line()?, b"hello!");
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn into_cosocket(self) -> Cosocket {
        let socket: Cosocket = match self.stream {
            Stream::Tcp(stream) => stream.into(),
            Stream::Unix(stream) => stream.into(),
        };
        if self.is_watched_elsewhere {
            socket.call_end_an_abort();
        }
        socket
    }

    /// How long each call that reads may wait; `None`, the default, is for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a zero duration.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout),
            Stream::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// How long each call that writes may wait; as
    /// [`set_read_timeout`](Connection::set_read_timeout).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a zero duration.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_write_timeout(timeout),
            Stream::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Shuts down one or both halves; as [`TcpStream::shutdown`].
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }

    /// Receives without taking the data out of the socket; waits like a read.
    ///
    /// # Errors
    ///
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.as_io_handle().recv(buffer, libc::MSG_PEEK)
    }

    /// Whether the server is about to end, and waits for its handlers: then a response should be
    /// the last one of its connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.service.drain.has_begun()
    }

    /// Waits for the beginning of the next request, and says whether there is one: not if the peer
    /// has ended the connection, and not if the server is about to end. So a connection that is
    /// idle holds up no [`shutdown`](super::RunningServer::shutdown), and no request that has come
    /// is lost to one.
    ///
    /// Call it when the handler has no bytes of the next request in a buffer of its own. For how
    /// long a connection may be idle, [`timeout`](crate::time::timeout) around this says.
    ///
    /// # Errors
    ///
    /// The system's, and `TimedOut` by a timeout around this.
    ///
    /// ```no_run
    /// use std::io::{BufRead, BufReader, Write};
    /// use std::time::Duration;
    ///
    /// use cosocket::server::{Connection, Server};
    /// use cosocket::time::timeout;
    ///
    /// fn serve(connection: Connection) -> std::io::Result<()> {
    ///     let mut requests = BufReader::new(&connection);
    ///     loop {
    ///         if requests.buffer().is_empty() {
    ///             let idle = Duration::from_secs(75);
    ///             if !timeout(idle, || connection.wait_request())?? {
    ///                 return Ok(());
    ///             }
    ///         }
    ///         let mut request = String::new();
    ///         requests.read_line(&mut request)?;
    ///         write!(&connection, "you said {request}")?;
    ///     }
    /// }
    /// # let server = Server::new().listen("127.0.0.1:0").start(serve)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn wait_request(&self) -> io::Result<bool> {
        let io = self.stream.as_io_handle();
        if io.ready_now(libc::POLLIN)?.is_none() {
            self.wait_readable_or_drain()?;
            // What has come counts, even if the server ends at the same time.
            if io.ready_now(libc::POLLIN)?.is_none() {
                return Ok(false);
            }
        }
        self.peek(&mut [0]).map(|len| len != 0)
    }

    fn wait_readable_or_drain(&self) -> io::Result<()> {
        let wait = || {
            crate::select! {
                ready = select::ready(&self.stream, Interest::READ) => ready.map(drop),
                _ = select::recv(&self.service.drain.begun) => Ok(()),
            }
        };
        // A select has no error to return when a timeout around it passes; this call has.
        unwind::catch(wait).unwrap_or_else(|payload| match payload.downcast::<Elapsed>() {
            Ok(elapsed) => Err((*elapsed).into()),
            Err(payload) => unwind::unwind(payload),
        })
    }

    /// Calls `callback`, in a coroutine of its own, when the peer leaves: when it resets the
    /// connection, or ends its half of it. The calling handler goes on.
    ///
    /// A peer that ends its half may still read: one that sends its request and then shuts its half
    /// down looks, from here, like one that has left, as to OpenResty's `ngx.on_abort`. The
    /// callback is called at most once, within one turn of the worker from when the kernel knows; not at all
    /// when the connection is dropped before. While this watches it takes one more descriptor.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, "duplicate call", when somebody watches already; else the system's.
    ///
    /// ```
    /// use cosocket::net::TcpStream;
    /// use cosocket::server::Server;
    /// use cosocket::sync::mpsc;
    ///
    /// let (left, leaving) = mpsc::channel();
    /// let server = Server::new().listen("127.0.0.1:0").start(move |connection| {
    ///     let left = left.clone();
    ///     connection.on_abort(move || left.send("the peer has left").unwrap())?;
    ///     cosocket::thread::sleep(std::time::Duration::from_secs(3600));
    ///     Ok(())
    /// })?;
    /// drop(TcpStream::connect(server.tcp_addr().unwrap())?);
    /// assert_eq!(leaving.recv(), Ok("the peer has left"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn on_abort(&self, callback: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.abort.watch(self.stream.as_io_handle(), callback)
    }

    /// Cancels the calling coroutine when the peer leaves; as [`on_abort`](Connection::on_abort),
    /// which cannot be had besides. The cancel is that of
    /// [`JoinHandle::cancel`](crate::thread::JoinHandle::cancel).
    ///
    /// # Errors
    ///
    /// As [`on_abort`](Connection::on_abort).
    pub fn cancel_on_abort(&self) -> io::Result<()> {
        let handler = crate::thread::current();
        self.abort.watch(self.stream.as_io_handle(), move || {
            if let Some(coroutine) = handler.coroutine() {
                coroutine.identity().signal(crate::mailbox::CANCELLED);
            }
        })
    }

    /// Whether the peer was seen to leave, by [`on_abort`](Connection::on_abort) or
    /// [`cancel_on_abort`](Connection::cancel_on_abort).
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.abort.is_aborted()
    }

    /// The watch that [`on_abort`](Connection::on_abort) or
    /// [`cancel_on_abort`](Connection::cancel_on_abort) has begun, to be kept apart from the
    /// connection, for whoever takes the stream out of that.
    ///
    /// ```
    /// use cosocket::server::Server;
    /// use cosocket::{Cosocket, thread};
    ///
    /// let server = Server::new().listen("127.0.0.1:0").cancel_on_abort(true);
    /// let server = server.start(|mut connection| {
    ///     let _watch = connection.take_watch();
    ///     let socket = connection.into_cosocket();
    ///     socket.send(b"working on it")?;
    ///     thread::sleep(std::time::Duration::from_secs(3600));
    ///     Ok(())
    /// })?;
    /// let client = cosocket::connect(server.tcp_addr().unwrap())?;
    /// client.receive_exact(13)?;
    /// client.close()?;
    /// while server.connections() > 0 {
    ///     thread::yield_now();
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use = "the watch ends when this is dropped"]
    pub fn take_watch(&mut self) -> AbortWatch {
        self.is_watched_elsewhere |= self.abort.has_begun();
        std::mem::replace(&mut self.abort, AbortWatch::new())
    }

    /// Ends the response: the peer reads its end, and the handler goes on with what the peer need
    /// not wait for, as after OpenResty's `ngx.eof`. Nothing can be written any more.
    ///
    /// # Errors
    ///
    /// The system's: `NotConnected` when the peer has reset the connection.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// use cosocket::net::TcpStream;
    /// use cosocket::server::Server;
    /// use cosocket::sync::mpsc;
    ///
    /// let (log, entries) = mpsc::channel();
    /// let server = Server::new().listen("127.0.0.1:0").start(move |mut connection| {
    ///     connection.write_all(b"done")?;
    ///     connection.finish()?;
    ///     log.send(format!("served {}", connection.peer())).unwrap();
    ///     Ok(())
    /// })?;
    /// let mut response = String::new();
    /// TcpStream::connect(server.tcp_addr().unwrap())?.read_to_string(&mut response)?;
    /// assert_eq!(response, "done");
    /// assert!(entries.recv().unwrap().starts_with("served 127.0.0.1"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    /// Closes it when the peer has ended its half too, or after some time: reads what still comes
    /// and throws it away.
    ///
    /// For a response that is sent before the request is read to its end (it is too long, or
    /// forbidden). If the connection is simply closed then, TCP resets it, and the reset may
    /// overtake the response (RFC 9112, 9.6). In a coroutine of its own, if the handler is not to
    /// wait: `thread::spawn(move || connection.close_lingering(Lingering::default()))`.
    ///
    /// # Errors
    ///
    /// When the peer's end did not come in time (`TimedOut`), or the connection broke. It is closed
    /// in any case.
    pub fn close_lingering(self, lingering: Lingering) -> io::Result<()> {
        self.finish()?;
        self.set_read_timeout(Some(lingering.idle))?;
        timeout(lingering.total, || {
            let mut scratch = [0; 4096];
            while (&self).read(&mut scratch)? != 0 {}
            Ok(())
        })?
    }
}

impl Peek for Stream {
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_io_handle().recv(buffer, libc::MSG_PEEK)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_io_handle().as_fd()
    }
}

impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.as_io_handle().recv(buffer, 0)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.as_io_handle().recv_vectored(buffers)
    }
}

impl Write for &Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.as_io_handle().send(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.as_io_handle().send_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", self.peer())
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
