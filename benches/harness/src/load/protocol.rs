//! What is sent, and what must come back, to the last byte.
//!
//! An echoed message is a window into one long pattern, moved on with every message, so that a
//! byte lost, doubled or taken from another connection shows. Of an HTTP reply, status and length
//! are parsed and the body is compared; a head that is the same as one already parsed is compared
//! as bytes.

use std::fmt;
use std::ops::Range;

/// Windows begin at any of so many places of the pattern: a prime, so that strides do not repeat.
const PLACES: usize = 65_521;

/// The keys that the Redis cell asks for, and the length of their values.
pub const KEYS: usize = 1000;
const VALUE_BYTES: usize = 64;

pub const HELLO: &[u8] = b"Hello, world!\n";

/// A head that has not ended by then is not one.
const LONGEST_HEAD: usize = 4096;

/// What a connection exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Messages of so many bytes, that come back as they are.
    Echo { bytes: usize },
    /// `GET /`, answered by a constant.
    Http,
    /// `GET /key`, answered by what Redis has for that key.
    Redis,
}

/// The bytes of a protocol, made once a thread.
pub struct Script {
    protocol: Protocol,
    pattern: Vec<u8>,
    requests: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    /// The head parsed last, and the length of the body that it announces.
    known_head: Vec<u8>,
    known_length: usize,
}

/// How far the reply that comes next has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of an echoed message that have been compared.
    compared: usize,
    /// The beginning of an HTTP reply.
    partial: Vec<u8>,
}

/// What came is not what should have come.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Script {
    pub fn new(protocol: Protocol) -> Script {
        let (mut pattern, mut requests, mut values) = (Vec::new(), Vec::new(), Vec::new());
        match protocol {
            Protocol::Echo { bytes } => pattern = noise(PLACES + bytes),
            Protocol::Http => {
                requests.push(request("/"));
                values.push(HELLO.to_vec());
            }
            Protocol::Redis => {
                requests.extend((0..KEYS).map(|index| request(&format!("/{}", key(index)))));
                values.extend((0..KEYS).map(value));
            }
        }
        let (known_head, known_length) = (Vec::new(), 0);
        Script { protocol, pattern, requests, values, known_head, known_length }
    }

    /// The bytes of request `sequence` of a connection.
    pub fn request(&self, connection: usize, sequence: u64) -> &[u8] {
        match self.protocol {
            Protocol::Echo { bytes } => &self.pattern[window(connection, sequence, bytes)],
            _ => &self.requests[self.choice(connection, sequence)],
        }
    }

    /// Which of the requests and values it is.
    fn choice(&self, connection: usize, sequence: u64) -> usize {
        (connection * 31 + sequence as usize) % self.requests.len()
    }

    /// Takes what a connection received, `sequence` being the reply it waits for. How many replies
    /// are now complete.
    pub fn check(
        &mut self,
        connection: usize,
        sequence: u64,
        progress: &mut Progress,
        received: &[u8],
    ) -> Result<u64, Wrong> {
        match self.protocol {
            Protocol::Echo { bytes } => {
                self.check_echo(connection, sequence, bytes, &mut progress.compared, received)
            }
            _ if progress.partial.is_empty() => {
                let (replies, used) = self.check_http(connection, sequence, received)?;
                progress.partial.extend_from_slice(&received[used..]);
                Ok(replies)
            }
            _ => {
                progress.partial.extend_from_slice(received);
                let (replies, used) = self.check_http(connection, sequence, &progress.partial)?;
                progress.partial.drain(..used);
                Ok(replies)
            }
        }
    }

    fn check_echo(
        &self,
        connection: usize,
        mut sequence: u64,
        bytes: usize,
        compared: &mut usize,
        mut received: &[u8],
    ) -> Result<u64, Wrong> {
        let first = sequence;
        while !received.is_empty() {
            let expected = &self.pattern[window(connection, sequence, bytes)][*compared..];
            let len = expected.len().min(received.len());
            if received[..len] != expected[..len] {
                let at = (0..len).find(|&at| received[at] != expected[at]).unwrap_or(0);
                let byte = *compared + at;
                return Err(Wrong(format!("byte {byte} of message {sequence} came back changed")));
            }
            received = &received[len..];
            *compared += len;
            if *compared == bytes {
                *compared = 0;
                sequence += 1;
            }
        }
        Ok(sequence - first)
    }

    /// How many replies are complete, and the bytes that they take.
    fn check_http(
        &mut self,
        connection: usize,
        mut sequence: u64,
        received: &[u8],
    ) -> Result<(u64, usize), Wrong> {
        let (first, mut used) = (sequence, 0);
        while used < received.len() {
            let rest = &received[used..];
            if self.known_head.is_empty() || !rest.starts_with(&self.known_head) {
                let Some(head) = head_len(rest) else {
                    if rest.len() > LONGEST_HEAD {
                        return Err(Wrong("a reply without an end to its head".into()));
                    }
                    break;
                };
                self.known_length = content_length(&rest[..head])?;
                self.known_head = rest[..head].to_vec();
            }
            let (head, length) = (self.known_head.len(), self.known_length);
            if rest.len() < head + length {
                break;
            }
            if rest[head..head + length] != self.values[self.choice(connection, sequence)] {
                return Err(Wrong(format!(
                    "the body of reply {sequence} is not the one asked for"
                )));
            }
            used += head + length;
            sequence += 1;
        }
        Ok((sequence - first, used))
    }
}

