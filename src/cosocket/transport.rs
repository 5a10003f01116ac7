//! What a connection's bytes travel over. One enum, so that the way to the socket is a match and
//! not a table of functions.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use socket2::SockRef;

use super::address::Address;
use crate::io_handle::bounds::Bounds;
use crate::io_handle::{AsIoHandle, IoHandle};
use crate::net::TcpStream;
use crate::os::unix::net::UnixStream;
#[cfg(feature = "tls")]
use crate::tls::TlsStream;

#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Over one of the others.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Transport>>),
}

impl Transport {
    /// Reads, waiting within `bounds`; 0 is the end.
    pub(crate) fn read(&self, buffer: &mut [u8], bounds: &Bounds<'_>) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            return stream.read_by(buffer, |below, buffer| below.read(buffer, bounds));
        }
        self.io().recv_bounded(buffer, bounds)
    }

    /// Reads without waiting: `WouldBlock`.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            return stream.try_read(buffer);
        }
        self.io().try_recv(buffer)
    }

    /// Writes, waiting within `bounds` for room; may write less.
    pub(crate) fn write(&self, buffer: &[u8], bounds: &Bounds<'_>) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            return stream.write_by(buffer, |below, buffer| below.write(buffer, bounds));
        }
        self.io().send_bounded(buffer, bounds)
    }

    /// [`write`](Transport::write) from several buffers.
    pub(crate) fn write_vectored(
        &self,
        buffers: &[IoSlice<'_>],
        bounds: &Bounds<'_>,
    ) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            let write = |below: &Transport, buffer: &[u8]| below.write(buffer, bounds);
            return stream.write_vectored_by(buffers, write);
        }
        self.io().send_vectored_bounded(buffers, bounds)
    }

    /// Writes what the kernel takes at once, or `WouldBlock`.
    pub(crate) fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            return stream.try_write(buffer);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        loop {
            match self.options().send_with_flags(buffer, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Ends one half, or both. Waiting readers see the end, waiting writers an error.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Transport::Tls(stream) = self {
            return stream.shutdown_at_once(how);
        }
        self.options().shutdown(how)
    }

    /// Ends both halves at once, below all protocol. Whoever waits is woken, the peer sees the end,
    /// and what the kernel has received may still be read.
    pub(crate) fn abort(&self) {
        // One that has ended already needs no more.
        let _ = self.options().shutdown(Shutdown::Both);
    }

    pub(super) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Transport::Tcp(stream) => stream.local_addr().map(Address::Ip),
            Transport::Unix(stream) => stream.local_addr().map(Address::Unix),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.transport().local_addr(),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Transport::Tcp(stream) => stream.peer_addr().map(Address::Ip),
            Transport::Unix(stream) => stream.peer_addr().map(Address::Unix),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.transport().peer_addr(),
        }
    }

    /// The descriptor below, whatever lies on it.
    pub(crate) fn io(&self) -> &IoHandle {
        match self {
            Transport::Tcp(stream) => stream.as_io_handle(),
            Transport::Unix(stream) => stream.as_io_handle(),
            #[cfg(feature = "tls")]
            Transport::Tls(stream) => stream.transport().io(),
        }
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(self.io())
    }
}

/// TLS over it. What waits is bounded by each call, and comes by another way: `Transport::read`
/// and its kind, with bounds.
#[cfg(feature = "tls")]
impl crate::tls::Transport for Transport {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io().recv(buffer, 0)
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        self.io().send(buffer)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::try_read(self, buffer)
    }

    fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
        Transport::try_write(self, buffer)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Transport::shutdown(self, how)
    }
}
