//! Unix datagrams.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::address::{from_kernel, of_path, to_kernel};
use super::socket;
use crate::io_handle::{self, IoHandle};
use crate::socket::{descriptor_conversions, socket_methods, socket_timeouts};

/// A Unix socket that keeps messages apart; [`std::os::unix::net::UnixDatagram`] for coroutines.
///
/// Unlike UDP it loses nothing: a sender waits while the receiver's queue is full (by default 11
/// datagrams of unconnected senders, `net.unix.max_dgram_qlen`). What is said of waiting at
/// [`UdpSocket`](crate::net::UdpSocket) holds here too.
///
/// ```
/// use cosocket::os::unix::net::UnixDatagram;
///
/// let (near, far) = UnixDatagram::pair()?;
/// near.send(b"one")?;
/// near.send(b"two")?;
/// let mut buffer = [0; 16];
/// assert_eq!(far.recv(&mut buffer)?, 3);
/// assert_eq!(&buffer[..3], b"one");
/// # std::io::Result::Ok(())
/// ```
pub struct UnixDatagram {
    pub(super) io: IoHandle,
}

impl UnixDatagram {
    /// Makes a socket at a path.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long or contains a NUL; else the system's:
    /// `AddrInUse` for a path that exists.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_to(&of_path(path)?)
    }

    /// Makes a socket at an address; as [`bind`](UnixDatagram::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_to(&to_kernel(address)?)
    }

    fn bind_to(address: &SockAddr) -> io::Result<UnixDatagram> {
        let socket = socket(Type::DGRAM)?;
        socket.bind(address)?;
        Ok(UnixDatagram::from_socket(socket))
    }

    /// A socket without an address: it can send, and receive once it is connected.
    pub fn unbound() -> io::Result<UnixDatagram> {
        Ok(UnixDatagram::from_socket(socket(Type::DGRAM)?))
    }

    /// Two sockets, each connected to the other.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = Socket::pair_raw(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
        Ok((UnixDatagram::from_socket(one), UnixDatagram::from_socket(other)))
    }

    fn from_socket(socket: Socket) -> UnixDatagram {
        UnixDatagram { io: IoHandle::new(socket.into(), true).of_datagrams() }
    }

    /// Sets where [`send`](UnixDatagram::send) sends to, and whom alone
    /// [`recv`](UnixDatagram::recv) hears: the socket at a path. Does not wait.
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.connect_to(&of_path(path)?)
    }

    /// As [`connect`](UnixDatagram::connect), to an address.
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        self.connect_to(&to_kernel(address)?)
    }

    fn connect_to(&self, address: &SockAddr) -> io::Result<()> {
        io_handle::begin_call()?;
        self.options().connect(address)
    }

    /// The address of this socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        from_kernel(self.options().local_addr()?)
    }

    /// The address it is connected to.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        from_kernel(self.options().peer_addr()?)
    }

    /// Waits for a datagram; how much of it is in the buffer, and where it came from. What does
    /// not fit is lost; an empty buffer takes a datagram too.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, address) = self.io.recv_from(buffer, 0)?;
        Ok((len, from_kernel(address)?))
    }

    /// As [`recv_from`](UnixDatagram::recv_from), and leaves the datagram in the socket.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, address) = self.io.recv_from(buffer, libc::MSG_PEEK)?;
        Ok((len, from_kernel(address)?))
    }

    /// As [`recv_from`](UnixDatagram::recv_from), without the address.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, 0)
    }

    /// As [`recv`](UnixDatagram::recv), and leaves the datagram in the socket.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, libc::MSG_PEEK)
    }

    /// Sends one datagram to the socket at a path, waiting for room in its queue: see the
    /// [module](super).
    pub fn send_to<P: AsRef<Path>>(&self, buffer: &[u8], path: P) -> io::Result<usize> {
        self.io.send_to_local(buffer, &of_path(path)?)
    }

    /// As [`send_to`](UnixDatagram::send_to), to an address.
    pub fn send_to_addr(&self, buffer: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.io.send_to_local(buffer, &to_kernel(address)?)
    }

    /// Sends one datagram to the socket it is connected to, waiting for room in its queue.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.io.send(buffer)
    }

    /// Shuts down one or both halves. A coroutine that waits to receive is then told that there
    /// is nothing (`Ok(0)`), one that sends gets an error. All clones are affected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.options().shutdown(how)
    }
}

socket_methods!(UnixDatagram);
socket_timeouts!(UnixDatagram);
descriptor_conversions!(UnixDatagram, std::os::unix::net, |fd| IoHandle::adopt(fd).of_datagrams());

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixDatagram");
        debug.field("fd", &self.as_raw_fd());
        if let Ok(address) = self.local_addr() {
            debug.field("local", &address);
        }
        if let Ok(address) = self.peer_addr() {
            debug.field("peer", &address);
        }
        debug.finish()
    }
}
