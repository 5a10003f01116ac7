//! What a wait is for.

/// What a suspended coroutine waits for, for dumps and the deadlock report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) kind: Kind,
    pub(crate) fd: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Read,
    Write,
    Ready,
    Turn,
    Sleep,
    Park,
    Join,
    Scope,
    Lock,
    Condition,
    Barrier,
    Once,
    Permits,
    Channel,
    Select,
    #[cfg_attr(not(feature = "futures"), expect(dead_code))]
    Future,
    Blocking,
    /// A blocking job that stands for a call of ours, which can fail.
    Call,
    LookUp,
    Place,
    Shutdown,
}

impl Reason {
    pub(crate) const NONE: Reason = Reason::new(Kind::None);
    pub(crate) const SLEEP: Reason = Reason::new(Kind::Sleep);
    pub(crate) const PARK: Reason = Reason::new(Kind::Park);
    pub(crate) const JOIN: Reason = Reason::new(Kind::Join);
    pub(crate) const SCOPE: Reason = Reason::new(Kind::Scope);
    pub(crate) const LOCK: Reason = Reason::new(Kind::Lock);
    pub(crate) const BARRIER: Reason = Reason::new(Kind::Barrier);
    pub(crate) const ONCE: Reason = Reason::new(Kind::Once);
    pub(crate) const PERMITS: Reason = Reason::new(Kind::Permits);
    pub(crate) const CONDITION: Reason = Reason::new(Kind::Condition);
    pub(crate) const BLOCKING: Reason = Reason::new(Kind::Blocking);
    pub(crate) const CALL: Reason = Reason::new(Kind::Call);
    pub(crate) const CHANNEL: Reason = Reason::new(Kind::Channel);
    pub(crate) const SELECT: Reason = Reason::new(Kind::Select);
    pub(crate) const LOOK_UP: Reason = Reason::new(Kind::LookUp);
    pub(crate) const PLACE: Reason = Reason::new(Kind::Place);
    pub(crate) const SHUTDOWN: Reason = Reason::new(Kind::Shutdown);

    pub(crate) const fn new(kind: Kind) -> Reason {
        Reason { kind, fd: -1 }
    }

    pub(crate) const fn io(kind: Kind, fd: i32) -> Reason {
        Reason { kind, fd }
    }

    /// A call that can fail: a limit then cuts it in a shield, too.
    #[inline]
    pub(crate) fn is_io(self) -> bool {
        let Reason { kind, .. } = self;
        matches!(kind, Kind::Read | Kind::Write | Kind::Ready | Kind::Turn)
            || matches!(kind, Kind::Call | Kind::LookUp | Kind::Place)
    }

    /// Something outside the coroutines (a descriptor, a clock, a pool job) ends this wait.
    #[inline]
    pub(crate) fn ends_by_itself(self) -> bool {
        match self.kind {
            Kind::None
            | Kind::Read
            | Kind::Write
            | Kind::Ready
            | Kind::Sleep
            | Kind::Blocking
            | Kind::Call
            | Kind::LookUp
            | Kind::Shutdown => true,
            // One of several, and a descriptor is among them.
            Kind::Select | Kind::Future => self.fd >= 0,
            _ => false,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            Kind::None => "nothing",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Ready => "readiness",
            Kind::Turn => "its turn on a socket",
            Kind::Sleep => "sleep",
            Kind::Park => "park",
            Kind::Join => "join",
            Kind::Scope => "the end of a scope",
            Kind::Lock => "a lock",
            Kind::Condition => "a condition variable",
            Kind::Barrier => "a barrier",
            Kind::Once => "a value being initialised",
            Kind::Permits => "permits of a semaphore",
            Kind::Channel => "a channel",
            Kind::Select => "one of several",
            Kind::Future => "a future",
            Kind::Blocking => "a blocking job",
            Kind::Call => "a blocking call",
            Kind::LookUp => "a name look-up",
            Kind::Place => "a place in a pool",
            Kind::Shutdown => "the end of a runtime",
        };
        if self.fd >= 0 { write!(f, "{what} fd={}", self.fd) } else { f.write_str(what) }
    }
}
