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
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::claim::{Half, ReadHalf, WriteHalf};
use super::connection::{Connection, Details, Link};
use super::receive::Receiver;
use super::{Error, ErrorKind};
use crate::driver::op::Direction;
use crate::io_handle::bounds::{Caller, Cut};
use crate::sync::CancelToken;

#[derive(Debug, Default)]
pub(super) struct State(Mutex<Phase>);

#[derive(Debug, Default)]
pub(super) enum Phase {
    #[default]
    Vacant,
    Connecting(Attempt),
    Open(Open),
}

/// A connect, or a handshake, that is on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    cut: Arc<Cut>,
    caller: Caller,
    /// Of the look-up of a name, while there may be one.
    look_up: Option<CancelToken>,
    /// There is a descriptor.
    has_socket: bool,
}

impl Attempt {
    fn new(has_socket: bool) -> Result<Attempt, Error> {
        let (cut, caller) = (Arc::new(Cut::default()), Caller::current()?);
        Ok(Attempt { cut, caller, look_up: None, has_socket })
    }
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) link: Arc<Link>,
    pub(super) read: Slot<ReadHalf>,
    pub(super) write: Slot<WriteHalf>,
    pub(super) details: Box<Details>,
    /// A coroutine was cancelled in one of the halves.
    pub(super) killed: bool,
}

#[derive(Debug)]
pub(super) enum Slot<H> {
    Free(H),
    Busy(Caller),
    Dead,
}

