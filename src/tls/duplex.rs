//! Both directions of a connection at once, around one state machine.
//!
//! ```text
//!    reader                                                             writer
//!      |  its turn                                                        |  its turn
//!      v                    .----- lock, never across a wait -----.       v
//!   transport --> received ---> incoming --> engine <-------------------- data
//!      ^                    |                 |    |              |
//!      | waits here         |     plaintext <-'    '-> outgoing   |
//!      | without the lock   '---------|----------------|----------'
//!      |                              v                v
//!      '------------------------- the reader        sending --> transport
//!                                                   (who flushes has it; waits here without the
//!                                                    lock; what is left comes first next time)
//! ```
//!
//! The engine is one state machine for both directions, so both use it under one short lock: to
//! decrypt what has come, to encrypt what is to go. Nobody waits with it: the reader waits in the
//! transport with a buffer of its own, the writer with what it took out of `outgoing`.
//!
//! * **Order.** Records leave in the order of their encryption. All ciphertext goes to the end of
//!   `outgoing` under the lock that encrypted it, and only who has the writer's turn takes it out.
//! * **The reader never waits for the writer.** Answers that the engine gives while it reads (an
//!   alert, a refused renegotiation) join `outgoing` and are sent without waiting, if nobody has
//!   the writer's turn; else by whoever has it, when it is done with its own. (To a KeyUpdate
//!   the answer goes before the next data, as RFC 8446, 4.6.3 wants it.) So both ends may write
//!   more than the connection holds, as long as both read.
//! * **The writer waits for the transport**, so `outgoing` never holds more than one write and a
//!   few alerts.
//! * **Nothing is lost in the middle of a record.** A read that times out or unwinds has taken
//!   nothing from the transport. A write whose data is encrypted has accepted it: if it cannot be
//!   sent within the timeout, it is sent by the next call, and this one returns `Ok`.
//! * **At rest** a connection has no buffers: the reader waits with a small one in its own frame.
//!   Larger ones come from the thread's pool when bytes are there to fill them.

use std::io;
use std::mem;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::buffer::{Buffer, RECORD, USUAL};
use super::engine::{Engine, Pause, Plaintext};
use super::error::{Error, ErrorKind};
use super::transport::Transport;
use crate::io_handle::bounds::WasCut;
use crate::io_handle::claim::{Claim, Held};
use crate::io_handle::{begin_call, ended};

/// What one call encrypts at most: two records, so that the lock is not held for long.
const WRITE: usize = 2 * RECORD;

/// The buffer in which a reader waits. Short messages fit.
const WAITING: usize = 4 << 10;

pub(super) struct Duplex<S: Transport> {
    transport: S,
    reading: Claim,
    writing: Claim,
    state: Mutex<State>,
    /// The reader has left something to be sent.
    has_answers: AtomicBool,
}

struct State {
    engine: Engine,
    /// Received, and not yet decrypted.
    incoming: Buffer,
    /// How much of that the engine has seen, and holds on to: the beginning of a record, or of a
    /// handshake message in several.
    seen: usize,
    /// More is likely to be in the transport.
    more: bool,
    /// Decrypted, and not yet read.
    plaintext: Buffer,
    outgoing: Buffer,
    /// What a flush was left with.
    sending: Buffer,
    /// Of the whole connection.
    failed: Option<Error>,
    reads: Half,
    writes: Half,
}

/// How far one direction is.
enum Half {
    Open,
    /// Our goodbye is encrypted, and perhaps not all of it sent.
    Ending,
    /// By the end of the stream; or by ourselves.
    Ended,
    /// By an error of the transport, which stays.
    Broken(io::ErrorKind, Option<i32>),
}

impl Half {
    fn break_by(&mut self, error: &io::Error) {
        if !is_passing(error) {
            *self = Half::Broken(error.kind(), error.raw_os_error());
        }
    }

    fn check(&self) -> io::Result<()> {
        match *self {
            Half::Broken(_, Some(code)) => Err(io::Error::from_raw_os_error(code)),
            Half::Broken(kind, None) => Err(kind.into()),
            Half::Open | Half::Ending | Half::Ended => Ok(()),
        }
    }
}

