//! The write half at work: one send at a time, each wait within the send timeout.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::claim::{Outcome, WriteHalf};
use super::connection::Link;
use super::report::What;
use super::timeouts::{Phase, Timeouts};
use super::{Cosocket, Error, ErrorKind};
use crate::clock::Nanos;
use crate::driver::op::Direction;
use crate::io_handle::{self, bounds::Bounds};

/// The socket, as a send writes it.
#[derive(Debug)]
pub(super) struct Output<'a> {
    pub(super) link: &'a Arc<Link>,
    timeouts: &'a Timeouts,
    deadline: Option<Nanos>,
    /// What the system has taken.
    pub(super) sent: u64,
    /// What failed is where the bytes come from, not the socket.
    pub(super) source_failed: bool,
}

impl Cosocket {
    /// Runs a send: `f` has the write half to itself. THE door for all of them. Returns how much
    /// was sent.
    pub(super) fn send_with(
        &self,
        f: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        io_handle::begin_call()?;
        let began = self.begin_report();
        let claim = self.state.claim::<WriteHalf>();
        let mut claim = claim.inspect_err(|error| self.report(What::Write, began, None, error))?;
        let link = &claim.half().link;
        let deadline = self.timeouts.deadline(Phase::Send);
        let timeouts = &self.timeouts;
        let mut output = Output { link, timeouts, deadline, sent: 0, source_failed: false };
        let result = f(&mut output);
        let sent = output.sent;
        let outcome = match output.source_failed {
            // The peer has seen nothing of it.
            true if sent == 0 => Outcome::Alive,
            true => Outcome::Dead,
            false => Outcome::of_send(&result),
        };
        if let Err(error) = &result {
            self.report(What::Write, began, self.upstream(began).as_deref(), error);
        }
        let killed = claim.finish(outcome);
        match result {
            Ok(()) => Ok(sent),
            Err(_) if killed => Err(Error::new(ErrorKind::Closed).with_sent(sent)),
            Err(error) => Err(error.with_sent(sent)),
        }
    }
}

impl Output<'_> {
    pub(super) fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let count = self.link.transport.write(data, &self.bounds())?;
            data = &data[self.note(count)?..];
        }
        Ok(())
    }

    /// None of the slices is empty.
    pub(super) fn write_all_vectored(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !slices.is_empty() {
            let count = self.link.transport.write_vectored(slices, &self.bounds())?;
            IoSlice::advance_slices(&mut slices, self.note(count)?);
        }
        Ok(())
    }

    /// Writes what the system takes at once.
    pub(super) fn try_write(&mut self, data: &[u8]) -> Result<(), Error> {
        if data.is_empty() {
            return Ok(());
        }
        match self.link.transport.try_write(data) {
            Ok(count) => self.note(count).map(drop).map_err(Error::from),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the socket takes more.
    pub(super) fn wait_writable(&self) -> io::Result<()> {
        self.link.transport.io().wait_ready_bounded(libc::POLLOUT, &self.bounds()).map(drop)
    }

    /// What has come meanwhile to end the send: for those that do not write by themselves.
    pub(super) fn check(&self) -> io::Result<()> {
        io_handle::begin_call()?;
        self.bounds().check()
    }

    /// Each write has the timeout to itself: what counts is progress.
    fn bounds(&self) -> Bounds<'_> {
        let timeout = match self.deadline {
            Some(_) => None,
            None => self.timeouts.of(Phase::Send),
        };
        let cut = self.link.cut(Direction::Write);
        Bounds { timeout, deadline: self.deadline, cut }
    }

    fn note(&mut self, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += count as u64;
        Ok(count)
    }
}
