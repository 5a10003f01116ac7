//! `std::os::linux`, as far as it concerns sockets.

/// `std::os::linux::net`. What std's traits add to sockets, ours have as methods of their own.
pub mod net {
    pub use std::os::linux::net::{SocketAddrExt, TcpStreamExt};
}
