//! TLS, for clients and servers, on every stream. Feature `tls`.
//!
//! [`TlsStream`] runs over a [`TcpStream`](crate::net::TcpStream), a
//! [`UnixStream`](crate::os::unix::net::UnixStream), or any [`Transport`]. One coroutine may read
//! while another writes; neither holds the connection while it waits.
//!
//! ```text
//!   client  TlsStream::connect(stream, "example.com", &TlsOptions) -.
//!                                                                    > TlsStream: Read + Write
//!   server  TlsAcceptor::accept(stream)  <- TlsServerOptions -------'
//! ```
//!
//! The protocol is that of the crate rustls: TLS 1.2 and 1.3, with the cryptography of ring (or, by
//! feature `tls-aws-lc-rs`, of aws-lc). No provider is installed for the whole process.
//!
//! [The guide](crate::guide::_15_tls) tells how to use it. How both directions share one state
//! machine is described, with a picture, in `duplex.rs`.
//!
//! # The kernel's TLS
//!
//! Linux can encrypt in the kernel (kTLS, `TCP_ULP`), which spares `sendfile` its copies. It is not
//! used: the kernels it was to be measured on are built without it (`CONFIG_TLS`), as are those of
//! many small virtual machines.

mod acceptor;
mod buffer;
mod duplex;
mod engine;
mod error;
mod identity;
mod key_log;
mod options;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

pub use self::acceptor::{TlsAcceptor, TlsServerOptions};
pub use self::error::{Error, ErrorKind};
pub use self::identity::{Certificate, Identity};
pub use self::options::{Crypto, TlsOptions, TlsVersion};
pub use self::stream::TlsStream;
pub use self::transport::Transport;
