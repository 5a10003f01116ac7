//! The read half at work: one receive at a time, each wait within the read timeout.

use std::io;
use std::time::Duration;

use super::claim::{Outcome, ReadHalf};
use super::connection::Link;
use super::receive::{Receiver, Source};
use super::report::What;
use super::timeouts::{Phase, Timeouts};
use super::{Cosocket, Error, ErrorKind};
use crate::clock::Nanos;
use crate::driver::op::Direction;
use crate::io_handle::{self, bounds::Bounds};

/// The socket, as a receive reads it.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    link: &'a Link,
    timeouts: &'a Timeouts,
    /// In place of the socket's timeout.
    idle: Option<Duration>,
    deadline: Option<Nanos>,
}

impl Cosocket {
    /// Runs a receive: `f` has the receive half to itself. THE door for all of them.
    pub(crate) fn receive_with<T>(
        &self,
        f: impl FnOnce(&mut Receiver, &Input<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.receive_bounded(None, None, f)
    }

    /// The peer is a client whose leaving is watched for: its end is an abort.
    pub(crate) fn call_end_an_abort(&self) {
        if let Ok(mut claim) = self.state.claim::<ReadHalf>() {
            claim.half().receiver.call_end(ErrorKind::ClientAborted);
            claim.finish(Outcome::Alive);
        }
    }

    pub(super) fn receive_bounded<T>(
        &self,
        idle: Option<Duration>,
        deadline: Option<Nanos>,
        f: impl FnOnce(&mut Receiver, &Input<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        io_handle::begin_call()?;
        let began = self.begin_report();
        let claim = self.state.claim::<ReadHalf>();
        let mut claim = claim.inspect_err(|error| self.report(What::Read, began, None, error))?;
        let ReadHalf { link, receiver } = claim.half();
        let deadline = deadline.or_else(|| self.timeouts.deadline(Phase::Read));
        let input = Input { link, timeouts: &self.timeouts, idle, deadline };
        let result = f(receiver, &input);
        let outcome = Outcome::of_receive(&result, receiver);
        if let Err(error) = &result {
            self.report(What::Read, began, self.upstream(began).as_deref(), error);
        }
        claim.finish(outcome);
        result
    }
}

impl Source for Input<'_> {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = match (self.idle, self.deadline) {
            (Some(idle), _) => Some(idle),
            (None, Some(_)) => None,
            (None, None) => self.timeouts.of(Phase::Read),
        };
        let cut = self.link.cut(Direction::Read);
        self.link.transport.read(buffer, &Bounds { timeout, deadline: self.deadline, cut })
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.link.transport.try_read(buffer)
    }
}
