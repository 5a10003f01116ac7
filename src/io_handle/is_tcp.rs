//! Whether a socket is one of TCP.
//!
//! Of these alone does a transfer of less than was asked for show that the socket is drained, or
//! full: one that keeps records apart gives one at a time, and AF_UNIX stops before bytes that came
//! with descriptors.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use socket2::{Protocol, SockRef};

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// Asked of the kernel once, unless whoever made the socket knows.
pub(super) struct IsTcp(AtomicU8);

impl IsTcp {
    pub(super) const fn unknown() -> IsTcp {
        IsTcp(AtomicU8::new(UNKNOWN))
    }

    pub(super) const fn yes() -> IsTcp {
        IsTcp(AtomicU8::new(YES))
    }

    /// Known by now to be one.
    #[inline]
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) == YES
    }

    /// Asks, if nobody has.
    pub(super) fn learn(&self, socket: &impl AsFd) {
        if self.0.load(Ordering::Relaxed) == UNKNOWN {
            let protocol = SockRef::from(socket).protocol();
            let answer = if matches!(protocol, Ok(Some(Protocol::TCP))) { YES } else { NO };
            self.0.store(answer, Ordering::Relaxed);
        }
    }

    /// What is known now, for a socket that is like this one.
    pub(super) fn copy(&self) -> IsTcp {
        IsTcp(self.0.load(Ordering::Relaxed).into())
    }
}
