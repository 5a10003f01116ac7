//! Packets of a protocol's framing.

use std::ops::Range;

use super::{Receiver, Source};
use crate::cosocket::framing::{Extent, Framing, Packet};
use crate::cosocket::{Error, ErrorKind};

impl Receiver {
    /// The next packet. Whatever else comes of it leaves the stream as it is; only the end of the
    /// stream puts the beginning of a packet into the error.
    pub fn packet(
        &mut self,
        source: &impl Source,
        framing: &(impl Framing + ?Sized),
    ) -> Result<Packet, Error> {
        self.begin()?;
        let mut seen = 0;
        loop {
            let arrived = self.buffer.len();
            let missing = match framing.measure(self.buffer.data(), seen)? {
                Extent::Packet { len, body } if !is_sound(len, &body) => {
                    let text = format!("the framing puts the body {body:?} into {len} bytes");
                    return Err(Error::with_text(ErrorKind::InvalidInput, text));
                }
                Extent::Packet { len, body } if len <= arrived => {
                    return Ok(Packet::new(self.take(len, 0), body));
                }
                Extent::Packet { len, .. } => len - arrived,
                Extent::Unknown { missing } => missing.max(1),
            };
            seen = arrived;
            if let Err(error) = self.more(source, missing) {
                let kept = if self.at_end() { 0 } else { arrived };
                return Err(self.fail(error, kept));
            }
        }
    }
}

fn is_sound(len: usize, body: &Range<usize>) -> bool {
    len > 0 && body.start <= body.end && body.end <= len
}
