//! Blocking-style networking that scales.

// Under loom the crate is empty: the models include the files they model.
#![cfg(not(loom))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

#[path = "../arch/mod.rs"]
#[allow(unsafe_code)]
mod arch;
mod atomics;
#[allow(unsafe_code)]
mod blocking;
#[allow(unsafe_code)]
mod blocks;
#[cfg(test)]
mod child;
#[allow(unsafe_code)]
mod clock;
#[allow(unsafe_code)]
mod coroutine;
#[allow(unsafe_code)]
mod current;
#[allow(unsafe_code)]
mod doorbell;
#[allow(unsafe_code)]
mod driver;
#[allow(unsafe_code)]
mod dump;
#[allow(unsafe_code)]
mod io_handle;
#[allow(unsafe_code)]
mod list;
#[allow(unsafe_code)]
mod local;
#[allow(unsafe_code)]
mod mailbox;
mod metrics;
#[cfg(doctest)]
mod misuse;
#[allow(unsafe_code)]
mod overflow;
#[allow(unsafe_code)]
mod ready;
mod registry;
#[allow(unsafe_code)]
mod runtime;
#[allow(unsafe_code)]
mod scope;
#[allow(unsafe_code)]
mod stack;
#[allow(unsafe_code)]
mod timer;
#[allow(unsafe_code)]
mod wait;
#[allow(unsafe_code)]
mod worker;

#[allow(unsafe_code)]
pub mod net;
#[allow(unsafe_code)]
pub mod thread;

use std::fmt;

pub use blocking::unblock;
pub use driver::Choice as Driver;
pub use metrics::Metrics;
pub use runtime::{Builder, Runtime, run};
pub use thread::{LocalJoinHandle, shield, spawn, spawn_local};

/// The payload of a cancelled coroutine: what its `join` returns as the error, and what an
/// unwinding cancel carries. See [`thread::JoinHandle::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// What this repository's own tests and benches reach; not part of the published crate.
#[cfg(cosocket_internals)]
#[doc(hidden)]
pub mod internals {
    pub use crate::blocking::{Counts, counts};
    pub mod arch {
        pub use crate::arch::*;
    }
    pub mod timer {
        pub use crate::timer::*;
    }
}
