//! The receive half of a connection: its buffer, and all that is parsed out of it.

mod source;

pub(crate) use source::Source;

use super::{Cosocket, Error, ErrorKind};

/// What one read asks for at most, in bytes.
const CAPACITY: usize = 8 << 10;

/// What has been received and not yet read.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    buffer: Vec<u8>,
    start: usize,
    at_end: bool,
}

impl Receiver {
    /// Of a connection on which `unread` has been received already.
    pub(crate) fn with_unread(unread: Vec<u8>) -> Receiver {
        Receiver { buffer: unread, start: 0, at_end: false }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The end of the stream has been noticed.
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    fn any(&mut self, source: &impl Source, max: usize) -> Result<Vec<u8>, Error> {
        if self.unread().is_empty() {
            // A cancel may unwind out of the read: nothing is in the buffer before it returns.
            let mut buffer = vec![0; CAPACITY];
            let read = source.read(&mut buffer)?;
            buffer.truncate(read);
            (self.buffer, self.start) = (buffer, 0);
            self.at_end |= read == 0;
        }
        if self.unread().is_empty() {
            return Err(ErrorKind::Closed.into());
        }
        let len = max.min(self.unread().len());
        let data = self.unread()[..len].to_vec();
        self.start += len;
        Ok(data)
    }
}

impl Cosocket {
    /// Receives what is there, at most `max` bytes; waits for the first.
    ///
    /// # Errors
    ///
    /// `Closed` at the end of the stream; `Timeout`; `BusyReading`; the system's.
    pub fn receive_any(&self, max: usize) -> Result<Vec<u8>, Error> {
        if max == 0 {
            return Err(Error::with_text(ErrorKind::InvalidInput, "bad max argument"));
        }
        self.receive_with(|receiver, source| receiver.any(source, max))
    }
}
