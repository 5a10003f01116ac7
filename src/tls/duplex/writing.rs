//! The writer's half, its end, and the answers of the reader's.

use std::io;
use std::mem;
use std::net::Shutdown;
use std::sync::atomic::{Ordering, fence};

use super::super::buffer::{Buffer, RECORD};
use super::super::transport::Transport;
use super::Duplex;
use super::state::{Half, Message, is_passing};
use crate::io_handle::claim::Held;
use crate::io_handle::{begin_call, ended};

/// What one call encrypts at most: two records, so that the lock is not held for long.
const WRITE: usize = 2 * RECORD;

impl<S: Transport> Duplex<S> {
    /// Accepts data; `write` is how the transport is written, and may wait.
    pub(in super::super) fn write(
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
    pub(in super::super) fn try_write(&self, data: &[u8]) -> io::Result<usize> {
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

    pub(in super::super) fn flush(&self) -> io::Result<()> {
        begin_call()?;
        let _turn = self.write_turn()?;
        self.drain(Transport::write)
    }

    /// Changes the keys of both directions.
    pub(in super::super) fn update_keys(&self) -> io::Result<()> {
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

    pub(in super::super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
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
    pub(in super::super) fn finish(&self) {
        self.say_goodbye_at_once();
        let _ = self.try_read(&mut [0]);
    }

    /// If that takes no waiting, and nothing is wrong.
    pub(in super::super) fn say_goodbye_at_once(&self) {
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
    pub(super) fn send_answers(&self) {
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
    pub(super) fn drain(&self, write: impl Fn(&S, &[u8]) -> io::Result<usize>) -> io::Result<()> {
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
