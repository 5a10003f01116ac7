//! Packets that end with a delimiter.

use memchr::memmem::Finder;

use super::{Envelope, Error, ErrorKind, Extent, Framing, PACKET_LIMIT, oversized};

/// Packets that end with a delimiter, of any length. (Swoole's `package_eof` has 8 bytes at most.)
///
/// ```
/// use cosocket::framing::{Delimited, Extent, Framing};
///
/// let framing = Delimited::new(b"\r\n\r\n")?;
/// let packet = b"hello\r\n\r\n";
/// assert_eq!(framing.measure(packet, 0)?, Extent::Packet { len: 9, body: 0..5 });
/// # Ok::<(), cosocket::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Delimited {
    finder: Finder<'static>,
    limit: usize,
}

impl Delimited {
    /// Packets of up to 2 MiB that end with `delimiter`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an empty delimiter.
    pub fn new(delimiter: &[u8]) -> Result<Delimited, Error> {
        if delimiter.is_empty() {
            return Err(Error::with_text(ErrorKind::InvalidInput, "delimiter is empty"));
        }
        Ok(Delimited { finder: Finder::new(delimiter).into_owned(), limit: PACKET_LIMIT })
    }

    /// How long a packet may be, in bytes, its delimiter counted.
    #[must_use]
    pub fn limit(self, bytes: usize) -> Delimited {
        Delimited { limit: bytes, ..self }
    }

    fn delimiter(&self) -> &[u8] {
        self.finder.needle()
    }
}

impl Framing for Delimited {
    fn measure(&self, arrived: &[u8], seen: usize) -> Result<Extent, Error> {
        let arrived = &arrived[..arrived.len().min(self.limit)];
        // It may have begun in what was seen.
        let from = seen.min(arrived.len()).saturating_sub(self.delimiter().len() - 1);
        match self.finder.find(&arrived[from..]) {
            Some(at) => {
                let end = from + at;
                Ok(Extent::Packet { len: end + self.delimiter().len(), body: 0..end })
            }
            None if arrived.len() == self.limit => {
                Err(oversized(format_args!("more than {}", self.limit), self.limit))
            }
            None => Ok(Extent::Unknown { missing: 1 }),
        }
    }

    fn envelope(&self, body: &[u8]) -> Result<Envelope, Error> {
        let after = self.delimiter().to_vec();
        let len = body.len() + after.len();
        if len > self.limit {
            return Err(oversized(len, self.limit));
        }
        // At the end of the body a delimiter could begin that the real one completes too early.
        let tail = &body[body.len().saturating_sub(after.len() - 1)..];
        let end = [tail, &after].concat();
        if self.finder.find(body).is_some() || self.finder.find(&end) != Some(tail.len()) {
            let text = "the body has the delimiter in it";
            return Err(Error::with_text(ErrorKind::InvalidInput, text));
        }
        Ok(Envelope { before: Vec::new(), after })
    }
}
