//! The receiving half of a cosocket: lines, sizes, patterns, packets, whatever pieces they come in.

#![allow(missing_docs)]

#[cfg(not(cosocket_internals))]
compile_error!("this test needs `--cfg cosocket_internals`, which .cargo/config.toml sets");

#[allow(unsafe_code)]
#[path = "../peers/mod.rs"]
mod peers;
#[path = "../support/mod.rs"]
mod support;
#[allow(unsafe_code)]
#[path = "../util/mod.rs"]
mod util;

mod bytes;
mod chunking;
mod memory;
mod packets;
mod reference;
mod script;
mod servers;
mod socket;
mod until;
