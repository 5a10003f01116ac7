//! Where a byte string first occurs in a stream that comes in pieces.
//!
//! ```text
//!   seen before               | the new piece
//!   ...  hello -|-            |  - a b c ...        pattern: --abc
//!   settled     `- matched 2     `- step by step until nothing is matched, then by the finder
//! ```
//!
//! What is matched is the longest end of the stream that the pattern begins with. Stepping is the
//! algorithm of Knuth, Morris and Pratt: on a mismatch the match falls back to the next shorter one
//! that fits, so that nothing is looked at twice. Where nothing is matched, memchr's `memmem`
//! looks through the piece at once.

use memchr::memmem::Finder;

/// What to look for; not empty.
#[derive(Debug)]
pub struct Pattern {
    finder: Finder<'static>,
    /// For each prefix, by its length less one: the longest shorter one that it also ends with.
    shorter: Box<[usize]>,
}

/// How far a search has come. Begins with nothing seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// So many bytes were looked at,
    pub scanned: usize,
    /// and with so many of the last of them the pattern begins.
    pub matched: usize,
}

/// Where a chunk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub len: usize,
    /// The pattern follows.
    pub at_pattern: bool,
}

impl Pattern {
    /// `None` for the empty string, which is nowhere and everywhere.
    pub fn new(bytes: &[u8]) -> Option<Pattern> {
        if bytes.is_empty() {
            return None;
        }
        Some(Pattern { finder: Finder::new(bytes).into_owned(), shorter: shorter_prefixes(bytes) })
    }

    /// The pattern itself.
    pub fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Looks through what was added to `data` since `progress`; where the first occurrence begins.
    pub fn find(&self, data: &[u8], progress: &mut Progress) -> Option<usize> {
        let len = self.bytes().len();
        while progress.matched > 0 && progress.scanned < data.len() {
            progress.matched = self.step(progress.matched, data[progress.scanned]);
            progress.scanned += 1;
            if progress.matched == len {
                return Some(progress.scanned - len);
            }
        }
        let fresh = &data[progress.scanned..];
        if let Some(at) = self.finder.find(fresh) {
            return Some(progress.scanned + at);
        }
        let tail = &fresh[fresh.len().saturating_sub(len - 1)..];
        let matched = tail.iter().fold(progress.matched, |matched, &byte| self.step(matched, byte));
        *progress = Progress { scanned: data.len(), matched };
        None
    }

    /// Where the first chunk of `data` ends: at the pattern, or where at least `size` bytes, not
    /// zero, are known not to be part of it. They are more when a match falls back.
    pub fn cut(&self, data: &[u8], size: usize, progress: &mut Progress) -> Option<Cut> {
        let len = self.bytes().len();
        if progress.scanned < size
            && let Some(at) = self.find(&data[..data.len().min(size)], progress)
        {
            return Some(Cut { len: at, at_pattern: true });
        }
        if progress.scanned == size && progress.matched == 0 {
            return Some(Cut { len: size, at_pattern: false });
        }
        while size <= progress.scanned && progress.scanned < data.len() {
            progress.matched = self.step(progress.matched, data[progress.scanned]);
            progress.scanned += 1;
            if progress.matched == len {
                return Some(Cut { len: progress.scanned - len, at_pattern: true });
            }
            // The byte itself counts for the next chunk, or as the begin of a match.
            let settled = progress.scanned - progress.matched.max(1);
            if settled >= size {
                return Some(Cut { len: settled, at_pattern: false });
            }
        }
        None
    }

    /// How much is matched after one more byte. So far it is not all.
    fn step(&self, mut matched: usize, byte: u8) -> usize {
        let bytes = self.bytes();
        while bytes[matched] != byte {
            if matched == 0 {
                return 0;
            }
            matched = self.shorter[matched - 1];
        }
        matched + 1
    }
}

fn shorter_prefixes(bytes: &[u8]) -> Box<[usize]> {
    let mut shorter = vec![0; bytes.len()];
    let mut matched = 0;
    for at in 1..bytes.len() {
        while matched > 0 && bytes[matched] != bytes[at] {
            matched = shorter[matched - 1];
        }
        matched += usize::from(bytes[matched] == bytes[at]);
        shorter[at] = matched;
    }
    shorter.into()
}
