//! Descriptor numbers come back at once, while completions and edges of their former sockets are
//! still about: every byte must reach the connection it was sent on.

#[allow(unsafe_code)]
mod util;

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use util::{Random, is_quick, pair};

const CLIENTS: u64 = 16;

fn rounds() -> u64 {
    if is_quick() { 20 } else { 250 }
}

/// A connection sends its tag again and again, and gets it back.
fn tag(client: u64, round: u64) -> [u8; 8] {
    (client << 32 | round).to_ne_bytes()
}

/// Echoes whole tags, all the same, until the end.
fn serve(mut stream: TcpStream) -> io::Result<u64> {
    let mut first = None;
    let mut served = 0;
    let mut tag = [0; 8];
    loop {
        match stream.read_exact(&mut tag) {
            Ok(()) => assert_eq!(*first.get_or_insert(tag), tag, "a stranger's bytes"),
            Err(error) => {
                let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                assert!(ends.contains(&error.kind()), "{error}");
                return Ok(served);
            }
        }
        // The peer may have reset the connection by now.
        stream.write_all(&tag)?;
        served += 1;
    }
}

/// Some exchanges, with waits that time out in between, then one of several ways to leave.
fn exchange(stream: TcpStream, tag: [u8; 8], random: &mut Random) {
    let mut stream = stream;
    let mut answer = [0; 8];
    for _ in 0..1 + random.below(3) {
        if random.one_in(3) {
            let timeout = Duration::from_micros(1 + random.below(100));
            stream.set_read_timeout(Some(timeout)).unwrap();
            let error = stream.read(&mut answer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "nobody spoke to us");
            stream.set_read_timeout(None).unwrap();
        }
        stream.write_all(&tag).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, tag, "a stranger's answer");
    }
    if random.one_in(2) {
        // An answer that nobody will read: its edge comes when the number is another's.
        stream.write_all(&tag).unwrap();
    }
    if random.one_in(2) {
        stream.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn connections_over_reused_numbers_do_not_mix() {
    let mut random = Random::new();
    let opened = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&opened);
    let numbers = cosocket::run(move || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (random, opened) = (random.split(), Arc::clone(&opened));
            clients.push(thread::spawn(move || connect(address, client, random, &opened)));
        }
        let numbers: HashSet<i32> =
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        acceptor.cancel();
        assert!(acceptor.join().unwrap_err().is::<cosocket::Cancelled>());
        numbers
    });
    assert_eq!(count.load(SeqCst), CLIENTS * rounds());
    assert!((numbers.len() as u64) < CLIENTS * rounds(), "no number was used twice");
}

fn connect(
    address: SocketAddr,
    client: u64,
    mut random: Random,
    opened: &AtomicU64,
) -> HashSet<i32> {
    let mut numbers = HashSet::new();
    for round in 0..rounds() {
        let stream = TcpStream::connect(address).unwrap();
        opened.fetch_add(1, SeqCst);
        numbers.insert(stream.as_raw_fd());
        exchange(stream, tag(client, round), &mut random);
    }
    numbers
}

/// Both ends are closed while the other's coroutine may still wait: faster than connections.
#[test]
fn socket_pairs_over_reused_numbers_do_not_mix() {
    let mut random = Random::new();
    cosocket::run(move || {
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let mut random = random.split();
            clients.push(thread::spawn(move || {
                for round in 0..rounds() {
                    let (near, far) = pair();
                    let server = thread::spawn(move || serve(far));
                    exchange(near, tag(client, round), &mut random);
                    if random.one_in(2) {
                        let _ = server.join().unwrap();
                    }
                }
            }));
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// A number that was closed behind a waiting coroutine's timeout and taken by another socket.
#[test]
fn a_clone_closed_after_its_wait_leaves_the_next_socket_alone() {
    let mut random = Random::new();
    cosocket::run(move || {
        for round in 0..rounds() {
            let (near, mut far) = pair();
            let clone = near.try_clone().unwrap();
            clone.set_read_timeout(Some(Duration::from_micros(1 + random.below(200)))).unwrap();
            let error = (&clone).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            drop(clone);
            // Takes the lowest free number, which most likely is the clone's.
            let (mut other, mut other_far) = pair();
            let reader = thread::spawn(move || {
                let mut buffer = [0; 8];
                other.read_exact(&mut buffer).unwrap();
                buffer
            });
            far.write_all(b"not for the other").unwrap();
            thread::yield_now();
            other_far.write_all(&tag(1, round)).unwrap();
            assert_eq!(reader.join().unwrap(), tag(1, round));
        }
    });
}
