//! TCP: listeners and streams.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::Socket;

use super::addr::ip_address;
use super::{Keepalive, TcpBuilder, ToSocketAddrs, tcp_options};
use crate::io_handle::IoHandle;
use crate::socket::{descriptor_conversions, socket_methods, socket_timeouts, stream_transfers};

/// A TCP connection; [`std::net::TcpStream`] for coroutines.
///
/// `Read` and `Write` are implemented for `&TcpStream` too: one coroutine may read while another
/// writes. Dropping it closes the connection.
///
/// # Waiting
///
/// Connecting, reading, writing and `peek` wait: a coroutine is suspended, a plain thread blocks.
/// A read or write fails with [`TimedOut`](io::ErrorKind::TimedOut) when the timeout set for its
/// direction has passed. A cancel unwinds out of it (see [`cancel`](crate::thread::JoinHandle::cancel)) and
/// leaves the connection as it is. In neither case is a byte lost: what was moved by then is
/// returned, and what comes later is there for the next call.
///
/// ```
/// use cosocket::net::{TcpListener, TcpStream};
/// use cosocket::thread;
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = thread::spawn(move || {
///     let (mut stream, _) = listener.accept()?;
///     let mut question = [0; 4];
///     stream.read_exact(&mut question)?;
///     stream.write_all(b"pong")
/// });
/// let mut stream = TcpStream::connect(address)?;
/// stream.write_all(b"ping")?;
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer)?;
/// assert_eq!(answer, "pong");
/// server.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub struct TcpStream {
    io: IoHandle,
}

/// A listening TCP socket; [`std::net::TcpListener`] for coroutines.
///
/// While a coroutine has accepted from it, the socket is in non-blocking mode behind the scenes:
/// what borrows the descriptor ([`AsFd`]) and makes a duplicate sees that; conversions undo it.
///
/// Several coroutines, on several workers, may accept from one listener: each connection goes to
/// one of them. Under epoll it may wake one on each worker; those who come too late wait on.
///
/// ```
/// use cosocket::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (_server, peer) = listener.accept()?;
/// assert_eq!(peer, client.local_addr()?);
/// # std::io::Result::Ok(())
/// ```
pub struct TcpListener {
    io: IoHandle,
}

impl TcpStream {
    /// Connects to the first address that accepts, trying each in turn; the last error if none.
    ///
    /// Inside a coroutine a name is looked up on a thread of the blocking pool. How long an
    /// attempt may take is up to the kernel (two minutes by default, see `tcp_syn_retries`); a
    /// cancel unwinds and closes the socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address; else the system's error for the last address.
    pub fn connect<A: ToSocketAddrs>(address: A) -> io::Result<TcpStream> {
        TcpBuilder::new().connect(address)
    }

    /// Connects to one address, for at most `timeout`. A cancel unwinds and closes the socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a zero timeout, `TimedOut`, or the system's error.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpBuilder::new().connect_timeout(timeout).connect(address)
    }

    pub(super) fn from_connected(io: IoHandle) -> TcpStream {
        TcpStream { io }
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        ip_address(self.options().peer_addr()?)
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ip_address(self.options().local_addr()?)
    }

    /// Shuts down one or both halves. A coroutine that waits in a read then gets the end of the
    /// stream (`Ok(0)`), one in a write an error. All clones are affected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.options().shutdown(how)
    }

    /// Receives without taking the data out of the socket; waits like a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, libc::MSG_PEEK)
    }

    /// Sends small writes at once (`TCP_NODELAY`) in place of collecting them.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.options().set_tcp_nodelay(nodelay)
    }

    /// Whether `TCP_NODELAY` is set.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.options().tcp_nodelay()
    }

    /// What closing does with data not sent yet: `None` (the default) sends it in the background,
    /// a duration of zero resets the connection. Any other duration, in whole seconds, rounded up,
    /// makes the drop block its thread, and with it a worker, for up to that long.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        tcp_options::set_linger(&self.options(), linger)
    }

    /// The setting of [`set_linger`](TcpStream::set_linger).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.options().linger()
    }

    /// Probes the other end when it has been silent for long; `None`, the default, does not.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a zero duration or count, and what the kernel finds too large.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        match keepalive {
            Some(keepalive) => keepalive.apply_to(&self.options()),
            None => self.options().set_keepalive(false),
        }
    }

    /// The setting of [`set_keepalive`](TcpStream::set_keepalive).
    pub fn keepalive(&self) -> io::Result<Option<Keepalive>> {
        Keepalive::of(&self.options())
    }

    /// The time to live of packets sent (`IP_TTL`).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.options().set_ttl_v4(ttl)
    }

    /// The time to live of packets sent.
    pub fn ttl(&self) -> io::Result<u32> {
        self.options().ttl_v4()
    }
}

