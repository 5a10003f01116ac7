//! `std::os`, where it waits: Unix sockets, and any descriptor.

#[allow(unsafe_code)]
pub mod unix;
mod wait;

pub use wait::{Interest, Ready, wait};
