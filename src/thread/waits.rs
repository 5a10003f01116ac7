//! Waits of the calling coroutine or thread: park, sleep, yield; and what holds their ends back.

use std::time::{Duration, Instant};

use crate::clock;
use crate::current;
use crate::limit;
use crate::wait::{self, Reason, Shield, Signal};

/// Waits until [`Thread::unpark`](super::Thread::unpark) is, or was, called. May return without that, as in std. A cancel
/// unwinds out of it, and so does an enclosing [`timeout`](crate::time::timeout).
///
/// ```
/// use cosocket::thread;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// let ready = Arc::new(AtomicBool::new(false));
/// let waiter = thread::spawn({
///     let ready = Arc::clone(&ready);
///     move || {
///         while !ready.load(Ordering::Acquire) {
///             thread::park();
///         }
///     }
/// });
/// ready.store(true, Ordering::Release);
/// waiter.thread().unpark();
/// waiter.join().unwrap();
/// ```
pub fn park() {
    match current::worker() {
        Some(_) => park_coroutine(None),
        None => park_thread(None),
    }
}

/// [`park`], for at most `timeout` (rounded up to a tick of 65.5 µs). Does not say why it returned,
/// as in std.
pub fn park_timeout(timeout: Duration) {
    match current::worker() {
        Some(worker) => park_coroutine(Some(worker.after(timeout))),
        None => park_thread(Some(timeout)),
    }
}

fn park_coroutine(deadline: Option<clock::Nanos>) {
    let worker = current::worker().expect("asked for by a coroutine");
    let me = worker.current();
    // Both: two tokens are one.
    let take_token = || me.unparked.replace(false) | me.signals.take_unparked();
    while !take_token() {
        match wait::suspend(worker, Reason::PARK, deadline, false) {
            Signal::Wake => {}
            Signal::TimedOut => {
                take_token();
                return;
            }
            Signal::Cancelled => return raise_where_possible(),
        }
    }
}

/// On a plain thread std parks, for no longer than a limit around it allows. Under a flag that is
/// till the next look at it, and then this returns for nothing: std does not tell whether a token
/// ended the wait, and one that did would be lost by waiting on.
fn park_thread(timeout: Option<Duration>) {
    let _shield = Shield::where_nothing_unwinds();
    let Some(limit) = limit::of_thread(false) else {
        return timeout.map_or_else(std::thread::park, std::thread::park_timeout);
    };
    let left = time_until(limit);
    if !left.is_zero() {
        std::thread::park_timeout(timeout.map_or(left, |timeout| timeout.min(left)));
    }
    if limit::interruption_of_thread(false).is_some() {
        // A token that came at the last moment may be what ended it: it is for the next `park`,
        // which may return for nothing, as in std.
        std::thread::current().unpark();
        wait::raise_cancelled();
    }
}

/// Waits for at least `duration`, rounded up to a tick of 65.5 µs. A cancel unwinds out of it, and
/// so does an enclosing [`timeout`](crate::time::timeout).
pub fn sleep(duration: Duration) {
    match current::worker() {
        Some(worker) => sleep_until_nanos(worker.after(duration)),
        None => sleep_thread(duration),
    }
}

fn sleep_thread(duration: Duration) {
    let _shield = Shield::where_nothing_unwinds();
    let end = clock::after(duration);
    while let Some(limit) = limit::of_thread(false) {
        std::thread::sleep(time_until(limit.min(end)));
        if limit <= end && limit::interruption_of_thread(false).is_some() {
            wait::raise_cancelled();
        }
        if time_until(end).is_zero() {
            return;
        }
    }
    std::thread::sleep(time_until(end));
}

fn time_until(at: clock::Nanos) -> Duration {
    Duration::from_nanos(at.saturating_sub(clock::now()))
}

/// Waits until `deadline` has passed; as [`sleep`]. One that has passed already only yields.
pub fn sleep_until(deadline: Instant) {
    sleep(deadline.saturating_duration_since(Instant::now()));
}

fn sleep_until_nanos(deadline: clock::Nanos) {
    let _shield = Shield::where_nothing_unwinds();
    let worker = current::worker().expect("asked for by a coroutine");
    loop {
        match wait::suspend(worker, Reason::SLEEP, Some(deadline), false) {
            Signal::Cancelled => return raise_where_possible(),
            // The wheel went by a clock read before this: the deadline has passed.
            Signal::TimedOut => return,
            Signal::Wake => {}
        }
    }
}

/// Lets every other ready coroutine of this worker run first; on a plain thread, other threads.
///
/// A pending cancel unwinds here, and so does an enclosing [`timeout`](crate::time::timeout) that
/// has passed.
pub fn yield_now() {
    match current::worker() {
        Some(worker) => {
            worker.yield_now();
            if wait::is_cancellable(worker) {
                raise_where_possible();
            }
        }
        None => {
            std::thread::yield_now();
            if limit::interruption_of_thread(false).is_some() {
                raise_where_possible();
            }
        }
    }
}

/// Runs `f` with everything held back that would unwind it: a cancel of this coroutine, or a
/// [`timeout`](crate::time::timeout) around it, that comes meanwhile takes effect at the first
/// wait after it.
///
/// For foreign frames that must not be unwound (C callbacks), and for waits that must come to
/// their end. It may be nested. What returns an error goes on to do so: timeouts of sockets apply,
/// and so does the limit of a `timeout` around it to I/O calls in it. A `timeout` inside of `f`
/// is not held back: what it unwinds is inside of it.
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    let _shield = Shield::raise();
    f()
}

fn raise_where_possible() {
    if cfg!(panic = "unwind") {
        wait::raise_cancelled();
    }
}
