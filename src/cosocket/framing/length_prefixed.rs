//! Packets that say how long they are.

use super::{Envelope, Error, ErrorKind, Extent, Framing, PACKET_LIMIT, oversized};

/// Packets with their length in the header.
///
/// ```text
///   |<--- offset --->|<- field ->|
///   |<------- body_offset ----------->|<--------- value of the length -------->|
///   | .............. |  length   | .. | body .................................. |
/// ```
///
/// The length counts what follows the first `body_offset` bytes: with the default the bytes after
/// the length; with 0 the whole packet, the header too.
///
/// ```
/// use cosocket::framing::{ByteOrder, Extent, Framing, LengthField, LengthPrefixed};
///
/// // A type in one byte, then the length of the whole.
/// let framing = LengthPrefixed::new(LengthField::U16(ByteOrder::Big)).offset(1).body_offset(0);
/// let packet = b"T\x00\x08hello";
/// assert_eq!(framing.measure(packet, 0)?, Extent::Packet { len: 8, body: 3..8 });
/// # Ok::<(), cosocket::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthPrefixed {
    field: LengthField,
    offset: u16,
    body_offset: Option<u16>,
    limit: usize,
}

/// How a length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of Rust's own types")]
pub enum LengthField {
    U8,
    I8,
    U16(ByteOrder),
    I16(ByteOrder),
    /// Three bytes, as MySQL has them.
    U24(ByteOrder),
    U32(ByteOrder),
    I32(ByteOrder),
    U64(ByteOrder),
    I64(ByteOrder),
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The most significant: network order.
    Big,
    /// The least significant.
    Little,
    /// As this machine has it.
    Native,
}

impl LengthPrefixed {
    /// The length comes first and counts what follows it; packets of up to 2 MiB.
    #[must_use]
    pub fn new(field: LengthField) -> LengthPrefixed {
        LengthPrefixed { field, offset: 0, body_offset: None, limit: PACKET_LIMIT }
    }

    /// Where the length stands in the header, in bytes. Swoole's `package_length_offset`.
    #[must_use]
    pub fn offset(self, bytes: u16) -> LengthPrefixed {
        LengthPrefixed { offset: bytes, ..self }
    }

    /// How many bytes of the packet the length does not count. Swoole's `package_body_offset`.
    #[must_use]
    pub fn body_offset(self, bytes: u16) -> LengthPrefixed {
        LengthPrefixed { body_offset: Some(bytes), ..self }
    }

    /// How long a packet may be in all, in bytes. Swoole's `package_max_length`.
    #[must_use]
    pub fn limit(self, bytes: usize) -> LengthPrefixed {
        LengthPrefixed { limit: bytes, ..self }
    }

    /// Writes the length of `packet`, header and all, into its header: for headers with more in
    /// them than the length.
    ///
    /// # Errors
    ///
    /// `Oversized` for a packet longer than the limit, or than the field can say; `InvalidInput`
    /// for one shorter than its header.
    pub fn write_length(&self, packet: &mut [u8]) -> Result<(), Error> {
        if packet.len() < self.header_len() {
            let text = "the packet is shorter than its header";
            return Err(Error::with_text(ErrorKind::InvalidInput, text));
        }
        let field = self.encode(packet.len())?;
        packet[usize::from(self.offset)..self.field_end()].copy_from_slice(&field);
        Ok(())
    }

    /// The length field of a packet of so many bytes.
    fn encode(&self, packet_len: usize) -> Result<Vec<u8>, Error> {
        let counted = (packet_len - self.uncounted()) as u64;
        match self.field.encode(counted) {
            Some(field) if packet_len <= self.limit => Ok(field),
            _ => Err(oversized(packet_len, self.limit)),
        }
    }

    fn uncounted(&self) -> usize {
        self.body_offset.map_or_else(|| self.field_end(), usize::from)
    }

    fn field_end(&self) -> usize {
        usize::from(self.offset) + self.field.len()
    }

    /// The body does not begin within the length, however it is counted.
    fn header_len(&self) -> usize {
        self.uncounted().max(self.field_end())
    }
}

