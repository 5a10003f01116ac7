//! Lines and records taken out of a stream, beside `BufReader` and memchr over the same stream, in
//! one run: `cargo bench --bench receive`.
//!
//! `bulk` is a socket that a thread keeps full: what is measured is the reader. `memory` is the
//! same without a kernel below: the parsing alone. `short answers` asks and waits: there the reader has no
//! buffer while it waits, and a rival has; an answer of 2000 bytes is more than a reader waits
//! with, and takes it a second read.

#![allow(missing_docs)]

#[cfg(not(cosocket_internals))]
compile_error!("benches need `--cfg cosocket_internals`, which .cargo/config.toml sets");

use std::cell::Cell;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net as std_unix;
use std::time::{Duration, Instant};

use cosocket::internals::receive::{Pattern, Receiver, Source};
use cosocket::os::unix::net::UnixStream;
use cosocket::{Cosocket, Runtime};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use memchr::memmem::Finder;

const BOUNDARY: &[u8] = b"\r\n--boundary";

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = memory, bulk, short_answers
}
criterion_main!(benches);

/// A line of so many bytes, its ending counted.
fn line(len: usize) -> Vec<u8> {
    let mut line = vec![b'x'; len - 2];
    line.extend(b"\r\n");
    line
}

/// A record with many beginnings of the boundary in it.
fn record(len: usize) -> Vec<u8> {
    let mut record = b"some text\r\nof lines\r\n-- that are short\r\n".repeat(len / 40 + 1);
    record.truncate(len - BOUNDARY.len());
    record.extend(BOUNDARY);
    record
}

/// The same bytes for ever.
struct Endless {
    bytes: Vec<u8>,
    at: Cell<usize>,
}

impl Endless {
    fn new(piece: &[u8]) -> Endless {
        Endless { bytes: piece.repeat(200_000 / piece.len()), at: Cell::new(0) }
    }
}

impl Source for Endless {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at.get()..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at.set((self.at.get() + len) % self.bytes.len());
        Ok(len)
    }
}

impl Read for &Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Source::read(*self, buffer)
    }
}

fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    for len in [16, 100, 1000] {
        let source = Endless::new(&line(len));
        group.throughput(Throughput::Bytes(len as u64));
        let mut receiver = Receiver::new();
        group.bench_function(BenchmarkId::new("line, cosocket", len), |bencher| {
            bencher.iter(|| receiver.line(&source, 1 << 20).unwrap());
        });
        let mut line = Vec::new();
        group.bench_function(BenchmarkId::new("line into, cosocket", len), |bencher| {
            bencher.iter(|| {
                line.clear();
                receiver.line_into(&source, 1 << 20, &mut line).unwrap()
            });
        });
        let mut reader = BufReader::new(&source);
        group.bench_function(BenchmarkId::new("line, BufReader", len), |bencher| {
            bencher.iter(|| read_line(&mut reader));
        });
    }
    for len in [100, 10_000] {
        let source = Endless::new(&record(len));
        group.throughput(Throughput::Bytes(len as u64));
        let mut receiver = Receiver::new();
        let pattern = Pattern::new(BOUNDARY).unwrap();
        group.bench_function(BenchmarkId::new("until, cosocket", len), |bencher| {
            bencher.iter(|| receiver.until(&source, &pattern, false, usize::MAX).unwrap());
        });
        let mut reader = BufReader::new(&source);
        let finder = Finder::new(BOUNDARY);
        group.bench_function(BenchmarkId::new("until, BufReader", len), |bencher| {
            bencher.iter(|| read_until(&mut reader, &finder));
        });
    }
}

