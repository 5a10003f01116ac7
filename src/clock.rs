//! The one clock of the crate: `CLOCK_MONOTONIC`, in nanoseconds.
//!
//! It is the clock that both drivers sleep by, so a deadline computed here means the same
//! instant in the kernel. It does not advance while the machine is suspended.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`; 64 bits last 584 years.
pub(crate) type Nanos = u64;

/// A time that does not come.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// `duration` from now.
pub(crate) fn after(duration: Duration) -> Nanos {
    later(now(), duration)
}

/// `duration` from `now`; if that cannot be expressed, centuries from it.
pub(crate) fn later(now: Nanos, duration: Duration) -> Nanos {
    let nanos = Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX);
    now.saturating_add(nanos).min(NEVER - 1)
}

/// The time now.
pub(crate) fn now() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call may write.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    debug_assert_eq!(result, 0, "CLOCK_MONOTONIC exists on every Linux");
    time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_does_move() {
        let start = now();
        let mut last = start;
        while last == start {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }
}
