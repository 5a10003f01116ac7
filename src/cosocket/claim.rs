//! One half of a connection, claimed for one call.
//!
//! ```text
//!   claim: the half leaves the state, by value ---> the call works on it ---> finish(outcome)
//!                                                        `- unwinds ----> drop: kill
//! ```

use std::mem;
use std::sync::Arc;

use super::connection::Link;
use super::receive::Receiver;
use super::state::{Open, Slot, State};
use super::{Error, ErrorKind};
use crate::driver::op::Direction;
use crate::io_handle::bounds::Caller;

/// What the one who receives needs.
#[derive(Debug)]
pub(super) struct ReadHalf {
    pub(super) link: Arc<Link>,
    pub(super) receiver: Box<Receiver>,
}

/// What the one who sends needs.
#[derive(Debug)]
pub(super) struct WriteHalf {
    pub(super) link: Arc<Link>,
}

/// How a claim on a half ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Alive,
    /// Alive, but what was asked for may still come.
    Suspect,
    Dead,
}

impl Outcome {
    /// A receive that was ended leaves the half alive; errors of the system, and the end of the
    /// stream where more was wanted, do not, once nothing is left to be read.
    pub(super) fn of_receive<T>(result: &Result<T, Error>, receiver: &Receiver) -> Outcome {
        match result.as_ref().map_err(Error::kind) {
            _ if receiver.has_told_end() => Outcome::Dead,
            Err(ErrorKind::Timeout | ErrorKind::Cancelled) => Outcome::Suspect,
            Ok(_) | Err(_) => Outcome::Alive,
        }
    }

    /// Of a send that timed out nobody can say where it stopped, so that is the end of the half.
    /// Who was cut by another is told how much was sent.
    pub(super) fn of_send<T>(result: &Result<T, Error>) -> Outcome {
        match result.as_ref().map_err(Error::kind) {
            Err(ErrorKind::Timeout) => Outcome::Dead,
            Err(kind) if kind.ends_the_half() => Outcome::Dead,
            Ok(_) | Err(_) => Outcome::Alive,
        }
    }
}

/// What differs between the two halves.
pub(super) trait Half: Sized {
    const DIRECTION: Direction;
    const BUSY: ErrorKind;
    fn link(&self) -> &Arc<Link>;
    fn slot(open: &mut Open) -> &mut Slot<Self>;
}

impl Half for ReadHalf {
    const DIRECTION: Direction = Direction::Read;
    const BUSY: ErrorKind = ErrorKind::BusyReading;

    fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn slot(open: &mut Open) -> &mut Slot<ReadHalf> {
        &mut open.read
    }
}

impl Half for WriteHalf {
    const DIRECTION: Direction = Direction::Write;
    const BUSY: ErrorKind = ErrorKind::BusyWriting;

    fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn slot(open: &mut Open) -> &mut Slot<WriteHalf> {
        &mut open.write
    }
}

/// A half, taken out. One that is dropped and not finished was left by an unwind: that is the end
/// of the connection.
#[derive(Debug)]
pub(super) struct Claim<'a, H: Half> {
    state: &'a State,
    half: Option<H>,
}

impl<H: Half> Claim<'_, H> {
    pub(super) fn half(&mut self) -> &mut H {
        self.half.as_mut().expect("there until it is given back")
    }

    /// Gives the half back. Whether somebody was cancelled in the other half meanwhile: then what
    /// went wrong here is that the connection was closed.
    pub(super) fn finish(mut self, outcome: Outcome) -> bool {
        let half = self.half.take().expect("given back once");
        self.state.give_back(half, outcome)
    }
}

impl<H: Half> Drop for Claim<'_, H> {
    fn drop(&mut self) {
        if let Some(half) = self.half.take() {
            self.state.kill(half);
        }
    }
}

impl State {
    pub(super) fn claim<H: Half>(&self) -> Result<Claim<'_, H>, Error> {
        let caller = Caller::current()?;
        let mut phase = self.lock();
        let slot = H::slot(phase.connected()?);
        match mem::replace(slot, Slot::Busy(caller)) {
            Slot::Free(half) => Ok(Claim { state: self, half: Some(half) }),
            taken => {
                let is_dead = matches!(taken, Slot::Dead);
                *slot = taken;
                Err(if is_dead { ErrorKind::Closed } else { H::BUSY }.into())
            }
        }
    }

    fn give_back<H: Half>(&self, half: H, outcome: Outcome) -> bool {
        let mut phase = self.lock();
        let Some(open) = phase.of_link(half.link()) else {
            // Closed meanwhile. It may be the last to let go, which takes its time.
            drop(phase);
            drop(half);
            return false;
        };
        // Whoever cut this claim did it under the lock, so that is over.
        half.link().cut(H::DIRECTION).reset();
        open.details.suspect |= outcome == Outcome::Suspect;
        let killed = open.killed;
        // The other's cancel has ended this half too, but what was received may still be read.
        let is_over = outcome == Outcome::Dead || (killed && H::DIRECTION == Direction::Write);
        let left = if is_over {
            *H::slot(open) = Slot::Dead;
            Some((half, phase.take_if_dead()))
        } else {
            *H::slot(open) = Slot::Free(half);
            None
        };
        drop(phase);
        drop(left);
        killed
    }

    /// Its holder was cancelled, or panicked, in its call: the connection is over, for the peer
    /// and for the pool. What has been received may still be read.
    fn kill<H: Half>(&self, half: H) {
        let mut phase = self.lock();
        let Some(open) = phase.of_link(half.link()) else {
            drop(phase);
            drop(half);
            return;
        };
        half.link().cut(H::DIRECTION).reset();
        half.link().transport.abort();
        open.killed = true;
        let ticket = open.details.ticket.take();
        *H::slot(open) = Slot::Free(half);
        if let Slot::Free(_) = open.write {
            open.write = Slot::Dead;
        }
        let ended = phase.take_if_dead();
        drop(phase);
        drop((ended, ticket));
    }
}
