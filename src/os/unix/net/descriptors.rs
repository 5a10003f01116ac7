//! Descriptors that travel with bytes (`SCM_RIGHTS`).

use std::io;
use std::os::fd::BorrowedFd;

use super::{Received, UnixDatagram, UnixStream};

impl UnixStream {
    /// Sends bytes, and descriptors with the first of them. The other end gets duplicates; these
    /// may be closed when this returns.
    ///
    /// Like a write it may send less bytes than given, one at least; the descriptors have then
    /// been sent, all of them, and the rest of the bytes is for a plain write.
    ///
    /// ```
    /// use cosocket::os::unix::net::UnixStream;
    /// use std::fs::File;
    /// use std::io::Read;
    /// use std::os::fd::AsFd;
    ///
    /// let (near, far) = UnixStream::pair()?;
    /// let file = File::open("/dev/zero")?;
    /// near.send_with_fds(b"zeroes", &[file.as_fd()])?;
    ///
    /// let mut buffer = [0; 16];
    /// let mut received = far.recv_with_fds(&mut buffer, 1)?;
    /// assert_eq!(&buffer[..received.len], b"zeroes");
    /// let mut byte = [1];
    /// File::from(received.fds.pop().unwrap()).read_exact(&mut byte)?;
    /// assert_eq!(byte, [0]);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As a write, and `InvalidInput` for descriptors without a byte to carry them, or more than
    /// 253; `ETOOMANYREFS` when this user has more descriptors on their way than a process may
    /// open.
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.io.send_with_descriptors(bytes, fds)
    }

    /// Receives bytes as a read does, and up to `fds_max` descriptors with them.
    ///
    /// Descriptors come with the first byte that they were sent with, and a read does not go on
    /// past the bytes of one message that carries some; bytes sent before it may come in the same
    /// read. A plain read of bytes that carry descriptors closes those.
    ///
    /// # Errors
    ///
    /// As a read, and `InvalidInput` for an empty buffer, with which none can come.
    pub fn recv_with_fds(&self, buffer: &mut [u8], fds_max: usize) -> io::Result<Received> {
        self.io.recv_with_descriptors(buffer, fds_max)
    }
}

impl UnixDatagram {
    /// Sends one datagram with descriptors to the socket it is connected to; an empty one may
    /// carry some too. For the rest as [`UnixStream::send_with_fds`].
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.io.send_with_descriptors(bytes, fds)
    }

    /// Receives one datagram, and up to `fds_max` descriptors with it.
    pub fn recv_with_fds(&self, buffer: &mut [u8], fds_max: usize) -> io::Result<Received> {
        self.io.recv_with_descriptors(buffer, fds_max)
    }
}
