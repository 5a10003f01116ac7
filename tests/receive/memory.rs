//! What a connection costs while it waits, and what reads cost it.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cosocket::ErrorKind;
use cosocket::internals::receive::{Receiver, Source};

use crate::script::Script;

/// A stream without end, of lines of 100 bytes; each read finds at most so many bytes.
struct Lines {
    piece: usize,
    at: Cell<usize>,
    reads: Cell<usize>,
    longest: Cell<usize>,
}

fn lines(piece: usize) -> Lines {
    Lines { piece, at: Cell::default(), reads: Cell::default(), longest: Cell::default() }
}

impl Source for Lines {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.piece);
        for (byte, at) in buffer[..len].iter_mut().zip(self.at.get()..) {
            *byte = if at % 100 == 99 { b'\n' } else { b'x' };
        }
        self.at.set(self.at.get() + len);
        self.reads.set(self.reads.get() + 1);
        self.longest.set(self.longest.get().max(buffer.len()));
        Ok(len)
    }
}

#[test]
fn a_connection_at_rest_has_no_buffer() {
    let script = Script::pieces([&b"short\n"[..], &[b'x'; 2000], b"\nmore"]);
    let mut receiver = Receiver::new();
    assert_eq!(receiver.capacity(), 0);
    receiver.line(&script, 100).unwrap();
    assert_eq!(receiver.capacity(), 0, "after a short line");
    receiver.line(&script, 10_000).unwrap();
    assert!(receiver.capacity() > 0, "with bytes that wait");
    receiver.exact(&script, 4).unwrap();
    assert_eq!(receiver.capacity(), 0, "after a longer one");
}

#[test]
fn a_bulk_stream_is_read_in_long_reads() {
    let source = lines(usize::MAX);
    let mut receiver = Receiver::new();
    for _ in 0..100_000 {
        assert_eq!(receiver.line(&source, 100).unwrap().len(), 99);
    }
    assert!(source.reads.get() < 170, "{} reads for 10 MB", source.reads.get());
    assert!(receiver.capacity() <= 64 << 10, "{} bytes", receiver.capacity());
}

/// A long size goes to its destination at once, and no byte of what follows with it.
#[test]
fn long_sizes_are_read_to_where_they_go() {
    let source = lines(usize::MAX);
    let mut receiver = Receiver::new();
    let bytes = receiver.exact(&source, 1_000_000).unwrap();
    assert_eq!((bytes.len(), source.at.get()), (1_000_000, 1_000_000));
    assert!(bytes.capacity() < 1_010_000, "{}", bytes.capacity());
    let reads = source.reads.get();
    receiver.exact_into(&source, &mut vec![0; 1_000_000]).unwrap();
    assert_eq!(source.reads.get(), reads + 1);
}

/// Who announces much and sends little is given little.
#[test]
fn memory_follows_what_has_come() {
    let script = Script::pieces([[b'x'; 10]]);
    let mut receiver = Receiver::new();
    let error = receiver.exact(&script, 1 << 40).unwrap_err();
    assert_eq!((error.kind(), error.partial().len()), (ErrorKind::Closed, 10));

    let source = lines(1000);
    let mut receiver = Receiver::new();
    receiver.exact(&source, 300_000).unwrap();
    assert!(source.longest.get() <= 300_000, "{}", source.longest.get());
}

/// A cancel unwinds a call. What it had read is not lost to the next one.
#[test]
fn an_unwound_call_leaves_the_bytes() {
    struct Cancelled<'a>(&'a Script, Cell<usize>);
    impl Source for Cancelled<'_> {
        fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1.set(self.1.get() + 1);
            if self.1.get() == 3 { panic!("cancelled") } else { self.0.read(buffer) }
        }
    }
    type Read = fn(&mut Receiver, &Cancelled<'_>);
    let reads: [Read; 4] = [
        |receiver, source| drop(receiver.exact(source, 10_000)),
        |receiver, source| drop(receiver.exact_into(source, &mut [0; 10])),
        |receiver, source| drop(receiver.exact_into(source, &mut [0; 10_000])),
        |receiver, source| drop(receiver.line(source, 100)),
    ];
    for read in reads {
        let script = Script::pieces(["abc", "def", "ghi"]);
        let source = Cancelled(&script, Cell::new(0));
        let mut receiver = Receiver::with_unread(b"012".to_vec());
        catch_unwind(AssertUnwindSafe(|| read(&mut receiver, &source))).unwrap_err();
        assert_eq!(receiver.unread(), b"012abcdef");
    }
}
