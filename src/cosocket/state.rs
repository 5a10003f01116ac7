//! Who may do what with a socket, and when.
//!
//! ```text
//!                  connect                    opened
//!   VACANT -----------------> CONNECTING ---------------> OPEN      read half   write half
//!    ^  ^                      |  (no socket yet, then                FREE        FREE
//!    |  `--- failed, close ----'   a socket)                          BUSY        BUSY
//!    |                                                                DEAD        DEAD
//!    `------------------- close; or both halves are dead ----------------'
//!
//!   a half:   FREE --claim--> BUSY --finish, alive--> FREE
//!                              |  `--finish, over---> DEAD
//!                              `--- cancelled in its call: the connection is over (`kill`)
//! ```
//!
//! A claim takes the half out of the state, by value, and gives it back. So the lock is held for
//! a few instructions, never across a wait; reader and writer meet nowhere else; and a holder
//! whose connection was closed meanwhile still owns what it works on: the descriptor closes when
//! the last of them lets go, and its number goes to nobody else before.
//!
//! Whoever finds the socket in use is refused, in OpenResty's order: closed, connecting, reading,
//! writing. While a connect has no socket yet (it looks a name up, or waits for its turn in a
//! pool) others find the socket closed.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::{Connection, Details, Link, Ticket};
use super::receive::Receiver;
use super::{Error, ErrorKind};
use crate::driver::op::Direction;
use crate::io_handle::bounds::{Caller, Cut};

#[derive(Debug, Default)]
pub(super) struct State(Mutex<Phase>);

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Vacant,
    Connecting(Attempt),
    Open(Open),
}

/// A connect, or a handshake, that is on its way.
#[derive(Debug)]
struct Attempt {
    cut: Arc<Cut>,
    caller: Caller,
    /// There is a descriptor.
    has_socket: bool,
}

#[derive(Debug)]
pub(super) struct Open {
    link: Arc<Link>,
    read: Slot<ReadHalf>,
    write: Slot<WriteHalf>,
    details: Details,
    /// A coroutine was cancelled in one of the halves.
    killed: bool,
}

#[derive(Debug)]
pub(super) enum Slot<H> {
    Free(H),
    Busy(Caller),
    Dead,
}

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

impl State {
    pub(super) fn open(connection: Connection) -> State {
        State(Mutex::new(Phase::Open(Open::from(connection))))
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        // Poison means nothing: nothing in here panics half-way, and std counts the panics of
        // others on this thread.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claim_read(&self) -> Result<Claim<'_, ReadHalf>, Error> {
        self.claim(|open| &mut open.read, ErrorKind::BusyReading)
    }

