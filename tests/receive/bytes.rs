//! Lines, sizes, whatever there is, and what a timeout or the end does to them.

use std::io::IoSliceMut;

use cosocket::internals::receive::{PEEK_LIMIT, Receiver};
use cosocket::{Error, ErrorKind};

use crate::script::{Event, Script};

#[track_caller]
fn assert_fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, partial: &[u8]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind);
    assert_eq!(error.partial().escape_ascii().to_string(), partial.escape_ascii().to_string());
}

/// The stream at once, by bytes, and read by bytes.
fn each(stream: &[u8], check: impl Fn(&mut Receiver, &Script)) {
    check(&mut Receiver::new(), &Script::pieces([stream]));
    check(&mut Receiver::new(), &Script::pieces(stream.chunks(1)));
    check(&mut Receiver::with_longest_read(1), &Script::pieces([stream]));
    check(&mut Receiver::with_longest_read(3), &Script::pieces(stream.chunks(2)));
}

/// RCV-1 as DESIGN.md has it: a line loses its ending, and no other "\r". Items 1, 2, 11.
#[test]
fn lines_lose_their_ending_alone() {
    each(b"a\r\rb\rc\n\r\n\n\r\r\nfoo\r", |receiver, script| {
        for line in [&b"a\r\rb\rc"[..], b"", b"", b"\r"] {
            assert_eq!(receiver.line(script, 100).unwrap(), line);
        }
        assert_fails(receiver.line(script, 100), ErrorKind::Closed, b"foo\r");
        assert_fails(receiver.line(script, 100), ErrorKind::Closed, b"");
    });
    each(b"last\n", |receiver, script| {
        assert_eq!(receiver.line(script, 100).unwrap(), b"last");
        assert_fails(receiver.line(script, 100), ErrorKind::Closed, b"");
    });
}

/// Wish 14: the limit is of the line, its ending not counted.
#[test]
fn a_line_has_a_limit() {
    for ending in ["\n", "\r\n"] {
        let stream = format!("12345{ending}123456{ending}");
        each(stream.as_bytes(), |receiver, script| {
            assert_eq!(receiver.line(script, 5).unwrap(), b"12345");
            assert_fails(receiver.line(script, 5), ErrorKind::Oversized, b"12345");
            assert_eq!(receiver.line(script, 5).unwrap(), b"6");
        });
    }
    each(b"12345\rx", |receiver, script| {
        assert_fails(receiver.line(script, 5), ErrorKind::Oversized, b"12345");
        assert_eq!(receiver.exact(script, 2).unwrap(), b"\rx");
    });
    each(b"\r\n\nx", |receiver, script| {
        assert_eq!(receiver.line(script, 0).unwrap(), b"");
        assert_eq!(receiver.line(script, 0).unwrap(), b"");
        assert_fails(receiver.line(script, 0), ErrorKind::Oversized, b"");
        assert_eq!(receiver.unread(), b"x");
    });
}

/// RCV-10: half an ending is not taken by a timeout, so partial and rest make the line.
#[test]
fn a_timeout_between_the_bytes_of_an_ending() {
    for (rest, expected) in [(&b"\n"[..], &b""[..]), (b"bar\n", b"\rbar"), (b"\r\n", b"\r")] {
        let script = Script::pieces([b"foo\r"]);
        script.push(Event::TimesOut);
        script.push(Event::Bytes(rest.to_vec()));
        let mut receiver = Receiver::new();
        assert_fails(receiver.line(&script, 100), ErrorKind::Timeout, b"foo");
        assert_eq!(receiver.line(&script, 100).unwrap(), expected);
    }
}

/// RCV-3, items 10 and 73.
#[test]
fn exact_sizes() {
    each(b"0123456789abcdefghijxyz", |receiver, script| {
        assert_eq!(receiver.exact(script, 0).unwrap(), b"");
        assert_eq!(script.reads.get(), 0);
        assert_eq!(receiver.exact(script, 10).unwrap(), b"0123456789");
        assert_eq!(receiver.exact(script, 10).unwrap(), b"abcdefghij");
        assert_eq!(receiver.exact(script, 0).unwrap(), b"");
        assert_fails(receiver.exact(script, 10), ErrorKind::Closed, b"xyz");
        assert_fails(receiver.exact(script, 0), ErrorKind::Closed, b"");
    });
}

/// RCV-3: longer than any buffer.
#[test]
fn long_results() {
    let stream: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for piece in [1 << 20, 5000, 100] {
        let script = Script::pieces(stream.chunks(piece));
        let mut receiver = Receiver::new();
        assert_eq!(receiver.exact(&script, 1).unwrap(), stream[..1]);
        assert!(receiver.exact(&script, 1_000_000).unwrap() == stream[1..][..1_000_000]);
        let mut slice = vec![0; 999_999];
        receiver.exact_into(&script, &mut slice).unwrap();
        assert!(slice == stream[1_000_001..][..999_999]);
        assert!(receiver.all(&script, usize::MAX).unwrap() == stream[2_000_000..]);
    }
}

