//! A count of those who are still at work, and a wait for the last of them.
//!
//! Members come by `clone` and go by `drop`, rather than by Go's `Add` and `Done`: a coroutine that
//! panics or is cancelled unwinds, and so it cannot forget to sign off.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Nanos;
use crate::wait::{self, Reason, WaitQueue};

/// A handle of a group; who has one is a member, and [`WaitGroup::wait`] waits until none is left.
///
/// Give each coroutine a clone and let it be dropped when the work is done, by whichever way that
/// ends. Unlike with `join`, the results are nobody's, and members may take others in.
///
/// ```
/// use cosocket::sync::WaitGroup;
/// use cosocket::thread;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let done = Arc::new(AtomicUsize::new(0));
/// let group = WaitGroup::new();
/// for _ in 0..10 {
///     let (group, done) = (group.clone(), Arc::clone(&done));
///     thread::spawn(move || {
///         let _member = group;
///         done.fetch_add(1, Ordering::Relaxed);
///     });
/// }
/// group.wait();
/// assert_eq!(done.load(Ordering::Relaxed), 10);
/// ```
pub struct WaitGroup {
    shared: Arc<Shared>,
}

struct Shared {
    members: AtomicUsize,
    queue: WaitQueue,
}

impl WaitGroup {
    /// A group of one member, the caller.
    #[must_use]
    pub fn new() -> WaitGroup {
        let shared = Shared { members: AtomicUsize::new(1), queue: WaitQueue::new() };
        WaitGroup { shared: Arc::new(shared) }
    }

    /// Leaves the group and waits until everybody else has. What they did before they left can
    /// then be seen.
    ///
    /// Several may wait, each with a handle of its own. A cancel unwinds out of it; the caller has
    /// left all the same.
    pub fn wait(self) {
        self.leave_and_wait(None);
    }

    /// As [`WaitGroup::wait`], but for no longer than `timeout`, and no less, unless all have left.
    ///
    /// # Errors
    ///
    /// When the time is over: the caller is a member again, through the handle in the error.
    ///
    /// ```
    /// use cosocket::sync::WaitGroup;
    /// use std::time::Duration;
    ///
    /// let group = WaitGroup::new();
    /// let other = group.clone();
    /// let group = group.wait_timeout(Duration::from_millis(1)).unwrap_err();
    /// drop(other);
    /// group.wait_timeout(Duration::from_millis(1)).unwrap();
    /// ```
    pub fn wait_timeout(self, timeout: Duration) -> Result<(), WaitGroup> {
        let shared = Arc::clone(&self.shared);
        if self.leave_and_wait(Some(wait::deadline_after(timeout))) || !shared.rejoin() {
            return Ok(());
        }
        Err(WaitGroup { shared })
    }

    fn leave_and_wait(self, deadline: Option<Nanos>) -> bool {
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.queue.wait_until(|| shared.is_empty(), Reason::CONDITION, deadline)
    }
}

impl Shared {
    fn is_empty(&self) -> bool {
        // Acquire: what the members did is seen.
        self.members.load(Ordering::Acquire) == 0
    }

    /// Becomes a member, unless the last one has left.
    fn rejoin(&self) -> bool {
        let joined = self.members.try_update(Ordering::Relaxed, Ordering::Acquire, |members| {
            (members > 0).then_some(members + 1)
        });
        joined.is_ok()
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> WaitGroup {
        // Relaxed: this handle keeps the count from reaching zero.
        self.shared.members.fetch_add(1, Ordering::Relaxed);
        WaitGroup { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        // Release: what this member did is seen by those who wait.
        if self.shared.members.fetch_sub(1, Ordering::Release) == 1 {
            self.shared.queue.wake_all();
        }
    }
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.shared.members.load(Ordering::Relaxed);
        f.debug_struct("WaitGroup").field("members", &members).finish()
    }
}
