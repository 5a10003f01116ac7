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

mod reading;
mod state;
mod writing;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::state::{Half, State};
use super::engine::Engine;
use super::error::{Error, ErrorKind};
use super::transport::Transport;
use crate::io_handle::claim::Claim;
use crate::worker::on_loop_stack;

pub(super) struct Duplex<S: Transport> {
    transport: S,
    reading: Claim,
    writing: Claim,
    state: Mutex<State>,
    /// The reader has left something to be sent.
    has_answers: AtomicBool,
}

impl<S: Transport> Duplex<S> {
    pub(super) fn new(transport: S, engine: Engine, received: &[u8]) -> Duplex<S> {
        Duplex {
            transport,
            reading: Claim::new(),
            writing: Claim::new(),
            state: Mutex::new(State::new(engine, received)),
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
                // Signatures and chains of certificates go deep.
                let count = on_loop_stack(|| state.decrypt(&mut []));
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
}
