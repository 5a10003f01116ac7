//! Takes a PROXY header off a connection, and nothing that comes after it.
//!
//! ```text
//!   peek --> all of it is header, and more must come ---> take it off --> peek again
//!        --> header, and perhaps the connection's first --> take off the header: done
//!        --> no header -----------------------------------> error; the bytes stay
//! ```

use std::io;
use std::time::Duration;

use super::super::Peers;
use super::parse::{self, Parsed};
use super::{ProxyError, ProxyHeader};
use crate::Address;
use crate::time::timeout;

/// How a server reads PROXY headers, and from whom.
///
/// A connection of a trusted peer must begin with a header; what that says is then what
/// [`Connection::peer`](super::super::Connection::peer) tells and what the rules for
/// [allowed](super::super::Server::allow) peers are asked about. Others are turned away, for what
/// they say of their address is not to be believed, and whether a header is there must not be
/// guessed; see [`serve_others`](ProxyProtocol::serve_others).
///
/// ```
/// use std::time::Duration;
///
/// use cosocket::server::{Cidr, ProxyProtocol};
///
/// let load_balancers = "10.0.0.0/24".parse::<Cidr>()?;
/// let protocol = ProxyProtocol::trusting(load_balancers).timeout(Duration::from_secs(3));
/// # Ok::<(), cosocket::server::CidrError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    trusted: Vec<Peers>,
    serves_others: bool,
    timeout: Duration,
    max_bytes: usize,
}

impl ProxyProtocol {
    /// Headers come from these peers.
    #[must_use]
    pub fn trusting(peers: impl Into<Peers>) -> ProxyProtocol {
        ProxyProtocol {
            trusted: vec![peers.into()],
            serves_others: false,
            timeout: Duration::from_secs(10),
            max_bytes: 4096,
        }
    }

    /// Headers come from these peers, too.
    #[must_use]
    pub fn and(mut self, peers: impl Into<Peers>) -> ProxyProtocol {
        self.trusted.push(peers.into());
        self
    }

    /// Whether peers that are not trusted are served as those they are, without a header; by
    /// default they are turned away. A header that one of them sends is data to the handler.
    #[must_use]
    pub fn serve_others(mut self, serve: bool) -> ProxyProtocol {
        self.serves_others = serve;
        self
    }

    /// How long it may take until the header is there: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> ProxyProtocol {
        self.timeout = timeout;
        self
    }

    /// How long a header of version 2 may be: 4096 bytes. No memory is taken for a longer one. A
    /// line of version 1 is never longer than 107.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> ProxyProtocol {
        self.max_bytes = bytes;
        self
    }

    /// Whether this peer speaks for others.
    pub(in super::super) fn trusts(&self, peer: &Address) -> bool {
        self.trusted.iter().any(|peers| peers.contains(peer))
    }

    pub(in super::super) fn serves_those_not_trusted(&self) -> bool {
        self.serves_others
    }
}

/// What it takes to read a header: bytes that are looked at, then taken.
pub(in super::super) trait Peek: io::Read {
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Waits for the header and takes it off the connection.
///
/// # Errors
///
/// `TimedOut`; `UnexpectedEof`; `InvalidData` with a [`ProxyError`]; the system's.
pub(in super::super) fn read<S: Peek>(
    stream: &mut S,
    protocol: &ProxyProtocol,
) -> io::Result<ProxyHeader> {
    timeout(protocol.timeout, || read_now(stream, protocol.max_bytes))?
}

fn read_now<S: Peek>(stream: &mut S, max_bytes: usize) -> io::Result<ProxyHeader> {
    // No line of version 1 is cut by it; one byte more shows that something is too long.
    let room = max_bytes.max(parse::MAX_V1) + 1;
    let mut bytes = Vec::new();
    loop {
        let taken = bytes.len();
        // Most headers are in the first segment, and none is longer than this without extensions.
        bytes.resize((taken + 256).min(room), 0);
        match stream.peek(&mut bytes[taken..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            peeked => bytes.truncate(taken + peeked),
        }
        match parse::parse(&bytes, max_bytes)? {
            Parsed::Whole { header, len } => {
                stream.read_exact(&mut bytes[taken..len])?;
                return Ok(header);
            }
            Parsed::Partial if bytes.len() < room => stream.read_exact(&mut bytes[taken..])?,
            Parsed::Partial => return Err(ProxyError::TooLong.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows its segments one by one, and counts the calls.
    struct Segments {
        bytes: Vec<u8>,
        ends: Vec<usize>,
        at: usize,
    }

    impl Segments {
        fn of(bytes: &[u8], size: usize) -> Segments {
            let ends = (1..=bytes.len()).filter(|end| end % size == 0 || *end == bytes.len());
            Segments { bytes: bytes.to_vec(), ends: ends.collect(), at: 0 }
        }

        fn visible(&self) -> &[u8] {
            let end = self.ends.iter().copied().find(|&end| end > self.at);
            &self.bytes[self.at..end.unwrap_or(self.at)]
        }
    }

    impl io::Read for Segments {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.peek(buffer)?;
            self.at += len;
            Ok(len)
        }
    }

    impl Peek for Segments {
        fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let visible = self.visible();
            let len = visible.len().min(buffer.len());
            buffer[..len].copy_from_slice(&visible[..len]);
            Ok(len)
        }
    }

    #[test]
    fn nothing_after_the_header_is_taken_however_it_is_cut() {
        let header = ProxyHeader::new("[::1]:1".parse().unwrap(), "[::2]:65535".parse().unwrap());
        for bytes in [header.to_v1(), header.to_v2(&[]), ProxyHeader::local().to_v2(&[])] {
            for size in 1..bytes.len() + 6 {
                let sent = [&bytes[..], b"\r\nPROXY"].concat();
                let mut stream = Segments::of(&sent, size);
                read_now(&mut stream, 4096).unwrap();
                assert_eq!(stream.at, bytes.len(), "{size}");
            }
        }
    }

    #[test]
    fn a_header_that_ends_early_or_is_none_is_an_error() {
        let kind = |bytes: &[u8]| read_now(&mut Segments::of(bytes, 7), 100).unwrap_err().kind();
        assert_eq!(kind(b"PROXY TCP4 "), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b""), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"GET / HTTP/1.1\r\n"), io::ErrorKind::InvalidData);
        assert_eq!(kind(&[b"PROXY ", &[b'x'; 200][..]].concat()), io::ErrorKind::InvalidData);
        let long = ProxyHeader::local().to_v2(&[crate::server::Extension {
            kind: crate::server::Extension::NOOP,
            value: &[0; 90],
        }]);
        assert_eq!(kind(&long), io::ErrorKind::InvalidData);
    }
}
