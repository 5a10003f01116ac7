//! The arms that are done when a time has come. They put no node anywhere: the select's own wait
//! ends at the earliest of their times.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{Arm, Operation, Round};
use crate::clock::{self, Nanos};

/// An arm that is done when `duration` has passed, counted from this call. It yields `()`.
///
/// As with [`sleep`](crate::thread::sleep), never before that, and up to a tick of 65.5 µs later.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use cosocket::sync::select;
///
/// let start = Instant::now();
/// select! { () = select::after(Duration::from_millis(5)) => {} }
/// assert!(start.elapsed() >= Duration::from_millis(5));
/// ```
pub fn after(duration: Duration) -> Timer {
    Timer { at: clock::after(duration), is_chosen: Cell::new(false) }
}

/// An arm that is done at `deadline`, or at once if that has passed. It yields `()`.
///
/// Made once and used in select after select, it bounds the time of all of them together.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use cosocket::sync::{mpsc, select};
///
/// let (_sender, receiver) = mpsc::channel::<i32>();
/// let deadline = Instant::now() + Duration::from_millis(5);
/// let answer = select! {
///     number = select::recv(&receiver) => number.ok(),
///     () = select::at(deadline) => None,
/// };
/// assert_eq!(answer, None);
/// ```
pub fn at(deadline: Instant) -> Timer {
    after(deadline.saturating_duration_since(Instant::now()))
}

/// The arm made by [`after`] and [`at`].
#[derive(Debug)]
pub struct Timer {
    at: Nanos,
    is_chosen: Cell<bool>,
}

impl Operation for Timer {
    fn attempt(&self) -> bool {
        self.is_chosen.get() || self.at <= clock::now()
    }

    unsafe fn enlist(&self, _round: &Round, _index: usize) -> bool {
        true
    }

    fn withdraw(&self) {}

    fn choose(&self) {
        self.is_chosen.set(true);
    }

    fn deadline(&self) -> Option<Nanos> {
        Some(self.at)
    }
}

impl Arm for Timer {
    type Output = ();

    fn take(&mut self) -> Option<()> {
        self.is_chosen.replace(false).then_some(())
    }
}
