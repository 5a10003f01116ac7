//! Bytes on their way, in memory that is given back while there are none.
//!
//! ```text
//!   | consumed | filled | spare |       consume() moves the first line, advance() the second
//! ```
//!
//! The memory is initialised throughout, so the spare part can be handed to a `read`. Each thread
//! keeps a few pieces of the usual size: a connection that stops and goes neither allocates nor
//! clears memory, and one that rests holds none.

use std::cell::RefCell;
use std::mem;

/// The usual size: two full records, each with what TLS adds.
pub(super) const USUAL: usize = 2 * RECORD + 512;

/// What one record carries at most (RFC 8446, 5.1).
pub(super) const RECORD: usize = 16 << 10;

/// So many pieces does a thread keep.
const KEPT: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) const fn new() -> Buffer {
        Buffer { bytes: Vec::new(), start: 0, end: 0 }
    }

    /// With `before` bytes filled, of no meaning yet, and at least `room` after them.
    pub(super) fn with_room(before: usize, room: usize) -> Buffer {
        let mut buffer = Buffer::new();
        buffer.reserve(before + room);
        buffer.end = before;
        buffer
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(super) fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// The first `count` spare bytes are filled.
    pub(super) fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end);
        self.end += count;
    }

    /// The first `count` filled bytes are done with.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len());
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for `room` more bytes.
    pub(super) fn reserve(&mut self, room: usize) {
        if self.bytes.len() - self.end >= room {
            return;
        }
        let needed = self.len() + room;
        if needed <= self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
        } else {
            let mut larger = if needed <= USUAL { take() } else { vec![0; needed] };
            larger[..self.len()].copy_from_slice(self.filled());
            give(mem::replace(&mut self.bytes, larger));
        }
        (self.start, self.end) = (0, self.len());
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Moves as much as fits to `target`; how much that was.
    pub(super) fn read(&mut self, target: &mut [u8]) -> usize {
        let count = self.len().min(target.len());
        target[..count].copy_from_slice(&self.filled()[..count]);
        self.consume(count);
        count
    }

    pub(super) fn give_back(self) {
        give(self.bytes);
    }

    /// Nothing will happen for a while: holds no more memory than the filled part is worth.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            give(mem::take(self).bytes);
        } else if self.len() < RECORD / 8 && self.bytes.len() > RECORD {
            let bytes = self.filled().to_vec();
            let end = bytes.len();
            give(mem::replace(self, Buffer { bytes, start: 0, end }).bytes);
        }
    }
}

/// A piece of the usual size, with anything in it.
fn take() -> Vec<u8> {
    // At the end of a thread there is no pool.
    let kept = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| vec![0; USUAL])
}

fn give(bytes: Vec<u8>) {
    if bytes.len() == USUAL {
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::new();
        let data: Vec<u8> = (0..200_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        let mut out = Vec::new();
        for piece in data.chunks(7_001) {
            buffer.extend(piece);
            let mut target = [0; 5_003];
            let count = buffer.read(&mut target);
            out.extend_from_slice(&target[..count]);
            buffer.rest();
        }
        out.extend_from_slice(buffer.filled());
        assert!(out == data);
    }

    #[test]
    fn a_resting_buffer_holds_what_it_must() {
        let mut buffer = Buffer::new();
        buffer.extend(b"header");
        assert_eq!(buffer.bytes.len(), USUAL);
        buffer.rest();
        assert_eq!((buffer.filled(), buffer.bytes.len()), (&b"header"[..], 6));
        buffer.consume(6);
        buffer.rest();
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    #[test]
    fn memory_is_used_again() {
        let mut buffer = Buffer::with_room(0, 1);
        let place = buffer.bytes.as_ptr();
        buffer.rest();
        assert_eq!(Buffer::with_room(3, 1).bytes.as_ptr(), place);
    }
}
