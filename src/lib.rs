//! Blocking-style networking that scales.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

#[path = "../arch/mod.rs"]
#[allow(unsafe_code)]
mod arch;

/// What this repository's tests and benches reach besides the public surface.
#[cfg(cosocket_internals)]
#[doc(hidden)]
pub mod internals {
    /// Context switches.
    pub mod arch {
        pub use crate::arch::*;
    }
}
