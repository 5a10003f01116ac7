//! Where a connection comes from and where it went to, over IP or a Unix socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddr;

/// The address of one end of a connection.
#[derive(Clone)]
pub enum Address {
    /// Over TCP.
    Ip(SocketAddr),
    /// Over a Unix socket; that of a client has no name, as a rule.
    Unix(UnixAddr),
}

impl Address {
    /// The IP address, if it has one. That of an IPv4 client at a listener on `[::]` is an IPv4
    /// address, not an IPv6 one with that inside.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_ip().map(|address| address.ip().to_canonical())
    }

    /// The address with its port, if it is one of IP.
    #[must_use]
    pub fn as_ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The address, if it is that of a Unix socket.
    #[must_use]
    pub fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            Address::Unix(address) => Some(address),
            Address::Ip(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl From<UnixAddr> for Address {
    fn from(address: UnixAddr) -> Address {
        Address::Unix(address)
    }
}

impl PartialEq for Address {
    /// Unix sockets without a name are all alike.
    fn eq(&self, other: &Address) -> bool {
        use std::os::linux::net::SocketAddrExt;
        match (self, other) {
            (Address::Ip(one), Address::Ip(other)) => one == other,
            (Address::Unix(one), Address::Unix(other)) => {
                one.as_pathname() == other.as_pathname()
                    && one.as_abstract_name() == other.as_abstract_name()
            }
            _ => false,
        }
    }
}

impl fmt::Display for Address {
    /// `192.0.2.1:80`, `[2001:db8::1]:80`, `unix:/path`, `unix:@abstract`, `unix:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::linux::net::SocketAddrExt;
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(address) => {
                f.write_str("unix:")?;
                if let Some(path) = address.as_pathname() {
                    write!(f, "{}", path.display())
                } else if let Some(name) = address.as_abstract_name() {
                    write!(f, "@{}", name.escape_ascii())
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
