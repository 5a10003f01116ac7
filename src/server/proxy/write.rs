//! Writes PROXY headers.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;

use super::header::{Endpoints, Ends, Extension, ProxyHeader};
use super::parse::SIGNATURE_V2;
use crate::Address;

impl ProxyHeader {
    /// As a line of version 1. That has no words for Unix sockets, and none for a proxy's own
    /// connections: both are `UNKNOWN`.
    #[must_use]
    pub fn to_v1(&self) -> Vec<u8> {
        let ends = self.source().zip(self.destination());
        let Some((Address::Ip(source), Address::Ip(destination))) = ends else {
            return b"PROXY UNKNOWN\r\n".to_vec();
        };
        let (source, destination) = of_one_family(*source, *destination);
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let line =
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        line.into_bytes()
    }

    /// As version 2, with those extensions, and not those that it came with.
    ///
    /// # Panics
    ///
    /// When they take more than the 64 KiB there are for all.
    ///
    /// ```
    /// use cosocket::server::{Extension, ProxyHeader};
    ///
    /// let host = Extension { kind: Extension::AUTHORITY, value: b"example.org" };
    /// let bytes = ProxyHeader::local().to_v2(&[host]);
    /// assert!(bytes.ends_with(b"example.org"));
    /// ```
    #[must_use]
    pub fn to_v2(&self, extensions: &[Extension<'_>]) -> Vec<u8> {
        let mut content = Vec::new();
        let family = match &self.endpoints {
            Endpoints::Local | Endpoints::Unknown => 0x00,
            Endpoints::Known(ends) => put_addresses(&mut content, ends),
        };
        for Extension { kind, value } in extensions {
            content.push(*kind);
            content.extend(length(value.len()));
            content.extend_from_slice(value);
        }
        let command = if self.is_local() { 0x20 } else { 0x21 };
        let fixed = [SIGNATURE_V2, &[command, family], &length(content.len())].concat();
        [fixed, content].concat()
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a PROXY header holds no more than 64 KiB").to_be_bytes()
}

/// Puts both addresses, and returns the byte for what they are.
fn put_addresses(content: &mut Vec<u8>, ends: &Ends) -> u8 {
    match (&ends.source, &ends.destination) {
        (Address::Ip(source), Address::Ip(destination)) => {
            let (source, destination) = of_one_family(*source, *destination);
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(ip) => content.extend(ip.octets()),
                    IpAddr::V6(ip) => content.extend(ip.octets()),
                }
            }
            for address in [source, destination] {
                content.extend(address.port().to_be_bytes());
            }
            if source.is_ipv4() { 0x11 } else { 0x21 }
        }
        (Address::Unix(source), Address::Unix(destination)) => {
            for address in [source, destination] {
                content.extend(path(address));
            }
            0x31
        }
        // There is no such connection.
        _ => 0x00,
    }
}

/// Both as they are, if they are of one family; else both as of IPv6.
fn of_one_family(one: SocketAddr, other: SocketAddr) -> (SocketAddr, SocketAddr) {
    if one.is_ipv4() == other.is_ipv4() {
        return (one, other);
    }
    let as_v6 = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (as_v6(one), as_v6(other))
}

/// As the kernel has it, filled up with zeros.
fn path(address: &UnixAddr) -> [u8; 108] {
    let mut bytes = [0; 108];
    if let Some(path) = address.as_pathname() {
        let path = path.as_os_str().as_bytes();
        bytes[..path.len()].copy_from_slice(path);
    } else if let Some(name) = address.as_abstract_name() {
        bytes[1..][..name.len()].copy_from_slice(name);
    }
    bytes
}