/// RCV-4, items 32, 34, 35 and 83.
#[test]
fn whatever_is_there() {
    let script = Script::pieces(["1", "22", "hello world"]);
    let mut receiver = Receiver::new();
    assert_fails(receiver.any(&script, 0), ErrorKind::InvalidInput, b"");
    assert_eq!(receiver.any(&script, 0).unwrap_err().to_string(), "bad max argument");
    assert_eq!(script.reads.get(), 0);
    assert_eq!(receiver.any(&script, 1024).unwrap(), b"1");
    assert_eq!(receiver.any(&script, 1024).unwrap(), b"22");
    assert_eq!(receiver.any(&script, 7).unwrap(), b"hello w");
    let reads = script.reads.get();
    assert_eq!(receiver.any(&script, 1024).unwrap(), b"orld");
    assert_eq!(script.reads.get(), reads, "it was there already");
    assert_fails(receiver.any(&script, 1024), ErrorKind::Closed, b"");
}

/// Item 160.
#[test]
fn whatever_is_there_by_single_bytes() {
    let mut receiver = Receiver::with_longest_read(1);
    let script = Script::pieces(["ab"]);
    assert_eq!(receiver.any(&script, 1024).unwrap(), b"a");
    assert_eq!(receiver.any(&script, 1024).unwrap(), b"b");
}

/// RCV-2: success at the end, as often as it is asked for, until another call is told the end.
#[test]
fn all_until_the_end() {
    each(b"line\nall\nthe rest", |receiver, script| {
        assert_eq!(receiver.line(script, 100).unwrap(), b"line");
        assert_eq!(receiver.all(script, 100).unwrap(), b"all\nthe rest");
        assert_eq!(receiver.all(script, 100).unwrap(), b"");
        assert!(receiver.at_end());
        assert_fails(receiver.any(script, 1), ErrorKind::Closed, b"");
        assert_fails(receiver.all(script, 100), ErrorKind::Closed, b"");
    });
    let script = Script::new([
        Event::Bytes(b"one".to_vec()),
        Event::TimesOut,
        Event::Bytes(b"two".to_vec()),
        Event::Fails,
    ]);
    let mut receiver = Receiver::new();
    assert_fails(receiver.all(&script, 100), ErrorKind::Timeout, b"one");
    assert_fails(receiver.all(&script, 100), ErrorKind::Io, b"two");
    assert_fails(receiver.all(&script, 100), ErrorKind::Closed, b"");
}

/// Wish 14.
#[test]
fn all_has_a_limit() {
    each(b"0123456789", |receiver, script| {
        assert_fails(receiver.all(script, 4), ErrorKind::Oversized, b"0123");
        assert_eq!(receiver.all(script, 6).unwrap(), b"456789");
    });
}

/// RCV-10, items 20 to 22, 80, 130: what a timeout hands out is handed out once; the next read,
/// of whatever kind, goes on behind it. All pairs of kinds.
#[test]
fn a_timeout_hands_out_what_came_once() {
    type Read = fn(&mut Receiver, &Script) -> Result<Vec<u8>, Error>;
    fn until(receiver: &mut Receiver, script: &Script) -> Result<Vec<u8>, Error> {
        let pattern = cosocket::internals::receive::Pattern::new(b"\n").unwrap();
        receiver.until(script, &pattern, false, 100)
    }
    let reads: [(Read, &[u8]); 3] = [
        (|receiver, script| receiver.line(script, 100), b"world"),
        (|receiver, script| receiver.exact(script, 6), b"world\n"),
        (until, b"world"),
    ];
    for (first, _) in reads {
        for (second, expected) in reads {
            let hello = Event::Bytes(b"hello".to_vec());
            let world = Event::Bytes(b"world\n".to_vec());
            let script =
                Script::new([Event::TimesOut, hello, Event::TimesOut, Event::TimesOut, world]);
            let mut receiver = Receiver::new();
            assert_fails(first(&mut receiver, &script), ErrorKind::Timeout, b"");
            assert_fails(first(&mut receiver, &script), ErrorKind::Timeout, b"hello");
            assert_fails(first(&mut receiver, &script), ErrorKind::Timeout, b"");
            assert!(!receiver.at_end());
            assert_eq!(second(&mut receiver, &script).unwrap(), expected);
        }
    }
}

