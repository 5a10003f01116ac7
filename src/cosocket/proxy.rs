//! Connecting through a proxy: SOCKS5 (RFC 1928, 1929) or HTTP's CONNECT (RFC 9110, section 9.3.6).
//!
//! ```text
//!   SOCKS5    methods -> choice -> [user, password -> verdict] -> address -> verdict, address
//!   HTTP      CONNECT host:port, headers -> status line, headers
//! ```
//!
//! Replies are read to their last byte and not beyond: what follows is the connection's own.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::address::{Address, Target};
use super::state::Connecting;
use super::transport::Transport;
use super::{Cosocket, Error, ErrorKind};
use crate::io_handle::bounds::Bounds;

/// The head of an HTTP reply may be so long, in bytes.
const HEAD_MAX: usize = 8 << 10;

/// A proxy that connections are made through: see [`Cosocket::set_proxy`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    protocol: Protocol,
    server: Box<str>,
    credentials: Option<(Box<str>, Box<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Protocol {
    Socks5,
    Http,
}

impl Proxy {
    /// One that speaks SOCKS5, at an address as [`Target`] has it for texts.
    #[must_use]
    pub fn socks5(server: &str) -> Proxy {
        Proxy { protocol: Protocol::Socks5, server: server.into(), credentials: None }
    }

    /// One that speaks HTTP and allows CONNECT.
    #[must_use]
    pub fn http(server: &str) -> Proxy {
        Proxy { protocol: Protocol::Http, server: server.into(), credentials: None }
    }

    /// Says who is asking. Both are sent as they are, or nearly so: anyone on the way can read them.
    #[must_use]
    pub fn with_credentials(mut self, user: &str, password: &str) -> Proxy {
        self.credentials = Some((user.into(), password.into()));
        self
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Proxy");
        debug.field("protocol", &self.protocol).field("server", &self.server);
        // The password is nobody's business.
        debug.field("user", &self.credentials.as_ref().map(|(user, _)| user)).finish()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Socks5 => "socks5",
            Protocol::Http => "http",
        };
        write!(f, "{protocol}://{}", self.server)
    }
}

impl Cosocket {
    /// Makes connections through a proxy, from now on; `None` makes them directly. It stays with
    /// the object. Names are left to the proxy to look up. A Unix socket cannot be reached so.
    ///
    /// The connect timeout bounds the connect to the proxy, and once more the exchange with it.
    /// What the proxy refuses is an error of `connect`, of kind `Proxy`; the connection is closed.
    ///
    /// ```no_run
    /// use cosocket::{Cosocket, Proxy};
    ///
    /// let socket = Cosocket::new();
    /// socket.set_proxy(Some(Proxy::socks5("127.0.0.1:1080").with_credentials("user", "secret")));
    /// socket.connect("example.org:80")?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_proxy(&self, proxy: Option<Proxy>) {
        self.change_local(|local| local.proxy = proxy);
    }

    pub(super) fn connect_through(
        &self,
        proxy: &Proxy,
        address: &Address,
        connecting: &Connecting<'_>,
    ) -> Result<Transport, Error> {
        let transport = self.connect_directly(&proxy.server.to_address()?, connecting)?;
        let exchange = Exchange { transport: &transport, bounds: &self.connect_bounds(connecting) };
        match proxy.protocol {
            Protocol::Socks5 => socks5(&exchange, proxy, address)?,
            Protocol::Http => http(&exchange, proxy, address)?,
        }
        Ok(transport)
    }
}

/// The talk with the proxy, within the connect timeout.
struct Exchange<'a> {
    transport: &'a Transport,
    bounds: &'a Bounds<'a>,
}

impl Exchange<'_> {
    fn send(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            data = &data[self.transport.write(data, self.bounds)?..];
        }
        Ok(())
    }

    fn receive<const N: usize>(&self) -> Result<[u8; N], Error> {
        let mut data = [0; N];
        self.receive_into(&mut data)?;
        Ok(data)
    }

    fn receive_into(&self, mut data: &mut [u8]) -> Result<(), Error> {
        while !data.is_empty() {
            match self.transport.read(data, self.bounds)? {
                0 => return Err(refused("the proxy has closed the connection")),
                count => data = &mut data[count..],
            }
        }
        Ok(())
    }
}

