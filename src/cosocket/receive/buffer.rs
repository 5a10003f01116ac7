//! Bytes that have arrived and that no call has taken yet.
//!
//! ```text
//!   bytes   | taken | waiting to be taken | space, initialised | (capacity) |
//!           0       start                 end                  len
//! ```
//!
//! Bytes leave at the start and arrive at the end. When all that waits is what a call returns, the
//! vector itself is the result and nothing is copied.

/// See the module.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Buffer {
        Buffer { start: 0, end: bytes.len(), bytes }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes of memory it holds.
    #[cfg(any(test, cosocket_internals))]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives the memory back. Only while nothing waits.
    pub(super) fn release(&mut self) {
        debug_assert!(self.is_empty(), "bytes that wait are not thrown away");
        *self = Buffer::default();
    }

    /// Space for `len` bytes at the end; how much of it was used, [`Buffer::commit`] is told. What
    /// waits moves to the front when that makes the space, else to a larger vector.
    pub(super) fn space(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < len {
            self.compact();
            let wanted = self.end + len;
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
        }
        &mut self.bytes[self.end..self.end + len]
    }

    /// The same, where it is known that this is all, or that it is as much as there is already.
    pub(super) fn exact_space(&mut self, len: usize) -> &mut [u8] {
        self.compact();
        self.bytes.reserve_exact((self.end + len).saturating_sub(self.bytes.len()));
        self.space(len)
    }

    /// The first `len` bytes of the space are now filled.
    pub(super) fn commit(&mut self, len: usize) {
        assert!(len <= self.bytes.len() - self.end, "a source read more than it had space for");
        self.end += len;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.commit(bytes.len());
    }

    /// Puts bytes back in front of what waits.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            let mut all = Vec::with_capacity(bytes.len() + self.len());
            all.extend_from_slice(bytes);
            all.extend_from_slice(self.data());
            *self = Buffer::from_bytes(all);
            return;
        }
        self.start -= bytes.len();
        self.bytes[self.start..self.start + bytes.len()].copy_from_slice(bytes);
    }

    /// Takes the first `len` bytes, and drops the `dropped` bytes that follow them.
    pub(super) fn take(&mut self, len: usize, dropped: usize) -> Vec<u8> {
        let is_all = self.start == 0 && len + dropped == self.end;
        // A short result does not carry a long vector about.
        if is_all && len >= self.bytes.capacity() / 2 {
            let mut bytes = std::mem::take(self).bytes;
            bytes.truncate(len);
            return bytes;
        }
        let bytes = self.data()[..len].to_vec();
        self.consume(len + dropped);
        bytes
    }

    /// Takes as much as fits into `destination`; how much that was.
    pub(super) fn take_into(&mut self, destination: &mut [u8]) -> usize {
        let len = destination.len().min(self.len());
        destination[..len].copy_from_slice(&self.data()[..len]);
        self.consume(len);
        len
    }

    /// Drops the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.start += len;
        assert!(self.start <= self.end, "more was taken than there was");
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.len());
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    fn filled(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.push(bytes);
        buffer
    }

    #[test]
    fn what_is_all_is_moved_out() {
        let mut buffer = filled(b"line\r\n");
        let place = buffer.data().as_ptr();
        let line = buffer.take(4, 2);
        assert_eq!((line.as_slice(), line.as_ptr()), (&b"line"[..], place));
        assert!(buffer.is_empty());
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn a_short_result_leaves_the_vector_behind() {
        let mut buffer = Buffer::default();
        buffer.space(4096)[..5].copy_from_slice(b"abcde");
        buffer.commit(5);
        assert!(buffer.take(5, 0).capacity() < 100);
        assert_eq!(buffer.capacity(), 4096);
    }

    #[test]
    fn space_is_made_by_moving_before_growing() {
        let mut buffer = filled(b"0123456789");
        assert_eq!(buffer.take(8, 0), b"01234567");
        buffer.space(8).copy_from_slice(b"abcdefgh");
        buffer.commit(8);
        assert_eq!((buffer.data(), buffer.capacity()), (&b"89abcdefgh"[..], 10));
        buffer.push(b"!");
        assert_eq!(buffer.data(), b"89abcdefgh!");
        assert!(buffer.capacity() > 10);
    }

    #[test]
    fn bytes_go_back_in_front() {
        let mut buffer = filled(b"abcdef");
        assert_eq!(buffer.take(4, 0), b"abcd");
        buffer.unread(b"cd");
        assert_eq!(buffer.data(), b"cdef");
        buffer.unread(b"0123");
        assert_eq!(buffer.data(), b"0123cdef");
    }
}
