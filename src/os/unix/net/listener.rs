//! Unix listeners.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use socket2::{SockAddr, Type};

use super::address::{from_kernel, of_path, to_kernel};
use super::{UnixStream, socket};
use crate::io_handle::IoHandle;
use crate::socket::{descriptor_conversions, socket_methods};

/// As many connections as the system allows may wait to be accepted (`net.core.somaxconn`), as in
/// std.
const BACKLOG: i32 = -1;

/// A listening Unix socket; [`std::os::unix::net::UnixListener`] for coroutines.
///
/// Several coroutines, on several workers, may accept from one listener. The path that it is bound
/// to is a file that stays when the listener is dropped, and cannot be bound again before it is
/// removed. What is said of the mode of a [`TcpListener`](crate::net::TcpListener) holds here too.
///
/// ```
/// use cosocket::os::unix::net::{UnixListener, UnixStream};
///
/// let path = std::env::temp_dir().join(format!("cosocket-doc-{}.sock", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let client = UnixStream::connect(&path)?;
/// let (server, _) = listener.accept()?;
/// assert_eq!(client.peer_addr()?.as_pathname(), Some(&*path));
/// assert_eq!(server.local_addr()?.as_pathname(), Some(&*path));
/// std::fs::remove_file(&path)?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixListener {
    io: IoHandle,
}

impl UnixListener {
    /// Makes a socket at a path and listens there.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a path that is too long or contains a NUL; else the system's:
    /// `AddrInUse` for a path that exists.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_to(&of_path(path)?)
    }

    /// Listens at an address; as [`bind`](UnixListener::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::bind_to(&to_kernel(address)?)
    }

    fn bind_to(address: &SockAddr) -> io::Result<UnixListener> {
        let socket = socket(Type::STREAM)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?;
        Ok(UnixListener { io: IoHandle::new(socket.into(), true) })
    }

    /// Waits for a connection. A cancel unwinds; a connection that came by then stays in the
    /// backlog. Errors come back at once and each time, as from
    /// [`TcpListener::accept`](crate::net::TcpListener::accept).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (fd, address) = self.io.accept()?;
        Ok((UnixStream::from_accepted(fd), from_kernel(address)?))
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        from_kernel(self.options().local_addr()?)
    }

    /// Connections as they come, for ever: [`accept`](UnixListener::accept) as an iterator.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

socket_methods!(UnixListener);
descriptor_conversions!(UnixListener, std::os::unix::net, IoHandle::adopt);

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// An endless iterator over connections; see [`UnixListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl FusedIterator for Incoming<'_> {}

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UnixListener");
        debug.field("fd", &self.as_raw_fd());
        if let Ok(address) = self.local_addr() {
            debug.field("local", &address);
        }
        debug.finish()
    }
}
