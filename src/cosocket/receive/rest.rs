//! Whatever there is: what has arrived, or all until the end.

use std::io;

use super::{AT_REST, End, Receiver, Source};
use crate::cosocket::{Error, ErrorKind};

impl Receiver {
    /// What has arrived, at least a byte and at most `max`; waits only while that is nothing.
    pub fn any(&mut self, source: &impl Source, max: usize) -> Result<Vec<u8>, Error> {
        if max == 0 {
            return Err(bad_max());
        }
        self.begin()?;
        if self.buffer.is_empty() {
            self.more(source, 1).map_err(|error| self.fail(error, 0))?;
            if self.more_waits && self.buffer.len() == AT_REST && max > AT_REST {
                self.add_what_is_there(source, max);
            }
        }
        Ok(self.take(self.buffer.len().min(max), 0))
    }

    /// [`any`](Receiver::any), to the beginning of `destination`; how many bytes that were.
    pub fn any_into(
        &mut self,
        source: &impl Source,
        destination: &mut [u8],
    ) -> Result<usize, Error> {
        if destination.is_empty() {
            return Err(bad_max());
        }
        self.begin()?;
        if self.buffer.is_empty() {
            return self.more_into(source, destination).map_err(|error| self.fail(error, 0));
        }
        Ok(self.take_into(destination))
    }

    /// All until the end of the stream; at the end, nothing, as often as it is asked for. Of more
    /// than `limit` bytes the error takes the first `limit` bytes.
    pub fn all(&mut self, source: &impl Source, limit: usize) -> Result<Vec<u8>, Error> {
        self.begin()?;
        loop {
            if self.buffer.len() > limit {
                return Err(self.oversized(limit));
            }
            match self.more(source, 1) {
                Ok(()) => {}
                // One that was cut is perhaps not whole: the length of the data is all there is to
                // tell it by.
                Err(error) if self.is_end(&error) && !error.is_truncated() => {
                    return Ok(self.take(self.buffer.len(), 0));
                }
                Err(error) => return Err(self.fail(error, 0)),
            }
        }
    }

    /// A read at rest was filled: up to `max` bytes in all, without a wait.
    fn add_what_is_there(&mut self, source: &impl Source, max: usize) {
        let len = (max - AT_REST).min(self.longest_read);
        match source.try_read(self.buffer.space(len)) {
            Ok(0) => self.end = End::Seen,
            Ok(read) => {
                self.buffer.commit(read);
                self.more_waits = read == len;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.more_waits = false,
            // The next read tells it again, or what came of it.
            Err(_) => {}
        }
    }
}

pub(super) fn bad_max() -> Error {
    Error::with_text(ErrorKind::InvalidInput, "bad max argument")
}
