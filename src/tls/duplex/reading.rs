//! The reader's half.

use std::io;
use std::mem;
use std::sync::MutexGuard;

use super::super::buffer::{Buffer, RECORD, USUAL};
use super::super::transport::Transport;
use super::Duplex;
use super::state::{Half, State, is_passing};
use crate::io_handle::{begin_call, ended};

/// The buffer in which a reader waits. A message of 4 KiB fits, with what TLS adds to it.
const WAITING: usize = (4 << 10) + 64;

impl<S: Transport> Duplex<S> {
    /// Reads; `read` is how the transport is read, and may wait.
    pub(in super::super) fn read(
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
    pub(in super::super) fn try_read(&self, target: &mut [u8]) -> io::Result<usize> {
        let turn = self.reading.try_acquire();
        let _turn = turn.ok_or(io::ErrorKind::WouldBlock)?;
        self.read_in_turn(target, Transport::try_read)
    }

    /// What a read would find, without waiting; nothing is taken. `None` while there is nothing,
    /// else whether there is data.
    pub(in super::super) fn look(&self) -> Option<bool> {
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
    pub(super) fn fill_by<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        read: impl Fn(&S, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<MutexGuard<'a, State>> {
        if mem::take(&mut state.more) {
            // Only the reader changes how much is before; that is copied, for the engine may have
            // to look at it meanwhile.
            let before = state.incoming.len();
            drop(state);
            let mut received = Buffer::with_room(before, USUAL.saturating_sub(before).max(RECORD));
            let room = received.spare().len();
            // Nobody rests with this large a buffer: the last bytes may have filled the other one by
            // chance.
            let result = self.transport.try_read(received.spare());
            state = self.lock();
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => received.give_back(),
                result => {
                    let count = state.received(result)?;
                    received.advance(count);
                    received.filled_mut()[..before].copy_from_slice(state.incoming.filled());
                    mem::replace(&mut state.incoming, received).give_back();
                    state.more = count == room;
                    return Ok(state);
                }
            }
        }
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
