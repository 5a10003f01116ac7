//! Timeouts that count for single calls.
//!
//! ```text
//!   one coroutine:   with 10 s {  receive: 10 s  ..............  receive: 10 s  }
//!   another:                         with 1 s {  send: 1 s ... receive: 60 s  ........ }
//! ```
//!
//! Each is its caller's own, so it does not matter in which order several callers begin and end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::timeouts::{Phase, Stored, Timeouts, to_stored};
use super::{Cosocket, Error};
use crate::thread::{self, ThreadId};

/// Those in force on one socket.
#[derive(Debug, Default)]
pub(super) struct PerCall {
    /// Mostly none: then waits do not ask who they are.
    count: AtomicUsize,
    /// Of one caller the innermost is the last.
    list: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    caller: ThreadId,
    phase: Phase,
    timeout: Stored,
}

impl PerCall {
    /// The caller's, if it has one.
    #[inline]
    pub(super) fn of(&self, phase: Phase) -> Option<Stored> {
        // A caller sees what it has written itself, and others' entries are none of its business.
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.find(phase)
    }

    #[cold]
    fn find(&self, phase: Phase) -> Option<Stored> {
        let caller = thread::current().id();
        let list = self.lock();
        let mut innermost_first = list.iter().rev();
        innermost_first.find(|entry| entry.is(caller, phase)).map(|entry| entry.timeout)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is(&self, caller: ThreadId, phase: Phase) -> bool {
        self.caller == caller && self.phase == phase
    }
}

/// A timeout is in force for its caller, until this is dropped, there.
struct InForce<'a> {
    per_call: &'a PerCall,
    caller: ThreadId,
    phase: Phase,
}

impl<'a> InForce<'a> {
    fn new(timeouts: &'a Timeouts, phase: Phase, timeout: Duration) -> Result<Self, Error> {
        let (per_call, caller) = (&timeouts.per_call, thread::current().id());
        let entry = Entry { caller, phase, timeout: to_stored(timeout)? };
        let mut list = per_call.lock();
        list.push(entry);
        per_call.count.store(list.len(), Ordering::Relaxed);
        Ok(InForce { per_call, caller, phase })
    }
}

impl Drop for InForce<'_> {
    fn drop(&mut self) {
        let mut list = self.per_call.lock();
        let place = list.iter().rposition(|entry| entry.is(self.caller, self.phase));
        list.remove(place.expect("only we remove it"));
        self.per_call.count.store(list.len(), Ordering::Relaxed);
    }
}

impl Cosocket {
    /// Runs `f` with another timeout for the receives that the caller makes in it. However `f`
    /// ends, the former one counts again. Others who use the socket meanwhile keep theirs.
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
        let _in_force = InForce::new(&self.timeouts, Phase::Read, timeout)?;
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
        let _in_force = InForce::new(&self.timeouts, Phase::Send, timeout)?;
        f()
    }
}
