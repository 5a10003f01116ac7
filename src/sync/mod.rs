//! `std::sync`, for coroutines and threads alike: locks and channels that suspend.
//!
//! Inside a coroutine a wait suspends it; on a plain thread it blocks the thread; the two may
//! share one lock or channel. What needs no waiting is std's own: [`Arc`], [`atomic`], the poison
//! errors.

mod batch;
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
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
