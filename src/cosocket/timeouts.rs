//! How long a socket's calls may wait. They belong to the object, not to a connection: what is set
//! holds for all connections that it makes, and for waits that begin from then on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Cosocket, Error, ErrorKind};
use crate::clock::{self, Nanos};

/// OpenResty's `lua_socket_*_timeout`.
pub(crate) const DEFAULT: Duration = Duration::from_secs(60);

/// What OpenResty refuses: more milliseconds than an `int` holds.
const TOO_LONG: Duration = Duration::from_millis(1 << 31);

/// Nanoseconds; 0 is the default, `u64::MAX` for ever.
type Stored = AtomicU64;

#[derive(Debug, Default)]
pub(super) struct Timeouts {
    connect: Stored,
    send: Stored,
    read: Stored,
    /// They bound a call, not each wait of it.
    bounds_calls: AtomicBool,
}

/// Which of the three.
#[derive(Clone, Copy)]
pub(super) enum Phase {
    Connect,
    Send,
    Read,
}

/// What a timeout measures; see [`Cosocket::set_timeout_mode`](super::Cosocket::set_timeout_mode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutMode {
    /// How long the other side may be silent: each wait of a call may last so long. OpenResty's.
    #[default]
    Idle,
    /// How long a call may take in all. Swoole's.
    Deadline,
}

impl Timeouts {
    /// `None` is for ever.
    pub(super) fn of(&self, phase: Phase) -> Option<Duration> {
        match self.stored(phase).load(Ordering::Relaxed) {
            0 => Some(DEFAULT),
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(super) fn set(&self, phase: Phase, timeout: Duration) -> Result<(), Error> {
        self.stored(phase).store(to_stored(timeout)?, Ordering::Relaxed);
        Ok(())
    }

    fn replace(&self, phase: Phase, timeout: Duration) -> Result<Restored<'_>, Error> {
        let stored = self.stored(phase);
        let before = stored.swap(to_stored(timeout)?, Ordering::Relaxed);
        Ok(Restored { stored, before })
    }

    /// When a call that begins now must end, where timeouts bound calls.
    pub(super) fn deadline(&self, phase: Phase) -> Option<Nanos> {
        match self.mode() {
            TimeoutMode::Idle => None,
            TimeoutMode::Deadline => self.of(phase).map(clock::after),
        }
    }

    fn mode(&self) -> TimeoutMode {
        match self.bounds_calls.load(Ordering::Relaxed) {
            false => TimeoutMode::Idle,
            true => TimeoutMode::Deadline,
        }
    }

    pub(super) fn set_mode(&self, mode: TimeoutMode) {
        self.bounds_calls.store(mode == TimeoutMode::Deadline, Ordering::Relaxed);
    }

    fn stored(&self, phase: Phase) -> &Stored {
        match phase {
            Phase::Connect => &self.connect,
            Phase::Send => &self.send,
            Phase::Read => &self.read,
        }
    }
}

impl Cosocket {
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

    /// The timeouts of connecting, sending and receiving. [`Duration::MAX`] is for ever.
    #[must_use]
    pub fn timeouts(&self) -> (Duration, Duration, Duration) {
        let of = |phase| self.timeouts.of(phase).unwrap_or(Duration::MAX);
        (of(Phase::Connect), of(Phase::Send), of(Phase::Read))
    }

    /// Runs `f` with another timeout for receives, and sets the former one again, however `f`
    /// ends. It is the socket's: it counts for whoever receives meanwhile.
    ///
    /// ```
    /// use cosocket::{ErrorKind, net::TcpListener};
    /// use std::time::Duration;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let socket = cosocket::connect(listener.local_addr()?)?;
    /// let silence = socket.with_read_timeout(Duration::from_millis(1), || socket.receive_any(10));
    /// assert_eq!(silence.unwrap_err().kind(), ErrorKind::Timeout);
    /// assert_eq!(socket.timeouts().2, Duration::from_secs(60));
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` as for `set_timeouts`, and those of `f`.
    pub fn with_read_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _restored = self.timeouts.replace(Phase::Read, timeout)?;
        f()
    }

    /// [`with_read_timeout`](Cosocket::with_read_timeout) for sends.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_send_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _restored = self.timeouts.replace(Phase::Send, timeout)?;
        f()
    }
}

/// Sets a timeout to what it was before, when dropped.
struct Restored<'a> {
    stored: &'a Stored,
    before: u64,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.stored.store(self.before, Ordering::Relaxed);
    }
}

fn to_stored(timeout: Duration) -> Result<u64, Error> {
    match timeout {
        Duration::MAX => Ok(u64::MAX),
        _ if timeout < TOO_LONG => Ok(timeout.as_nanos() as u64),
        _ => Err(Error::with_text(ErrorKind::InvalidInput, "bad timeout value")),
    }
}
