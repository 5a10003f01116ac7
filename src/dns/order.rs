//! In which order addresses are tried: a part of RFC 6724, section 6.
//!
//! ```text
//!   1  IPv6, and our own address is of the same kind (global to global, say)
//!   2  IPv4
//!   3  IPv6 by a tunnel, or from an address that does not reach so far
//!   4  what this machine has no way to (rule 1)
//! ```
//!
//! Within each, the server's order stays: that is how servers spread load. The system is asked
//! which way it would take, and from which address, by connecting a datagram socket; nothing is
//! sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Sorts addresses of both families; those of one have nothing to be sorted by.
pub(crate) fn sort(addresses: &mut [IpAddr]) {
    if addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6) {
        addresses.sort_by_cached_key(|&ip| rank(ip, source_of(ip)));
    }
}

fn rank(ip: IpAddr, source: Option<IpAddr>) -> u8 {
    match (ip, source) {
        (_, None) => 4,
        (IpAddr::V6(ip), Some(IpAddr::V6(source))) if label(ip) == label(source) => 1,
        (IpAddr::V6(_), Some(_)) => 3,
        (IpAddr::V4(_), Some(_)) => 2,
    }
}

/// Kinds of addresses that go together: the prefixes of RFC 6724, section 2.1, and link-local ones.
fn label(ip: Ipv6Addr) -> u8 {
    let [first, second, ..] = ip.segments();
    match (first, second) {
        _ if ip.is_loopback() => 0,
        (0x2002, _) => 2,
        (0x2001, 0) => 5,
        _ if ip.is_unicast_link_local() => 6,
        _ if ip.is_unique_local() => 13,
        _ => 1,
    }
}

/// From which address this machine would send there.
fn source_of(ip: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    // Any port will do.
    socket.connect((ip, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_cannot_be_reached_comes_last() {
        let of = |to: &str, from: Option<&str>| rank(ip(to), from.map(ip));
        assert_eq!(of("2001:db8::1", Some("2001:db8::2")), 1);
        assert_eq!(of("192.0.2.1", Some("10.0.0.1")), 2);
        assert_eq!(of("2001:db8::1", Some("fe80::1")), 3);
        assert_eq!(of("2001:db8::1", Some("fd00::1")), 3);
        assert_eq!(of("2001:db8::1", Some("2002:c000:201::1")), 3);
        assert_eq!(of("fd00::1", Some("fd00::2")), 1);
        assert_eq!(of("::1", Some("::1")), 1);
        assert_eq!(of("192.0.2.1", None), 4);
        assert_eq!(of("2001:db8::1", None), 4);
    }

    #[test]
    fn addresses_of_one_family_stay_as_they_are() {
        let mut addresses = ["192.0.2.9", "127.0.0.1", "192.0.2.1"].map(ip);
        let before = addresses;
        sort(&mut addresses);
        assert_eq!(addresses, before);
    }

    #[test]
    fn what_can_be_reached_stays_in_its_order() {
        // Multicast and such aside, loopback is what every machine can reach.
        let mut addresses = ["127.0.0.2", "::", "127.0.0.1", "255.255.255.255"].map(ip);
        sort(&mut addresses);
        let place = |text: &str| addresses.iter().position(|&other| other == ip(text)).unwrap();
        assert!(place("127.0.0.2") < place("127.0.0.1"));
        assert!(place("127.0.0.1") < place("255.255.255.255"));
    }
}