    pub(super) fn claim_write(&self) -> Result<Claim<'_, WriteHalf>, Error> {
        self.claim(|open| &mut open.write, ErrorKind::BusyWriting)
    }

    fn claim<H: Half>(
        &self,
        slot: impl FnOnce(&mut Open) -> &mut Slot<H>,
        busy: ErrorKind,
    ) -> Result<Claim<'_, H>, Error> {
        let caller = Caller::current()?;
        let mut phase = self.lock();
        let slot = slot(phase.connected()?);
        match mem::replace(slot, Slot::Busy(caller)) {
            Slot::Free(half) => Ok(Claim { state: self, half: Some(half) }),
            taken => {
                let kind = if matches!(taken, Slot::Dead) { ErrorKind::Closed } else { busy };
                *slot = taken;
                Err(kind.into())
            }
        }
    }

    /// Begins a connect. What was connected before is closed, unless somebody uses it.
    pub(super) fn claim_connect(&self) -> Result<Connecting<'_>, Error> {
        let attempt = |has_socket| -> Result<Attempt, Error> {
            let (cut, caller) = (Arc::new(Cut::default()), Caller::current()?);
            Ok(Attempt { cut, caller, has_socket })
        };
        let attempt = attempt(false)?;
        let mut phase = self.lock();
        match &*phase {
            Phase::Vacant => {}
            Phase::Connecting(_) => return Err(ErrorKind::BusyConnecting.into()),
            Phase::Open(open) => open.check_idle()?,
        }
        let cut = Arc::clone(&attempt.cut);
        let before = mem::replace(&mut *phase, Phase::Connecting(attempt));
        drop(phase);
        drop(before);
        Ok(Connecting { state: self, cut })
    }

    /// Takes the connection out for a handshake, or whatever else needs both halves: until it is
    /// given back, the socket is connecting.
    pub(super) fn claim_whole(&self) -> Result<(Connecting<'_>, Connection), Error> {
        let caller = Caller::current()?;
        let mut phase = self.lock();
        phase.connected()?.check_whole()?;
        let cut = Arc::new(Cut::default());
        let attempt = Attempt { cut: Arc::clone(&cut), caller, has_socket: true };
        let before = mem::replace(&mut *phase, Phase::Connecting(attempt));
        drop(phase);
        Ok((Connecting { state: self, cut }, before.into_connection()))
    }

    /// Takes the connection out, for good. In this order: closed, connecting, reading, writing;
    /// then `check`, which may look at the connection and leave it where it is.
    pub(super) fn take_whole(
        &self,
        check: impl FnOnce(&Receiver, &Details) -> Result<(), Error>,
    ) -> Result<Connection, Error> {
        let mut phase = self.lock();
        let open = phase.connected()?;
        open.check_whole()?;
        if let Slot::Free(half) = &open.read {
            check(&half.receiver, &open.details)?;
        }
        let before = mem::take(&mut *phase);
        drop(phase);
        Ok(before.into_connection())
    }

    /// Closes, unless somebody uses the socket.
    pub(super) fn try_close(&self) -> Result<Closed, Error> {
        let mut phase = self.lock();
        phase.connected()?.check_idle()?;
        Ok(Closed { _phase: mem::take(&mut *phase) })
    }

    /// Closes, and ends the waits of those who use the socket.
    pub(super) fn close(&self) -> Result<Closed, Error> {
        let mut phase = self.lock();
        match &*phase {
            Phase::Vacant => return Err(ErrorKind::Closed.into()),
            Phase::Connecting(attempt) => attempt.cut.set(&attempt.caller),
            Phase::Open(open) => {
                open.cut(Direction::Read);
                open.cut(Direction::Write);
            }
        }
        Ok(Closed { _phase: mem::take(&mut *phase) })
    }

    /// Ends the wait of whoever uses this half, if there is one.
    pub(super) fn cancel(&self, direction: Direction) -> bool {
        match &*self.lock() {
            Phase::Vacant | Phase::Connecting(_) => false,
            Phase::Open(open) => open.cut(direction),
        }
    }

    /// Ends the write half: `end` is called if nobody writes.
    pub(super) fn end_write(
        &self,
        end: impl FnOnce(&Link) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut phase = self.lock();
        let open = phase.connected()?;
        match &open.write {
            Slot::Dead => return Err(Error::with_text(ErrorKind::Closed, "already shutdown")),
            Slot::Busy(_) => return Err(ErrorKind::BusyWriting.into()),
            Slot::Free(_) => end(&open.link)?,
        }
        open.write = Slot::Dead;
        let ended = phase.take_if_dead();
        drop(phase);
        drop(ended);
        Ok(())
    }

    /// Looks at an open connection, whoever uses it.
    pub(super) fn look<T>(&self, f: impl FnOnce(&Link, &mut Details) -> T) -> Result<T, Error> {
        match &mut *self.lock() {
            Phase::Open(open) => Ok(f(&open.link, &mut open.details)),
            Phase::Vacant | Phase::Connecting(_) => Err(ErrorKind::Closed.into()),
        }
    }

    /// The number of a connect that is under way is 0.
    pub(super) fn reuse_count(&self) -> Result<u64, Error> {
        match &*self.lock() {
            Phase::Open(open) => Ok(open.details.reuse_count),
            Phase::Connecting(Attempt { has_socket: true, .. }) => Ok(0),
            Phase::Vacant | Phase::Connecting(_) => Err(ErrorKind::Closed.into()),
        }
    }
}

impl Phase {
    /// What is neither closed nor being connected.
    fn connected(&mut self) -> Result<&mut Open, Error> {
        match self {
            Phase::Open(open) => Ok(open),
            Phase::Connecting(Attempt { has_socket: true, .. }) => {
                Err(ErrorKind::BusyConnecting.into())
            }
            Phase::Vacant | Phase::Connecting(_) => Err(ErrorKind::Closed.into()),
        }
    }

    fn of_link(&mut self, link: &Arc<Link>) -> Option<&mut Open> {
        match self {
            Phase::Open(open) if Arc::ptr_eq(&open.link, link) => Some(open),
            _ => None,
        }
    }

    /// A connection whose halves are both dead is closed. The caller drops it without the lock.
    fn take_if_dead(&mut self) -> Phase {
        match self {
            Phase::Open(Open { read: Slot::Dead, write: Slot::Dead, .. }) => mem::take(self),
            _ => Phase::Vacant,
        }
    }

    fn into_connection(self) -> Connection {
        let Phase::Open(Open { link, read: Slot::Free(half), write, details, .. }) = self else {
            unreachable!("it was whole");
        };
        drop(write);
        Connection { link, receiver: half.receiver, details }
    }
}

impl Open {
    fn check_idle(&self) -> Result<(), Error> {
        match (&self.read, &self.write) {
            (Slot::Busy(_), _) => Err(ErrorKind::BusyReading.into()),
            (_, Slot::Busy(_)) => Err(ErrorKind::BusyWriting.into()),
            _ => Ok(()),
        }
    }

