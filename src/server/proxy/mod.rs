//! HAProxy's PROXY protocol: a proxy says, before anything else, whose connection it passes on.
//!
//! ```text
//!   version 1   PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n
//!   version 2   12 bytes no other protocol begins with | version, command | family | length |
//!               two addresses | extensions: type, length, value
//! ```
//!
//! [`parse`] and the writers are bytes in, bytes out; [`read`] takes a header off a connection.

mod checksum;
mod header;
mod parse;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use header::{Extension, ProxyHeader};
pub use parse::ProxyError;
#[cfg(cosocket_internals)]
pub use parse::{Parsed, parse};
pub use read::ProxyProtocol;
pub(super) use read::{Peek, read};
