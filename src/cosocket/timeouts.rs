//! How long a socket's calls may wait. They belong to the object, not to a connection: what is set
//! holds for all connections that it makes, and for waits that begin from then on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::per_call::PerCall;
use super::{Cosocket, Error, ErrorKind};
use crate::clock::{self, Nanos};

/// OpenResty's `lua_socket_*_timeout`.
pub(crate) const DEFAULT: Duration = Duration::from_secs(60);

/// What OpenResty refuses: more milliseconds than an `int` holds.
const TOO_LONG: Duration = Duration::from_millis(1 << 31);

/// Nanoseconds; 0 is the default, `u64::MAX` for ever.
pub(super) type Stored = u64;

#[derive(Debug, Default)]
pub(super) struct Timeouts {
    connect: AtomicU64,
    send: AtomicU64,
    read: AtomicU64,
    /// In place of those, for some callers.
    pub(super) per_call: PerCall,
    /// They bound a call, not each wait of it.
    bounds_calls: AtomicBool,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The caller's; `None` is for ever.
    pub(super) fn of(&self, phase: Phase) -> Option<Duration> {
        let of_all = || self.stored(phase).load(Ordering::Relaxed);
        match self.per_call.of(phase).unwrap_or_else(of_all) {
            0 => Some(DEFAULT),
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(super) fn set(&self, phase: Phase, timeout: Duration) -> Result<(), Error> {
        self.stored(phase).store(to_stored(timeout)?, Ordering::Relaxed);
        Ok(())
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

    fn stored(&self, phase: Phase) -> &AtomicU64 {
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

    /// The timeouts of connecting, sending and receiving, as they count for the caller.
    /// [`Duration::MAX`] is for ever.
    #[must_use]
    pub fn timeouts(&self) -> (Duration, Duration, Duration) {
        let of = |phase| self.timeouts.of(phase).unwrap_or(Duration::MAX);
        (of(Phase::Connect), of(Phase::Send), of(Phase::Read))
    }
}

/// What is stored for a timeout.
pub(super) fn to_stored(timeout: Duration) -> Result<u64, Error> {
    match timeout {
        Duration::MAX => Ok(u64::MAX),
        _ if timeout < TOO_LONG => Ok(timeout.as_nanos() as u64),
        _ => Err(Error::with_text(ErrorKind::InvalidInput, "bad timeout value")),
    }
}
