//! What TLS runs over.

use std::io;
use std::net::Shutdown;

use crate::io_handle::AsIoHandle;
use crate::net::TcpStream;
use crate::os::unix::net::UnixStream;

/// A stream of bytes that one coroutine may read while another writes.
///
/// Implemented for [`TcpStream`] and [`UnixStream`]; implement it for a stream of your own to run a
/// [`TlsStream`](super::TlsStream) over it. Calls take `&self`: at any time one coroutine reads and
/// one writes, each perhaps on its own thread.
///
/// A `read` or `write` that fails with `TimedOut` or `WouldBlock`, or unwinds, must not have moved
/// any bytes; the connection then goes on where it was. Any other error ends its direction.
pub trait Transport: Send + Sync {
    /// Reads at least one byte, waiting for it; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// The transport's.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes at least one byte of a `buffer` that is not empty, waiting until it can.
    ///
    /// # Errors
    ///
    /// The transport's.
    fn write(&self, buffer: &[u8]) -> io::Result<usize>;

    /// As [`read`](Transport::read), and never waits: `WouldBlock` in place of that.
    ///
    /// # Errors
    ///
    /// The transport's.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`write`](Transport::write), and never waits: `WouldBlock` in place of that.
    ///
    /// # Errors
    ///
    /// The transport's.
    fn try_write(&self, buffer: &[u8]) -> io::Result<usize>;

    /// Ends one direction, or both. Who waits in that direction then returns.
    ///
    /// # Errors
    ///
    /// The transport's.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

macro_rules! transport {
    ($stream:ident) => {
        impl Transport for $stream {
            fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.as_io_handle().recv(buffer, 0)
            }

            fn write(&self, buffer: &[u8]) -> io::Result<usize> {
                self.as_io_handle().send(buffer)
            }

            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.as_io_handle().try_recv(buffer)
            }

            fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
                self.as_io_handle().try_send(buffer)
            }

            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                $stream::shutdown(self, how)
            }
        }
    };
}

transport!(TcpStream);
transport!(UnixStream);
