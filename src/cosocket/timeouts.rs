//! How long a socket's calls may wait. They belong to the object, not to a connection: what is set
//! holds for all connections that it makes, and for waits that begin from then on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Error, ErrorKind};

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

    pub(super) fn mode(&self) -> TimeoutMode {
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

fn to_stored(timeout: Duration) -> Result<u64, Error> {
    match timeout {
        Duration::MAX => Ok(u64::MAX),
        _ if timeout < TOO_LONG => Ok(timeout.as_nanos() as u64),
        _ => Err(Error::with_text(ErrorKind::InvalidInput, "bad timeout value")),
    }
}
