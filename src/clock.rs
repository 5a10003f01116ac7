//! The one clock: nanoseconds of `CLOCK_MONOTONIC`.

/// Nanoseconds of `CLOCK_MONOTONIC`; enough for 584 years of uptime.
pub(crate) type Nanos = u64;

/// `duration` from now, rounded up to what the type can hold.
pub(crate) fn after(duration: std::time::Duration) -> Nanos {
    let nanos = Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX);
    // One short of the maximum, which means "never" elsewhere; both are centuries away.
    now().saturating_add(nanos).min(Nanos::MAX - 1)
}

/// The time now.
pub(crate) fn now() -> Nanos {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is ours to write for the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    debug_assert_eq!(result, 0, "CLOCK_MONOTONIC always exists");
    time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos
}
