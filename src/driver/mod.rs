//! Provisional: the types the drivers share.

use crate::clock::Nanos;

pub(crate) mod epoll;
pub(crate) mod op;
pub(crate) mod readiness;
pub(crate) mod source;

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Poll,
    Until(Nanos),
    Forever,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The doorbell rang.
    pub(crate) doorbell: bool,
    /// The thread may have slept, so cached clocks are old.
    pub(crate) slept: bool,
}
