//! Keepalive pools: connections that wait, open, for whoever connects next.
//!
//! ```text
//!   runtime
//!     Pools             all pools of the runtime, by Key
//!       Recent          one for each worker: those found lately, by what was asked for
//!       Stock           the connections of one key: limits, counters
//!         Places        one word: how many are out, idle, queued
//!         Shard         one for each worker: what was parked there, last in first out
//!         Queue         who waits for a place, first in first out
//!       Watch           what happens to idle connections by itself
//!     Ticket            a place in a stock, as its holder has it
//! ```
//!
//! The limits count for the whole runtime: `Places` is one word for all workers, and it is what
//! decides. What is decided, a connection, is then taken from the worker's own shard, or if that
//! has none from another's. So two workers that take and park share one word, and no lock.
//!
//! Nobody overtakes: a connection that is given back while somebody waits goes to the head of the
//! queue and is never idle in between, and so does a place that becomes free. (OpenResty lets a
//! newcomer take an idle connection while others wait.)
//!
//! A place is a [`Ticket`], and it is given back when that is dropped. So every path on which a
//! connect fails (refused, timed out, a name that is none, a coroutine cancelled in the middle)
//! gives it back, and with it starts the next who waits.
//!
//! All of this is generic over what is pooled, so that it can be tested without sockets.

mod handle;
#[allow(unsafe_code)]
mod idle_set;
mod keepalive;
mod key;
mod member;
mod metrics;
mod options;
mod places;
mod plan;
mod pools;
mod queue;
mod recent;
mod settings;
mod shard;
mod stock;
#[cfg(test)]
mod tests;
mod ticket;
mod upkeep;
mod user_data;
mod watch;

use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use self::handle::{Pool, pool_totals, pools};
pub(crate) use self::keepalive::{Found, Origin, Wanted, find};
pub(crate) use self::key::TlsKey;
pub(crate) use self::member::Member;
pub use self::metrics::PoolMetrics;
pub use self::options::{Evicted, PoolOptions};
pub(crate) use self::pools::Pools;
pub(crate) use self::settings::Settings;
pub(crate) use self::ticket::Ticket;

use crate::clock::Nanos;

/// What can be kept in a pool. Dropped, it is closed.
pub(crate) trait Pooled: Send + Sized + 'static {
    /// The user's, of one pool.
    type Hooks: Clone + Default + Send + Sync;

    /// Whether it is as it should be while nobody uses it: open, and nothing to read. What its
    /// transport has to do by itself it may do here. Never waits.
    fn is_quiet(&mut self) -> bool;

    /// Whether it is certain to be quiet for who takes it now, without looking.
    fn is_known_quiet(&self) -> bool {
        false
    }

    /// What becomes readable when it is not quiet any more. `None`: nobody is told, and it is
    /// looked at when it is taken.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    fn opened_at(&self) -> Nanos;

    /// Closes it, on behalf of the pool.
    fn evict(self, hooks: &Self::Hooks, reason: Eviction, idle_for: Duration);
}

/// Why a pool closed an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// To make room: of all that were idle, it had been so for longest.
    Full,
    /// It was idle for longer than it may be.
    Idle,
    /// It is older than connections of this pool may be.
    Age,
    /// Its peer has closed it or sent what nobody had asked for, or it has failed.
    Stale,
    /// The runtime ends.
    Shutdown,
}
