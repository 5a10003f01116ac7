//! What is known of a connection at rest without a look, which is a system call.
//!
//! ```text
//!   a read took all there was --- less than 1 µs ---> parked: not looked at
//!   parked ---- in the same turn of the loop ----> taken by another: not looked at
//!   parked ------------ a later turn ------------> taken: epoll has heard of nothing, or else
//!                                                  it is looked at
//! ```
//!
//! What a turn of the loop, or the read, was told is what OpenResty goes by, too. The microsecond is
//! shorter than any peer takes to do something, one in this very process included. Between parking
//! and taking a turn may last longer, but nobody who was woken at its beginning knows of anything
//! that was done since, except by whoever ran in between: who parks a connection and takes one
//! himself might, so for him it is looked at.

use std::sync::atomic::{AtomicU64, Ordering};

use super::connection::{Connection, Link};
use super::transport::Transport;
use crate::clock::{self, Nanos};
use crate::current;
use crate::driver::Driver;
use crate::io_handle::IoHandle;
use crate::worker::Worker;

/// For so long what a read has found goes for a look.
const FRESH: Nanos = 1_000;

/// When a read last took all that there was; 0 if the last one did not, or nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Drained(AtomicU64);

/// A connection was quiet: when, as turns are counted, and whose word that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    turn: Nanos,
    witness: Witness,
}

/// A coroutine, while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Witness {
    block: usize,
    generation: u32,
}

impl Witness {
    fn current(worker: &Worker) -> Witness {
        let block = worker.current();
        Witness { block: (&raw const *block).addr(), generation: block.signals.generation() }
    }
}

impl Sighting {
    /// Now, by the caller: `None` on a plain thread, which has no turns.
    pub(super) fn now() -> Option<Sighting> {
        let worker = current::worker()?;
        Some(Sighting { turn: worker.recent_time(), witness: Witness::current(worker) })
    }
}

impl Link {
    /// Makes a read and notes what it tells. `read` is given the transport, and says how much it
    /// has read of `wanted`.
    pub(super) fn read_noting<E>(
        &self,
        wanted: usize,
        read: impl FnOnce(&Transport) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let io = plain_tcp(&self.transport);
        let worker = current::worker();
        let tells = io.zip(worker).filter(|(io, worker)| io.next_read_tells_of_an_end(worker));
        let len = read(&self.transport)?;
        let drained = len < wanted && tells.is_some_and(|(io, worker)| io.is_known_drained(worker));
        self.drained.0.store(if drained { clock::now() } else { 0 }, Ordering::Relaxed);
        Ok(len)
    }

    /// Whether a read has just found that there is nothing more, and not the end either.
    pub(super) fn is_just_drained(&self) -> bool {
        let drained_at = self.drained.0.load(Ordering::Relaxed);
        drained_at != 0 && clock::now().saturating_sub(drained_at) < FRESH
    }
}

impl Connection {
    /// Whether this connection, parked, need not be looked at by who takes it.
    pub(super) fn is_known_quiet(&self) -> bool {
        let (Some(seen), Some(worker)) = (self.details.seen, current::worker()) else {
            return false;
        };
        if seen.witness == Witness::current(worker) {
            return false;
        }
        let Some(io) = plain_tcp(&self.link.transport) else { return false };
        match &worker.driver {
            Driver::Uring(_) => seen.turn == worker.recent_time(),
            Driver::Epoll(..) => io.is_known_drained(worker),
        }
    }
}

/// Of TLS and of Unix sockets it is not known what lies below.
fn plain_tcp(transport: &Transport) -> Option<&IoHandle> {
    match transport {
        Transport::Tcp(_) => Some(transport.io()),
        _ => None,
    }
}
