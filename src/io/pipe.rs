//! The kernel's pipes: one end reads what the other has written.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::io_handle::IoHandle;

/// Makes a pipe; [`std::io::pipe`] for coroutines. Both ends are close-on-exec.
///
/// # Errors
///
/// The system's: `EMFILE` when the process has no two descriptors left (`ulimit -n`), `ENFILE` when
/// the system has not, or when this user's pipes are over `fs.pipe-user-pages-hard`.
///
/// ```
/// use cosocket::{io, thread};
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = io::pipe()?;
/// let speaker = thread::spawn(move || writer.write_all(b"through the pipe"));
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?; // until the last writer is dropped
/// assert_eq!(text, "through the pipe");
/// speaker.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    Ok((
        PipeReader { io: IoHandle::new(reader, false) },
        PipeWriter { io: IoHandle::new(writer, false) },
    ))
}

/// The end of a pipe that reads; [`std::io::PipeReader`] for coroutines.
///
/// A read returns 0 when all writers are gone (clones, and other processes' copies, count).
/// `Read` is implemented for `&PipeReader` too; several readers take turns in the order in which
/// they came, and each byte goes to one of them.
///
/// # Waiting
///
/// A coroutine is suspended, a plain thread blocks. A cancel unwinds out of the call, and leaves the
/// bytes in the pipe for the next reader.
///
/// # The descriptor's mode
///
/// It stays as it is, on Linux 6.5 or later, and under io_uring. On older kernels epoll has it in
/// non-blocking mode from the first call of a coroutine on: what borrows the descriptor
/// ([`AsFd`]) sees that; conversions, and the last drop, undo it.
pub struct PipeReader {
    io: IoHandle,
}

/// The end of a pipe that writes; [`std::io::PipeWriter`] for coroutines.
///
/// `Write` is implemented for `&PipeWriter` too. A pipe takes 64 KiB by default before writes wait;
/// a write of up to 4096 bytes is never mixed with others'.
///
/// # Errors
///
/// `BrokenPipe` when there is no reader any more. As in std, the kernel raises SIGPIPE before that:
/// Rust programs ignore it from the start, but a C program that uses this as a library dies of it
/// unless it ignores the signal. (Sockets can do without the signal, pipes cannot.)
///
/// # Waiting
///
/// As for [`PipeReader`]. After a cancel nothing of the call's bytes is in the pipe; a call that has
/// written some returns how many.
pub struct PipeWriter {
    io: IoHandle,
}

impl PipeReader {
    /// Another handle to the same end, with a descriptor of its own.
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        Ok(PipeReader { io: self.io.try_clone()? })
    }
}

impl PipeWriter {
    /// Another handle to the same end, with a descriptor of its own.
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        Ok(PipeWriter { io: self.io.try_clone()? })
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").field("fd", &self.as_raw_fd()).finish()
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").field("fd", &self.as_raw_fd()).finish()
    }
}

/// `Read` or `Write` for an end of a pipe and for references to it, and the conversions that all
/// owners of a descriptor have.
macro_rules! pipe_end {
    (Read, $end:ident, $std:ty) => {
        impl Read for &$end {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.io.read(&mut [IoSliceMut::new(buffer)])
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.io.read(buffers)
            }
        }

        impl Read for $end {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        pipe_end!($end, $std);
    };
    (Write, $end:ident, $std:ty) => {
        impl Write for &$end {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.io.write(&[IoSlice::new(buffer)])
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.io.write(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Write for $end {
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

        pipe_end!($end, $std);
    };
    ($end:ident, $std:ty) => {
        impl crate::io_handle::AsIoHandle for $end {
            fn as_io_handle(&self) -> &IoHandle {
                &self.io
            }
        }

        impl std::os::fd::AsFd for $end {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $end {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.io.as_fd().as_raw_fd()
            }
        }

        impl From<OwnedFd> for $end {
            /// Nothing is asked or set here; that waits for the first call that has to wait.
            fn from(fd: OwnedFd) -> $end {
                $end { io: IoHandle::adopt(fd) }
            }
        }

        impl From<$end> for OwnedFd {
            /// The descriptor is in blocking mode, unless it came here in the other one.
            fn from(end: $end) -> OwnedFd {
                end.io.into_fd()
            }
        }

        impl std::os::fd::FromRawFd for $end {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $end {
                // SAFETY: the caller gives the descriptor away, as the trait demands.
                $end::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        impl std::os::fd::IntoRawFd for $end {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        impl From<$std> for $end {
            fn from(end: $std) -> $end {
                $end::from(OwnedFd::from(end))
            }
        }

        impl From<$end> for $std {
            fn from(end: $end) -> $std {
                <$std>::from(OwnedFd::from(end))
            }
        }

        impl From<$end> for std::process::Stdio {
            fn from(end: $end) -> std::process::Stdio {
                std::process::Stdio::from(OwnedFd::from(end))
            }
        }
    };
}
pub(crate) use pipe_end;

pipe_end!(Read, PipeReader, std::io::PipeReader);
pipe_end!(Write, PipeWriter, std::io::PipeWriter);