impl State {
    pub(super) fn open(connection: Connection) -> State {
        State(Mutex::new(Phase::Open(Open::from(connection))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Phase> {
        // Poison means nothing: nothing in here panics half-way, and std counts the panics of
        // others on this thread.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a connect. What was connected before is closed, unless somebody uses it.
    pub(super) fn claim_connect(&self) -> Result<Connecting<'_>, Error> {
        let attempt = Attempt::new(false)?;
        let cut = Arc::clone(&attempt.cut);
        let mut phase = self.lock();
        match &*phase {
            Phase::Vacant => {}
            Phase::Connecting(_) => return Err(ErrorKind::BusyConnecting.into()),
            Phase::Open(open) => open.check_idle()?,
        }
        let before = mem::replace(&mut *phase, Phase::Connecting(attempt));
        drop(phase);
        drop(before);
        Ok(Connecting { state: self, cut })
    }

    /// Takes the connection out for a handshake, or whatever else needs both halves: until it is
    /// given back, the socket is connecting.
    #[cfg(any(test, feature = "tls"))]
    pub(super) fn claim_whole(&self) -> Result<(Connecting<'_>, Connection), Error> {
        let attempt = Attempt::new(true)?;
        let cut = Arc::clone(&attempt.cut);
        let mut phase = self.lock();
        phase.connected()?.check_whole()?;
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
        let before = mem::take(&mut *phase);
        drop(phase);
        if let Phase::Connecting(Attempt { look_up: Some(look_up), .. }) = &before {
            look_up.cancel();
        }
        Ok(Closed { _phase: before })
    }

    /// Ends the wait of whoever uses this half, if there is one.
    pub(super) fn cancel(&self, direction: Direction) -> bool {
        match &*self.lock() {
            Phase::Vacant | Phase::Connecting(_) => false,
            Phase::Open(open) => open.cut(direction),
        }
    }

    /// Ends halves at rest; all of them or none.
    pub(super) fn end(&self, how: Shutdown) -> Result<(), Error> {
        let mut phase = self.lock();
        let open = phase.connected()?;
        let ends_read = how != Shutdown::Write && open.read.can_end()?;
        let ends_write = how != Shutdown::Read && open.write.can_end()?;
        let how = match (ends_read, ends_write) {
            (true, true) => Shutdown::Both,
            (true, false) => Shutdown::Read,
            (false, true) => Shutdown::Write,
            (false, false) => {
                return Err(Error::with_text(ErrorKind::Closed, "already shutdown"));
            }
        };
        open.link.transport.shutdown(how)?;
        let read = ends_read.then(|| mem::replace(&mut open.read, Slot::Dead));
        let write = ends_write.then(|| mem::replace(&mut open.write, Slot::Dead));
        let ended = phase.take_if_dead();
        drop(phase);
        drop((read, write, ended));
        Ok(())
    }

    /// The connection of a socket that nobody uses, whatever is left of it.
    pub(super) fn into_connection(self) -> Result<Connection, Error> {
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Phase::Open(Open { link, read, write, details, .. }) => {
                drop(write);
                let receiver = match read {
                    Slot::Free(half) => half.receiver,
                    Slot::Busy(_) | Slot::Dead => Box::default(),
                };
                Ok(Connection { link, receiver, details })
            }
            Phase::Vacant | Phase::Connecting(_) => Err(ErrorKind::Closed.into()),
        }
    }

    pub(super) fn check_idle(&self) -> Result<(), Error> {
        self.lock().connected()?.check_idle()
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
    pub(super) fn connected(&mut self) -> Result<&mut Open, Error> {
        match self {
            Phase::Open(open) => Ok(open),
            Phase::Connecting(Attempt { has_socket: true, .. }) => {
                Err(ErrorKind::BusyConnecting.into())
            }
            Phase::Vacant | Phase::Connecting(_) => Err(ErrorKind::Closed.into()),
        }
    }

    pub(super) fn of_link(&mut self, link: &Arc<Link>) -> Option<&mut Open> {
        match self {
            Phase::Open(open) if Arc::ptr_eq(&open.link, link) => Some(open),
            _ => None,
        }
    }

    /// A connection whose halves are both dead is closed. The caller drops it without the lock.
    pub(super) fn take_if_dead(&mut self) -> Phase {
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

impl<H: Half> Slot<H> {
    /// Whether there is a half to end, and nobody uses it.
    fn can_end(&self) -> Result<bool, Error> {
        match self {
            Slot::Free(_) => Ok(true),
            Slot::Busy(_) => Err(H::BUSY.into()),
            Slot::Dead => Ok(false),
        }
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
        if let Some(attempt) = self.state.lock().attempt(&self.cut) {
            attempt.has_socket = true;
        }
    }

    /// Looks a name up. Its waits are nobody's that could be given a cut, so a close unwinds it.
    pub(super) fn look_up<T>(&self, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let closed = CancelToken::new();
        match self.state.lock().attempt(&self.cut) {
            Some(attempt) => attempt.look_up = Some(closed.clone()),
            None => return Err(ErrorKind::Cancelled.into()),
        }
        let found = closed.run(f).map_err(|_| ErrorKind::Cancelled)??;
        match self.cut.is_set() {
            true => Err(ErrorKind::Cancelled.into()),
            false => Ok(found),
        }
    }

    /// The end: the socket is connected, unless it was closed meanwhile.
    pub(super) fn opened(self, connection: Connection) -> Result<(), Error> {
        let mut phase = self.state.lock();
        if phase.attempt(&self.cut).is_none() {
            drop(phase);
            return Err(ErrorKind::Cancelled.into());
        }
        *phase = Phase::Open(Open::from(connection));
        Ok(())
    }
}

impl Phase {
    fn attempt(&mut self, cut: &Arc<Cut>) -> Option<&mut Attempt> {
        match self {
            Phase::Connecting(attempt) if Arc::ptr_eq(&attempt.cut, cut) => Some(attempt),
            _ => None,
        }
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        let mut phase = self.state.lock();
        if phase.attempt(&self.cut).is_some() {
            *phase = Phase::Vacant;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cosocket::claim::Outcome;
    use crate::cosocket::transport::Transport;
    use crate::os::unix::net::UnixStream;

    fn connection() -> Connection {
        Connection::new(Transport::Unix(UnixStream::pair().unwrap().0), None)
    }

    fn kind<T>(result: Result<T, Error>) -> ErrorKind {
        result.err().expect("it must be refused").kind()
    }

    // CON-4, section 2 item 124
    #[test]
    fn while_there_is_no_socket_yet_others_find_it_closed() {
        let state = State::default();
        let connecting = state.claim_connect().unwrap();
        assert_eq!(kind(state.claim::<ReadHalf>()), ErrorKind::Closed);
        assert_eq!(kind(state.claim::<WriteHalf>()), ErrorKind::Closed);
        assert_eq!(kind(state.try_close()), ErrorKind::Closed);
        assert_eq!(kind(state.reuse_count()), ErrorKind::Closed);
        assert_eq!(kind(state.take_whole(|_, _| Ok(()))), ErrorKind::Closed);
        assert_eq!(kind(state.claim_connect()), ErrorKind::BusyConnecting);
        connecting.note_socket();
        assert_eq!(kind(state.claim::<ReadHalf>()), ErrorKind::BusyConnecting);
        assert_eq!(kind(state.try_close()), ErrorKind::BusyConnecting);
        assert_eq!(kind(state.take_whole(|_, _| Ok(()))), ErrorKind::BusyConnecting);
        assert_eq!(state.reuse_count().unwrap(), 0);
        connecting.opened(connection()).unwrap();
        state.claim::<ReadHalf>().unwrap().finish(Outcome::Alive);
    }

    // DUP-4: closed, connecting, reading, writing
    #[test]
    fn who_is_refused_is_told_of_the_reader_first() {
        let state = State::open(connection());
        let reader = state.claim::<ReadHalf>().unwrap();
        let writer = state.claim::<WriteHalf>().unwrap();
        assert_eq!(kind(state.try_close()), ErrorKind::BusyReading);
        assert_eq!(kind(state.claim_connect()), ErrorKind::BusyReading);
        reader.finish(Outcome::Alive);
        assert_eq!(kind(state.try_close()), ErrorKind::BusyWriting);
        assert_eq!(kind(state.claim_whole()), ErrorKind::BusyWriting);
        writer.finish(Outcome::Dead);
        assert_eq!(kind(state.claim_whole()), ErrorKind::Closed);
        state.try_close().unwrap();
    }

    // TLS-2: a handshake that fails leaves nothing
    #[test]
    fn a_handshake_has_the_connection_to_itself() {
        let state = State::open(connection());
        let (connecting, connection) = state.claim_whole().unwrap();
        assert_eq!(kind(state.claim::<WriteHalf>()), ErrorKind::BusyConnecting);
        connecting.opened(connection).unwrap();
        let (connecting, connection) = state.claim_whole().unwrap();
        drop((connecting, connection));
        assert_eq!(kind(state.claim::<WriteHalf>()), ErrorKind::Closed);
    }

    // DUP-5: what comes after a close is the next connection's
    #[test]
    fn who_returns_after_a_close_does_not_touch_the_next_connection() {
        let state = State::open(connection());
        let reader = state.claim::<ReadHalf>().unwrap();
        state.close().unwrap();
        state.claim_connect().unwrap().opened(connection()).unwrap();
        assert!(!reader.finish(Outcome::Dead));
        state.claim::<ReadHalf>().unwrap().finish(Outcome::Alive);
        let connecting = State::default();
        let first = connecting.claim_connect().unwrap();
        connecting.close().unwrap();
        let second = connecting.claim_connect().unwrap();
        assert_eq!(kind(first.opened(connection())), ErrorKind::Cancelled);
        second.opened(connection()).unwrap();
    }
}
