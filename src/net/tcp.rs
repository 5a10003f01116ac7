//! TCP: listeners and streams.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::iter::FusedIterator;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::ToSocketAddrs;
use crate::io_handle::{self, AsIoHandle, Direction, IoHandle};

/// Connections that may wait to be accepted, as in std. For more, or for other options before
/// `bind`, make the socket with `socket2` and convert it.
const BACKLOG: i32 = 128;

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

impl AsIoHandle for TcpStream {
    fn as_io_handle(&self) -> &IoHandle {
        &self.io
    }
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
        each_address(address, |address| TcpStream::connect_to(address, None))
    }

    /// Connects to one address, for at most `timeout`. A cancel unwinds and closes the socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a zero timeout, `TimedOut`, or the system's error.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            let message = "cannot set a 0 duration timeout";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        TcpStream::connect_to(address, Some(timeout))
    }

    /// The same in a coroutine and on a thread: the connection is begun without blocking and
    /// waited for like any readiness, so a timeout or a cancel just closes the socket.
    fn connect_to(address: &SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
        io_handle::begin_call()?;
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::for_address(*address), kind, Some(Protocol::TCP))?;
        let io = IoHandle::new(socket.into(), false);
        let socket = SockRef::from(&io);
        match socket.connect(&SockAddr::from(*address)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                let ready = io.wait_ready(libc::POLLOUT, timeout)?;
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                if ready & (libc::POLLERR | libc::POLLHUP) != 0 {
                    return Err(io::Error::other("the connection ended while it was made"));
                }
            }
            Err(error) => return Err(error),
        }
        // We made the socket, so no other flag can be lost here.
        socket.set_nonblocking(false)?;
        Ok(TcpStream { io })
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

    /// Another handle to the same connection, with a descriptor of its own. Timeouts and blocking
    /// mode are shared.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream { io: self.io.try_clone()? })
    }

    /// How long each read may wait; `None`, the default, is for ever. Shared by clones. It counts
    /// for calls made from now on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a zero duration.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.set_timeout(Direction::Read, timeout)
    }

    /// How long each write may wait; as [`set_read_timeout`](TcpStream::set_read_timeout).
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.set_timeout(Direction::Write, timeout)
    }

    /// The timeout of reads.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.io.timeout(Direction::Read))
    }

    /// The timeout of writes.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.io.timeout(Direction::Write))
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
    /// a duration of zero resets the connection. Any other duration, in whole seconds, makes the
    /// drop block its thread, and with it a worker, for up to that long.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.options().set_linger(linger)
    }

    /// The setting of [`set_linger`](TcpStream::set_linger).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.options().linger()
    }

    /// The time to live of packets sent (`IP_TTL`).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.options().set_ttl_v4(ttl)
    }

    /// The time to live of packets sent.
    pub fn ttl(&self) -> io::Result<u32> {
        self.options().ttl_v4()
    }

    /// Takes the socket's pending error (`SO_ERROR`).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.options().take_error()
    }

    /// With `true`, calls that would wait fail with `WouldBlock` at once. Shared by clones.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.io.set_nonblocking(nonblocking)
    }

    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.io)
    }
}

/// The two calls of `std::os::linux::net::TcpStreamExt`, a trait that std seals.
impl TcpStream {
    /// Acknowledges segments at once (`TCP_QUICKACK`); the kernel may clear it again.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.options().set_tcp_quickack(quickack)
    }

    /// Whether `TCP_QUICKACK` is set.
    pub fn quickack(&self) -> io::Result<bool> {
        self.options().tcp_quickack()
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, 0)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.recv_vectored(buffers)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.io.send(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.send_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
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

impl TcpListener {
    /// Binds to the first address that can be bound, with `SO_REUSEADDR`, and listens with a
    /// backlog of 128, as std does.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when there is no address; else the system's error for the last address.
    pub fn bind<A: ToSocketAddrs>(address: A) -> io::Result<TcpListener> {
        each_address(address, |address| {
            let kind = Type::STREAM.cloexec();
            let socket = Socket::new_raw(Domain::for_address(*address), kind, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(*address))?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener { io: IoHandle::new(socket.into(), true) })
        })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        ip_address(self.options().local_addr()?)
    }

    /// Another handle to the same listening socket.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(TcpListener { io: self.io.try_clone()? })
    }

    /// Waits for a connection. A cancel unwinds; a connection that came by then stays in the backlog.
    ///
    /// # Errors
    ///
    /// The system's, at once and each time: `EMFILE` when the process has no descriptor left (a
    /// loop should then pause, the connection stays in the backlog), `ECONNABORTED` when the peer
    /// left before it was accepted.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, address) = self.io.accept()?;
        Ok((TcpStream { io: IoHandle::new(fd, true) }, ip_address(address)?))
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
    #[deprecated(note = "has no effect once the socket is bound; set it with socket2 before")]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.options().set_only_v6(only_v6)
    }

    /// The setting of `set_only_v6`.
    #[deprecated(note = "as `set_only_v6`")]
    pub fn only_v6(&self) -> io::Result<bool> {
        self.options().only_v6()
    }

    /// Takes the socket's pending error (`SO_ERROR`).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.options().take_error()
    }

    /// With `true`, `accept` fails with `WouldBlock` when no connection waits.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.io.set_nonblocking(nonblocking)
    }

    fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.io)
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

/// The conversions that every socket type has.
macro_rules! descriptor_conversions {
    ($socket:ident) => {
        impl AsFd for $socket {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl AsRawFd for $socket {
            fn as_raw_fd(&self) -> RawFd {
                self.io.as_fd().as_raw_fd()
            }
        }

        impl From<OwnedFd> for $socket {
            /// Nothing is asked or set here; that waits for the first call that has to wait.
            fn from(fd: OwnedFd) -> $socket {
                $socket { io: IoHandle::adopt(fd) }
            }
        }

        impl From<$socket> for OwnedFd {
            /// The descriptor is in blocking mode, unless `set_nonblocking` was used.
            fn from(socket: $socket) -> OwnedFd {
                socket.io.into_fd()
            }
        }

        impl FromRawFd for $socket {
            unsafe fn from_raw_fd(fd: RawFd) -> $socket {
                // SAFETY: the caller gives the descriptor away, as the trait demands.
                $socket::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        impl IntoRawFd for $socket {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        impl From<std::net::$socket> for $socket {
            fn from(socket: std::net::$socket) -> $socket {
                $socket::from(OwnedFd::from(socket))
            }
        }

        impl From<$socket> for std::net::$socket {
            fn from(socket: $socket) -> std::net::$socket {
                std::net::$socket::from(OwnedFd::from(socket))
            }
        }
    };
}

descriptor_conversions!(TcpStream);
descriptor_conversions!(TcpListener);

/// Tries each address in turn until one works; the last error if none does.
fn each_address<A: ToSocketAddrs, T>(
    address: A,
    mut f: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match f(&address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses");
    Err(last.unwrap_or_else(none))
}

fn ip_address(address: SockAddr) -> io::Result<SocketAddr> {
    let not_ip = || io::Error::new(io::ErrorKind::InvalidInput, "not an internet address");
    address.as_socket().ok_or_else(not_ip)
}
