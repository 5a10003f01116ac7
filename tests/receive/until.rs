//! Reading up to a pattern: OpenResty's own cases, each with read buffers of several lengths.

use cosocket::ErrorKind;
use cosocket::internals::receive::{Chunk, Pattern, Receiver};

use crate::script::{Event, Script};

const READ_LENS: [usize; 4] = [1, 2, 3, 4096];

/// Runs the check with each length of reads, and with the stream in pieces of that length too.
fn each(stream: &[u8], check: impl Fn(&mut Session)) {
    for read_len in READ_LENS {
        let receiver = Receiver::with_longest_read(read_len);
        check(&mut Session { receiver, script: Script::pieces([stream]) });
        let script = Script::pieces(stream.chunks(read_len));
        check(&mut Session { receiver: Receiver::new(), script });
    }
}

struct Session {
    receiver: Receiver,
    script: Script,
}

/// What OpenResty calls an iterator, with its end mark.
struct Iterator {
    pattern: Pattern,
    inclusive: bool,
    record_over: bool,
}

impl Session {
    #[track_caller]
    fn exact(&mut self, expected: &[u8]) {
        let bytes = self.receiver.exact(&self.script, expected.len()).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[track_caller]
    fn whole(&mut self, iterator: &Iterator, expected: &[u8]) {
        let Iterator { pattern, inclusive, .. } = iterator;
        let bytes = self.receiver.until(&self.script, pattern, *inclusive, usize::MAX).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[track_caller]
    fn closed(&mut self, iterator: &Iterator, partial: &[u8]) {
        let Iterator { pattern, inclusive, .. } = iterator;
        let result = self.receiver.until(&self.script, pattern, *inclusive, usize::MAX);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.partial().escape_ascii().to_string(), partial.escape_ascii().to_string());
    }

    fn next(&mut self, iterator: &mut Iterator, size: usize) -> Option<Vec<u8>> {
        if std::mem::take(&mut iterator.record_over) {
            return None;
        }
        let Iterator { pattern, inclusive, .. } = iterator;
        let Chunk { bytes, is_last } =
            self.receiver.until_chunk(&self.script, pattern, *inclusive, size).unwrap();
        iterator.record_over = is_last;
        Some(bytes)
    }

    #[track_caller]
    fn chunk(&mut self, iterator: &mut Iterator, size: usize, expected: &[u8]) {
        let bytes = self.next(iterator, size).expect("not the end mark");
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

fn iterator(pattern: &[u8]) -> Iterator {
    Iterator { pattern: Pattern::new(pattern).unwrap(), inclusive: false, record_over: false }
}

fn inclusive(pattern: &[u8]) -> Iterator {
    Iterator { inclusive: true, ..iterator(pattern) }
}

/// RCV-5, and items 53 to 60: pattern, stream, what comes before the pattern, and after it.
#[test]
fn whole_records() {
    let cases: [(&str, &str, &[&str], &str); 14] = [
        ("\r\n", "one\r\ntwo\r\n\r\nfoo\n", &["one", "two", ""], "foo\n"),
        ("abcabd", "abcabcabd\n", &["abc"], "\n"),
        ("aa", "abcabcaad\n", &["abcabc"], "d\n"),
        ("ab", "abc\n", &[""], "c\n"),
        ("aaaaad", "baaaaaaaaeaaaaaaadf\n", &["baaaaaaaaeaa"], "f\n"),
        ("abcabdabcabe", "abcabdabcabdabcabe\n", &["abcabd"], "\n"),
        ("abcabdabcabe", "abcabdabcabcabdabcabe\n", &["abcabdabc"], "\n"),
        ("abcabdabcabe", "abcabcabdabcabe\n", &["abc"], "\n"),
        ("abcabdabcabe", "ababcabdabcabe\n", &["ab"], "\n"),
        ("--abc", "hello, world ----abc\n", &["hello, world --"], "\n"),
        ("--abc", "--abc--abc----abc-", &["", "", "--"], "-"),
        ("a", "bab\naa", &["b", "b\n", ""], ""),
        ("abab", "abaabab", &["aba"], ""),
        ("ab1ab2", "ab1ab1ab2x", &["ab1"], "x"),
    ];
    for (pattern, stream, records, rest) in cases {
        let iterator = iterator(pattern.as_bytes());
        each(stream.as_bytes(), |session| {
            for record in records {
                session.whole(&iterator, record.as_bytes());
            }
            session.closed(&iterator, rest.as_bytes());
            session.closed(&iterator, b"");
        });
    }
}

/// RCV-5: a pattern longer than most (item 67), and none.
#[test]
fn long_and_empty_patterns() {
    let pattern = [b'-'; 68];
    let stream = [&b"before"[..], &pattern[1..], b"+", &pattern, b"after"].concat();
    let before = [&b"before"[..], &pattern[1..], b"+"].concat();
    each(&stream, |session| {
        session.whole(&iterator(&pattern), &before);
        session.closed(&iterator(&pattern), b"after");
    });
    assert!(Pattern::new(b"").is_none());
}

/// RCV-6, items 68, 70 and 71. Not asked for, it is off, and nothing else can be said: the type of
/// what asks for it sees to that.
#[test]
fn inclusive_records_carry_the_pattern() {
    each(b"abcabcabdabcabd\n", |session| {
        let iterator = iterator(b"abcabd");
        session.whole(&iterator, b"abc");
        session.whole(&iterator, b"");
        session.closed(&iterator, b"\n");
    });
    each(b"abcabcabdabcabd\n", |session| {
        let iterator = inclusive(b"abcabd");
        session.whole(&iterator, b"abcabcabd");
        session.whole(&iterator, b"abcabd");
        session.closed(&iterator, b"\n");
    });
    each(b"hello, world ----abc\n", |session| {
        let mut iterator = inclusive(b"--abc");
        for chunk in [&b"hell"[..], b"o, w", b"orld", b" ----abc"] {
            session.chunk(&mut iterator, 4, chunk);
        }
        assert_eq!(session.next(&mut iterator, 4), None);
    });
}

/// RCV-7, item 61.
#[test]
fn chunks_end_at_the_pattern() {
    each(b"hello, world ----abc\n", |session| {
        let mut iterator = iterator(b"--abc");
        for chunk in [&b"hell"[..], b"o, w", b"orld", b" --"] {
            session.chunk(&mut iterator, 4, chunk);
        }
        assert_eq!(session.next(&mut iterator, 4), None);
        session.closed(&iterator, b"\n");
    });
}

/// RCV-7, items 62 and 64: what is half matched is the next read's, and the end mark outlasts it.
#[test]
fn other_reads_between_chunks() {
    each(b"hello, world ----abc\n", |session| {
        let mut iterator = iterator(b"--abc");
        for (chunk, byte) in [(&b"hell"[..], b"o"), (b", wo", b"r"), (b"ld -", b"-"), (b"", b"\n")]
        {
            session.chunk(&mut iterator, 4, chunk);
            session.exact(byte);
        }
        assert_eq!(session.next(&mut iterator, 4), None);
        session.closed(&iterator, b"");
    });
    each(b"----abc----abc-\n", |session| {
        let mut iterator = iterator(b"--abc");
        for (chunk, byte) in [(&b"--"[..], b"-"), (b"-a", b"b"), (b"c-", b"-"), (b"", b"-")] {
            session.chunk(&mut iterator, 2, chunk);
            session.exact(byte);
        }
        assert_eq!(session.next(&mut iterator, 2), None);
        session.closed(&iterator, b"\n");
    });
}

/// RCV-8, item 65.
#[test]
fn two_iterators_take_turns() {
    each(b"------abd----abc\n", |session| {
        let mut one = iterator(b"--abc");
        let mut other = iterator(b"-ab");
        session.chunk(&mut one, 2, b"--");
        session.exact(b"-");
        session.chunk(&mut one, 1, b"-");
        session.chunk(&mut other, 2, b"-");
        session.whole(&one, b"d--");
        session.closed(&one, b"\n");
    });
}

/// RCV-7, RCV-8: a chunk is longer than asked for when a match falls back; the rest of the match
/// is in the stream.
#[test]
fn a_match_that_falls_back() {
    each(b"ab1ab1\n", |session| {
        session.chunk(&mut iterator(b"ab1ab2"), 2, b"ab1");
        session.exact(b"ab1");
        session.exact(b"\n");
    });
}

/// RCV-9: OpenResty loses the half-matched delimiter here; we do not.
#[test]
fn the_end_of_the_stream_loses_no_half_matched_delimiter() {
    each(b"hello--a", |session| session.closed(&iterator(b"--abc"), b"hello--a"));
    each(b"hello--a", |session| {
        let result = session.receiver.until_chunk(
            &session.script,
            &Pattern::new(b"--abc").unwrap(),
            false,
            100,
        );
        assert_eq!(result.unwrap_err().partial(), b"hello--a");
    });
}

/// RCV-8, RCV-10: a timeout takes what is settled; the half match stays for whoever reads next.
#[test]
fn a_timeout_leaves_the_half_match() {
    let pattern = Pattern::new(b"--abc").unwrap();
    for read_len in READ_LENS {
        let script = Script::pieces([b"hello--a"]);
        script.push(Event::TimesOut);
        script.push(Event::Bytes(b"bc rest".to_vec()));
        let mut receiver = Receiver::with_longest_read(read_len);
        let error = receiver.until(&script, &pattern, false, 100).unwrap_err();
        assert_eq!((error.kind(), error.partial()), (ErrorKind::Timeout, &b"hello"[..]));
        assert_eq!(receiver.unread(), b"--a");
        // The same again goes on with the match,
        assert_eq!(receiver.until(&script, &pattern, false, 100).unwrap(), b"");
        assert_eq!(receiver.exact(&script, 5).unwrap(), b" rest");
    }
    for read_len in READ_LENS {
        let script = Script::pieces([b"hello--a"]);
        script.push(Event::TimesOut);
        script.push(Event::Bytes(b"bc\n".to_vec()));
        let mut receiver = Receiver::with_longest_read(read_len);
        let error = receiver.until_chunk(&script, &pattern, false, 100).unwrap_err();
        assert_eq!((error.kind(), error.partial()), (ErrorKind::Timeout, &b"hello"[..]));
        // and another read has it.
        assert_eq!(receiver.line(&script, 100).unwrap(), b"--abc");
    }
}

/// Wish 14: records have a limit too; what the error takes does not depend on the pieces.
#[test]
fn a_limit_on_records() {
    let pattern = Pattern::new(b"--").unwrap();
    for read_len in READ_LENS {
        let script = Script::pieces([b"hello--world-wide--"]);
        let mut receiver = Receiver::with_longest_read(read_len);
        assert_eq!(receiver.until(&script, &pattern, false, 5).unwrap(), b"hello");
        let error = receiver.until(&script, &pattern, false, 5).unwrap_err();
        assert_eq!((error.kind(), error.partial()), (ErrorKind::Oversized, &b"world"[..]));
        assert_eq!(receiver.until(&script, &pattern, false, 5).unwrap(), b"-wide");
    }
}