fn window(connection: usize, sequence: u64, bytes: usize) -> Range<usize> {
    let start = (connection * 977 + sequence as usize * 131) % PLACES;
    start..start + bytes
}

/// Bytes without a period, the same in every run (xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}

/// The name of a key in Redis.
pub fn key(index: usize) -> String {
    format!("cosocket-bench:{index:04}")
}

/// What Redis has for it.
pub fn value(index: usize) -> Vec<u8> {
    let noise = noise(KEYS + VALUE_BYTES);
    noise[index..index + VALUE_BYTES].iter().map(|byte| b'a' + byte % 26).collect()
}

/// The length of the head at the beginning of `bytes`, its blank line included.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

fn content_length(head: &[u8]) -> Result<usize, Wrong> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(Wrong(format!("status line {status:?}")));
    }
    let lengths = lines.filter_map(|line| line.split_once(':'));
    lengths
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, length)| length.trim().parse().ok())
        .ok_or_else(|| Wrong("a reply without a Content-Length".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: Protocol = Protocol::Echo { bytes: 64 };

    #[test]
    fn an_echo_in_pieces_is_counted_when_it_is_whole() {
        let mut script = Script::new(ECHO);
        let stream = [script.request(3, 0), script.request(3, 1), script.request(3, 2)].concat();
        let (mut progress, mut replies) = (Progress::default(), 0);
        for piece in stream.chunks(50) {
            replies += script.check(3, replies, &mut progress, piece).unwrap();
        }
        assert_eq!(replies, 3);
    }

    #[test]
    fn a_changed_a_lost_and_a_doubled_byte_are_found() {
        let mut script = Script::new(ECHO);
        let stream = [script.request(0, 0), script.request(0, 1)].concat();
        let mut changed = stream.clone();
        changed[70] ^= 1;
        let mut lost = stream.clone();
        lost.remove(10);
        let mut doubled = stream.clone();
        doubled.insert(20, stream[20] ^ 1);
        for wrong in [changed, lost, doubled] {
            assert!(script.check(0, 0, &mut Progress::default(), &wrong).is_err());
        }
        assert_eq!(script.check(0, 0, &mut Progress::default(), &stream), Ok(2));
    }

    #[test]
    fn the_message_of_another_connection_is_wrong() {
        let mut script = Script::new(ECHO);
        let other = script.request(1, 0).to_vec();
        assert!(script.check(2, 0, &mut Progress::default(), &other).is_err());
    }

    #[test]
    fn replies_are_split_and_joined_anywhere() {
        let mut script = Script::new(Protocol::Http);
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nHello, world!\n";
        let stream = reply.repeat(3);
        for split in 1..stream.len() {
            let mut progress = Progress::default();
            let first = script.check(0, 0, &mut progress, &stream[..split]).unwrap();
            let rest = script.check(0, first, &mut progress, &stream[split..]).unwrap();
            assert_eq!((first, first + rest), (split as u64 / reply.len() as u64, 3));
        }
    }

    #[test]
    fn a_changed_head_is_parsed_anew() {
        let mut script = Script::new(Protocol::Http);
        let mut progress = Progress::default();
        for date in ["Mon", "Tue"] {
            let reply = format!(
                "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 14\r\n\r\nHello, world!\n"
            );
            assert_eq!(script.check(0, 0, &mut progress, reply.as_bytes()), Ok(1));
        }
    }

    #[test]
    fn wrong_replies_are_found() {
        for wrong in [
            "HTTP/1.1 500 Oh\r\nContent-Length: 14\r\n\r\nHello, world!\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nHello, World!\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHello, world!\n",
        ] {
            let mut script = Script::new(Protocol::Http);
            let result = script.check(0, 0, &mut Progress::default(), wrong.as_bytes());
            assert!(result.is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_value_of_another_key_is_wrong() {
        let mut script = Script::new(Protocol::Redis);
        let reply = |index| {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n".to_vec();
            [head, value(index)].concat()
        };
        assert!(script.request(0, 5).starts_with(b"GET /cosocket-bench:0005 HTTP"));
        assert_eq!(script.check(0, 5, &mut Progress::default(), &reply(5)), Ok(1));
        assert!(script.check(0, 5, &mut Progress::default(), &reply(6)).is_err());
    }
}
