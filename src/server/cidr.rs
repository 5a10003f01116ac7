//! Networks of IP addresses, and rules over them: who may connect, who may speak for others.
//!
//! ```text
//!   deny 10.1.2.3  ->  allow 10.0.0.0/8  ->  allow unix:  ->  deny all
//!        |  no              |  no               |  no          |  always
//!        v yes              v yes               v yes          v
//!      denied            allowed             allowed         denied
//! ```
//!
//! The first rule that matches decides, as in nginx's `ngx_http_access_module`; whom none matches
//! is allowed.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::Address;

/// A network: an address of which the first so many bits count.
///
/// IPv4 addresses that are written as IPv6 ones (`::ffff:192.0.2.1`, which is how a listener on
/// `[::]` sees them) are IPv4 addresses here, in networks and in what is looked up.
///
/// ```
/// use cosocket::server::Cidr;
///
/// let network: Cidr = "10.0.0.0/8".parse()?;
/// assert!(network.contains("10.20.30.40".parse().unwrap()));
/// assert!(network.contains("::ffff:10.20.30.40".parse().unwrap()));
/// assert!(!network.contains("11.0.0.0".parse().unwrap()));
/// assert_eq!("2001:db8::1".parse::<Cidr>()?.to_string(), "2001:db8::1/128");
/// # Ok::<(), cosocket::server::CidrError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Never an IPv4 address in IPv6's clothes; no bit is set after the prefix.
    address: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// The network of `address` with a prefix of so many bits.
    ///
    /// # Errors
    ///
    /// When the prefix is longer than the address, and when bits of the address are set after the
    /// prefix: `10.1.2.3/8` may be a slip of the pen for either `10.0.0.0/8` or `10.1.2.3/32`.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Result<Cidr, CidrError> {
        let (bits, width) = bits(address);
        if prefix_bits > width {
            return Err(CidrError(Cause::Prefix { width }));
        }
        if bits & !mask(width, prefix_bits) != 0 {
            return Err(CidrError(Cause::HostBits));
        }
        let canonical = address.to_canonical();
        if canonical.is_ipv4() == address.is_ipv4() {
            return Ok(Cidr { address, prefix_bits });
        }
        // The 96 bits that say so are set, so they are in the prefix.
        Ok(Cidr { address: canonical, prefix_bits: prefix_bits - 96 })
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (network, width) = bits(self.address);
        let (address, its_width) = bits(address.to_canonical());
        width == its_width && (network ^ address) & mask(width, self.prefix_bits) == 0
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits of it count.
    #[must_use]
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }
}

impl From<IpAddr> for Cidr {
    /// This address alone.
    fn from(address: IpAddr) -> Cidr {
        let address = address.to_canonical();
        Cidr { address, prefix_bits: bits(address).1 }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// From `address/bits`, or an address alone.
    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError(Cause::Address))?;
        let Some(prefix) = prefix else { return Ok(Cidr::from(address)) };
        let width = bits(address).1;
        // Digits alone: Rust's parser would take a sign.
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = prefix.parse().ok().filter(|_| is_number);
        Cidr::new(address, prefix_bits.ok_or(CidrError(Cause::Prefix { width }))?)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// As a number, and of how many bits.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The first `prefix_bits` of `width` bits.
fn mask(width: u8, prefix_bits: u8) -> u128 {
    let all = u128::MAX >> (128 - width);
    let rest = width - prefix_bits;
    all & u128::MAX.checked_shl(rest.into()).unwrap_or(0)
}

/// Why a text, or an address with a prefix, is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CidrError(Cause);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Address,
    Prefix { width: u8 },
    HostBits,
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Address => f.write_str("not an IP address, or one with a slash and a number"),
            Cause::Prefix { width } => write!(f, "the prefix is a number from 0 to {width}"),
            Cause::HostBits => f.write_str("the address has bits set after its prefix"),
        }
    }
}

impl Error for CidrError {}

/// Whom a rule is about.
///
/// ```
/// use cosocket::server::Peers;
///
/// assert_eq!("all".parse(), Ok(Peers::All));
/// assert_eq!("unix:".parse(), Ok(Peers::Unix));
/// assert_eq!("192.0.2.0/24".parse(), Ok(Peers::Network("192.0.2.0/24".parse().unwrap())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Everybody.
    All,
    /// Those that come by a Unix socket.
    Unix,
    /// Those that come from an address of this network.
    Network(Cidr),
}

impl Peers {
    /// Whether one with this address is meant.
    #[must_use]
    pub fn contains(&self, peer: &Address) -> bool {
        match (self, peer) {
            (Peers::All, _) | (Peers::Unix, Address::Unix(_)) => true,
            (Peers::Network(network), Address::Ip(address)) => network.contains(address.ip()),
            _ => false,
        }
    }
}

impl From<Cidr> for Peers {
    fn from(network: Cidr) -> Peers {
        Peers::Network(network)
    }
}