fn bulk(criterion: &mut Criterion) {
    let runtime = cosocket::Builder::new().workers(1).build().expect("a runtime");
    let mut group = criterion.benchmark_group("bulk");
    for len in [16, 100, 1000] {
        let socket = Cosocket::from(flood(&line(len)));
        in_coroutine(&mut group, &runtime, &format!("line, cosocket/{len}"), len, || {
            socket.receive_line().unwrap()
        });
        let mut reader = BufReader::new(flood(&line(len)));
        in_coroutine(&mut group, &runtime, &format!("line, BufReader/{len}"), len, || {
            read_line(&mut reader)
        });
    }
    for len in [100, 10_000] {
        let socket = Cosocket::from(flood(&record(len)));
        let mut records = socket.receive_until(BOUNDARY).unwrap();
        in_coroutine(&mut group, &runtime, &format!("until, cosocket/{len}"), len, || {
            records.whole().unwrap()
        });
        let mut reader = BufReader::new(flood(&record(len)));
        let finder = Finder::new(BOUNDARY);
        in_coroutine(&mut group, &runtime, &format!("until, BufReader/{len}"), len, || {
            read_until(&mut reader, &finder)
        });
    }
    for len in [1000, 1_000_000] {
        let socket = Cosocket::from(flood(&line(1000)));
        in_coroutine(&mut group, &runtime, &format!("exact, cosocket/{len}"), len, || {
            socket.receive_exact(len).unwrap()
        });
        let mut reader = BufReader::new(flood(&line(1000)));
        in_coroutine(&mut group, &runtime, &format!("exact, BufReader/{len}"), len, || {
            let mut bytes = vec![0; len];
            reader.read_exact(&mut bytes).unwrap();
            bytes
        });
    }
}

/// A question, and a line for an answer; both sides are coroutines of one worker.
fn short_answers(criterion: &mut Criterion) {
    let runtime = cosocket::Builder::new().workers(1).build().expect("a runtime");
    let mut group = criterion.benchmark_group("short answers");
    for len in [30, 900, 2000] {
        let (client, server) = pair();
        let socket = Cosocket::from(client);
        let server = runtime.spawn(move || answer(server, &line(len)));
        in_coroutine(&mut group, &runtime, &format!("cosocket/{len}"), len, || {
            socket.send("?").unwrap();
            socket.receive_line().unwrap()
        });
        drop(socket);
        server.join().unwrap();

        let (client, server) = pair();
        let mut reader = BufReader::new(client);
        let server = runtime.spawn(move || answer(server, &line(len)));
        in_coroutine(&mut group, &runtime, &format!("BufReader/{len}"), len, || {
            reader.get_mut().write_all(b"?").unwrap();
            read_line(&mut reader)
        });
        drop(reader);
        server.join().unwrap();
    }
}

fn answer(mut stream: UnixStream, line: &[u8]) {
    let mut question = [0; 1];
    while matches!(stream.read(&mut question), Ok(1)) {
        stream.write_all(line).unwrap();
    }
}

/// Measures `f` in a coroutine of this runtime.
fn in_coroutine(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    len: usize,
    mut f: impl FnMut() -> Vec<u8> + Send,
) {
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.run(|| {
                let start = Instant::now();
                for _ in 0..rounds {
                    black_box(f());
                }
                start.elapsed()
            })
        });
    });
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A stream that a thread keeps full, until it is dropped.
fn flood(piece: &[u8]) -> UnixStream {
    let (stream, mut producer) = std_unix::UnixStream::pair().unwrap();
    let bytes = piece.repeat(100_000_usize.div_ceil(piece.len()));
    std::thread::spawn(move || while producer.write_all(&bytes).is_ok() {});
    UnixStream::from(stream)
}

/// What a line takes with std: `read_until` is `fill_buf` and memchr.
fn read_line(reader: &mut impl BufRead) -> Vec<u8> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap();
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    line
}

/// The same with a pattern, which may straddle what `fill_buf` has.
fn read_until(reader: &mut impl BufRead, finder: &Finder<'_>) -> Vec<u8> {
    let overlap = finder.needle().len() - 1;
    let mut record: Vec<u8> = Vec::new();
    loop {
        let filled = reader.fill_buf().unwrap();
        let (before, len) = (record.len(), filled.len());
        record.extend_from_slice(filled);
        let from = before.saturating_sub(overlap);
        match finder.find(&record[from..]) {
            None => reader.consume(len),
            Some(at) => {
                record.truncate(from + at);
                reader.consume(from + at + finder.needle().len() - before);
                return record;
            }
        }
    }
}
