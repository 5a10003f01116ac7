//! Reads PROXY headers out of bytes.
//!
//! Nothing here waits: whoever has more bytes asks again, from the first one on.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::str::{self, FromStr};

use super::checksum::crc32c;
use super::header::{Endpoints, Extension, Extensions, ProxyHeader};
use crate::Address;

/// How version 1 begins.
const PREFIX_V1: &[u8] = b"PROXY ";

/// The longest line of version 1, its end included.
pub(super) const MAX_V1: usize = 107;

/// How version 2 begins.
pub(super) const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length of the rest.
pub(super) const FIXED_V2: usize = 16;

/// The room for one path in version 2.
const PATH_LEN: usize = 108;

/// What `bytes` begin with.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// The beginning of a header, of which all of `bytes` are a part.
    Partial,
    /// A header of `len` bytes. What comes after it is the connection's.
    Whole {
        /// What it says.
        header: ProxyHeader,
        /// How long it is.
        len: usize,
    },
}

/// Looks for a header of at most `max_bytes` at the beginning of `bytes`.
///
/// # Errors
///
/// As soon as it is certain that none comes, or one that is not well-formed.
pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Parsed, ProxyError> {
    if begins_alike(bytes, SIGNATURE_V2) {
        parse_v2(bytes, max_bytes)
    } else if begins_alike(bytes, PREFIX_V1) {
        parse_v1(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

/// As far as both go.
fn begins_alike(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(one, other)| one == other)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let line = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() == MAX_V1 { Err(ProxyError::TooLong) } else { Ok(Parsed::Partial) };
    };
    let endpoints = endpoints_v1(&line[..end]).ok_or(ProxyError::Malformed)?;
    let header = ProxyHeader { version: 1, endpoints, extensions: Vec::new() };
    Ok(Parsed::Whole { header, len: end + 2 })
}

fn endpoints_v1(line: &[u8]) -> Option<Endpoints> {
    let rest = line.strip_prefix(PREFIX_V1)?;
    // What follows is to be ignored, whatever it is.
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Some(Endpoints::Unknown);
    }
    let mut words = str::from_utf8(rest).ok()?.split(' ');
    let mut word = || words.next();
    let (source, destination) = match word()? {
        "TCP4" => (ip::<Ipv4Addr>(word()?)?, ip::<Ipv4Addr>(word()?)?),
        "TCP6" => (ip::<Ipv6Addr>(word()?)?, ip::<Ipv6Addr>(word()?)?),
        _ => return None,
    };
    let source = SocketAddr::new(source, port(word()?)?).into();
    let destination = SocketAddr::new(destination, port(word()?)?).into();
    word().is_none().then(|| Endpoints::known(source, destination))
}

fn ip<A: FromStr + Into<IpAddr>>(word: &str) -> Option<IpAddr> {
    word.parse::<A>().ok().map(Into::into)
}

/// Digits alone, and none to fill up.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_shortest = word == "0" || !word.starts_with('0');
    word.parse().ok().filter(|_| is_plain && is_shortest)
}

fn parse_v2(bytes: &[u8], max_bytes: usize) -> Result<Parsed, ProxyError> {
    // What is wrong early is told early.
    let word = |index: usize| bytes.get(index).copied();
    if word(12).is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(ProxyError::Unsupported);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED_V2>() else { return Ok(Parsed::Partial) };
    let len = FIXED_V2 + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > max_bytes {
        return Err(ProxyError::TooLong);
    }
    let Some(whole) = bytes.get(..len) else { return Ok(Parsed::Partial) };
    let (endpoints, extensions) = content_v2(fixed, &whole[FIXED_V2..])?;
    check_extensions(whole, extensions)?;
    let header = ProxyHeader { version: 2, endpoints, extensions: extensions.to_vec() };
    Ok(Parsed::Whole { header, len })
}

