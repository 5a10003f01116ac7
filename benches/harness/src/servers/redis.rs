//! The handler that looks a key up in Redis, without the I/O: what each runtime reads and writes
//! in its own way.

use std::io;
use std::sync::Mutex;

use crate::load::protocol::head_len;

/// Connections to Redis that nobody uses. Held for a push or a pop only.
pub type Pool<C> = Mutex<Vec<C>>;

const LONGEST_REQUEST: usize = 512;
const LONGEST_KEY: usize = 64;
const LONGEST_REPLY: usize = 256;
const LONGEST_RESPONSE: usize = 512;

/// The requests of one connection, as they come in.
pub struct Request {
    bytes: [u8; LONGEST_REQUEST],
    filled: usize,
}

impl Default for Request {
    fn default() -> Request {
        Request { bytes: [0; LONGEST_REQUEST], filled: 0 }
    }
}

impl Request {
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    pub fn came(&mut self, count: usize) {
        self.filled += count;
    }

    /// The key of the next complete request, whose bytes are given up.
    pub fn take_key(&mut self) -> io::Result<Option<Bytes<LONGEST_KEY>>> {
        let Some(len) = head_len(&self.bytes[..self.filled]) else {
            return match self.filled {
                LONGEST_REQUEST => Err(malformed("a request that is too long")),
                _ => Ok(None),
            };
        };
        let path = self.bytes[..len].strip_prefix(b"GET /");
        let path = path.ok_or_else(|| malformed("not a GET"))?;
        let end = path.iter().position(|&byte| byte == b' ').unwrap_or(0);
        let mut key = Bytes::new();
        key.push(&path[..end])?;
        self.bytes.copy_within(len..self.filled, 0);
        self.filled -= len;
        Ok(Some(key))
    }
}

/// One look-up: the command, the reply as it comes in, and what the client gets.
pub struct Exchange {
    command: Bytes<{ LONGEST_KEY + 64 }>,
    reply: [u8; LONGEST_REPLY],
    filled: usize,
    response: Bytes<LONGEST_RESPONSE>,
}

impl Exchange {
    pub fn new(key: &Bytes<LONGEST_KEY>) -> Exchange {
        let mut command = Bytes::new();
        let written = command
            .push(b"*2\r\n$3\r\nGET\r\n$")
            .and_then(|()| command.push_number(key.as_slice().len()))
            .and_then(|()| command.push(b"\r\n"))
            .and_then(|()| command.push(key.as_slice()))
            .and_then(|()| command.push(b"\r\n"));
        debug_assert!(written.is_ok(), "there is room for the longest key");
        Exchange { command, reply: [0; LONGEST_REPLY], filled: 0, response: Bytes::new() }
    }

    pub fn command(&self) -> &[u8] {
        self.command.as_slice()
    }

    pub fn space(&mut self) -> &mut [u8] {
        &mut self.reply[self.filled..]
    }

    pub fn came(&mut self, count: usize) {
        self.filled += count;
    }

    /// Whether the reply is all there; the response then is, too.
    pub fn is_complete(&mut self) -> io::Result<bool> {
        let reply = &self.reply[..self.filled];
        let Some(line) = reply.windows(2).position(|window| window == b"\r\n") else {
            return Ok(false);
        };
        let length = reply[..line].strip_prefix(b"$").and_then(number);
        let length = length.ok_or_else(|| malformed("not a value from Redis"))?;
        let value = line + 2;
        if value + length + 2 > LONGEST_REPLY {
            return Err(malformed("a value that is too long"));
        }
        if reply.len() < value + length + 2 {
            return Ok(false);
        }
        let response = &mut self.response;
        response.push(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ")?;
        response.push_number(length)?;
        response.push(b"\r\n\r\n")?;
        response.push(&reply[value..value + length])?;
        Ok(true)
    }

    pub fn response(&self) -> &[u8] {
        self.response.as_slice()
    }
}

/// A few bytes without an allocation.
pub struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Bytes<N> {
    fn new() -> Bytes<N> {
        Bytes { bytes: [0; N], len: 0 }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, more: &[u8]) -> io::Result<()> {
        let space = self.bytes.get_mut(self.len..self.len + more.len());
        space.ok_or_else(|| malformed("more than there is room for"))?.copy_from_slice(more);
        self.len += more.len();
        Ok(())
    }

    fn push_number(&mut self, number: usize) -> io::Result<()> {
        if number >= 10 {
            self.push_number(number / 10)?;
        }
        self.push(&[b'0' + (number % 10) as u8])
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    str::from_utf8(digits).ok()?.parse().ok()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(space: &mut [u8], bytes: &[u8]) -> usize {
        space[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }

    #[test]
    fn keys_come_out_of_requests_in_pieces() {
        let mut request = Request::default();
        for piece in [&b"GET /one HTTP/1.1\r\nHost: a\r\n"[..], b"\r\nGET /two HTTP/1.1\r\n\r\n"] {
            let count = fill(request.space(), piece);
            request.came(count);
        }
        assert_eq!(request.take_key().unwrap().unwrap().as_slice(), b"one");
        assert_eq!(request.take_key().unwrap().unwrap().as_slice(), b"two");
        assert!(request.take_key().unwrap().is_none());
    }

    #[test]
    fn a_value_becomes_a_response_when_it_is_whole() {
        let mut key = Bytes::new();
        key.push(b"one").unwrap();
        let mut exchange = Exchange::new(&key);
        assert_eq!(exchange.command(), b"*2\r\n$3\r\nGET\r\n$3\r\none\r\n");
        for piece in [&b"$1"[..], b"1\r\nhello", b" world\r"] {
            let count = fill(exchange.space(), piece);
            exchange.came(count);
            assert!(!exchange.is_complete().unwrap());
        }
        let count = fill(exchange.space(), b"\n");
        exchange.came(count);
        assert!(exchange.is_complete().unwrap());
        assert!(exchange.response().ends_with(b"Content-Length: 11\r\n\r\nhello world"));
    }

    #[test]
    fn a_missing_key_is_an_error() {
        let mut exchange = Exchange::new(&Bytes::new());
        let count = fill(exchange.space(), b"$-1\r\n");
        exchange.came(count);
        assert!(exchange.is_complete().is_err());
    }
}
