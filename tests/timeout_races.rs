//! A read's timeout against the byte that it waits for, a million times, at about the same
//! moment: whichever wins, the byte is received once, by this read or the next.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use cosocket::net::TcpStream;
use cosocket::thread;
use util::{Random, is_quick, pair};

const CONNECTIONS: u64 = 1000;

/// The range of both the timeouts and the pauses before each byte.
const RANGE_US: u64 = 300;

#[derive(Default)]
struct Tally {
    received: u64,
    timeouts: u64,
}

#[test]
fn no_byte_is_lost_or_doubled_when_it_meets_its_timeout() {
    let bytes = if is_quick() { 10 } else { 1000 };
    let mut random = Random::new();
    let tally = cosocket::run(move || {
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..CONNECTIONS {
            let (near, far) = pair();
            let (one, other) = (random.split(), random.split());
            readers.push(thread::spawn(move || read(near, one)));
            writers.push(thread::spawn(move || write(far, bytes, other)));
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let mut total = Tally::default();
        for reader in readers {
            let tally = reader.join().unwrap();
            assert_eq!(tally.received, bytes);
            total.received += tally.received;
            total.timeouts += tally.timeouts;
        }
        total
    });
    println!("{} bytes, {} timeouts", tally.received, tally.timeouts);
    assert_eq!(tally.received, CONNECTIONS * bytes);
    // Else there was no race.
    assert!(tally.timeouts > tally.received / 100, "timeouts never won");
}

/// Reads up to the end; the byte number `n` has the value `n`.
fn read(mut stream: TcpStream, mut random: Random) -> Tally {
    let mut tally = Tally::default();
    let mut buffer = [0; 16];
    loop {
        if random.one_in(4) {
            let timeout = Duration::from_micros(1 + random.below(RANGE_US));
            stream.set_read_timeout(Some(timeout)).unwrap();
        }
        match stream.read(&mut buffer) {
            Ok(0) => return tally,
            Ok(count) => {
                for byte in &buffer[..count] {
                    assert_eq!(*byte, tally.received as u8, "out of order");
                    tally.received += 1;
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                tally.timeouts += 1;
            }
        }
    }
}

fn write(mut stream: TcpStream, bytes: u64, mut random: Random) {
    for number in 0..bytes {
        thread::sleep(Duration::from_micros(random.below(RANGE_US)));
        stream.write_all(&[number as u8]).unwrap();
    }
}