impl Framing for LengthPrefixed {
    fn measure(&self, arrived: &[u8], _seen: usize) -> Result<Extent, Error> {
        let Some(field) = arrived.get(usize::from(self.offset)..self.field_end()) else {
            return Ok(Extent::Unknown { missing: self.field_end() - arrived.len() });
        };
        let len = match self.field.decode(field) {
            counted @ 0.. => counted + self.uncounted() as i128,
            negative => {
                let text = format!("protocol error: a packet of length {negative}");
                return Err(Error::with_text(ErrorKind::Protocol, text));
            }
        };
        if len < self.header_len() as i128 {
            let text = format!("protocol error: a packet of {len} bytes, less than its header");
            return Err(Error::with_text(ErrorKind::Protocol, text));
        }
        match usize::try_from(len) {
            Ok(len) if len <= self.limit => {
                Ok(Extent::Packet { len, body: self.header_len()..len })
            }
            _ => Err(oversized(len, self.limit)),
        }
    }

    /// A header of zeros with the length in it.
    fn envelope(&self, body: &[u8]) -> Result<Envelope, Error> {
        let mut before = vec![0; self.header_len()];
        let field = self.encode(before.len().saturating_add(body.len()))?;
        before[usize::from(self.offset)..self.field_end()].copy_from_slice(&field);
        Ok(Envelope { before, after: Vec::new() })
    }
}

impl LengthField {
    /// By its letter in PHP's `pack`, which is how Swoole's `package_length_type` names it.
    #[must_use]
    pub fn from_pack_code(code: char) -> Option<LengthField> {
        use ByteOrder::{Big, Little, Native};
        Some(match code {
            'c' => LengthField::I8,
            'C' => LengthField::U8,
            's' => LengthField::I16(Native),
            'S' => LengthField::U16(Native),
            'n' => LengthField::U16(Big),
            'v' => LengthField::U16(Little),
            'l' => LengthField::I32(Native),
            'L' => LengthField::U32(Native),
            'N' => LengthField::U32(Big),
            'V' => LengthField::U32(Little),
            'q' => LengthField::I64(Native),
            'Q' => LengthField::U64(Native),
            'J' => LengthField::U64(Big),
            'P' => LengthField::U64(Little),
            _ => return None,
        })
    }

    /// How many bytes it takes.
    #[allow(clippy::len_without_is_empty, reason = "none is empty")]
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            LengthField::U8 | LengthField::I8 => 1,
            LengthField::U16(_) | LengthField::I16(_) => 2,
            LengthField::U24(_) => 3,
            LengthField::U32(_) | LengthField::I32(_) => 4,
            LengthField::U64(_) | LengthField::I64(_) => 8,
        }
    }

    fn order(self) -> ByteOrder {
        match self {
            LengthField::U8 | LengthField::I8 => ByteOrder::Big,
            LengthField::U16(order)
            | LengthField::I16(order)
            | LengthField::U24(order)
            | LengthField::U32(order)
            | LengthField::I32(order)
            | LengthField::U64(order)
            | LengthField::I64(order) => order,
        }
    }

    fn is_signed(self) -> bool {
        use LengthField::{I8, I16, I32, I64};
        matches!(self, I8 | I16(_) | I32(_) | I64(_))
    }

    fn decode(self, field: &[u8]) -> i128 {
        let add = |value, &byte: &u8| value << 8 | i128::from(byte);
        let value = if self.order().is_big() {
            field.iter().fold(0, add)
        } else {
            field.iter().rev().fold(0, add)
        };
        let bits = 8 * self.len();
        if self.is_signed() && value >> (bits - 1) == 1 { value - (1 << bits) } else { value }
    }

    /// `None` if the value is too large.
    fn encode(self, value: u64) -> Option<Vec<u8>> {
        let bits = 8 * self.len() - usize::from(self.is_signed());
        if u128::from(value) >> bits != 0 {
            return None;
        }
        let bytes = value.to_be_bytes();
        let mut field = bytes[bytes.len() - self.len()..].to_vec();
        if !self.order().is_big() {
            field.reverse();
        }
        Some(field)
    }
}

impl ByteOrder {
    fn is_big(self) -> bool {
        match self {
            ByteOrder::Big => true,
            ByteOrder::Little => false,
            ByteOrder::Native => cfg!(target_endian = "big"),
        }
    }
}
