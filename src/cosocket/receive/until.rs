//! Records that end with a pattern.

use super::pattern::Progress;
use super::{Pattern, Receiver, Source};
use crate::cosocket::Error;

/// A piece of a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    /// The pattern was met: the record is over.
    pub is_last: bool,
}

impl Receiver {
    /// What comes before the pattern, and the pattern too if it is `inclusive`. Of more than
    /// `limit` bytes before it the error takes the first `limit` bytes.
    pub fn until(
        &mut self,
        source: &impl Source,
        pattern: &Pattern,
        inclusive: bool,
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        self.begin()?;
        let mut progress = Progress::default();
        loop {
            let found = pattern.find(self.buffer.data(), &mut progress);
            if found.unwrap_or(progress.scanned - progress.matched) > limit {
                return Err(self.oversized(limit));
            }
            if let Some(at) = found {
                return Ok(self.take_record(at, pattern, inclusive));
            }
            self.more(source, 1).map_err(|error| self.fail(error, progress.matched))?;
        }
    }

    /// The same in pieces of `size` bytes, not zero, or little more.
    pub fn until_chunk(
        &mut self,
        source: &impl Source,
        pattern: &Pattern,
        inclusive: bool,
        size: usize,
    ) -> Result<Chunk, Error> {
        self.begin()?;
        let mut progress = Progress::default();
        loop {
            match pattern.cut(self.buffer.data(), size, &mut progress) {
                Some(cut) if cut.at_pattern => {
                    let bytes = self.take_record(cut.len, pattern, inclusive);
                    return Ok(Chunk { bytes, is_last: true });
                }
                Some(cut) => return Ok(Chunk { bytes: self.take(cut.len, 0), is_last: false }),
                None => {}
            }
            self.more(source, 1).map_err(|error| self.fail(error, progress.matched))?;
        }
    }

    fn take_record(&mut self, len: usize, pattern: &Pattern, inclusive: bool) -> Vec<u8> {
        let pattern = pattern.bytes().len();
        if inclusive { self.take(len + pattern, 0) } else { self.take(len, pattern) }
    }
}
