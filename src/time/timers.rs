//! Callbacks that run later, each in a coroutine of its own: OpenResty's `ngx.timer`.
//!
//! ```text
//!   at, every --> pending, by time --the time comes--> running --over--> gone, or pending again
//!       | too many     ^   |                             (every: pending again at once)
//!       v              |   `--cancel--> gone
//!     error            `--- stays pending while too many run
//!
//!   shutdown: all that are pending run, and are told that it is too early
//! ```
//!
//! A pending timer is an entry in a map, not a coroutine: one coroutine, the clock, sleeps until
//! the first of them is due.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::clock::{self, NEVER, Nanos};
use crate::coroutine::{Kept, drop_quietly};
use crate::thread::{Builder, JoinHandle};
use crate::wait::{Reason, WaitQueue};

/// A set of timers, with limits, that are over before the program is.
///
/// A callback gets one argument, OpenResty's `premature`: whether it is called before its time,
/// because the set is [shut down](Timers::shutdown). Clones are the same set.
///
/// ```
/// use std::time::Duration;
///
/// use cosocket::sync::mpsc;
/// use cosocket::time::Timers;
///
/// let timers = Timers::new();
/// let (sender, calls) = mpsc::channel();
/// let (soon, late) = (sender.clone(), sender);
/// timers.at(Duration::from_millis(1), move |premature| soon.send(premature).unwrap())?;
/// assert_eq!(calls.recv(), Ok(false));
///
/// timers.at(Duration::from_secs(3600), move |premature| late.send(premature).unwrap())?;
/// timers.shutdown(Duration::from_secs(10));
/// assert_eq!(calls.recv(), Ok(true));
/// # Ok::<(), cosocket::time::TimerError>(())
/// ```
///
/// When the last clone is dropped, pending timers are forgotten, and callbacks that run go on.
/// When the runtime ends in which the set was made, pending timers are forgotten too, and no more
/// are accepted: shut the set down before.
#[derive(Clone)]
pub struct Timers {
    core: Arc<Core>,
    /// Cancelled with the last clone.
    _clock: Arc<Clock>,
}

struct Core {
    plan: Mutex<Plan>,
    /// The clock waits here, and whoever shuts down.
    changed: WaitQueue,
    max_pending: usize,
    max_running: usize,
}

#[derive(Default)]
struct Plan {
    pending: HashMap<u64, (Nanos, Job)>,
    order: BTreeSet<(Nanos, u64)>,
    next: u64,
    running: usize,
    is_exiting: bool,
    /// The clock has ended, with its runtime or with the last clone: nothing will be called.
    is_over: bool,
    /// Counts what the clock has to look at.
    version: u64,
}

enum Job {
    Once(Box<dyn FnOnce(bool) + Send>),
    Every(Nanos, Arc<dyn Fn(bool) + Send + Sync>),
}

/// What is to run now.
type Call = Box<dyn FnOnce(bool) + Send>;

struct Clock(JoinHandle<()>);

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Says that nothing is called any more, when the clock's coroutine is over.
struct Ticking(Arc<Core>);

impl Kept for Ticking {
    fn unhandled_panic(&self) {}
}

impl Drop for Ticking {
    fn drop(&mut self) {
        let forgotten = self.0.change(|plan| {
            plan.is_over = true;
            plan.order.clear();
            std::mem::take(&mut plan.pending)
        });
        // They may have clones of the set, so nobody but us would drop them.
        forgotten.into_values().for_each(drop_quietly);
    }
}

/// Counts a callback out, when its coroutine is over.
struct Running(Arc<Core>);

impl Kept for Running {
    fn unhandled_panic(&self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|plan| plan.running -= 1);
    }
}

impl Timers {
    /// A set of at most 1024 pending timers and 256 running callbacks, as in OpenResty.
    ///
    /// # Panics
    ///
    /// When no stack can be had for the clock.
    #[must_use]
    #[track_caller]
    pub fn new() -> Timers {
        Timers::with_limits(1024, 256)
    }

