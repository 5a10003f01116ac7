//! Servers: from a listening socket to a handler for each connection, and to an orderly end.
//!
//! ```text
//!                 SO_REUSEPORT, or one queue for all
//!   clients --> listener --> acceptor (one a worker) --> may it come? --> handler
//!                               |                        rules, PROXY     a coroutine each
//!                               |- waits while there are too many
//!                               `- sheds while there is no descriptor
//!
//!   shutdown: acceptors end, queues are served -> handlers end -> the rest is cancelled, named
//! ```
//!
//! A `TcpListener` and a loop are a server too, and for many programs enough. A [`Server`] does
//! what such a loop has to learn over the years: it survives that descriptors run out, knows which
//! errors of `accept` concern the listener, limits connections, asks rules who may come, reads
//! PROXY headers, notices that a peer leaves while its handler works, and ends without cutting anybody
//! short.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::time::Duration;
//!
//! use cosocket::net::TcpStream;
//! use cosocket::server::{Cidr, Peers, Server, WhenFull};
//!
//! let server = Server::new()
//!     .listen("127.0.0.1:0")
//!     .max_connections(10_000, WhenFull::Wait)
//!     .allow("127.0.0.0/8".parse::<Cidr>().unwrap())
//!     .deny(Peers::All)
//!     .start(|mut connection| {
//!         let peer = connection.peer().to_string();
//!         connection.write_all(format!("hello, {peer}\n").as_bytes())
//!     })?;
//!
//! let mut stream = TcpStream::connect(server.tcp_addr().unwrap())?;
//! let mut greeting = String::new();
//! stream.read_to_string(&mut greeting)?;
//! assert_eq!(greeting, format!("hello, {}\n", stream.local_addr()?));
//!
//! // Nobody new comes in; whoever is there has ten seconds to finish.
//! let end = server.shutdown(Duration::from_secs(10));
//! assert!(end.stragglers.is_empty());
//! # std::io::Result::Ok(())
//! ```

mod abort;
mod accept_error;
mod acceptor;
mod body;
mod builder;
mod cidr;
mod connection;
mod event;
mod listener;
mod proxy;
mod registry;
mod reserve;
mod running;
mod service;
mod unix_path;

pub use abort::AbortWatch;
pub use body::{BodyUntil, RequestBody};
pub use builder::{Listeners, Server, WhenFull};
pub use cidr::{AccessList, Cidr, CidrError, Peers};
pub use connection::{Connection, Lingering};
pub use event::{Event, Refusal};
pub use proxy::{Extension, ProxyError, ProxyHeader, ProxyProtocol};
pub use registry::Straggler;
pub use running::{Drained, RunningServer};

/// What fuzz targets reach.
#[cfg(cosocket_internals)]
#[doc(hidden)]
pub mod internals {
    pub use super::proxy::{Parsed, parse};
}
