//! Who looks names up.
//!
//! ```text
//!   set_names of the socket  ->  names of the runtime's Builder  ->  Names::default()
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use super::{Cosocket, Error, ErrorKind};
use crate::current;
use crate::net::ToSocketAddrs;

/// Who looks the names up that cosockets are to connect to.
///
/// The default is the one thing that a feature of this crate changes: with `dns` it is
/// `dns::Resolver::system()`, without it the system's own resolver.
/// Whoever needs one of them whatever the features are asks for it: a socket by
/// [`Cosocket::set_names`], a runtime by [`Builder::names`](crate::Builder::names).
///
/// ```
/// use cosocket::{Cosocket, Names};
/// use cosocket::net::TcpListener;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let socket = Cosocket::new();
/// socket.set_names(Some(Names::System));
/// socket.connect(("localhost", listener.local_addr()?.port()))?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "dns"), derive(Default))]
#[non_exhaustive]
pub enum Names {
    /// `getaddrinfo`, on a thread of the pool that [`unblock`](crate::unblock) uses: the mirror of
    /// std always asks it.
    #[cfg_attr(not(feature = "dns"), default)]
    System,
    /// A resolver of ours.
    #[cfg(feature = "dns")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dns")))]
    Resolver(crate::dns::Resolver),
}

#[cfg(feature = "dns")]
impl Default for Names {
    fn default() -> Names {
        Names::Resolver(crate::dns::Resolver::system())
    }
}

/// The choice of one socket, if it has made one.
#[derive(Debug, Default)]
pub(super) struct Choice(Mutex<Option<Names>>);

impl Choice {
    pub(super) fn set(&self, names: Option<Names>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    pub(super) fn names(&self) -> Names {
        let chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        chosen.or_else(of_runtime).unwrap_or_default()
    }
}

fn of_runtime() -> Option<Names> {
    current::worker()?.runtime.names.clone()
}

impl Cosocket {
    /// Who looks names up for the connections of this object; `None`, the default, is whom the
    /// runtime asks.
    pub fn set_names(&self, names: Option<Names>) {
        self.names.set(names);
    }
}

impl Names {
    /// All addresses of a host, at least one.
    pub(super) fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let addresses = match self {
            Names::System => by_system(host, port),
            #[cfg(feature = "dns")]
            Names::Resolver(resolver) => resolver.socket_addrs(host, port).map_err(Error::from),
        }?;
        match addresses.is_empty() {
            true => Err(not_resolved(host, "3: Host not found")),
            false => Ok(addresses),
        }
    }
}

fn by_system(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    match (host, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error.into()),
        Err(error) => Err(not_resolved(host, &error.to_string()).with_source(error)),
    }
}

fn not_resolved(host: &str, why: &str) -> Error {
    Error::with_text(ErrorKind::Resolve, format!("{host} could not be resolved ({why})"))
}

#[cfg(feature = "dns")]
impl From<crate::dns::Error> for Error {
    fn from(error: crate::dns::Error) -> Error {
        use crate::dns::ErrorKind as Dns;
        let kind = match error.kind() {
            // What ends any other wait ends this one.
            Dns::Interrupted(_) => return io::Error::from(error).into(),
            Dns::BadName(_) => ErrorKind::Parse,
            _ => ErrorKind::Resolve,
        };
        Error::with_text(kind, error.to_string()).with_source(error.into())
    }
}
