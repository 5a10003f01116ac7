//! Blocking-style networking that scales.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

#[allow(unsafe_code)]
mod clock;
// Nothing above the drivers calls them yet.
#[allow(unsafe_code, dead_code)]
mod driver;
