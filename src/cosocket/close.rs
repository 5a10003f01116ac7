//! The ways to end a connection, or half of it, or a wait.

use std::net::Shutdown;
use std::time::Duration;

use super::{Cosocket, Error, ErrorKind};
use crate::clock;
use crate::driver::op::Direction;

/// What a lingering close reads at a time, only to throw it away.
const DISCARDED: usize = 4 << 10;

impl Cosocket {
    /// Closes the connection. Whoever waits in a call on it, connecting, receiving or sending, gets
    /// `Cancelled`. The object may be connected again at once.
    ///
    /// The look-up of a name, in a connect, ends too; on a plain thread up to 10 ms later. (With
    /// `panic = "abort"`, where nothing unwinds, it comes to its own end first.)
    ///
    /// OpenResty refuses while another uses the socket; that is [`try_close`](Cosocket::try_close).
    ///
    /// # Errors
    ///
    /// `Closed` when there is no connection.
    pub fn close(&self) -> Result<(), Error> {
        self.state.close().map(drop)
    }

    /// Closes the connection, unless another uses it.
    ///
    /// # Errors
    ///
    /// `Closed`, `BusyConnecting`, `BusyReading`, `BusyWriting`.
    pub fn try_close(&self) -> Result<(), Error> {
        self.state.try_close().map(drop)
    }

    /// Ends the wait of whoever receives: that call gets `Cancelled`, with what it had received, and
    /// the connection stays as it is. Whether there was one.
    pub fn cancel_receive(&self) -> bool {
        self.state.cancel(Direction::Read)
    }

    /// Ends the wait of whoever sends: that call gets `Cancelled`, with
    /// [how much was sent](Error::sent), and the connection stays as it is. Whether there was one.
    pub fn cancel_send(&self) -> bool {
        self.state.cancel(Direction::Write)
    }

    /// Ends one half, or both: the peer sees the end of what is sent, and the other half goes on.
    /// Bytes received and not yet read are given up with the read half.
    ///
    /// # Errors
    ///
    /// `Closed`, with the words `already shutdown` for a half that is over (of both, when both
    /// are); `BusyConnecting`; `BusyReading`, `BusyWriting` for a half that another uses; the
    /// system's. Nothing is changed then, in either half.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), Error> {
        self.state.end(how)
    }

    /// Closes so that what was sent arrives, though the peer may be sending still: ends the write
    /// half, reads and throws away until the peer ends too, is silent for `idle`, or `total` has
    /// passed, and closes. (A socket that is closed with bytes unread resets the connection, and a
    /// reset can overtake a reply. RFC 9112, section 9.6.)
    ///
    /// # Errors
    ///
    /// `Closed`, `BusyConnecting`, `BusyReading`, `BusyWriting`: then nothing is changed.
    pub fn close_lingering(&self, total: Duration, idle: Duration) -> Result<(), Error> {
        self.state.check_idle()?;
        match self.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == ErrorKind::BusyWriting => return Err(error),
            // Over already, one way or another.
            _ => {}
        }
        let deadline = clock::after(total);
        let discarded = self.receive_bounded(Some(idle), Some(deadline), |_, input| {
            use super::receive::Source;
            while input.read(&mut [0; DISCARDED])? != 0 {}
            Ok(())
        });
        match discarded {
            Err(error) if error.kind() == ErrorKind::BusyReading => Err(error),
            _ => match self.close() {
                // The end of both halves has closed it.
                Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
                closed => closed,
            },
        }
    }

    /// Closes by a reset (RST): the peer's calls fail with `connection reset by peer`, and what was
    /// not sent yet is not sent. Waits are ended as by [`close`](Cosocket::close).
    ///
    /// # Errors
    ///
    /// `Closed`; the system's, where nothing is changed.
    pub fn close_reset(&self) -> Result<(), Error> {
        self.state.look(|link, _| link.transport.options().set_linger(Some(Duration::ZERO)))??;
        self.close()
    }
}
