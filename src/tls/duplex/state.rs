//! What the lock guards: the engine, the bytes on their way, and how far each direction is.

use std::io;
use std::mem;

use super::super::buffer::Buffer;
use super::super::engine::{Engine, Pause, Plaintext};
use super::super::error::Error;
use crate::io_handle::bounds::WasCut;

pub(super) struct State {
    pub(super) engine: Engine,
    /// Received, and not yet decrypted.
    pub(super) incoming: Buffer,
    /// How much of that the engine has seen, and holds on to: the beginning of a record, or of a
    /// handshake message in several.
    pub(super) seen: usize,
    /// More is likely to be in the transport.
    pub(super) more: bool,
    /// Decrypted, and not yet read.
    pub(super) plaintext: Buffer,
    pub(super) outgoing: Buffer,
    /// What a flush was left with.
    pub(super) sending: Buffer,
    /// Of the whole connection.
    pub(super) failed: Option<Error>,
    pub(super) reads: Half,
    pub(super) writes: Half,
}

/// How far one direction is.
pub(super) enum Half {
    Open,
    /// Our goodbye is encrypted, and perhaps not all of it sent.
    Ending,
    /// By the end of the stream; or by ourselves.
    Ended,
    /// By an error of the transport, which stays.
    Broken(io::ErrorKind, Option<i32>),
}

impl Half {
    pub(super) fn break_by(&mut self, error: &io::Error) {
        if !is_passing(error) {
            *self = Half::Broken(error.kind(), error.raw_os_error());
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match *self {
            Half::Broken(_, Some(code)) => Err(io::Error::from_raw_os_error(code)),
            Half::Broken(kind, None) => Err(kind.into()),
            Half::Open | Half::Ending | Half::Ended => Ok(()),
        }
    }
}

/// Whether the same call may be made again.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    let was_cut = || error.get_ref().is_some_and(|inner| inner.is::<WasCut>());
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock) || was_cut()
}

/// What the engine is to send.
#[derive(Clone, Copy)]
pub(super) enum Message<'a> {
    Data(&'a [u8]),
    Goodbye,
    KeyUpdate,
}

impl State {
    pub(super) fn new(engine: Engine, received: &[u8]) -> State {
        let mut incoming = Buffer::new();
        incoming.extend(received);
        State {
            engine,
            incoming,
            seen: 0,
            more: false,
            plaintext: Buffer::new(),
            outgoing: Buffer::new(),
            sending: Buffer::new(),
            failed: None,
            reads: Half::Open,
            writes: Half::Open,
        }
    }

    pub(super) fn encrypt(&mut self, message: Message<'_>) -> io::Result<()> {
        // What came since then is the reader's to show.
        let seen = &mut self.incoming.filled_mut()[..self.seen];
        let (engine, outgoing) = (&mut self.engine, &mut self.outgoing);
        let result = match message {
            Message::Data(data) => engine.encrypt(data, seen, outgoing),
            Message::Goodbye => engine.say_goodbye(seen, outgoing),
            Message::KeyUpdate => engine.update_keys(seen, outgoing),
        };
        self.keep(result).map_err(|error| error.to_io())
    }

    fn keep<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.failed.get_or_insert_with(|| error.clone());
        }
        result
    }

    /// Moves plaintext to `target`; `None` when more must come from the transport.
    pub(super) fn take(&mut self, target: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.plaintext.is_empty() {
            let count = self.plaintext.read(target);
            if self.plaintext.is_empty() {
                self.plaintext.rest();
            }
            return Ok(Some(count));
        }
        if let Some(error) = &self.failed {
            return Err(error.to_io());
        }
        let count = self.decrypt(target);
        match (count, &self.failed) {
            (0, Some(error)) => return Err(error.to_io()),
            (0, None) => {}
            // Bytes first; the error is there for the next call.
            _ => return Ok(Some(count)),
        }
        if self.engine.has_peer_closed() {
            return Ok(Some(0));
        }
        self.reads.check()?;
        match self.reads {
            Half::Ended => Err(Error::truncated().to_io()),
            _ => Ok(None),
        }
    }

    pub(super) fn decrypt(&mut self, target: &mut [u8]) -> usize {
        let mut plaintext = Plaintext { target, count: 0, rest: &mut self.plaintext };
        let result = self.engine.work(&mut self.incoming, &mut self.outgoing, &mut plaintext);
        let count = plaintext.count;
        self.seen = match self.keep(result) {
            Ok(Pause::Input) => self.incoming.len(),
            Ok(Pause::Room) | Err(_) => 0,
        };
        count
    }

    pub(super) fn has_more_to_send(&self) -> bool {
        !self.sending.is_empty() || !self.outgoing.is_empty()
    }

    /// What is to be sent next, for who has the writer's turn.
    pub(super) fn take_outgoing(&mut self) -> Buffer {
        let first = if self.sending.is_empty() { &mut self.outgoing } else { &mut self.sending };
        mem::take(first)
    }

    pub(super) fn check_write(&self) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.to_io());
        }
        self.writes.check()?;
        match self.writes {
            Half::Ending | Half::Ended => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn received(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(0) => self.reads = Half::Ended,
            Ok(_) => {}
            Err(error) => self.reads.break_by(error),
        }
        result
    }
}
