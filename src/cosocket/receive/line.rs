//! Lines.

use super::{Receiver, Source};
use crate::cosocket::Error;

/// How long a line may be when the caller names no limit, in bytes.
pub const LINE_LIMIT: usize = 1 << 20;

impl Receiver {
    /// The next line, without its ending, `"\n"` or `"\r\n"`. Of a longer one than `limit` the
    /// error takes the first `limit` bytes.
    pub fn line(&mut self, source: &impl Source, limit: usize) -> Result<Vec<u8>, Error> {
        let Line { len, ending } = self.find_line(source, limit)?;
        Ok(self.take(len, ending))
    }

    /// The same, put at the end of `destination`; how long it is. A call that fails adds nothing.
    pub fn line_into(
        &mut self,
        source: &impl Source,
        limit: usize,
        destination: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let Line { len, ending } = self.find_line(source, limit)?;
        destination.extend_from_slice(&self.buffer.data()[..len]);
        self.skip(len + ending);
        Ok(len)
    }

    /// Reads until a whole line waits, and says where it ends.
    fn find_line(&mut self, source: &impl Source, limit: usize) -> Result<Line, Error> {
        self.begin()?;
        // All of these have no "\n".
        let mut scanned = 0;
        loop {
            let data = self.buffer.data();
            let data = &data[..data.len().min(limit.saturating_add(2))];
            if let Some(at) = memchr::memchr(b'\n', &data[scanned..]) {
                let end = scanned + at;
                let len = end - usize::from(data[..end].ends_with(b"\r"));
                if len <= limit {
                    return Ok(Line { len, ending: end + 1 - len });
                }
            }
            if is_too_long(data, limit) {
                return Err(self.oversized(limit));
            }
            scanned = data.len();
            if let Err(error) = self.more(source, 1) {
                // It may be half of an ending.
                let unsettled = usize::from(self.buffer.data().ends_with(b"\r"));
                return Err(self.fail(error, unsettled));
            }
        }
    }
}

/// The first of what waits.
struct Line {
    len: usize,
    ending: usize,
}

/// Whether no line within the limit begins with `data`, in which none ends. A `"\r"` just past the
/// limit may be half of an ending.
fn is_too_long(data: &[u8], limit: usize) -> bool {
    data.len() > limit && data[limit..] != *b"\r"
}
