//! What each call has to return, worked out from the whole stream in the plainest way; and for
//! chunks, by OpenResty's machine, byte by byte.

use cosocket::ErrorKind;

/// What a call returned: bytes, or how it failed and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Bytes(Vec<u8>),
    /// And whether the pattern was met.
    Chunk(Vec<u8>, bool),
    Error(ErrorKind, Vec<u8>),
}

/// A stream, and how much of it was taken.
pub struct Reference {
    stream: Vec<u8>,
    taken: usize,
    /// A call was told the end.
    over: bool,
}

impl Reference {
    pub fn new(stream: Vec<u8>) -> Reference {
        Reference { stream, taken: 0, over: false }
    }

    pub fn rest(&self) -> &[u8] {
        &self.stream[self.taken..]
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let bytes = self.rest()[..len].to_vec();
        self.taken += len;
        bytes
    }

    fn closed(&mut self) -> Answer {
        self.over = true;
        Answer::Error(ErrorKind::Closed, self.take(self.rest().len()))
    }

    fn oversized(&mut self, limit: usize) -> Answer {
        Answer::Error(ErrorKind::Oversized, self.take(limit))
    }

    pub fn line(&mut self, limit: usize) -> Answer {
        let rest = self.rest();
        if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = &rest[..end];
            let len = line.strip_suffix(b"\r").unwrap_or(line).len();
            if len > limit {
                return self.oversized(limit);
            }
            let line = self.take(len);
            self.take(end + 1 - len);
            return Answer::Bytes(line);
        }
        // Half of an ending might have followed the limit.
        if rest.strip_suffix(b"\r").unwrap_or(rest).len() > limit {
            return self.oversized(limit);
        }
        self.closed()
    }

    pub fn exact(&mut self, len: usize) -> Answer {
        match self.over || self.rest().len() < len {
            true => self.closed(),
            false => Answer::Bytes(self.take(len)),
        }
    }

    pub fn vectored(&mut self, len: usize) -> Answer {
        let len = if self.over { len } else { len.min(self.rest().len()) };
        if len == 0 { self.exact(1) } else { self.exact(len) }
    }

    pub fn peek(&mut self, len: usize) -> Answer {
        match self.over || self.rest().len() < len {
            true => Answer::Error(ErrorKind::Closed, Vec::new()),
            false => Answer::Bytes(self.rest()[..len].to_vec()),
        }
    }

    pub fn all(&mut self, limit: usize) -> Answer {
        match self.rest().len() {
            _ if self.over => self.closed(),
            len if len > limit => self.oversized(limit),
            len => Answer::Bytes(self.take(len)),
        }
    }

    /// As many as the call took: it may choose.
    pub fn any(&mut self, taken: usize, max: usize) -> Answer {
        match self.rest().is_empty() {
            true => self.closed(),
            false => Answer::Bytes(self.take(taken.clamp(1, max))),
        }
    }

    pub fn until(&mut self, pattern: &[u8], inclusive: bool, limit: usize) -> Answer {
        let found = self.rest().windows(pattern.len()).position(|window| window == pattern);
        let settled = self.rest().len() - pending(self.rest(), pattern);
        if found.unwrap_or(settled) > limit {
            return self.oversized(limit);
        }
        match found {
            None => self.closed(),
            Some(at) => Answer::Bytes(self.take_record(at, pattern, inclusive)),
        }
    }

    pub fn chunk(&mut self, pattern: &[u8], inclusive: bool, size: usize) -> Answer {
        let mut left = size;
        let mut state = 0;
        let mut at = 0;
        while at < self.rest().len() {
            let byte = self.rest()[at];
            if byte == pattern[state] {
                (state, at) = (state + 1, at + 1);
                if state == pattern.len() {
                    let record = self.take_record(at - state, pattern, inclusive);
                    return Answer::Chunk(record, true);
                }
                continue;
            }
            // The edges of OpenResty's machine lead to a match of two and more.
            let seen = &self.rest()[at - state..=at];
            let next = pending(&seen[1.min(state)..], pattern);
            let (settled, next_at) = match state {
                0 => (1, at + 1),
                _ if next >= 2 => (state + 1 - next, at + 1),
                _ => (state, at),
            };
            state = if next_at > at && state > 0 { next } else { 0 };
            at = next_at;
            left = left.saturating_sub(settled);
            if left == 0 {
                return Answer::Chunk(self.take(at - state), false);
            }
        }
        self.closed()
    }

    fn take_record(&mut self, len: usize, pattern: &[u8], inclusive: bool) -> Vec<u8> {
        let mut record = self.take(len);
        let pattern = self.take(pattern.len());
        if inclusive {
            record.extend(pattern);
        }
        record
    }
}

/// How long the longest end of `data` is that the pattern begins with, less than all of it.
pub fn pending(data: &[u8], pattern: &[u8]) -> usize {
    let longest = data.len().min(pattern.len() - 1);
    (0..=longest).rev().find(|&len| data.ends_with(&pattern[..len])).unwrap()
}
