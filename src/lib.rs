//! Blocking-style networking that scales.

// Under loom the crate is empty: the models include the files they model.
#![cfg(not(loom))]
#![allow(dead_code)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("cosocket needs 64-bit Linux (5.11 or later); other systems are not supported");

mod atomics;
#[allow(unsafe_code)]
mod clock;
#[allow(unsafe_code)]
mod doorbell;
#[allow(unsafe_code)]
mod driver;
#[allow(unsafe_code)]
mod mailbox;
mod registry;