    /// Both halves are alive, and at rest.
    fn check_whole(&self) -> Result<(), Error> {
        match (&self.read, &self.write) {
            (Slot::Dead, _) | (_, Slot::Dead) => Err(ErrorKind::Closed.into()),
            _ => self.check_idle(),
        }
    }

    fn cut(&self, direction: Direction) -> bool {
        let caller = match (direction, &self.read, &self.write) {
            (Direction::Read, Slot::Busy(caller), _) => caller,
            (Direction::Write, _, Slot::Busy(caller)) => caller,
            _ => return false,
        };
        self.link.cut(direction).set(caller);
        true
    }
}

impl From<Connection> for Open {
    fn from(connection: Connection) -> Open {
        let Connection { link, receiver, details } = connection;
        Open {
            read: Slot::Free(ReadHalf { link: Arc::clone(&link), receiver }),
            write: Slot::Free(WriteHalf { link: Arc::clone(&link) }),
            link,
            details,
            killed: false,
        }
    }
}

/// What a close leaves behind; dropped without the lock.
#[derive(Debug)]
pub(super) struct Closed {
    _phase: Phase,
}

/// What differs between the two halves.
pub(super) trait Half: Sized {
    const DIRECTION: Direction;
    fn link(&self) -> &Arc<Link>;
    fn slot(open: &mut Open) -> &mut Slot<Self>;
}

impl Half for ReadHalf {
    const DIRECTION: Direction = Direction::Read;

    fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn slot(open: &mut Open) -> &mut Slot<ReadHalf> {
        &mut open.read
    }
}

impl Half for WriteHalf {
    const DIRECTION: Direction = Direction::Write;

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
    fn give_back<H: Half>(&self, half: H, outcome: Outcome) -> bool {
        let link = Arc::clone(half.link());
        let mut phase = self.lock();
        let Some(open) = phase.of_link(&link) else {
            drop(phase);
            return false;
        };
        // Whoever cut this claim did it under the lock, so that is over.
        link.cut(H::DIRECTION).reset();
        open.details.suspect |= outcome == Outcome::Suspect;
        let killed = open.killed;
        // The other's cancel has ended this half too, but what was received may still be read.
        let is_over = outcome == Outcome::Dead || (killed && H::DIRECTION == Direction::Write);
        let slot = H::slot(open);
        let left = if is_over {
            *slot = Slot::Dead;
            Some(half)
        } else {
            *slot = Slot::Free(half);
            None
        };
        let ended = phase.take_if_dead();
        drop(phase);
        drop((left, ended, link));
        killed
    }

    /// Its holder was cancelled, or panicked, in its call: the connection is over, for the peer
    /// and for the pool. What has been received may still be read.
    fn kill<H: Half>(&self, half: H) {
        let link = Arc::clone(half.link());
        let mut phase = self.lock();
        let mut ticket: Option<Ticket> = None;
        if let Some(open) = phase.of_link(&link) {
            link.cut(H::DIRECTION).reset();
            link.transport.abort();
            ticket = open.details.ticket.take();
            open.killed = true;
            *H::slot(open) = Slot::Free(half);
            if let Slot::Free(_) = open.write {
                open.write = Slot::Dead;
            }
        }
        let ended = phase.take_if_dead();
        drop(phase);
        drop((ended, ticket, link));
    }
}

/// A connect on its way; dropped, it has failed, and the socket is vacant again.
#[derive(Debug)]
pub(super) struct Connecting<'a> {
    state: &'a State,
    cut: Arc<Cut>,
}

impl Connecting<'_> {
    pub(super) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// From here on others find the socket busy, no longer closed.
    pub(super) fn note_socket(&self) {
        if let Phase::Connecting(attempt) = &mut *self.state.lock()
            && Arc::ptr_eq(&attempt.cut, &self.cut)
        {
            attempt.has_socket = true;
        }
    }

    /// The end: the socket is connected, unless it was closed meanwhile.
    pub(super) fn opened(self, connection: Connection) -> Result<(), Error> {
        let mut phase = self.state.lock();
        if !phase.is_attempt(&self.cut) {
            drop(phase);
            return Err(ErrorKind::Cancelled.into());
        }
        *phase = Phase::Open(Open::from(connection));
        Ok(())
    }
}

impl Phase {
    fn is_attempt(&self, cut: &Arc<Cut>) -> bool {
        matches!(self, Phase::Connecting(attempt) if Arc::ptr_eq(&attempt.cut, cut))
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        let mut phase = self.state.lock();
        if phase.is_attempt(&self.cut) {
            *phase = Phase::Vacant;
        }
    }
}
