//! Where the receive half gets its bytes from.

use std::io;

/// A read that waits: a coroutine is suspended. Timeouts, and being ended by another, are the
/// reader's affair and come back as errors; [`Error::from`](crate::cosocket::Error) tells them
/// apart. `Ok(0)` is the end of the stream.
pub(crate) trait Source {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
}
