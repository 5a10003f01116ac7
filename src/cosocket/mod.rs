//! The cosocket of OpenResty: a stream socket with a receive buffer of its own, timeouts for each
//! phase, and full duplex with guards.
//!
//! ```text
//!   Cosocket
//!     timeouts            connect, send, read: of the object, for all its connections
//!     state               vacant | connecting | open, and who uses which half
//!       ReadHalf          Receiver (buffer, parsing) --+
//!       WriteHalf                                      +--> Link: Transport (TCP, Unix, TLS)
//! ```

mod address;
mod connect;
mod connection;
mod error;
mod idle;
pub(crate) mod pool;
mod receive;
mod send;
mod state;
mod timeouts;
mod transport;

use std::fmt;
use std::io;
use std::time::Duration;

pub use self::address::{Address, Target};
pub use self::connect::{ConnectOptions, connect};
pub use self::error::{Error, ErrorKind};
pub use self::pool::{Evicted, Eviction, Pool, PoolMetrics, PoolOptions, pool_totals, pools};
pub use self::timeouts::TimeoutMode;

pub(crate) use self::connection::Connection;

use self::connection::Link;
use self::receive::{Receiver, Source};
use self::state::{Outcome, State};
use self::timeouts::{Phase, Timeouts};
use crate::clock::{self, Nanos};
use crate::driver::op::Direction;
use crate::io_handle::{self, bounds::Bounds};

/// A stream socket over TCP or a Unix socket, as OpenResty has it.
///
/// Methods take `&self`. One coroutine may receive while another sends, on the same worker or
/// another; a second one that receives gets `BusyReading` at once, one that sends `BusyWriting`.
///
/// ```
/// use cosocket::Cosocket;
/// use cosocket::net::TcpListener;
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = Cosocket::new();
/// socket.connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
///
/// assert_eq!(socket.send(b"ping")?, 4);
/// let mut question = [0; 4];
/// server.read_exact(&mut question)?;
/// server.write_all(b"pong")?;
/// assert_eq!(socket.receive_any(1024)?, b"pong");
/// socket.close()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Default)]
pub struct Cosocket {
    state: State,
    timeouts: Timeouts,
}

impl Cosocket {
    /// A socket that is not connected. Opens no descriptor.
    #[must_use]
    pub fn new() -> Cosocket {
        Cosocket::default()
    }

    /// Sets all three timeouts: see [`set_timeouts`](Cosocket::set_timeouts).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for 2^31 milliseconds or more.
    pub fn set_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.set_timeouts(timeout, timeout, timeout)
    }

    /// Sets how long connecting, sending and receiving may wait: of this object, for all the
    /// connections that it makes and for the one it has. Zero is the default, 60 seconds;
    /// [`Duration::MAX`] is for ever. A wait that has begun is not affected.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for 2^31 milliseconds or more, and nothing is set then.
    pub fn set_timeouts(
        &self,
        connect: Duration,
        send: Duration,
        read: Duration,
    ) -> Result<(), Error> {
        let timeouts = Timeouts::default();
        let phases = [(Phase::Connect, connect), (Phase::Send, send), (Phase::Read, read)];
        for (phase, timeout) in phases {
            timeouts.set(phase, timeout)?;
        }
        phases.into_iter().try_for_each(|(phase, timeout)| self.timeouts.set(phase, timeout))
    }

    /// Whether timeouts bound each wait, which is the default, or each call.
    pub fn set_timeout_mode(&self, mode: TimeoutMode) {
        self.timeouts.set_mode(mode);
    }

    /// How many times the connection came out of a pool: 0 for a fresh one. Never busy.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn reused_times(&self) -> Result<u64, Error> {
        self.state.reuse_count()
    }

    /// Closes the connection. Whoever waits in a call on it, connecting, receiving or sending, gets
    /// `Cancelled`. The object may be connected again at once.
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

    /// Runs a receive: `f` has the receive half to itself. The one door for all of them.
    pub(crate) fn receive_with<T>(
        &self,
        f: impl FnOnce(&mut Receiver, &Input<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        io_handle::begin_call()?;
        let mut claim = self.state.claim_read()?;
        let deadline = match self.timeouts.mode() {
            TimeoutMode::Idle => None,
            TimeoutMode::Deadline => self.timeouts.of(Phase::Read).map(clock::after),
        };
        let half = claim.half();
        let input = Input { link: &half.link, timeouts: &self.timeouts, deadline };
        let result = f(&mut half.receiver, &input);
        let outcome = match &result {
            Ok(_) => Outcome::Alive,
            Err(error) => match error.kind() {
                ErrorKind::Timeout | ErrorKind::Cancelled => Outcome::Suspect,
                kind if kind.ends_the_half() => Outcome::Dead,
                _ => Outcome::Alive,
            },
        };
        claim.finish(outcome);
        result
    }
}

/// The socket, as the receive half reads it: each wait bounded by the read timeout.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    link: &'a Link,
    timeouts: &'a Timeouts,
    deadline: Option<Nanos>,
}

impl Source for Input<'_> {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = match self.deadline {
            Some(_) => None,
            None => self.timeouts.of(Phase::Read),
        };
        let cut = self.link.cut(Direction::Read);
        self.link.transport.read(buffer, &Bounds { timeout, deadline: self.deadline, cut })
    }
}

impl fmt::Debug for Cosocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cosocket").field("state", &self.state).finish_non_exhaustive()
    }
}
