//! Ticks.

use super::{Duration, Instant, sleep_until};

/// A tick this late is as good as one in time: what comes after it goes by the plan.
const SLACK: Duration = Duration::from_millis(5);

/// As far off as a time need be; an `Instant` cannot be any.
const FAR: Duration = Duration::from_secs(86400 * 365 * 30);

/// Ticks every `period`, the first of them at once.
///
/// # Panics
///
/// When `period` is zero.
///
/// ```
/// use cosocket::time::{Duration, interval};
///
/// let mut ticks = interval(Duration::from_millis(2));
/// let first = ticks.tick();
/// assert_eq!(ticks.tick() - first, Duration::from_millis(2));
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks every `period`, the first of them at `start`.
///
/// # Panics
///
/// When `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval is not zero");
    Interval { next: start, period, missed_tick_behavior: MissedTickBehavior::Burst }
}

/// What [`interval`] returns.
///
/// Unlike a loop of sleeps it does not drift: ticks are planned from the first one, and a tick that
/// is waited for a little late does not delay those after it.
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
    missed_tick_behavior: MissedTickBehavior,
}

/// What becomes of ticks that were missed, for nobody called [`Interval::tick`] in time. A tick up
/// to 5 ms late does not count as missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Each of them comes, without a pause, until the plan is caught up with.
    ///
    /// ```text
    /// planned   |     1     |     2     |     3     |     4     |     5     |
    /// actual    |     1     | a long job             |2|3|4|    |     5     |
    /// ```
    #[default]
    Burst,
    /// They are left out, and the plan is moved: the next tick comes a period after the late one.
    ///
    /// ```text
    /// planned   |     1     |     2     |     3     |     4     |     5     |
    /// actual    |     1     | a long job             |2|        3|          4|
    /// ```
    Delay,
    /// They are left out, and the plan stays: the next tick comes at a multiple of the period.
    ///
    /// ```text
    /// planned   |     1     |     2     |     3     |     4     |     5     |
    /// actual    |     1     | a long job             |2|   |     3     |     4
    /// ```
    Skip,
}

impl MissedTickBehavior {
    /// When the tick after the late one that was planned for `planned` comes.
    fn next(self, planned: Instant, now: Instant, period: Duration) -> Instant {
        match self {
            MissedTickBehavior::Burst => later(planned, period),
            MissedTickBehavior::Delay => later(now, period),
            MissedTickBehavior::Skip => {
                let into = (now - planned).as_nanos() % period.as_nanos();
                // Less than the period. One of more than 584 years misses no tick.
                let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
                later(now, period - into)
            }
        }
    }
}

impl Interval {
    /// Waits for the next tick, and returns when that was planned to be.
    ///
    /// A cancel or an enclosing [`timeout`](super::timeout) that cuts the wait leaves the tick for
    /// the next call.
    pub fn tick(&mut self) -> Instant {
        let planned = self.next;
        let mut now = Instant::now();
        if now < planned {
            sleep_until(planned);
            now = Instant::now();
        }
        self.next = if now.saturating_duration_since(planned) > SLACK {
            self.missed_tick_behavior.next(planned, now, self.period)
        } else {
            later(planned, self.period)
        };
        planned
    }

    /// The next tick comes a period from now.
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// The next tick comes at once.
    pub fn reset_immediately(&mut self) {
        self.next = Instant::now();
    }

    /// The next tick comes after `duration`.
    pub fn reset_after(&mut self, duration: Duration) {
        self.next = later(Instant::now(), duration);
    }

    /// The next tick comes at `at`.
    pub fn reset_at(&mut self, at: Instant) {
        self.next = at;
    }

    /// The time from tick to tick.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What becomes of missed ticks; at first [`MissedTickBehavior::Burst`].
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed_tick_behavior
    }

    /// Sets what becomes of missed ticks.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed_tick_behavior = behavior;
    }
}

fn later(at: Instant, duration: Duration) -> Instant {
    at.checked_add(duration).unwrap_or_else(|| at + FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);

    /// Where the tick after one planned for 0 comes that is noticed `late` ms late.
    fn next_ms(behavior: MissedTickBehavior, late: u64) -> u128 {
        let planned = Instant::now();
        let next = behavior.next(planned, planned + Duration::from_millis(late), PERIOD);
        (next - planned).as_millis()
    }

    #[test]
    fn missed_ticks_come_in_a_burst_or_later_or_not_at_all() {
        use MissedTickBehavior::{Burst, Delay, Skip};
        assert_eq!([6, 10, 35].map(|late| next_ms(Burst, late)), [10, 10, 10]);
        assert_eq!([6, 10, 35].map(|late| next_ms(Delay, late)), [16, 20, 45]);
        assert_eq!([6, 10, 35].map(|late| next_ms(Skip, late)), [10, 20, 40]);
    }

    #[test]
    fn a_tick_in_time_keeps_the_plan() {
        let start = Instant::now();
        let mut ticks = interval_at(start, PERIOD);
        let planned: Vec<_> = (0..4).map(|_| ticks.tick() - start).collect();
        assert_eq!(planned, (0..4).map(|n| PERIOD * n).collect::<Vec<_>>());
        assert!(start.elapsed() >= PERIOD * 3);
    }

    #[test]
    fn the_longest_period_overflows_nothing() {
        for behavior in
            [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip]
        {
            let mut ticks = interval(Duration::MAX);
            ticks.set_missed_tick_behavior(behavior);
            ticks.tick();
            ticks.reset();
            ticks.reset_after(Duration::MAX);
            let now = Instant::now();
            assert!(behavior.next(now, now + SLACK * 2, Duration::MAX) > now);
        }
    }

    #[test]
    #[should_panic(expected = "not zero")]
    fn a_period_of_zero_is_refused() {
        interval(Duration::ZERO);
    }
}
