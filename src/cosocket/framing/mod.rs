//! Packets: how a stream of bytes is cut into messages.
//!
//! A [`Framing`] is a protocol's rule for that, apart from any socket. There are two, which cover
//! what Swoole calls `open_length_check` and `open_eof_check`:
//!
//! ```text
//!   LengthPrefixed   | .. | length | .. | body ............ |     the length says where it ends
//!   Delimited        | body ............ | delimiter |            the delimiter does
//! ```
//!
//! [`Cosocket::receive_packet`](super::Cosocket::receive_packet) takes whole packets out of the
//! stream, and [`Cosocket::send_packet`](super::Cosocket::send_packet) makes them.

mod delimited;
mod length_prefixed;

use std::fmt;
use std::ops::Range;

pub use delimited::Delimited;
pub use length_prefixed::{ByteOrder, LengthField, LengthPrefixed};

use super::{Cosocket, Error, ErrorKind};

/// How long a packet may be when nothing else is said, in bytes; as in Swoole.
pub const PACKET_LIMIT: usize = 2 << 20;

/// A protocol's rule for where packets end. Implement it for a protocol that the rules of this
/// module do not know.
///
/// ```
/// use cosocket::{Error, ErrorKind};
/// use cosocket::framing::{Envelope, Extent, Framing};
///
/// /// A digit that says how long the text is that follows.
/// struct Digit;
///
/// impl Framing for Digit {
///     fn measure(&self, arrived: &[u8], _seen: usize) -> Result<Extent, Error> {
///         match arrived.first() {
///             None => Ok(Extent::Unknown { missing: 1 }),
///             Some(digit @ b'0'..=b'9') => {
///                 let len = 1 + usize::from(digit - b'0');
///                 Ok(Extent::Packet { len, body: 1..len })
///             }
///             Some(_) => Err(ErrorKind::Protocol.into()),
///         }
///     }
///
///     fn envelope(&self, body: &[u8]) -> Result<Envelope, Error> {
///         match body.len() {
///             len @ 0..=9 => Ok(Envelope { before: vec![b'0' + len as u8], after: vec![] }),
///             _ => Err(ErrorKind::Oversized.into()),
///         }
///     }
/// }
///
/// assert_eq!(Digit.measure(b"3ab", 0)?, Extent::Packet { len: 4, body: 1..4 });
/// assert_eq!(Digit.envelope(b"abc")?.before, b"3");
/// # Ok::<(), Error>(())
/// ```
pub trait Framing {
    /// How far the packet goes that `arrived` begins with. The first `seen` bytes of it were there
    /// when this was asked last, and the answer was `Unknown`; so a search can go on from there.
    ///
    /// # Errors
    ///
    /// What is there begins no packet, or one that is too long. The stream stays as it is.
    fn measure(&self, arrived: &[u8], seen: usize) -> Result<Extent, Error>;

    /// What makes a packet of `body`.
    ///
    /// # Errors
    ///
    /// There is no such packet: the body is too long, or it has the delimiter in it.
    fn envelope(&self, body: &[u8]) -> Result<Envelope, Error>;
}

impl<F: Framing + ?Sized> Framing for &F {
    fn measure(&self, arrived: &[u8], seen: usize) -> Result<Extent, Error> {
        (**self).measure(arrived, seen)
    }

    fn envelope(&self, body: &[u8]) -> Result<Envelope, Error> {
        (**self).envelope(body)
    }
}

/// What a [`Framing`] can say of bytes that have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The packet is so long, not zero, whether or not all of it has arrived.
    Packet {
        /// In bytes, from the beginning of the header to the end of the trailer.
        len: usize,
        /// Where in it the body lies.
        body: Range<usize>,
    },
    /// It takes more to tell.
    Unknown {
        /// At least so many bytes more.
        missing: usize,
    },
}

/// What goes around a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Sent before it: the header.
    pub before: Vec<u8>,
    /// Sent after it: the delimiter.
    pub after: Vec<u8>,
}

/// A packet as it was on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    body: Range<usize>,
}

impl Packet {
    /// The body lies within.
    pub(super) fn new(bytes: Vec<u8>, body: Range<usize>) -> Packet {
        Packet { bytes, body }
    }

    /// What comes before the body.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.bytes[..self.body.start]
    }

    /// The packet without its header and its delimiter.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body.clone()]
    }

    /// All of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The packet without its header and its delimiter.
    #[must_use]
    pub fn into_body(mut self) -> Vec<u8> {
        self.bytes.truncate(self.body.end);
        self.bytes.drain(..self.body.start);
        self.bytes
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Packet");
        debug.field("header", &self.header().escape_ascii().to_string());
        debug.field("body", &self.body().escape_ascii().to_string()).finish()
    }
}

impl Cosocket {
    /// Sends `body` as a packet of `framing`, header and all in one call; returns how many bytes
    /// that is. For the other way see [`receive_packet`](Cosocket::receive_packet).
    ///
    /// # Errors
    ///
    /// As [`send`](Cosocket::send). `Oversized` for a body that is too long for the framing, and
    /// what else it finds, such as `InvalidInput` for a body with the delimiter in it: nothing was
    /// sent.
    pub fn send_packet(
        &self,
        framing: &(impl Framing + ?Sized),
        body: &[u8],
    ) -> Result<usize, Error> {
        let Envelope { before, after } = framing.envelope(body)?;
        self.send((before, body, after))
    }
}

fn oversized(len: impl fmt::Display, limit: usize) -> Error {
    let text = format!("oversized: a packet of {len} bytes, where {limit} are the most");
    Error::with_text(ErrorKind::Oversized, text)
}
