//! A look at what comes, which leaves it there.

use super::rest::bad_max;
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

    /// What has arrived, at least a byte and at most `max`, which stays.
    pub fn peek_any(&mut self, source: &impl Source, max: usize) -> Result<&[u8], Error> {
        if max == 0 {
            return Err(bad_max());
        }
        self.begin()?;
        if self.buffer.is_empty() {
            self.more(source, 1)?;
        }
        let data = self.buffer.data();
        Ok(&data[..data.len().min(max)])
    }
}