/// Whether the same call may be made again.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    let was_cut = || error.get_ref().is_some_and(|inner| inner.is::<WasCut>());
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock) || was_cut()
}

/// What the engine is to send.
#[derive(Clone, Copy)]
enum Message<'a> {
    Data(&'a [u8]),
    Goodbye,
    KeyUpdate,
}

impl State {
    fn encrypt(&mut self, message: Message<'_>) -> io::Result<()> {
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
    fn take(&mut self, target: &mut [u8]) -> io::Result<Option<usize>> {
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

    fn decrypt(&mut self, target: &mut [u8]) -> usize {
        let mut plaintext = Plaintext { target, count: 0, rest: &mut self.plaintext };
        let result = self.engine.work(&mut self.incoming, &mut self.outgoing, &mut plaintext);
        let count = plaintext.count;
        self.seen = match self.keep(result) {
            Ok(Pause::Input) => self.incoming.len(),
            Ok(Pause::Room) | Err(_) => 0,
        };
        count
    }
}

impl<S: Transport> Duplex<S> {
    pub(super) fn new(transport: S, engine: Engine, received: &[u8]) -> Duplex<S> {
        let mut incoming = Buffer::new();
        incoming.extend(received);
        let state = State {
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
        };
        Duplex {
            transport,
            reading: Claim::new(),
            writing: Claim::new(),
            state: Mutex::new(state),
            has_answers: AtomicBool::new(false),
        }
    }

    pub(super) fn transport(&self) -> &S {
        &self.transport
    }

    /// Asks the engine, under the lock.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Engine) -> T) -> T {
        question(&self.lock().engine)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Should rustls panic, the connection is as it is; nothing here relies on more.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both sides' handshake. Nobody else uses the connection yet.
    pub(super) fn shake_hands(
        &self,
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        loop {
            let (is_over, failed) = {
                let state = &mut *self.lock();
                let count = state.decrypt(&mut []);
                debug_assert_eq!(count, 0);
                state.engine.collect_seen();
                (!state.engine.is_handshaking(), state.failed.clone())
            };
            if let Some(error) = failed {
                // The peer learns what was wrong, if it can be told at once.
                let _ = self.drain(Transport::try_write);
                return Err(error.to_io());
            }
            self.drain(&write)?;
            if is_over {
                return Ok(());
            }
            let state = self.fill_by(self.lock(), &read)?;
            if matches!(state.reads, Half::Ended) {
                let text = "the peer closed the connection in the middle of it";
                return Err(Error::new(ErrorKind::Closed, text).to_io());
            }
        }
    }

    /// Reads; `read` is how the transport is read, and may wait.
    pub(super) fn read(
        &self,
        target: &mut [u8],
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        begin_call()?;
        if target.is_empty() {
            return Ok(0);
        }
        let _turn = self.reading.acquire(-1, || None).map_err(ended)?;
        self.read_in_turn(target, read)
    }

    /// [`Duplex::read`] that never waits: `WouldBlock`, also while another reads.
    pub(super) fn try_read(&self, target: &mut [u8]) -> io::Result<usize> {
        let turn = self.reading.try_acquire();
        let _turn = turn.ok_or(io::ErrorKind::WouldBlock)?;
        self.read_in_turn(target, Transport::try_read)
    }

    /// What a read would find, without waiting; nothing is taken. `None` while there is nothing,
    /// else whether there is data.
    pub(super) fn look(&self) -> Option<bool> {
        // Somebody reads, and takes what there is.
        let _turn = self.reading.try_acquire()?;
        let mut state = self.lock();
        loop {
            state.decrypt(&mut []);
            if !state.plaintext.is_empty() {
                return Some(true);
            }
            let is_over = state.engine.has_peer_closed() || !matches!(state.reads, Half::Open);
            if is_over || state.failed.is_some() {
                return Some(false);
            }
            state = match self.fill_by(state, Transport::try_read) {
                Ok(state) => state,
                Err(error) if is_passing(&error) => return None,
                Err(_) => return Some(false),
            };
        }
    }

    /// The caller has the reader's turn.
    fn read_in_turn(
        &self,
        target: &mut [u8],
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut state = self.lock();
        loop {
            let taken = state.take(target);
            if !state.outgoing.is_empty() {
                drop(state);
                self.send_answers();
                state = self.lock();
            }
            match taken? {
                Some(count) => return Ok(count),
                None => state = self.fill_by(state, &read)?,
            }
        }
    }

    /// Receives, without the lock. The caller has the reader's turn.
    fn fill_by<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<MutexGuard<'a, State>> {
        if state.more {
            // Only the reader changes how much is before; that is copied, for the engine may have
            // to look at it meanwhile.
            let before = state.incoming.len();
            drop(state);
            let mut received = Buffer::with_room(before, USUAL.saturating_sub(before).max(RECORD));
            let room = received.spare().len();
            let result = read(&self.transport, received.spare());
            let mut state = self.lock();
            let count = state.received(result)?;
            received.advance(count);
            received.filled_mut()[..before].copy_from_slice(state.incoming.filled());
            mem::replace(&mut state.incoming, received).give_back();
            state.more = count == room;
            Ok(state)
        } else {
            state.incoming.rest();
            drop(state);
            let mut received = [0; WAITING];
            let result = read(&self.transport, &mut received);
            let mut state = self.lock();
            let count = state.received(result)?;
            state.incoming.extend(&received[..count]);
            state.more = count == received.len();
            Ok(state)
        }
    }

    /// Accepts data; `write` is how the transport is written, and may wait.
    pub(super) fn write(
        &self,
        data: &[u8],
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        begin_call()?;
        let _turn = self.write_turn()?;
        self.write_in_turn(data, write)
    }

    /// [`Duplex::write`] that never waits: `WouldBlock`, also while another writes. What it accepts
    /// may be sent by the next call only.
    pub(super) fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        let _turn = self.try_write_turn().ok_or(io::ErrorKind::WouldBlock)?;
        self.write_in_turn(data, Transport::try_write)
    }

