//! Two readers and two writers on one stream, all at once, at both ends.

#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cosocket::net::TcpStream;
use cosocket::thread;
use util::{Random, is_quick, pair, tcp_pair};

const WRITERS: u64 = 2;

fn amount() -> u64 {
    if is_quick() { 100_000 } else { 2_000_000 }
}

/// How many bytes of each value there are.
type Histogram = [u64; 256];

fn add(mut sum: Histogram, more: Histogram) -> Histogram {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    sum
}

/// Sends pieces of random sizes; each writer has byte values of its own.
fn write(stream: &TcpStream, writer: u64, mut random: Random) -> Histogram {
    let mut sent = [0; 256];
    let mut left = amount();
    while left > 0 {
        let value = (writer << 7 | random.below(128)) as u8;
        let size = (1 + random.below(20_000)).min(left);
        { stream }.write_all(&vec![value; size as usize]).unwrap();
        sent[usize::from(value)] += size;
        left -= size;
    }
    sent
}

fn read(stream: &TcpStream, mut random: Random) -> Histogram {
    let mut received = [0; 256];
    loop {
        let mut buffer = vec![0; 1 + random.below(20_000) as usize];
        match { stream }.read(&mut buffer).unwrap() {
            0 => return received,
            count => buffer[..count].iter().for_each(|&byte| received[usize::from(byte)] += 1),
        }
    }
}

/// Two readers and two writers at each end; every byte that was sent is received once.
fn exchange(near: TcpStream, far: TcpStream) {
    let mut random = Random::new();
    cosocket::run(move || {
        let ends = [Arc::new(near), Arc::new(far)];
        let readers = ends.clone().map(|stream| {
            [(); 2].map(|()| {
                let (stream, random) = (Arc::clone(&stream), random.split());
                thread::spawn(move || read(&stream, random))
            })
        });
        let writers = ends.clone().map(|stream| {
            [0, 1].map(|writer| {
                let (stream, random) = (Arc::clone(&stream), random.split());
                thread::spawn(move || write(&stream, writer, random))
            })
        });
        let [from_near, from_far] = [0, 1].map(|_| ()).map({
            let mut writers = writers.into_iter();
            let mut ends = ends.into_iter();
            move |()| {
                let sent = writers.next().unwrap().map(|writer| writer.join().unwrap());
                ends.next().unwrap().shutdown(Shutdown::Write).unwrap();
                sent.into_iter().reduce(add).unwrap()
            }
        });
        let [at_near, at_far] = readers.map(|readers| {
            readers.map(|reader| reader.join().unwrap()).into_iter().reduce(add).unwrap()
        });
        assert_eq!(at_near, from_far);
        assert_eq!(at_far, from_near);
        assert_eq!(at_near.iter().sum::<u64>(), WRITERS * amount());
    });
}

#[test]
fn two_readers_and_two_writers_share_a_tcp_stream() {
    let (near, far) = tcp_pair();
    exchange(near.into(), far.into());
}

#[test]
fn two_readers_and_two_writers_share_a_local_stream() {
    let (near, far) = pair();
    exchange(near, far);
}

/// Over a socket that keeps records apart, each call is one record: whole, once, and in the
/// order of its writer.
#[test]
fn calls_of_several_coroutines_are_whole() {
    let mut fds = [0; 2];
    // SAFETY: two descriptors may be written, and nobody else knows them.
    #[allow(unsafe_code)]
    let (near, far) = unsafe {
        use std::os::fd::FromRawFd;
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    let (near, far) = (Arc::new(TcpStream::from(near)), Arc::new(TcpStream::from(far)));
    let records = amount() / 500;
    cosocket::run(|| {
        let readers = [(); 2].map(|()| {
            let far = Arc::clone(&far);
            thread::spawn(move || read_records(&far))
        });
        let writers = [0, 1].map(|writer| {
            let near = Arc::clone(&near);
            thread::spawn(move || {
                for number in 0..records {
                    let record = [writer, number, !number];
                    let bytes: Vec<u8> = record.iter().flat_map(|n| n.to_ne_bytes()).collect();
                    assert_eq!({ &*near }.write(&bytes).unwrap(), bytes.len());
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        near.shutdown(Shutdown::Write).unwrap();
        let mut seen: Vec<_> =
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        seen.sort_unstable();
        let all: Vec<_> =
            (0..WRITERS).flat_map(|writer| (0..records).map(move |n| (writer, n))).collect();
        assert!(seen == all, "records lost or doubled");
    });
}

fn read_records(stream: &TcpStream) -> Vec<(u64, u64)> {
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let mut buffer = [0; 64];
    loop {
        let count = { stream }.read(&mut buffer).unwrap();
        if count == 0 {
            return seen;
        }
        assert_eq!(count, 24, "not one record");
        let word = |at: usize| u64::from_ne_bytes(buffer[at..at + 8].try_into().unwrap());
        let (writer, number, check) = (word(0), word(8), word(16));
        assert_eq!(check, !number);
        let before = seen.iter().rev().find(|(other, _)| *other == writer);
        assert!(before.is_none_or(|(_, before)| *before < number), "out of order");
        seen.push((writer, number));
    }
}