    /// A set of at most so many pending timers, and so many callbacks at a time. What is due while
    /// too many run stays pending until one of them is over. (OpenResty drops it.)
    ///
    /// # Panics
    ///
    /// For no callback at all, and when no stack can be had for the clock.
    #[must_use]
    #[track_caller]
    pub fn with_limits(max_pending: usize, max_running: usize) -> Timers {
        assert!(max_running > 0, "timers that never run");
        let (plan, changed) = (Mutex::default(), WaitQueue::new());
        let core = Arc::new(Core { plan, changed, max_pending, max_running });
        let (clock, ticking) = (Arc::clone(&core), Ticking(Arc::clone(&core)));
        let clock =
            Builder::new().name("timers".into()).spawn_keeping(move || tick(&clock), ticking);
        let clock = Arc::new(Clock(clock.expect("failed to spawn coroutine")));
        Timers { core, _clock: clock }
    }

    /// Calls `callback` after `delay`, in a coroutine of its own; with no delay, as soon as others
    /// get to run.
    ///
    /// # Errors
    ///
    /// When too many are pending; when the set is shut down, unless there is no delay; when its
    /// runtime has ended.
    pub fn at(
        &self,
        delay: Duration,
        callback: impl FnOnce(bool) + Send + 'static,
    ) -> Result<TimerHandle, TimerError> {
        self.add(clock::after(delay), delay.is_zero(), Job::Once(Box::new(callback)))
    }

    /// Calls `callback` every `period`, each time in a coroutine of its own, for the first time
    /// after one period. The next call is planned before one begins, so calls that take longer than
    /// the period overlap; of those that are due while too many run, one is made up for.
    ///
    /// # Errors
    ///
    /// As [`at`](Timers::at).
    ///
    /// # Panics
    ///
    /// For a period of zero.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cosocket::sync::mpsc;
    /// use cosocket::time::Timers;
    ///
    /// let timers = Timers::new();
    /// let (sender, ticks) = mpsc::channel();
    /// let tick = move |_premature| sender.send("tick").unwrap();
    /// let timer = timers.every(Duration::from_millis(1), tick)?;
    /// assert_eq!(ticks.iter().take(3).count(), 3);
    /// assert!(timer.cancel());
    /// # Ok::<(), cosocket::time::TimerError>(())
    /// ```
    #[track_caller]
    pub fn every(
        &self,
        period: Duration,
        callback: impl Fn(bool) + Send + Sync + 'static,
    ) -> Result<TimerHandle, TimerError> {
        assert!(!period.is_zero(), "delay cannot be zero");
        let nanos = period.as_nanos().try_into().unwrap_or(NEVER);
        self.add(clock::after(period), false, Job::Every(nanos, Arc::new(callback)))
    }

    fn add(&self, at: Nanos, is_now: bool, job: Job) -> Result<TimerHandle, TimerError> {
        let mut plan = self.core.lock();
        if plan.is_over || plan.is_exiting && !is_now {
            return Err(TimerError::Exiting);
        }
        if plan.pending.len() >= self.core.max_pending {
            return Err(TimerError::TooManyPending);
        }
        let number = plan.next;
        plan.next += 1;
        plan.insert(number, at, job);
        plan.version += 1;
        drop(plan);
        self.core.changed.wake_all();
        Ok(TimerHandle { number, core: Arc::downgrade(&self.core) })
    }

    /// How many timers are pending. One of [`every`](Timers::every) always is.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.core.lock().pending.len()
    }

    /// How many callbacks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.core.lock().running
    }

    /// Has all pending timers called now, with `true` for premature, in no particular order and
    /// however many they are; waits until all callbacks are over, for at most `patience`, and
    /// returns how many are not. From now on only timers without a delay are accepted.
    ///
    /// A cancel, and a [`timeout`](crate::time::timeout) around this, unwind; the timers are called
    /// all the same.
    pub fn shutdown(&self, patience: Duration) -> usize {
        self.core.change(|plan| plan.is_exiting = true);
        let left = || {
            let plan = self.core.lock();
            plan.pending.len() + plan.running
        };
        let deadline = clock::after(patience);
        self.core.changed.wait_until(|| left() == 0, Reason::SHUTDOWN, Some(deadline));
        left()
    }
}

