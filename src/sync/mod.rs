//! `std::sync`, for coroutines and threads alike: locks and channels that suspend.
//!
//! Inside a coroutine a wait suspends it; on a plain thread it blocks the thread; the two may
//! share one lock or channel. What needs no waiting is std's own: [`Arc`], [`atomic`], the poison
//! errors.

mod channel;
pub mod mpmc;
pub mod mpsc;
pub mod oneshot;
pub mod select;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use crate::select;
