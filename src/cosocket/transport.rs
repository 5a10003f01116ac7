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

#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Transport {
    /// Reads, waiting within `bounds`; 0 is the end.
    pub(crate) fn read(&self, buffer: &mut [u8], bounds: &Bounds<'_>) -> io::Result<usize> {
        self.io().recv_bounded(buffer, bounds)
    }

    /// Reads without waiting: `WouldBlock`.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io().try_recv(buffer)
    }

    /// Writes, waiting within `bounds` for room; may write less.
    pub(crate) fn write(&self, buffer: &[u8], bounds: &Bounds<'_>) -> io::Result<usize> {
        self.io().send_bounded(buffer, bounds)
    }

    /// [`write`](Transport::write) from several buffers.
    pub(crate) fn write_vectored(
        &self,
        buffers: &[IoSlice<'_>],
        bounds: &Bounds<'_>,
    ) -> io::Result<usize> {
        self.io().send_vectored_bounded(buffers, bounds)
    }

    /// Writes what the kernel takes at once, or `WouldBlock`.
    pub(crate) fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
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
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<Address> {
        match self {
            Transport::Tcp(stream) => stream.peer_addr().map(Address::Ip),
            Transport::Unix(stream) => stream.peer_addr().map(Address::Unix),
        }
    }

    /// The descriptor below, whatever lies on it.
    pub(crate) fn io(&self) -> &IoHandle {
        match self {
            Transport::Tcp(stream) => stream.as_io_handle(),
            Transport::Unix(stream) => stream.as_io_handle(),
        }
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(self.io())
    }
}
