//! The header of HAProxy's PROXY protocol, as the two versions of it say the same thing.

use std::fmt;
use std::net::SocketAddr;

use crate::Address;

/// What a proxy says about a connection that it passes on, before the first byte of it.
///
/// HAProxy's [PROXY protocol], version 1 (a line of text) or 2 (binary). A server reads it where
/// [`Server::proxy_protocol`](super::super::Server::proxy_protocol) says so; a proxy of ours writes
/// [`to_v1`](ProxyHeader::to_v1) or [`to_v2`](ProxyHeader::to_v2) to a connection that it has made,
/// before all else, TLS too.
///
/// ```
/// use cosocket::server::ProxyHeader;
///
/// let (client, server) = ("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
/// let header = ProxyHeader::new(client, server);
/// assert_eq!(header.to_v1(), b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n");
/// assert_eq!(header.to_v2(&[]).len(), 28);
/// ```
///
/// [PROXY protocol]: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyHeader {
    pub(super) version: u8,
    pub(super) endpoints: Endpoints,
    /// Type, length and value of each, one after the other; they have been looked through.
    pub(super) extensions: Vec<u8>,
}

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Endpoints {
    /// The proxy's own: it looks whether we are well, for instance.
    Local,
    /// Somebody's, of whom nothing is told.
    Unknown,
    Known(Box<Ends>),
}

/// Of a connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ends {
    pub(super) source: Address,
    pub(super) destination: Address,
}

impl Endpoints {
    pub(super) fn known(source: Address, destination: Address) -> Endpoints {
        Endpoints::Known(Box::new(Ends { source, destination }))
    }
}

impl ProxyHeader {
    /// For a connection from `source`, who meant to reach `destination`. Both are of one family, or
    /// are told as of IPv6.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr) -> ProxyHeader {
        let endpoints = Endpoints::known(source.into(), destination.into());
        ProxyHeader { version: 2, endpoints, extensions: Vec::new() }
    }

    /// For a connection of the proxy's own.
    #[must_use]
    pub fn local() -> ProxyHeader {
        ProxyHeader { version: 2, endpoints: Endpoints::Local, extensions: Vec::new() }
    }

    /// Which version it came in: 1 or 2.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Who has connected to the proxy, if it tells: not for connections of its own, and not if it
    /// does not know.
    #[must_use]
    pub fn source(&self) -> Option<&Address> {
        match &self.endpoints {
            Endpoints::Known(ends) => Some(&ends.source),
            Endpoints::Local | Endpoints::Unknown => None,
        }
    }

    /// Which address that one has connected to, if the proxy tells.
    #[must_use]
    pub fn destination(&self) -> Option<&Address> {
        match &self.endpoints {
            Endpoints::Known(ends) => Some(&ends.destination),
            Endpoints::Local | Endpoints::Unknown => None,
        }
    }

    /// Whether the connection is the proxy's own. Version 1 does not say that.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.endpoints == Endpoints::Local
    }

    /// What version 2 tells beyond addresses (type, length, value).
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'_>> {
        Extensions { rest: &self.extensions }
    }

    /// The first extension of this type, such as [`Extension::AUTHORITY`].
    #[must_use]
    pub fn extension(&self, kind: u8) -> Option<&[u8]> {
        Extensions { rest: &self.extensions }.find(|found| found.kind == kind).map(|f| f.value)
    }
}

/// Something told in version 2 beyond addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its type; those of the specification have names here.
    pub kind: u8,
    /// What is told.
    pub value: &'a [u8],
}

impl Extension<'_> {
    /// The protocol negotiated by TLS (ALPN).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for (SNI, usually).
    pub const AUTHORITY: u8 = 0x02;
    /// A checksum of the header; it was verified.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// The proxy's own name for the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What the proxy knows of the client's TLS connection.
    pub const SSL: u8 = 0x20;
    /// The network namespace.
    pub const NETNS: u8 = 0x30;
}

impl fmt::Debug for Extension<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension({:#04x}, \"{}\")", self.kind, self.value.escape_ascii())
    }
}

/// Ends early where the bytes make none.
pub(super) struct Extensions<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
        self.rest = rest;
        Some(Extension { kind, value })
    }
}