/// RCV-10: a new call counts anew.
#[test]
fn a_size_after_a_timeout_is_a_new_size() {
    let ab = Event::Bytes(b"ab".to_vec());
    let script = Script::new([ab, Event::TimesOut, Event::Bytes(b"0123456789z".to_vec())]);
    let mut receiver = Receiver::new();
    assert_fails(receiver.exact(&script, 10), ErrorKind::Timeout, b"ab");
    assert_eq!(receiver.exact(&script, 10).unwrap(), b"0123456789");
}

/// RCV-11: a failed connection is told with what had come, and then is closed.
#[test]
fn a_failed_read_ends_the_half() {
    let script = Script::new([Event::Bytes(b"half a li".to_vec()), Event::Fails]);
    let mut receiver = Receiver::new();
    let error = receiver.line(&script, 100).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    assert_eq!(error.to_string(), "connection reset by peer");
    assert_eq!(error.partial(), b"half a li");
    let reads = script.reads.get();
    assert_fails(receiver.line(&script, 100), ErrorKind::Closed, b"");
    assert_fails(receiver.exact(&script, 1), ErrorKind::Closed, b"");
    assert_fails(receiver.exact_into(&script, &mut []), ErrorKind::Closed, b"");
    assert_fails(receiver.any(&script, 1), ErrorKind::Closed, b"");
    assert_fails(receiver.peek(&script, 1), ErrorKind::Closed, b"");
    assert_eq!(script.reads.get(), reads);
}

/// RCV-12.
#[test]
fn a_peek_takes_nothing() {
    each(b"hello world", |receiver, script| {
        assert_eq!(receiver.peek(script, 0).unwrap(), b"");
        assert_eq!(receiver.peek(script, 5).unwrap(), b"hello");
        assert_eq!(receiver.peek(script, 5).unwrap(), b"hello");
        assert_eq!(receiver.exact(script, 6).unwrap(), b"hello ");
        assert_eq!(receiver.peek(script, 3).unwrap(), b"wor");
        // The end takes nothing either, and is told by the call that takes.
        assert_fails(receiver.peek(script, 6), ErrorKind::Closed, b"");
        assert_eq!(receiver.peek(script, 5).unwrap(), b"world");
        assert_fails(receiver.exact(script, 6), ErrorKind::Closed, b"world");
    });
    let script = Script::pieces(["abc"]);
    script.push(Event::TimesOut);
    let mut receiver = Receiver::new();
    assert_fails(receiver.peek(&script, 4), ErrorKind::Timeout, b"");
    assert_eq!(receiver.unread(), b"abc");
    assert_fails(receiver.peek(&script, PEEK_LIMIT + 1), ErrorKind::BufferTooSmall, b"");
    assert_eq!(receiver.unread(), b"abc");
}

/// RCV-14.
#[test]
fn slices_are_filled_in_order() {
    let fill = |script: &Script| {
        let (mut a, mut none, mut b, mut c) = ([b'.'; 5], [], [b'.'; 10], [b'.'; 15]);
        let slices = &mut [&mut a[..], &mut none, &mut b, &mut c].map(IoSliceMut::new);
        let result = Receiver::new().vectored(script, slices);
        (result, [&a[..], &b, &c].concat())
    };
    let (result, bytes) = fill(&Script::pieces([&b"0123456789ab"[..]]));
    assert_eq!(result.unwrap(), 12);
    assert_eq!(bytes, b"0123456789ab..................");
    let (result, bytes) = fill(&Script::pieces([vec![b'x'; 31]]));
    assert_eq!(result.unwrap(), 30);
    assert_eq!(bytes, [b'x'; 30]);
    let script = Script::pieces([b"0123456"]);
    script.push(Event::TimesOut);
    let (result, bytes) = fill(&script);
    assert_fails(result, ErrorKind::Timeout, b"0123456");
    assert_eq!(bytes, b"0123456.......................");
    assert_fails(fill(&Script::default()).0, ErrorKind::Closed, b"");
}

/// RCV-15.
#[test]
fn into_the_callers_slice() {
    each(b"0123456789", |receiver, script| {
        receiver.exact_into(script, &mut []).unwrap();
        assert_eq!(script.reads.get(), 0);
        let mut slice = [b'.'; 7];
        receiver.exact_into(script, &mut slice).unwrap();
        assert_eq!(&slice, b"0123456");
        assert_fails(receiver.exact_into(script, &mut slice), ErrorKind::Closed, b"789");
        assert_eq!(&slice, b"7893456");
    });
}

/// What was read before there was a receiver comes first.
#[test]
fn bytes_from_elsewhere() {
    let script = Script::pieces(["lo\n"]);
    let mut receiver = Receiver::with_unread(b"hel".to_vec());
    assert_eq!(receiver.unread(), b"hel");
    assert_eq!(receiver.line(&script, 100).unwrap(), b"hello");
    assert_eq!(receiver.unread(), b"");
}
