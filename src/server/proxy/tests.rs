//! Headers byte by byte: rows SRV-9 of the behaviour table.

use std::os::unix::net::SocketAddr as UnixAddr;

use super::*;
use crate::Address;

const MAX: usize = 4096;

fn whole(bytes: &[u8]) -> ProxyHeader {
    match parse(bytes, MAX) {
        Ok(Parsed::Whole { header, len }) => {
            assert_eq!(len, bytes.len());
            // Every shorter piece is a part, and what follows changes nothing.
            for end in 0..len {
                assert_eq!(parse(&bytes[..end], MAX), Ok(Parsed::Partial), "{end}");
            }
            let longer = [bytes, b"\r\n"].concat();
            assert_eq!(parse(&longer, MAX), Ok(Parsed::Whole { header: header.clone(), len }));
            header
        }
        other => panic!("{other:?}"),
    }
}

fn error(bytes: &[u8]) -> ProxyError {
    parse(bytes, MAX).unwrap_err()
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

/// Version 2, with this command, family and content.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, content].concat()
}

#[test]
fn the_lines_of_the_specification() {
    let header = whole(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
    assert_eq!(header.source(), Some(&ip("255.255.255.255:65535")));
    let header = whole(b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 0 443\r\n");
    assert_eq!(header.source(), Some(&ip("[2001:db8::1]:0")));
    assert_eq!(header.destination(), Some(&ip("[::ffff:1.2.3.4]:443")));
    assert_eq!((header.version(), header.is_local()), (1, false));
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff \t 65535\r\n"] {
        assert_eq!(whole(line.as_bytes()).source(), None);
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(whole(longest.as_bytes()).source(), None);
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n",
        "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
        "PROXY TCP4 1.1.1.1\n2.2.2.2 1 2\r\n",
    ] {
        assert_eq!(error(line.as_bytes()), ProxyError::Malformed, "{line:?}");
    }
    assert_eq!(error(b"PROXY TCP4 \xff 2.2.2.2 1 2\r\n"), ProxyError::Malformed);
    for text in ["proxy ", "PROXZ", " ", "GET", "\r\n\r\n\r", "\r\n\r\n\0\r\nQUIT\r", "\n"] {
        assert_eq!(error(text.as_bytes()), ProxyError::Missing, "{text:?}");
    }
    // One that is too long is known by its length, without its end.
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16));
    assert_eq!(error(long.as_bytes()), ProxyError::TooLong);
    assert_eq!(error(&long.as_bytes()[..107]), ProxyError::TooLong);
    assert_eq!(parse(&long.as_bytes()[..106], MAX), Ok(Parsed::Partial));
}

#[test]
fn addresses_of_version_2() {
    let header = whole(&v2(0x21, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0, 80]));
    assert_eq!(header.source(), Some(&ip("1.2.3.4:4660")));
    assert_eq!(header.destination(), Some(&ip("5.6.7.8:80")));
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[35]) = (1, 2, 9);
    let header = whole(&v2(0x21, 0x22, &v6));
    assert_eq!(header.source(), Some(&ip("[::1]:0")));
    assert_eq!(header.destination(), Some(&ip("[::2]:9")));
    let mut paths = [0; 216];
    paths[..4].copy_from_slice(b"/tmp");
    paths[109..112].copy_from_slice(b"\0bc");
    let header = whole(&v2(0x21, 0x31, &paths));
    let path = |address: Option<&Address>| address.unwrap().as_unix().unwrap().clone();
    assert_eq!(path(header.source()).as_pathname(), Some("/tmp".as_ref()));
    use std::os::linux::net::SocketAddrExt;
    assert_eq!(path(header.destination()).as_abstract_name(), Some(&b"\0bc"[..]));
    assert!(path(whole(&v2(0x21, 0x31, &[0; 216])).source()).is_unnamed());
    // A path of 108 bytes is one that std's addresses have no room for.
    assert_eq!(error(&v2(0x21, 0x31, &[b'x'; 216])), ProxyError::Malformed);
}

#[test]
fn what_a_proxy_says_of_itself_or_does_not_know() {
    for content in [&b""[..], &[1; 12], &[1, 2]] {
        let header = whole(&v2(0x20, 0x11, content));
        assert!(header.is_local() && header.source().is_none());
    }
    // The family of such a one is to be ignored.
    assert!(whole(&v2(0x20, 0xff, &[])).is_local());
    let header = whole(&v2(0x21, 0x00, &[Extension::UNIQUE_ID, 0, 2, 7, 8]));
    assert!(!header.is_local() && header.source().is_none());
    assert_eq!(header.extension(Extension::UNIQUE_ID), Some(&[7, 8][..]));
}