impl From<IpAddr> for Peers {
    fn from(address: IpAddr) -> Peers {
        Peers::Network(address.into())
    }
}

impl FromStr for Peers {
    type Err = CidrError;

    /// From nginx's words: `all`, `unix:`, an address, a network.
    fn from_str(text: &str) -> Result<Peers, CidrError> {
        match text {
            "all" => Ok(Peers::All),
            "unix:" => Ok(Peers::Unix),
            network => network.parse().map(Peers::Network),
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peers::All => f.write_str("all"),
            Peers::Unix => f.write_str("unix:"),
            Peers::Network(network) => network.fmt(f),
        }
    }
}

/// Who may come, by rules of which the first that matches decides. Without one everybody may.
///
/// ```
/// use cosocket::Address;
/// use cosocket::server::{AccessList, Peers};
///
/// let mut list = AccessList::new();
/// list.deny("10.0.0.13".parse::<Peers>()?).allow("10.0.0.0/8".parse::<Peers>()?).deny(Peers::All);
/// let is_allowed = |peer: &str| list.allows(&Address::Ip(peer.parse().unwrap()));
/// assert!(is_allowed("10.0.0.12:4000"));
/// assert!(!is_allowed("10.0.0.13:4000"));
/// assert!(!is_allowed("192.0.2.1:4000"));
/// # Ok::<(), cosocket::server::CidrError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    peers: Peers,
    allows: bool,
}

impl AccessList {
    /// No rule.
    #[must_use]
    pub fn new() -> AccessList {
        AccessList::default()
    }

    /// Adds a rule, after those that are there: these may come.
    pub fn allow(&mut self, peers: impl Into<Peers>) -> &mut AccessList {
        self.rules.push(Rule { peers: peers.into(), allows: true });
        self
    }

    /// Adds a rule, after those that are there: these may not come.
    pub fn deny(&mut self, peers: impl Into<Peers>) -> &mut AccessList {
        self.rules.push(Rule { peers: peers.into(), allows: false });
        self
    }

    /// Whether this one may come.
    #[must_use]
    pub fn allows(&self, peer: &Address) -> bool {
        let rule = self.rules.iter().find(|rule| rule.peers.contains(peer));
        rule.is_none_or(|rule| rule.allows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn has(network: &str, address: &str) -> bool {
        cidr(network).contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        assert!(has("192.168.1.0/24", "192.168.1.255") && !has("192.168.1.0/24", "192.168.2.0"));
        assert!(has("128.0.0.0/1", "255.0.0.1") && !has("128.0.0.0/1", "127.255.255.255"));
        assert!(has("1.2.3.4/31", "1.2.3.5") && !has("1.2.3.4/31", "1.2.3.6"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::") && !has("2001:db8::/32", "2001:db9::"));
        assert!(has("::1", "::1") && !has("::1", "::2"));
    }

    #[test]
    fn the_empty_prefix_is_all_of_one_family() {
        assert!(has("0.0.0.0/0", "255.255.255.255") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "ffff::") && !has("::/0", "127.0.0.1"));
        // A listener on [::] sees IPv4 so, and it still is none of IPv6.
        assert!(has("0.0.0.0/0", "::ffff:1.2.3.4") && !has("::/0", "::ffff:1.2.3.4"));
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        assert!(has("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("::ffff:10.0.0.1"), cidr("10.0.0.1/32"));
        assert_eq!("::ffff:0.0.0.0/95".parse::<Cidr>(), Err(CidrError(Cause::HostBits)));
        // The deprecated compatible form is IPv6.
        assert!(!has("10.0.0.0/8", "::10.1.1.1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "/", "10.0.0.0/", "/8", "10.0.0/8", "10.0.0.0/33", "::/129", "a/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        for text in ["10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/ 8", "[::]/0", "0/0"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert_eq!("10.1.0.0/8".parse::<Cidr>(), Err(CidrError(Cause::HostBits)));
        let error = "1.2.3.4/40".parse::<Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "the prefix is a number from 0 to 32");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let ip = |text: &str| Address::Ip(format!("{text}:1").parse().unwrap());
        let unix = Address::Unix(std::os::unix::net::SocketAddr::from_pathname("/x").unwrap());
        let mut list = AccessList::new();
        assert!(list.allows(&ip("1.1.1.1")) && list.allows(&unix));
        list.deny("1.1.1.1".parse::<Peers>().unwrap()).allow(cidr("1.1.1.0/24"));
        assert!(!list.allows(&ip("1.1.1.1")));
        assert!(list.allows(&ip("1.1.1.2")) && list.allows(&ip("9.9.9.9")) && list.allows(&unix));
        list.allow(Peers::Unix).deny(Peers::All);
        assert!(list.allows(&ip("1.1.1.2")) && !list.allows(&ip("9.9.9.9")) && list.allows(&unix));
        let mapped = Address::Ip("[::ffff:1.1.1.1]:1".parse().unwrap());
        assert!(!list.allows(&mapped));
    }
}
