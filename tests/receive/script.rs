//! A source of bytes that come as a test says: in which pieces, and with what between them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use cosocket::internals::receive::Source;

/// What one read meets.
#[derive(Clone, Debug)]
pub enum Event {
    /// These bytes are there; a short read leaves the rest.
    Bytes(Vec<u8>),
    TimesOut,
    /// The connection is reset, and stays so.
    Fails,
}

/// The stream ends after the last event.
#[derive(Default)]
pub struct Script {
    events: RefCell<VecDeque<Event>>,
    pub reads: Cell<usize>,
}

impl Script {
    pub fn new(events: impl IntoIterator<Item = Event>) -> Script {
        Script { events: RefCell::new(events.into_iter().collect()), reads: Cell::new(0) }
    }

    /// Each piece comes by itself.
    pub fn pieces<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>) -> Script {
        let bytes = |piece: T| Event::Bytes(piece.as_ref().to_vec());
        Script::new(pieces.into_iter().map(bytes))
    }

    pub fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
    }

    /// That of its bytes which nobody has read.
    pub fn rest(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        for event in self.events.borrow().iter() {
            if let Event::Bytes(bytes) = event {
                rest.extend_from_slice(bytes);
            }
        }
        rest
    }
}

impl Source for Script {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "a read of nothing would look like the end");
        self.reads.set(self.reads.get() + 1);
        let mut events = self.events.borrow_mut();
        match events.front_mut() {
            None => Ok(0),
            Some(Event::Bytes(bytes)) => {
                let len = bytes.len().min(buffer.len());
                assert!(len > 0, "the script has an empty piece");
                buffer[..len].copy_from_slice(&bytes[..len]);
                bytes.drain(..len);
                if bytes.is_empty() {
                    events.pop_front();
                }
                Ok(len)
            }
            Some(Event::TimesOut) => {
                events.pop_front();
                Err(io::ErrorKind::TimedOut.into())
            }
            Some(Event::Fails) => Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
        }
    }
}
