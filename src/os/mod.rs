//! `std::os`, where it waits: Unix sockets, and any descriptor.

pub mod linux;
pub mod unix;
mod wait;

pub use wait::{Interest, Ready, wait};
