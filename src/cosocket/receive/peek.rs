//! A look at what comes, which leaves it there.

use super::{Receiver, Source};
use crate::cosocket::{Error, ErrorKind};

/// How far a peek may look, in bytes.
pub const PEEK_LIMIT: usize = 64 << 10;

impl Receiver {
    /// The next `len` bytes, which stay.
    pub fn peek(&mut self, source: &impl Source, len: usize) -> Result<&[u8], Error> {
        if len > PEEK_LIMIT {
            return Err(ErrorKind::BufferTooSmall.into());
        }
        self.begin()?;
        while self.buffer.len() < len {
            // The buffer is to hold what comes after them as well, so it is not made for them.
            self.more(source, 1)?;
        }
        Ok(&self.buffer.data()[..len])
    }
}