/// The calls of `std::os::linux::net::TcpStreamExt`, a trait that std seals.
impl TcpStream {
    /// Acknowledges segments at once (`TCP_QUICKACK`); the kernel may clear it again.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.options().set_tcp_quickack(quickack)
    }

    /// Whether `TCP_QUICKACK` is set.
    pub fn quickack(&self) -> io::Result<bool> {
        self.options().tcp_quickack()
    }

    /// As [`TcpBuilder::defer_accept`], for a socket that is to listen; in whole seconds, rounded
    /// down.
    pub fn set_deferaccept(&self, accept: Duration) -> io::Result<()> {
        super::tcp_options::set_defer_accept(self.as_fd(), accept)
    }

    /// The setting of [`set_deferaccept`](TcpStream::set_deferaccept), as the kernel has rounded
    /// it.
    pub fn deferaccept(&self) -> io::Result<Duration> {
        super::tcp_options::defer_accept(self.as_fd())
    }
}

impl TcpListener {
    /// Binds to the first address that can be bound, with `SO_REUSEADDR`, and listens with a
    /// backlog of 128, as std does. [`TcpBuilder`] has more to choose from.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address; else the system's error for the last address.
    pub fn bind<A: ToSocketAddrs>(address: A) -> io::Result<TcpListener> {
        TcpBuilder::new().listen(address)
    }

    pub(super) fn from_listening(socket: Socket) -> TcpListener {
        TcpListener { io: IoHandle::new(socket.into(), true) }
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ip_address(self.options().local_addr()?)
    }

    /// Waits for a connection. A cancel unwinds; a connection that came by then stays in the
    /// backlog.
    ///
    /// # Errors
    ///
    /// The system's, at once and each time: `EMFILE` when the process has no descriptor left (a
    /// loop should then pause, the connection stays in the backlog), `ECONNABORTED` when the peer
    /// left before it was accepted.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, address) = self.io.accept()?;
        Ok((TcpStream { io: self.io.accepted(fd) }, ip_address(address)?))
    }

    /// Connections as they come, for ever: [`accept`](TcpListener::accept) as an iterator.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// [`incoming`](TcpListener::incoming) that owns the listener.
    pub fn into_incoming(self) -> IntoIncoming {
        IntoIncoming { listener: self }
    }

    /// The time to live of packets of accepted connections (`IP_TTL`).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.options().set_ttl_v4(ttl)
    }

    /// The time to live.
    pub fn ttl(&self) -> io::Result<u32> {
        self.options().ttl_v4()
    }

    /// Whether an IPv6 listener refuses IPv4; has no effect once bound, as in std.
    #[deprecated(note = "has no effect once the socket is bound; use `TcpBuilder::only_v6`")]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.options().set_only_v6(only_v6)
    }

    /// The setting of `set_only_v6`.
    #[deprecated(note = "as `set_only_v6`")]
    pub fn only_v6(&self) -> io::Result<bool> {
        self.options().only_v6()
    }
}

/// An endless iterator over connections; see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}

/// An endless iterator over connections; see [`TcpListener::into_incoming`].
#[derive(Debug)]
pub struct IntoIncoming {
    listener: TcpListener,
}

impl Iterator for IntoIncoming {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for IntoIncoming {}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpStream");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        if let Ok(address) = self.peer_addr() {
            debug.field("peer", &address);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpListener");
        if let Ok(address) = self.local_addr() {
            debug.field("addr", &address);
        }
        debug.field("fd", &self.as_raw_fd()).finish()
    }
}

socket_methods!(TcpStream);
socket_timeouts!(TcpStream);
stream_transfers!(TcpStream);
descriptor_conversions!(TcpStream, std::net, IoHandle::adopt);

socket_methods!(TcpListener);
descriptor_conversions!(TcpListener, std::net, IoHandle::adopt);
