//! `std::sync`, for coroutines and threads alike: locks and channels that suspend.
//!
//! Inside a coroutine a wait suspends it; on a plain thread it blocks the thread; the two may
//! share one lock or channel. What needs no waiting is std's own: [`Arc`], [`atomic`], the poison
//! errors.
//!
//! std has no counterpart of [`Semaphore`], [`WaitGroup`], [`CancelToken`], [`JoinSet`],
//! [`watch`] and [`broadcast`].

mod barrier;
pub mod broadcast;
mod cancel_token;
mod join_set;
mod lazy_lock;
mod once;
mod once_lock;
mod semaphore;
mod wait_group;
pub mod watch;

mod channel;
mod condvar;
pub mod mpmc;
pub mod mpsc;
mod mutex;
pub mod oneshot;
mod poison;
mod raw_mutex;
mod raw_rw_lock;
mod rw_lock;
pub mod select;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use crate::select;
pub use barrier::{Barrier, BarrierWaitResult};
pub use cancel_token::{CancelToken, DropGuard};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use join_set::JoinSet;
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{
    AcquireError, AcquireTimeoutError, OwnedSemaphorePermit, Semaphore, SemaphorePermit,
    TryAcquireError,
};
pub use wait_group::WaitGroup;

use crate::current;
use crate::wait;

/// Calls that take something which may be there without a wait begin so: after a run of those that
/// did not wait, others get their turn first; and a pending cancel unwinds.
fn begin_call() {
    if let Some(worker) = current::worker() {
        worker.charge();
        if cfg!(panic = "unwind") && wait::is_cancellable(worker) {
            // One who swallows its cancel and calls again starves nobody.
            worker.yield_now();
            wait::raise_cancelled();
        }
    }
}
