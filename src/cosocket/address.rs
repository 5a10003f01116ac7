//! What a cosocket can be connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;

use super::{Error, ErrorKind};

/// Where to connect to, as the caller named it, or the address of an end: an IP address, a name to
/// look up, or a Unix socket.
///
/// It prints as OpenResty's pool keys do: `127.0.0.1:80`, `[::1]:80`, `example.org:80`,
/// `unix:/path`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A name, to be looked up when it is connected to, and a port.
    Host(Box<str>, u16),
    /// A Unix stream socket.
    Unix(UnixAddr),
}

impl Address {
    /// What a certificate is checked for, unless the options say otherwise.
    #[cfg(feature = "tls")]
    pub(super) fn tls_host(&self) -> String {
        match self {
            Address::Host(host, _) => host.to_string(),
            Address::Ip(address) => address.ip().to_string(),
            Address::Unix(_) => String::new(),
        }
    }

    /// The IP address, if it is one. That of an IPv4 client at a listener on `[::]` is an IPv4
    /// address, not an IPv6 one with that inside.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_ip().map(|address| address.ip().to_canonical())
    }

    /// The IP address as it is, with its port, if it is one.
    #[must_use]
    pub fn as_ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Host(..) | Address::Unix(_) => None,
        }
    }

    /// The address, if it is that of a Unix socket.
    #[must_use]
    pub fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            Address::Unix(address) => Some(address),
            Address::Ip(_) | Address::Host(..) => None,
        }
    }
}

impl PartialEq for Address {
    /// Unix sockets without a name are all alike.
    fn eq(&self, other: &Address) -> bool {
        use std::os::linux::net::SocketAddrExt;
        match (self, other) {
            (Address::Ip(one), Address::Ip(other)) => one == other,
            (Address::Host(one, port), Address::Host(other, other_port)) => {
                one == other && port == other_port
            }
            (Address::Unix(one), Address::Unix(other)) => {
                one.as_pathname() == other.as_pathname()
                    && one.as_abstract_name() == other.as_abstract_name()
            }
            _ => false,
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

/// What names an [`Address`]: addresses, a pair of a host and a port, or a text.
///
/// | text | is |
/// |---|---|
/// | `127.0.0.1:80`, `[::1]:80` | an IP address |
/// | `example.org:80` | a name |
/// | `unix:/path` | a Unix socket; the prefix in any case, a port after it is ignored in a pair |
/// | `unix:\0name` | one in the abstract namespace |
///
/// ```
/// use cosocket::{Address, ErrorKind, Target};
///
/// assert_eq!(("example.org", 80).to_address()?.to_string(), "example.org:80");
/// assert_eq!("[::1]:80".to_address()?.to_string(), "[::1]:80");
/// assert_eq!("UNIX:/run/service".to_address()?.to_string(), "unix:/run/service");
/// assert_eq!("example.org".to_address().unwrap_err().kind(), ErrorKind::MissingPort);
/// let error = "example.org:65536".to_address().unwrap_err();
/// assert_eq!(error.to_string(), "bad port number: 65536");
/// # Ok::<(), cosocket::Error>(())
/// ```
pub trait Target {
    /// The address.
    ///
    /// # Errors
    ///
    /// `MissingPort`, `BadPort`, `Parse` for a text that names none; `InvalidInput` for a path
    /// that is too long for a Unix socket.
    fn to_address(&self) -> Result<Address, Error>;
}

impl Target for str {
    fn to_address(&self) -> Result<Address, Error> {
        if let Some(path) = unix_path(self) {
            return unix_address(path);
        }
        let (host, port) = self.rsplit_once(':').ok_or(ErrorKind::MissingPort)?;
        if host.starts_with('[') && !host.ends_with(']') {
            // The colon was one of an IPv6 address.
            return Err(ErrorKind::MissingPort.into());
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(parse_error(host, "invalid host"));
        }
        let number = port.parse::<u16>().map_err(|_| bad_port(port))?;
        host_address(host, number)
    }
}

impl Target for (&str, u16) {
    fn to_address(&self) -> Result<Address, Error> {
        match unix_path(self.0) {
            Some(path) => unix_address(path),
            None => host_address(self.0, self.1),
        }
    }
}

impl Target for String {
    fn to_address(&self) -> Result<Address, Error> {
        self.as_str().to_address()
    }
}

impl Target for (String, u16) {
    fn to_address(&self) -> Result<Address, Error> {
        (self.0.as_str(), self.1).to_address()
    }
}

impl Target for Address {
    fn to_address(&self) -> Result<Address, Error> {
        Ok(self.clone())
    }
}

impl Target for UnixAddr {
    fn to_address(&self) -> Result<Address, Error> {
        Ok(Address::Unix(self.clone()))
    }
}

impl<T: Target + ?Sized> Target for &T {
    fn to_address(&self) -> Result<Address, Error> {
        (**self).to_address()
    }
}

macro_rules! ip_targets {
    ($($target:ty),*) => {
        $(impl Target for $target {
            fn to_address(&self) -> Result<Address, Error> {
                Ok(Address::Ip(SocketAddr::from(*self)))
            }
        })*
    };
}

ip_targets!(SocketAddr, SocketAddrV4, SocketAddrV6);
ip_targets!((IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

fn unix_path(text: &str) -> Option<&str> {
    let (prefix, path) = text.split_at_checked("unix:".len())?;
    prefix.eq_ignore_ascii_case("unix:").then_some(path)
}

fn unix_address(path: &str) -> Result<Address, Error> {
    use std::os::linux::net::SocketAddrExt;
    let address = match path.strip_prefix('\0') {
        Some(name) => UnixAddr::from_abstract_name(name),
        None if path.is_empty() => {
            return Err(parse_error("unix:", "no path in the unix domain socket"));
        }
        None => UnixAddr::from_pathname(path),
    };
    Ok(Address::Unix(address?))
}

fn host_address(host: &str, port: u16) -> Result<Address, Error> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = literal.parse::<IpAddr>() {
        return Ok(Address::Ip(SocketAddr::new(ip, port)));
    }
    if literal.len() != host.len() {
        // A scope, as in `[fe80::1%2]:80`.
        let address = format!("{host}:{port}").parse().map(Address::Ip);
        return address.map_err(|_| parse_error(host, "invalid IPv6 address"));
    }
    if host.is_empty() {
        return Err(parse_error(host, "no host"));
    }
    if host.bytes().any(|byte| matches!(byte, 0..=b' ' | b':' | b'/' | b'[' | b']' | 0x7f)) {
        return Err(parse_error(host, "invalid host"));
    }
    Ok(Address::Host(host.into(), port))
}

fn parse_error(host: &str, why: &str) -> Error {
    let text = format!("failed to parse host name \"{}\": {why}", host.escape_debug());
    Error::with_text(ErrorKind::Parse, text)
}

fn bad_port(port: &str) -> Error {
    match port.parse::<i128>() {
        Ok(number) => Error::with_text(ErrorKind::BadPort, format!("bad port number: {number}")),
        Err(_) => ErrorKind::MissingPort.into(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Host(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(address) => fmt_unix(address, f),
        }
    }
}

fn fmt_unix(address: &UnixAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use std::os::linux::net::SocketAddrExt;
    match (address.as_pathname().map(Path::display), address.as_abstract_name()) {
        (Some(path), _) => write!(f, "unix:{path}"),
        (None, Some(name)) => write!(f, "unix:@{}", name.escape_ascii()),
        (None, None) => f.write_str("unix:"),
    }
}
