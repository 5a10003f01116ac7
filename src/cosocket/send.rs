//! Sending.

use super::state::Outcome;
use super::timeouts::{Phase, TimeoutMode};
use super::{Cosocket, Error, ErrorKind};
use crate::clock;
use crate::driver::op::Direction;
use crate::io_handle::{self, bounds::Bounds};

impl Cosocket {
    /// Sends all of `data`, and returns how many bytes that is.
    ///
    /// # Errors
    ///
    /// `Closed`, `BusyConnecting`, `BusyWriting`; `Timeout` when the peer takes nothing for as long
    /// as the send timeout says, and the system's: the write half is over then, while the read half
    /// lives on.
    pub fn send(&self, data: &[u8]) -> Result<usize, Error> {
        io_handle::begin_call()?;
        let mut claim = self.state.claim_write()?;
        let link = &claim.half().link;
        let mut sent = 0;
        let deadline = match self.timeouts.mode() {
            TimeoutMode::Idle => None,
            TimeoutMode::Deadline => self.timeouts.of(Phase::Send).map(clock::after),
        };
        let mut result = Ok(());
        while sent < data.len() && result.is_ok() {
            let timeout = self.timeouts.of(Phase::Send);
            let bounds = Bounds { timeout, deadline, cut: link.cut(Direction::Write) };
            match link.transport.write(&data[sent..], &bounds) {
                Ok(count) => sent += count,
                Err(error) => result = Err(Error::from(error).with_sent(sent as u64)),
            }
        }
        let outcome = match &result {
            Ok(()) => Outcome::Alive,
            Err(error) if error.kind() == ErrorKind::Cancelled => Outcome::Alive,
            Err(_) => Outcome::Dead,
        };
        let killed = claim.finish(outcome);
        match result {
            Ok(()) => Ok(sent),
            Err(error) if killed => Err(Error::new(ErrorKind::Closed).with_sent(error.sent())),
            Err(error) => Err(error),
        }
    }
}
