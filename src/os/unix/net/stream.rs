//! Unix streams.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::address::{from_kernel, of_path, to_kernel};
use super::{UCred, socket};
use crate::io_handle::IoHandle;
use crate::io_handle::bounds::Bounds;
use crate::socket::{descriptor_conversions, socket_methods, socket_timeouts, stream_transfers};

/// A connection between two processes of one machine; [`std::os::unix::net::UnixStream`] for
/// coroutines.
///
/// `Read` and `Write` are implemented for `&UnixStream` too: one coroutine may read while another
/// writes. What is said of waiting at [`TcpStream`](crate::net::TcpStream) holds here too.
///
/// ```
/// use cosocket::os::unix::net::UnixStream;
/// use cosocket::thread;
/// use std::io::{Read, Write};
///
/// let (mut near, mut far) = UnixStream::pair()?;
/// let echo = thread::spawn(move || {
///     let mut buffer = [0; 4];
///     far.read_exact(&mut buffer)?;
///     far.write_all(&buffer)
/// });
/// near.write_all(b"ping")?;
/// let mut text = String::new();
/// near.read_to_string(&mut text)?;
/// assert_eq!(text, "ping");
/// echo.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixStream {
    pub(super) io: IoHandle,
}

impl UnixStream {
    /// Connects to the socket at a path, waiting for room in its backlog: see the
    /// [module](super). A cancel unwinds and closes the socket.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long or contains a NUL; else the system's:
    /// `NotFound`, `ConnectionRefused` where nobody listens.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_to(&of_path(path)?)
    }

    /// Connects to an address; as [`connect`](UnixStream::connect).
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&to_kernel(address)?)
    }

    fn connect_to(address: &SockAddr) -> io::Result<UnixStream> {
        let stream = UnixStream::unconnected()?;
        stream.io.connect_local(address, None)?;
        Ok(stream)
    }

    fn unconnected() -> io::Result<UnixStream> {
        Ok(UnixStream { io: IoHandle::new(socket(Type::STREAM)?.into(), false) })
    }

    /// [`connect_addr`](UnixStream::connect_addr) within bounds; `made` is called when there is a
    /// socket.
    pub(crate) fn connect_bounded(
        address: &SocketAddr,
        bounds: &Bounds<'_>,
        made: impl FnOnce(),
    ) -> io::Result<UnixStream> {
        let address = to_kernel(address)?;
        let stream = UnixStream::unconnected()?;
        made();
        stream.io.connect_local(&address, Some(bounds))?;
        Ok(stream)
    }

    /// Two ends of a connection without a name.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = Socket::pair_raw(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        let stream = |socket: Socket| UnixStream { io: IoHandle::new(socket.into(), false) };
        Ok((stream(one), stream(other)))
    }

    pub(super) fn from_accepted(fd: OwnedFd) -> UnixStream {
        UnixStream { io: IoHandle::new(fd, true) }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        from_kernel(self.options().local_addr()?)
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        from_kernel(self.options().peer_addr()?)
    }

    /// Who is at the other end.
    ///
    /// ```
    /// let (near, _far) = cosocket::os::unix::net::UnixStream::pair()?;
    /// assert_eq!(near.peer_cred()?.pid, Some(std::process::id() as i32));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peer_cred(&self) -> io::Result<UCred> {
        UCred::of_peer(self.as_fd())
    }

    /// Receives without taking the data out of the socket; waits like a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io.recv(buffer, libc::MSG_PEEK)
    }

    /// Shuts down one or both halves. A coroutine that waits in a read then gets the end of the
    /// stream (`Ok(0)`), one in a write an error. All clones are affected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.options().shutdown(how)
    }
}

socket_methods!(UnixStream);
socket_timeouts!(UnixStream);
stream_transfers!(UnixStream);
descriptor_conversions!(UnixStream, std::os::unix::net, IoHandle::adopt);

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixStream");
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
