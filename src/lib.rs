//! Blocking-style networking that scales.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

#[allow(unsafe_code)]
mod blocking;
mod clock {
    pub(crate) type Nanos = u64;
}
#[allow(unsafe_code)]
mod list;
#[allow(unsafe_code)]
mod timer;

/// std's `net`, for coroutines.
pub mod net {
    mod addr;

    pub use addr::ToSocketAddrs;
}

pub use blocking::unblock;

/// What this repository's tests and benches reach; no part of the public interface.
#[cfg(cosocket_internals)]
#[doc(hidden)]
pub mod internals {
    pub use crate::blocking::{Counts, counts};
    pub use crate::list::{Links, List, Node};
    pub use crate::timer::{Timer, Wheel};
}