    /// The caller has the writer's turn.
    fn write_in_turn(
        &self,
        data: &[u8],
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let count = data.len().min(WRITE);
        let mut state = self.lock();
        if state.has_more_to_send() {
            // What a former call was left with goes first.
            drop(state);
            self.drain(&write)?;
            state = self.lock();
        }
        state.check_write()?;
        if count > 0 {
            state.encrypt(Message::Data(&data[..count]))?;
        }
        let bytes = state.take_outgoing();
        drop(state);
        match self.send_all(bytes, &write) {
            // Accepted: the next call goes on with it.
            Err(error) if is_passing(&error) => {}
            result => result?,
        }
        Ok(count)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        begin_call()?;
        let _turn = self.write_turn()?;
        self.drain(Transport::write)
    }

    /// Changes the keys of both directions.
    pub(super) fn update_keys(&self) -> io::Result<()> {
        begin_call()?;
        let _turn = self.write_turn()?;
        self.drain(Transport::write)?;
        {
            let mut state = self.lock();
            state.check_write()?;
            state.encrypt(Message::KeyUpdate)?;
        }
        self.drain(Transport::write)
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Read => self.transport.shutdown(Shutdown::Read),
            Shutdown::Write => {
                begin_call()?;
                let _turn = self.write_turn()?;
                self.end_writing(Transport::write)
            }
            // Somebody who writes now may wait for ever: it is cut, as a plain socket's would be.
            Shutdown::Both => {
                self.say_goodbye_at_once();
                self.transport.shutdown(Shutdown::Both)
            }
        }
    }

    /// Sends the goodbye, and ends the transport's direction. Goes on where an earlier call was cut,
    /// and does nothing once all is done.
    fn end_writing(&self, write: impl Fn(&S, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        self.drain(&write)?;
        {
            let mut state = self.lock();
            match state.writes {
                Half::Ended => return Ok(()),
                Half::Ending => {}
                _ => {
                    state.check_write()?;
                    state.encrypt(Message::Goodbye)?;
                    state.writes = Half::Ending;
                }
            }
        }
        self.drain(&write)?;
        match self.transport.shutdown(Shutdown::Write) {
            // The peer has left, and is told nothing any more.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            result => result?,
        }
        self.lock().writes = Half::Ended;
        Ok(())
    }

    /// Before the transport closes. What TLS itself has sent and nobody has read, tickets above all,
    /// must not make the kernel answer the peer's next segment, or our last ones, with a reset.
    pub(super) fn finish(&self) {
        self.say_goodbye_at_once();
        let _ = self.try_read(&mut [0]);
    }

    /// If that takes no waiting, and nothing is wrong.
    pub(super) fn say_goodbye_at_once(&self) {
        if let Some(_turn) = self.try_write_turn() {
            let _ = self.end_writing(Transport::try_write);
        }
    }

    fn write_turn(&self) -> io::Result<WriteTurn<'_, S>> {
        let held = self.writing.acquire(-1, || None).map_err(ended)?;
        Ok(WriteTurn { duplex: self, held: Some(held) })
    }

    fn try_write_turn(&self) -> Option<WriteTurn<'_, S>> {
        let held = self.writing.try_acquire()?;
        Some(WriteTurn { duplex: self, held: Some(held) })
    }

    /// Sends what the engine had to say while it read, without waiting. Who has the writer's turn
    /// looks here when it gives it up, so one of the two sends it.
    #[cold]
    fn send_answers(&self) {
        self.has_answers.store(true, Ordering::Relaxed);
        // With that of `give_up`: of the two, one at least sees what the other did.
        fence(Ordering::SeqCst);
        while self.has_answers.load(Ordering::Relaxed) {
            let Some(held) = self.writing.try_acquire() else { return };
            self.has_answers.store(false, Ordering::Relaxed);
            // Full: the next write sends it, before its own.
            let _ = self.drain(Transport::try_write);
            give_up(held);
        }
    }

    /// Sends all there is. The caller has the writer's turn.
    fn drain(&self, write: impl Fn(&S, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        loop {
            let bytes = self.lock().take_outgoing();
            if bytes.is_empty() {
                return Ok(());
            }
            self.send_all(bytes, &write)?;
        }
    }

    /// Sends these; what cannot be sent goes back, to be the first next time.
    fn send_all(
        &self,
        bytes: Buffer,
        write: impl Fn(&S, &[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut left = Left { duplex: self, bytes };
        while !left.bytes.is_empty() {
            match write(&self.transport, left.bytes.filled()) {
                Ok(0) => return Err(self.broken(io::ErrorKind::WriteZero.into())),
                Ok(count) => left.bytes.consume(count),
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    fn broken(&self, error: io::Error) -> io::Error {
        self.lock().writes.break_by(&error);
        error
    }
}

impl State {
    fn has_more_to_send(&self) -> bool {
        !self.sending.is_empty() || !self.outgoing.is_empty()
    }

    /// What is to be sent next, for who has the writer's turn.
    fn take_outgoing(&mut self) -> Buffer {
        let first = if self.sending.is_empty() { &mut self.outgoing } else { &mut self.sending };
        mem::take(first)
    }

    fn check_write(&self) -> io::Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.to_io());
        }
        self.writes.check()?;
        match self.writes {
            Half::Ending | Half::Ended => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }

    fn received(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(0) => self.reads = Half::Ended,
            Ok(_) => {}
            Err(error) => self.reads.break_by(error),
        }
        result
    }
}

/// The writer's turn. However it ends, by an error or a cancel too, what a reader left meanwhile is
/// sent then.
struct WriteTurn<'a, S: Transport> {
    duplex: &'a Duplex<S>,
    held: Option<Held<'a>>,
}

impl<S: Transport> Drop for WriteTurn<'_, S> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            give_up(held);
        }
        if self.duplex.has_answers.load(Ordering::Relaxed) {
            self.duplex.send_answers();
        }
    }
}

/// Who looks for answers after this sees them, unless who left them sees that the turn is free.
fn give_up(held: Held<'_>) {
    drop(held);
    fence(Ordering::SeqCst);
}

/// What a flush has in hand; given back to the connection however the flush ends.
struct Left<'a, S: Transport> {
    duplex: &'a Duplex<S>,
    bytes: Buffer,
}

impl<S: Transport> Drop for Left<'_, S> {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        if bytes.is_empty() {
            bytes.give_back();
        } else {
            self.duplex.lock().sending = bytes;
        }
    }
}
