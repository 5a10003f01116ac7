//! A read's timeout, the socket's own or a limit around it, against the byte that it waits for, a
//! million times, at about the same moment: whichever wins, the byte is received once, by this
//! read or the next.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::thread::{self, Thread};
use cosocket::time;
use util::{Random, is_quick, pair};

const CONNECTIONS: u64 = 1000;

/// Before each byte its writer sleeps for less than this.
const PAUSE_US: u64 = 200;

#[derive(Default)]
struct Tally {
    received: u64,
    timeouts: u64,
    /// Bytes that the first read got.
    first_wins: u64,
}

/// What bounds a read.
#[derive(Clone, Copy)]
enum Bound {
    Socket,
    Limit,
}

#[test]
fn no_byte_is_lost_or_doubled_when_it_meets_its_timeout() {
    race(Bound::Socket, if is_quick() { 10 } else { 1000 });
}

#[test]
fn no_byte_is_lost_or_doubled_when_it_meets_a_limit() {
    race(Bound::Limit, if is_quick() { 10 } else { 200 });
}

fn race(bound: Bound, bytes: u64) {
    let mut random = Random::new();
    let tally = cosocket::run(move || {
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..CONNECTIONS {
            let (near, far) = pair();
            let random = random.split();
            let rounds = Arc::new(AtomicU64::new(0));
            let told = Arc::clone(&rounds);
            let writer = thread::spawn(move || write(far, bytes, &told, random));
            let thread = writer.thread().clone();
            readers.push(thread::spawn(move || read(near, bound, &thread, &rounds)));
            writers.push(writer);
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let mut total = Tally::default();
        for reader in readers {
            let tally = reader.join().unwrap();
            assert_eq!(tally.received, bytes);
            total.received += tally.received;
            total.timeouts += tally.timeouts;
            total.first_wins += tally.first_wins;
        }
        total
    });
    println!("{} bytes, {} timeouts", tally.received, tally.timeouts);
    println!("{} of the bytes won their race", tally.first_wins);
    assert_eq!(tally.received, CONNECTIONS * bytes);
    // Else there was no race.
    assert!(tally.timeouts > tally.received / 100, "timeouts never won");
    assert!(tally.first_wins > tally.received / 100, "bytes never won");
}

/// Reads up to the end; the byte number `n` has the value `n`. How long a byte takes depends on
/// the machine and on who else uses it, so each reader feels for the timeout that is a toss-up.
fn read(mut stream: TcpStream, bound: Bound, writer: &Thread, rounds: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    let mut buffer = [0; 16];
    let mut timeout = Duration::from_millis(3);
    loop {
        if let Bound::Socket = bound {
            stream.set_read_timeout(Some(timeout)).unwrap();
        }
        rounds.fetch_add(1, SeqCst);
        writer.unpark();
        let timeouts = tally.timeouts;
        let count = loop {
            let result = match bound {
                Bound::Socket => stream.read(&mut buffer),
                Bound::Limit => time::timeout(timeout, || stream.read(&mut buffer)).unwrap(),
            };
            match result {
                Ok(count) => break count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    tally.timeouts += 1;
                }
            }
        };
        if count == 0 {
            return tally;
        }
        assert_eq!(count, 1, "one byte is sent at a time");
        assert_eq!(buffer[0], tally.received as u8, "out of order");
        // In large steps at first.
        let (less, more, whole) = if tally.received < 8 { (4, 16, 8) } else { (7, 9, 8) };
        tally.received += 1;
        if tally.timeouts == timeouts {
            tally.first_wins += 1;
            timeout = (timeout * less / whole).max(Duration::from_micros(1));
        } else {
            timeout = timeout * more / whole;
        }
    }
}

fn write(mut stream: TcpStream, bytes: u64, rounds: &AtomicU64, mut random: Random) {
    for number in 0..bytes {
        // Not before the reader waits, or is about to.
        while rounds.load(SeqCst) <= number {
            thread::park();
        }
        thread::sleep(Duration::from_micros(random.below(PAUSE_US)));
        stream.write_all(&[number as u8]).unwrap();
    }
}