#[test]
fn version_2_that_is_none() {
    for (command, family) in [(0x11, 0x11), (0x31, 0x11), (0x22, 0x11), (0x2f, 0x11), (0x01, 0)] {
        let bytes = v2(command, family, &[0; 12]);
        assert_eq!(error(&bytes), ProxyError::Unsupported);
        // At the earliest byte.
        assert_eq!(error(&bytes[..13]), ProxyError::Unsupported);
    }
    for family in [0x10, 0x13, 0x20, 0x30, 0x41, 0x01, 0xff] {
        assert_eq!(error(&v2(0x21, family, &[0; 216])), ProxyError::Unsupported, "{family:#x}");
    }
    for (family, len) in [(0x11, 11), (0x21, 35), (0x31, 215), (0x11, 0)] {
        assert_eq!(error(&v2(0x21, family, &vec![0; len])), ProxyError::Malformed);
    }
    // The length is told before the content is there, or any memory is taken for it.
    let long = v2(0x21, 0x11, &[0; 5000]);
    assert_eq!(error(&long[..16]), ProxyError::TooLong);
    assert_eq!(parse(&v2(0x20, 0, &[0; 84]), 100).map(drop), Ok(()));
    assert_eq!(parse(&v2(0x20, 0, &[0; 85]), 100), Err(ProxyError::TooLong));
}

#[test]
fn extensions_are_whole_and_their_checksum_is_right() {
    let header = ProxyHeader::new("1.1.1.1:1".parse().unwrap(), "2.2.2.2:2".parse().unwrap());
    let name = Extension { kind: Extension::AUTHORITY, value: b"example.org" };
    let empty = Extension { kind: Extension::NOOP, value: b"" };
    let zero = Extension { kind: Extension::CRC32C, value: &[0; 4] };
    let mut bytes = header.to_v2(&[name, zero, empty]);
    let at = bytes.len() - 3 - 4;
    let sum = super::checksum::crc32c(&[&bytes]).to_be_bytes();
    bytes[at..at + 4].copy_from_slice(&sum);
    let parsed = whole(&bytes);
    assert_eq!(parsed.extension(Extension::AUTHORITY), Some(&b"example.org"[..]));
    let kinds: Vec<u8> = parsed.extensions().map(|extension| extension.kind).collect();
    assert_eq!(kinds, [Extension::AUTHORITY, Extension::CRC32C, Extension::NOOP]);
    bytes[20] ^= 1;
    assert_eq!(error(&bytes), ProxyError::Checksum);
    for rest in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 0, 4], &[3, 0, 2, 1, 1]] {
        let content = [&[0; 12][..], rest].concat();
        assert_eq!(error(&v2(0x21, 0x11, &content)), ProxyError::Malformed, "{rest:?}");
    }
}

#[test]
fn what_is_written_is_read() {
    let v4 = || "192.0.2.1:80".parse().unwrap();
    let v6 = || "[2001:db8::1]:443".parse().unwrap();
    for (source, destination) in [(v4(), v4()), (v6(), v6()), (v4(), v6()), (v6(), v4())] {
        let header = ProxyHeader::new(source, destination);
        for bytes in [header.to_v1(), header.to_v2(&[])] {
            let read = whole(&bytes);
            let canonical = |address: Option<&Address>| {
                let address = address.unwrap();
                (address.ip().unwrap(), address.as_ip().unwrap().port())
            };
            assert_eq!(canonical(read.source()), (source.ip(), source.port()));
            assert_eq!(canonical(read.destination()), (destination.ip(), destination.port()));
        }
    }
    assert!(whole(&ProxyHeader::local().to_v2(&[])).is_local());
    assert_eq!(whole(&ProxyHeader::local().to_v1()).source(), None);
    let path = UnixAddr::from_pathname("/run/x").unwrap();
    let mut header = whole(&v2(0x21, 0x31, &[0; 216]));
    header.endpoints = super::header::Endpoints::known(path.clone().into(), path.into());
    assert_eq!(whole(&header.to_v2(&[])), header);
    assert_eq!(header.to_v1(), b"PROXY UNKNOWN\r\n");
}

#[test]
fn no_bytes_make_it_panic() {
    // A walk over bytes near to headers; the fuzz target does the rest.
    let seeds = [
        v2(0x21, 0x21, &[7; 60]),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
        v2(0x21, 0x00, &[3, 0, 4, 0, 0, 0, 0, 1, 0, 0]),
    ];
    let mut word: u32 = 1;
    for seed in seeds {
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..1 + word % 3 {
                word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (word >> 8) as usize % bytes.len();
                bytes[at] = (word >> 24) as u8;
            }
            bytes.truncate((word >> 4) as usize % (seed.len() + 1));
            if let Ok(Parsed::Whole { len, .. }) = parse(&bytes, 100) {
                assert!(len <= bytes.len());
            }
        }
    }
}