impl Default for Timers {
    fn default() -> Timers {
        Timers::new()
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Timers");
        debug.field("pending", &self.pending()).field("running", &self.running());
        debug.finish_non_exhaustive()
    }
}

/// The body of the clock's coroutine.
fn tick(core: &Arc<Core>) {
    loop {
        let mut plan = core.lock();
        let premature = plan.is_exiting;
        let calls = match premature {
            true => plan.take_all(),
            false => plan.take_due(clock::now(), core.max_running),
        };
        plan.running += calls.len();
        let is_full = plan.running >= core.max_running;
        let next = plan.order.first().filter(|_| !is_full).map(|&(at, _)| at);
        let seen = plan.version;
        drop(plan);
        for call in calls {
            let running = Running(Arc::clone(core));
            let call = move || call(premature);
            if let Err(error) = Builder::new().name("timer".into()).spawn_keeping(call, running) {
                eprintln!("cosocket: a timer is not called: {error}");
            }
        }
        let has_changed = || core.lock().version != seen;
        let reason = if next.is_some() { Reason::SLEEP } else { Reason::CONDITION };
        core.changed.wait_until(has_changed, reason, next);
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        // No code of the user's runs under the lock; see `WaitQueue::lock` for poison.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let mut plan = self.lock();
        plan.version += 1;
        let result = change(&mut plan);
        drop(plan);
        self.changed.wake_all();
        result
    }
}

impl Plan {
    fn insert(&mut self, number: u64, at: Nanos, job: Job) {
        self.order.insert((at, number));
        self.pending.insert(number, (at, job));
    }

    fn remove(&mut self, number: u64) -> Option<Job> {
        let (at, job) = self.pending.remove(&number)?;
        self.order.remove(&(at, number));
        Some(job)
    }

    /// What is due at `now`, as far as there is room to run it.
    fn take_due(&mut self, now: Nanos, max_running: usize) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::new();
        while self.running + calls.len() < max_running {
            let Some(&(at, number)) = self.order.first().filter(|&&(at, _)| at <= now) else {
                break;
            };
            match self.remove(number).expect("in both") {
                Job::Once(callback) => calls.push(callback),
                Job::Every(period, callback) => {
                    // The plan's next time that is not over.
                    let missed = (now - at) / period;
                    let next = at.saturating_add(period.saturating_mul(missed + 1));
                    self.insert(number, next, Job::Every(period, Arc::clone(&callback)));
                    calls.push(Box::new(move |premature| callback(premature)));
                }
            }
        }
        calls
    }

    fn take_all(&mut self) -> Vec<Call> {
        self.order.clear();
        let call = |(_, (_, job))| -> Call {
            match job {
                Job::Once(callback) => callback,
                Job::Every(_, callback) => Box::new(move |premature| callback(premature)),
            }
        };
        self.pending.drain().map(call).collect()
    }
}

/// A timer of a set; dropping this does nothing.
#[derive(Clone)]
pub struct TimerHandle {
    number: u64,
    core: Weak<Core>,
}

impl TimerHandle {
    /// Forgets the timer; whether it was pending. A callback that runs goes on.
    pub fn cancel(&self) -> bool {
        let Some(core) = self.core.upgrade() else { return false };
        let job = core.change(|plan| plan.remove(self.number));
        // What it owns is dropped here, outside of the lock.
        job.is_some()
    }

    /// Whether it is still to be called.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.core.upgrade().is_some_and(|core| core.lock().pending.contains_key(&self.number))
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerHandle").field("is_pending", &self.is_pending()).finish()
    }
}

/// Why a timer was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// As many are pending as may be.
    TooManyPending,
    /// The set is shut down, or its runtime has ended.
    Exiting,
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimerError::TooManyPending => "too many pending timers",
            TimerError::Exiting => "process exiting",
        })
    }
}

impl Error for TimerError {}
