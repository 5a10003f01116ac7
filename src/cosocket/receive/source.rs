//! Where a receiver's bytes come from.

use std::io;

/// A stream that is read as if it blocked: the call suspends. How long it may is the business of
/// who made the source, and a wait that was too long is an error of the kind `TimedOut`.
pub trait Source {
    /// Reads what is there, at least a byte; 0 at the end of the stream.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// The same without a wait: `WouldBlock` when nothing is there, or when that is not known.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = buffer;
        Err(io::ErrorKind::WouldBlock.into())
    }
}
