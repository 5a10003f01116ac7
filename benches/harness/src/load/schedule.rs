//! When the requests of an open loop are due: at a fixed rate, whatever the server does.
//!
//! A request that could not be sent in time keeps the time at which it was due, and its latency
//! counts from there. So a server that stalls is charged for all that waited meanwhile, and not
//! only for what had been sent (no coordinated omission).

/// Times are nanoseconds.
pub struct Schedule {
    start: u64,
    interval: f64,
    issued: u64,
}

impl Schedule {
    pub fn new(start: u64, per_second: f64) -> Schedule {
        Schedule { start, interval: 1e9 / per_second, issued: 0 }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> u64 {
        self.start + (self.issued as f64 * self.interval) as u64
    }

    /// Takes the next one if it is due: its number, and when it was due.
    pub fn take(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        self.issued += 1;
        Some((self.issued - 1, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_due_at_its_own_time() {
        let mut schedule = Schedule::new(1000, 1e6);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1000), Some((0, 1000)));
        assert_eq!(schedule.take(1999), None);
        // A stall of three intervals.
        let late = std::iter::from_fn(|| schedule.take(4500)).collect::<Vec<_>>();
        assert_eq!(late, [(1, 2000), (2, 3000), (3, 4000)]);
        assert_eq!(schedule.next_due(), 5000);
    }

    #[test]
    fn the_rate_does_not_drift() {
        let mut schedule = Schedule::new(0, 30_000.0);
        while schedule.take(1_000_000_000 - 1).is_some() {}
        assert_eq!(schedule.issued, 30_000);
    }
}
