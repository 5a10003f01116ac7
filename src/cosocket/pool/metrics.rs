//! What a pool counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a pool holds now, and what it has done since it began.
///
/// Once nothing moves, the numbers add up:
///
/// * `misses = opened + failed + connecting`
/// * `parked = hits + idle + closed_idle()`
/// * `opened + adopted = in_use + idle + closed + closed_idle()`
///
/// where [`closed_idle`](PoolMetrics::closed_idle) is `evicted + expired + aged + stale`. While
/// others work on the pool, they may be a connection apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Connections that are parked.
    pub idle: u64,
    /// Connections that somebody has.
    pub in_use: u64,
    /// Connections that are being opened.
    pub connecting: u64,
    /// Callers who wait for a place.
    pub queued: u64,
    /// How many may be idle, and, with a backlog, be there at all.
    pub size: u64,
    /// How many callers may wait.
    pub backlog: Option<u64>,
    /// A parked connection was taken, or handed to one who waited.
    pub hits: u64,
    /// There was none, and one was to be opened; or one was to be opened ahead.
    pub misses: u64,
    /// Of these, how many were.
    pub opened: u64,
    /// Of these, how many were not: refused, timed out, cancelled.
    pub failed: u64,
    /// Connections that were not opened through the pool, and parked in it.
    pub adopted: u64,
    /// Connections were given back.
    pub parked: u64,
    /// Connections were closed by those who had them.
    pub closed: u64,
    /// Idle connections were closed to make room for others, or with the runtime.
    pub evicted: u64,
    /// Idle connections were closed because they had been idle for too long.
    pub expired: u64,
    /// Idle connections were closed because they were too old.
    pub aged: u64,
    /// Idle connections were found closed by their peers, broken, or with data on them that nobody
    /// had asked for.
    pub stale: u64,
    /// Callers had to wait.
    pub waited: u64,
    /// Callers waited in vain, for too long.
    pub timed_out: u64,
    /// Callers were told that too many wait.
    pub refused: u64,
}

impl PoolMetrics {
    /// How many connections were closed while they were idle.
    #[must_use]
    pub fn closed_idle(&self) -> u64 {
        self.evicted + self.expired + self.aged + self.stale
    }

    /// Adds what another pool has and did. Of the two limits it keeps the sums.
    pub(crate) fn add(&mut self, other: &PoolMetrics) {
        macro_rules! sum {
            ($($number:ident)*) => { $(self.$number += other.$number;)* };
        }
        sum!(idle in_use connecting queued size hits misses opened failed adopted parked closed);
        sum!(evicted expired aged stale waited timed_out refused);
        self.backlog = match (self.backlog, other.backlog) {
            (Some(mine), Some(its)) => Some(mine + its),
            (mine, its) => mine.or(its),
        };
    }
}

/// Events of a pool that are rare: each costs a system call or more.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connecting: Counter,
    pub(crate) misses: Counter,
    pub(crate) opened: Counter,
    pub(crate) failed: Counter,
    pub(crate) adopted: Counter,
    pub(crate) closed: Counter,
    pub(crate) evicted: Counter,
    pub(crate) expired: Counter,
    pub(crate) aged: Counter,
    pub(crate) stale: Counter,
    pub(crate) waited: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) refused: Counter,
    /// Given back and handed to one who waited: such a connection was on no shard.
    pub(crate) handed_over: Counter,
    /// Taken from a shard, and then found to be of no use.
    pub(crate) unfit: Counter,
}

/// Many writers; nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn one_less(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
