//! What all socket types have in common, written once: a socket type is a struct with the one
//! field `io`, an [`IoHandle`](crate::io_handle::IoHandle), and takes from here what it has.
//!
//! |                           | streams | listeners | datagrams |
//! |---------------------------|---------|-----------|-----------|
//! | `socket_methods!`         | yes     | yes       | yes       |
//! | `descriptor_conversions!` | yes     | yes       | yes       |
//! | `socket_timeouts!`        | yes     |           | yes       |
//! | `stream_transfers!`       | yes     |           |           |
//!
//! Each names what it uses by its full path, so that it works in any module.

/// The methods that every socket has.
macro_rules! socket_methods {
    ($socket:ident) => {
        impl $socket {
            /// Another handle to the same socket, with a descriptor of its own. Timeouts and
            /// blocking mode are shared.
            pub fn try_clone(&self) -> ::std::io::Result<$socket> {
                Ok($socket { io: self.io.try_clone()? })
            }

            /// Takes the socket's pending error (`SO_ERROR`).
            pub fn take_error(&self) -> ::std::io::Result<Option<::std::io::Error>> {
                self.options().take_error()
            }

            /// With `true`, calls that would wait fail with `WouldBlock` at once and do not
            /// suspend (but see [what suspends](crate::guide::_02_what_suspends)). Shared by clones.
            pub fn set_nonblocking(&self, nonblocking: bool) -> ::std::io::Result<()> {
                self.io.set_nonblocking(nonblocking)
            }

            fn options(&self) -> ::socket2::SockRef<'_> {
                ::socket2::SockRef::from(&self.io)
            }
        }

        impl $crate::io_handle::AsIoHandle for $socket {
            fn as_io_handle(&self) -> &$crate::io_handle::IoHandle {
                &self.io
            }
        }
    };
}

/// How long calls of each direction may wait.
macro_rules! socket_timeouts {
    ($socket:ident) => {
        impl $socket {
            /// How long each call that reads may wait; `None`, the default, is for ever. Shared by
            /// clones. It counts for calls made from now on.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for a zero duration.
            pub fn set_read_timeout(
                &self,
                timeout: Option<::std::time::Duration>,
            ) -> ::std::io::Result<()> {
                self.io.set_timeout($crate::io_handle::Direction::Read, timeout)
            }

            /// How long each call that writes may wait; as
            /// [`set_read_timeout`](Self::set_read_timeout).
            pub fn set_write_timeout(
                &self,
                timeout: Option<::std::time::Duration>,
            ) -> ::std::io::Result<()> {
                self.io.set_timeout($crate::io_handle::Direction::Write, timeout)
            }

            /// The timeout of reads.
            pub fn read_timeout(&self) -> ::std::io::Result<Option<::std::time::Duration>> {
                Ok(self.io.timeout($crate::io_handle::Direction::Read))
            }

            /// The timeout of writes.
            pub fn write_timeout(&self) -> ::std::io::Result<Option<::std::time::Duration>> {
                Ok(self.io.timeout($crate::io_handle::Direction::Write))
            }
        }
    };
}

/// `Read` and `Write`, for the stream and for a reference to it.
macro_rules! stream_transfers {
    ($stream:ident) => {
        $crate::socket::stream_transfers!(@for &$stream);
        $crate::socket::stream_transfers!(@for $stream);
    };
    (@for $stream:ty) => {
        impl ::std::io::Read for $stream {
            fn read(&mut self, buffer: &mut [u8]) -> ::std::io::Result<usize> {
                self.io.recv(buffer, 0)
            }

            fn read_vectored(
                &mut self,
                buffers: &mut [::std::io::IoSliceMut<'_>],
            ) -> ::std::io::Result<usize> {
                self.io.recv_vectored(buffers)
            }
        }

        impl ::std::io::Write for $stream {
            fn write(&mut self, buffer: &[u8]) -> ::std::io::Result<usize> {
                self.io.send(buffer)
            }

            fn write_all(&mut self, buffer: &[u8]) -> ::std::io::Result<()> {
                self.io.send_all(buffer)
            }

            fn write_vectored(
                &mut self,
                buffers: &[::std::io::IoSlice<'_>],
            ) -> ::std::io::Result<usize> {
                self.io.send_vectored(buffers)
            }

            fn flush(&mut self) -> ::std::io::Result<()> {
                Ok(())
            }
        }
    };
}

/// To and from descriptors, and std's type of the same name in the module `$std`. What is adopted
/// comes as `$adopt` makes it.
macro_rules! descriptor_conversions {
    ($socket:ident, $($std:ident)::+, $adopt:expr) => {
        impl ::std::os::fd::AsFd for $socket {
            fn as_fd(&self) -> ::std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl ::std::os::fd::AsRawFd for $socket {
            fn as_raw_fd(&self) -> ::std::os::fd::RawFd {
                ::std::os::fd::AsFd::as_fd(&self.io).as_raw_fd()
            }
        }

        impl From<::std::os::fd::OwnedFd> for $socket {
            /// Nothing is asked or set here; that waits for the first call that has to wait.
            fn from(fd: ::std::os::fd::OwnedFd) -> $socket {
                let adopt: fn(::std::os::fd::OwnedFd) -> $crate::io_handle::IoHandle = $adopt;
                $socket { io: adopt(fd) }
            }
        }

        impl From<$socket> for ::std::os::fd::OwnedFd {
            /// The descriptor is in blocking mode, unless `set_nonblocking` was used.
            fn from(socket: $socket) -> ::std::os::fd::OwnedFd {
                socket.io.into_fd()
            }
        }

        impl ::std::os::fd::FromRawFd for $socket {
            unsafe fn from_raw_fd(fd: ::std::os::fd::RawFd) -> $socket {
                // SAFETY: the caller gives the descriptor away, as the trait demands.
                $socket::from(unsafe { ::std::os::fd::OwnedFd::from_raw_fd(fd) })
            }
        }

        impl ::std::os::fd::IntoRawFd for $socket {
            fn into_raw_fd(self) -> ::std::os::fd::RawFd {
                ::std::os::fd::OwnedFd::from(self).into_raw_fd()
            }
        }

        impl From<$($std)::+::$socket> for $socket {
            fn from(socket: $($std)::+::$socket) -> $socket {
                $socket::from(::std::os::fd::OwnedFd::from(socket))
            }
        }

        impl From<$socket> for $($std)::+::$socket {
            fn from(socket: $socket) -> $($std)::+::$socket {
                <$($std)::+::$socket>::from(::std::os::fd::OwnedFd::from(socket))
            }
        }
    };
}

pub(crate) use {descriptor_conversions, socket_methods, socket_timeouts, stream_transfers};