fn content_v2<'a>(
    fixed: &[u8; FIXED_V2],
    content: &'a [u8],
) -> Result<(Endpoints, &'a [u8]), ProxyError> {
    if fixed[12] & 0x0f == 0 {
        // What it tells besides, the family too, is to be ignored.
        return Ok((Endpoints::Local, &[]));
    }
    match fixed[13] {
        0x00 => Ok((Endpoints::Unknown, content)),
        // Over TCP, or UDP: it is the proxy's business by what means it was reached.
        0x11 | 0x12 => ip_v2::<4>(content).ok_or(ProxyError::Malformed),
        0x21 | 0x22 => ip_v2::<16>(content).ok_or(ProxyError::Malformed),
        0x31 | 0x32 => paths_v2(content).ok_or(ProxyError::Malformed),
        _ => Err(ProxyError::Unsupported),
    }
}

/// Two addresses of `N` bytes each, two ports, and what comes after.
fn ip_v2<const N: usize>(content: &[u8]) -> Option<(Endpoints, &[u8])>
where
    [u8; N]: Into<IpAddr>,
{
    let (source, rest) = content.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, rest) = rest.split_first_chunk()?;
    let address = |ip: &[u8; N], port: &[u8; 2]| {
        Address::Ip(SocketAddr::new((*ip).into(), u16::from_be_bytes(*port)))
    };
    let source = address(source, source_port);
    let destination = address(destination, destination_port);
    Some((Endpoints::known(source, destination), rest))
}

fn paths_v2(content: &[u8]) -> Option<(Endpoints, &[u8])> {
    let (source, rest) = content.split_first_chunk::<PATH_LEN>()?;
    let (destination, rest) = rest.split_first_chunk::<PATH_LEN>()?;
    let (source, destination) = (unix(source)?.into(), unix(destination)?.into());
    Some((Endpoints::known(source, destination), rest))
}

/// A path ends before the first NUL; an abstract name begins with one, and what fills it up is not
/// told from NULs at its end.
fn unix(path: &[u8; PATH_LEN]) -> Option<UnixAddr> {
    if path[0] == 0
        && let Some(last) = path.iter().rposition(|&byte| byte != 0)
    {
        return UnixAddr::from_abstract_name(&path[1..=last]).ok();
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(PATH_LEN);
    // std's type takes a byte less than the kernel.
    UnixAddr::from_pathname(OsStr::from_bytes(&path[..end])).ok()
}

/// They are whole, and the checksum among them is right.
fn check_extensions(whole: &[u8], extensions: &[u8]) -> Result<(), ProxyError> {
    let mut each = Extensions { rest: extensions };
    let mut checksum = None;
    while let Some(extension) = each.next() {
        if extension.kind == Extension::CRC32C {
            let after = whole.len() - each.rest.len();
            checksum = Some((after, extension.value));
        }
    }
    if !each.rest.is_empty() {
        return Err(ProxyError::Malformed);
    }
    let Some((after, told)) = checksum else { return Ok(()) };
    let told: [u8; 4] = told.try_into().map_err(|_| ProxyError::Malformed)?;
    // While it was made, it counted as zero.
    match crc32c(&[&whole[..after - 4], &[0; 4], &whole[after..]]) == u32::from_be_bytes(told) {
        true => Ok(()),
        false => Err(ProxyError::Checksum),
    }
}

/// Why no PROXY header could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// What came is the beginning of no header.
    Missing,
    /// It contradicts the specification.
    Malformed,
    /// It has a version, a command or a family that the specification does not have.
    Unsupported,
    /// It is longer than it may be.
    TooLong,
    /// Its checksum is wrong.
    Checksum,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyError::Missing => "no PROXY header",
            ProxyError::Malformed => "malformed PROXY header",
            ProxyError::Unsupported => "PROXY header of an unknown version, command or family",
            ProxyError::TooLong => "PROXY header too long",
            ProxyError::Checksum => "PROXY header with a wrong checksum",
        })
    }
}

impl Error for ProxyError {}

impl From<ProxyError> for io::Error {
    fn from(error: ProxyError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
