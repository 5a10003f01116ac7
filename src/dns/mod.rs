//! A resolver of our own: names to addresses, over sockets that suspend.
//!
//! [`look_up`] and [`connect`] use the settings of the system; [`Resolver::builder`] makes others.
//!
//! ```no_run
//! use cosocket::dns;
//!
//! for address in dns::look_up("example.com")? {
//!     println!("{address}");
//! }
//! let stream = dns::connect("example.com", 80)?;
//! # std::io::Result::Ok(())
//! ```
//!
//! # Where answers come from
//!
//! This is the one feature of the crate that changes where an answer comes from. A
//! [`Cosocket`](crate::Cosocket) that is given a name asks this resolver if the feature `dns` is on, and
//! the system's `getaddrinfo`, on the pool of blocking threads, if not; either can be asked for
//! by name ([`Names`](crate::Names)). The mirror of std ([`net`](crate::net)) always asks the system, as std does.
//!
//! | | this resolver | the system's |
//! |---|---|---|
//! | asks | name servers, by UDP and TCP | whom `nsswitch.conf` names: also mDNS, LDAP |
//! | many at once | as many as there are sockets | 64 threads |
//! | a cancel, a timeout | ends it at once | the thread goes on to its end |
//! | remembers | for as long as the server allows; also that there is nothing | nothing |
//! | the same question twice at once | is asked once | is asked twice |
//! | reads | `/etc/resolv.conf`, `/etc/hosts` | those, and `gai.conf`, `host.conf`, … |
//!
//! # What is checked
//!
//! Each question goes out with an id that cannot be guessed, from a socket (and so a port) of its
//! own that hears nothing but this server. What has another id, or answers another question, is
//! ignored, and the wait goes on. Of an answer only the records are used that the question leads
//! to, along at most 16 aliases. None of that replaces DNSSEC, which is left to the servers: name
//! some that you trust.
//!
//! # What differs from the C library
//!
//! * IPv4 and IPv6 addresses are asked for side by side, and what of them comes late is not waited
//!   for when there is something to begin with (RFC 8305, section 3).
//! * A server whose answer cannot be read, or that refuses, is followed by the next at once.
//! * `localhost` and names below it are this machine, whatever the servers say (RFC 6761).
//! * Every question is asked with EDNS, and without it where the server does not know it.
//! * `options` other than those at [`Config::parse`] are ignored, and `sortlist` is.

mod answer;
mod builder;
mod cache;
mod config;
mod error;
mod exchange;
mod files;
mod flight;
mod hosts;
mod order;
mod question;
mod random;
mod record;
mod resolver;
mod stream;

use std::io;
use std::net::IpAddr;

pub use self::builder::ResolverBuilder;
pub use self::config::Config;
pub use self::error::{Error, ErrorKind};
pub use self::record::{Record, RecordData, RecordType};
pub use self::resolver::{Metrics, Resolver};

#[cfg(cosocket_internals)]
pub(crate) use self::answer::fuzz;

use crate::net::{TcpBuilder, TcpStream};

/// [`Resolver::look_up`], with the settings of the system.
pub fn look_up(host: &str) -> Result<Vec<IpAddr>, Error> {
    Resolver::system().look_up(host)
}

/// [`Resolver::connect`], with the settings of the system.
pub fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    Resolver::system().connect(&TcpBuilder::new(), host, port)
}