fn refused(why: impl fmt::Display) -> Error {
    Error::with_text(ErrorKind::Proxy, format!("proxy handshake failed: {why}"))
}

/// A string of SOCKS5: its length in one byte, and its bytes.
fn push_short(message: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    let len = u8::try_from(text.len()).map_err(|_| {
        Error::with_text(ErrorKind::InvalidInput, "SOCKS5 takes at most 255 bytes of a name")
    })?;
    message.push(len);
    message.extend_from_slice(text.as_bytes());
    Ok(())
}

fn socks5(exchange: &Exchange<'_>, proxy: &Proxy, address: &Address) -> Result<(), Error> {
    const ANYBODY: u8 = 0;
    const PASSWORD: u8 = 2;
    match &proxy.credentials {
        None => exchange.send(&[5, 1, ANYBODY])?,
        Some(_) => exchange.send(&[5, 2, ANYBODY, PASSWORD])?,
    }
    match (exchange.receive()?, &proxy.credentials) {
        ([5, ANYBODY], _) => {}
        ([5, PASSWORD], Some((user, password))) => {
            let mut message = vec![1];
            push_short(&mut message, user)?;
            push_short(&mut message, password)?;
            exchange.send(&message)?;
            let [_, verdict] = exchange.receive()?;
            if verdict != 0 {
                return Err(refused("user or password is wrong"));
            }
        }
        ([5, _], _) => return Err(refused("no way to say who we are")),
        _ => return Err(refused("it does not speak SOCKS5")),
    }
    let mut request = vec![5, 1, 0];
    push_address(&mut request, address)?;
    exchange.send(&request)?;
    let [version, verdict, _, kind] = exchange.receive()?;
    if version != 5 || verdict != 0 {
        return Err(refused(verdict_words(verdict)));
    }
    // Where it connects from: of no interest, but it has to be read.
    let len = match kind {
        1 => 4 + 2,
        4 => 16 + 2,
        3 => usize::from(exchange.receive::<1>()?[0]) + 2,
        _ => return Err(refused("an address of no known kind")),
    };
    exchange.receive_into(&mut [0; 257][..len])
}

fn push_address(request: &mut Vec<u8>, address: &Address) -> Result<(), Error> {
    let port = match address {
        Address::Ip(SocketAddr::V4(address)) => {
            request.push(1);
            request.extend(address.ip().octets());
            address.port()
        }
        Address::Ip(SocketAddr::V6(address)) => {
            request.push(4);
            request.extend(address.ip().octets());
            address.port()
        }
        Address::Host(host, port) => {
            request.push(3);
            push_short(request, host)?;
            *port
        }
        Address::Unix(_) => return Err(no_unix()),
    };
    request.extend(port.to_be_bytes());
    Ok(())
}

fn no_unix() -> Error {
    Error::with_text(ErrorKind::InvalidInput, "no proxy leads to a Unix socket")
}

/// RFC 1928, section 6.
fn verdict_words(verdict: u8) -> &'static str {
    match verdict {
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "it does not connect",
        8 => "it does not know this kind of address",
        _ => "general failure",
    }
}

fn http(exchange: &Exchange<'_>, proxy: &Proxy, address: &Address) -> Result<(), Error> {
    if matches!(address, Address::Unix(_)) {
        return Err(no_unix());
    }
    let mut request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n");
    if let Some((user, password)) = &proxy.credentials {
        let text = base64(format!("{user}:{password}").as_bytes());
        request += &format!("Proxy-Authorization: Basic {text}\r\n");
    }
    request += "\r\n";
    exchange.send(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return Err(refused("its reply has no end"));
        }
        head.extend(exchange.receive::<1>()?);
    }
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or(&[]));
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        _ => Err(refused(line.escape_debug())),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for position in 0..4 {
            match position <= group.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * position) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), coded);
    }

    #[test]
    fn the_password_is_not_printed() {
        let proxy = Proxy::http("proxy:80").with_credentials("user", "secret");
        assert_eq!(proxy.to_string(), "http://proxy:80");
        assert!(!format!("{proxy:?}").contains("secret"));
    }
}
