//! `std::os::unix::net`, for coroutines: Unix sockets.
//!
//! The names, signatures and meanings are those of [`std::os::unix::net`]; what is said of
//! [`net`](crate::net) holds here too. Beyond what std has stable: the credentials of a peer,
//! `peek`, and descriptors that travel with bytes
//! ([`send_with_fds`](UnixStream::send_with_fds), [`recv_with_fds`](UnixStream::recv_with_fds)).
//!
//! Two calls wait for room in a socket that is not their own: [`UnixStream::connect`], while the
//! listener's backlog is full, and [`UnixDatagram::send_to`], while the receiver's queue is. The
//! kernel tells nobody but blocked threads when that ends, so a coroutine asks again after pauses
//! of up to 10 ms, in no particular order with others that wait for the same.
//!
//! Addresses are std's own type, so abstract names are made and read by
//! [`SocketAddrExt`](std::os::linux::net::SocketAddrExt):
//!
//! ```
//! use cosocket::os::unix::net::{SocketAddr, UnixListener, UnixStream};
//! use std::os::linux::net::SocketAddrExt;
//!
//! let name = format!("cosocket-doc-{}", std::process::id());
//! let address = SocketAddr::from_abstract_name(&name)?;
//! let listener = UnixListener::bind_addr(&address)?;
//! let client = UnixStream::connect_addr(&address)?;
//! assert_eq!(client.peer_addr()?.as_abstract_name(), Some(name.as_bytes()));
//! listener.accept()?;
//! # std::io::Result::Ok(())
//! ```

mod address;
mod credentials;
mod datagram;
mod descriptors;
mod listener;
mod stream;

pub use std::os::unix::net::SocketAddr;

pub(crate) use self::address::{from_kernel, of_path, to_kernel};

pub use crate::io_handle::Received;
pub use credentials::UCred;
pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use stream::UnixStream;

use std::io;

use socket2::{Domain, Socket, Type};

/// A new socket, close-on-exec and in blocking mode.
fn socket(kind: Type) -> io::Result<Socket> {
    Socket::new_raw(Domain::UNIX, kind.cloexec(), None)
}
