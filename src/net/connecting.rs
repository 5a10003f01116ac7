//! One attempt to connect. It is begun without blocking and waited for like any readiness, in a
//! coroutine and on a thread alike, so a timeout or a cancel just closes the socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockAddr, SockRef, Socket};

use super::TcpStream;
use crate::io_handle::IoHandle;

/// A socket of ours, in non-blocking mode, that connects or is connected.
pub(crate) struct Connecting {
    io: IoHandle,
    is_connected: bool,
}

impl Connecting {
    pub(crate) fn start(socket: Socket, address: &SocketAddr) -> io::Result<Connecting> {
        let io = IoHandle::new(socket.into(), false).of_tcp();
        match SockRef::from(&io).connect(&SockAddr::from(*address)) {
            Ok(()) => Ok(Connecting { io, is_connected: true }),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                Ok(Connecting { io, is_connected: false })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn io(&self) -> &IoHandle {
        &self.io
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(crate) fn wait(self, timeout: Option<Duration>) -> io::Result<TcpStream> {
        let ready = match self.is_connected {
            true => libc::POLLOUT,
            false => self.io.wait_ready(libc::POLLOUT, timeout)?,
        };
        self.finish(ready)
    }

    /// What has come of it; `ready` is what poll says now.
    pub(crate) fn finish(self, ready: i16) -> io::Result<TcpStream> {
        let socket = SockRef::from(&self.io);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        if ready & (libc::POLLERR | libc::POLLHUP) != 0 {
            return Err(io::Error::other("the connection ended while it was made"));
        }
        // We made the socket, so no other flag can be lost here.
        socket.set_nonblocking(false)?;
        Ok(TcpStream::from_connected(self.io))
    }
}
