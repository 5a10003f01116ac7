//! Sockets at their worst: the smallest buffers, resets in mid-transfer, an end that comes
//! together with the last bytes.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{run, thread};
use socket2::SockRef;
use util::{Random, is_quick, pair, tcp_pair};

/// The smallest buffers that the kernel grants.
fn shrink(stream: &TcpStream) {
    SockRef::from(stream).set_send_buffer_size(1).unwrap();
    SockRef::from(stream).set_recv_buffer_size(1).unwrap();
}

fn value(position: usize) -> u8 {
    (position % 251) as u8
}

/// Moves at least `total` bytes, offered `write` at a time and asked for `read` at a time, both
/// ways at once.
fn transfer(near: TcpStream, far: TcpStream, total: usize, write: usize, read: usize) {
    run(move || {
        shrink(&near);
        shrink(&far);
        let ends = [Arc::new(near), Arc::new(far)];
        let tasks = ends.map(|end| {
            let reader = Arc::clone(&end);
            let writer = thread::spawn(move || {
                let data: Vec<u8> = (0..2 * total + write).map(value).collect();
                let mut sent = 0;
                while sent < total {
                    sent += { &*end }.write(&data[sent..sent + write]).unwrap();
                }
                end.shutdown(Shutdown::Write).unwrap();
                sent
            });
            let reader = thread::spawn(move || {
                let mut buffer = vec![0; read];
                let mut received = 0;
                loop {
                    let count = { &*reader }.read(&mut buffer).unwrap();
                    if count == 0 {
                        return received;
                    }
                    assert!((0..count).all(|at| buffer[at] == value(received + at)));
                    received += count;
                }
            });
            [writer, reader]
        });
        let [[sent, got_back], [sent_back, got]] =
            tasks.map(|tasks| tasks.map(|task| task.join().unwrap()));
        assert_eq!((sent, sent_back), (got, got_back));
    });
}

fn scale() -> usize {
    if is_quick() { 10 } else { 1 }
}

#[test]
fn single_bytes_through_the_smallest_tcp_buffers() {
    let (near, far) = tcp_pair();
    transfer(near.into(), far.into(), 20_000 / scale(), 1, 1);
}

#[test]
fn single_bytes_through_the_smallest_local_buffers() {
    let (near, far) = pair();
    transfer(near, far, 20_000 / scale(), 1, 1);
}

#[test]
fn large_writes_through_the_smallest_tcp_buffers() {
    let (near, far) = tcp_pair();
    SockRef::from(&near).set_tcp_nodelay(true).unwrap();
    SockRef::from(&far).set_tcp_nodelay(true).unwrap();
    // A window of a few bytes opens at the pace of the kernel's timers, a second for each at worst.
    transfer(near.into(), far.into(), (16 << 10) / scale(), 1 << 20, 1 << 20);
}

#[test]
fn large_writes_through_the_smallest_local_buffers() {
    let (near, far) = pair();
    transfer(near, far, (4 << 20) / scale(), 1 << 20, 3001);
}

/// Readers and writers are parked when the reset comes; each gets an error, or the end.
#[test]
fn a_reset_in_mid_transfer_reaches_everybody() {
    let mut random = Random::new();
    run(move || {
        for _ in 0..200 / scale() {
            let (near, far) = tcp_pair();
            let near = Arc::new(TcpStream::from(near));
            let mut far = TcpStream::from(far);
            let readers = [(); 2].map(|()| {
                let near = Arc::clone(&near);
                thread::spawn(move || {
                    loop {
                        match { &*near }.read(&mut [0; 4096]) {
                            // One reader takes the error, the end is left to the other.
                            Ok(0) => return None,
                            Ok(_) => {}
                            Err(error) => return Some(error.kind()),
                        }
                    }
                })
            });
            let writers = [(); 2].map(|()| {
                let near = Arc::clone(&near);
                thread::spawn(move || {
                    loop {
                        if let Err(error) = { &*near }.write(&[1; 100_000]) {
                            return error.kind();
                        }
                    }
                })
            });
            far.write_all(&vec![2; random.below(10_000) as usize]).unwrap();
            if random.one_in(2) {
                far.read_exact(&mut vec![0; 1 + random.below(300_000) as usize]).unwrap();
            }
            thread::sleep(Duration::from_micros(random.below(500)));
            far.set_linger(Some(Duration::ZERO)).unwrap();
            drop(far);
            for reader in readers {
                let error = reader.join().unwrap();
                assert!(error.is_none_or(|kind| kind == ErrorKind::ConnectionReset));
            }
            for writer in writers {
                let kind = writer.join().unwrap();
                assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&kind));
            }
        }
    });
}

/// The one edge says "readable" and "closed": a reader that stops at a short read must not wait
/// for another.
#[test]
fn an_end_that_comes_with_data_is_seen_after_it() {
    let mut random = Random::new();
    run(move || {
        for round in 0..1000 / scale() {
            let (near, far) = if round % 2 == 0 { from_tcp() } else { pair() };
            let size = 1 + random.below(3000) as usize;
            let reader = thread::spawn(move || {
                let mut near = near;
                let mut received = 0;
                let mut buffer = [0; 4096];
                loop {
                    match near.read(&mut buffer).unwrap() {
                        0 => return received,
                        count => received += count,
                    }
                }
            });
            let mut random = random.split();
            let peer = thread::spawn(move || {
                let mut far = far;
                if random.one_in(2) {
                    // The reader waits by now.
                    thread::yield_now();
                }
                far.write_all(&vec![3; size]).unwrap();
                if random.one_in(2) {
                    far.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(far.read(&mut [0]).unwrap(), 0);
                }
            });
            assert_eq!(reader.join().unwrap(), size);
            peer.join().unwrap();
        }
    });
}

fn from_tcp() -> (TcpStream, TcpStream) {
    let (near, far) = tcp_pair();
    (near.into(), far.into())
}

/// After the peer's end, this side still sends; the peer reads it all.
#[test]
fn a_half_closed_stream_still_sends() {
    run(|| {
        let (near, far) = tcp_pair();
        let (mut near, mut far) = (TcpStream::from(near), TcpStream::from(far));
        far.write_all(b"question").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut question = String::new();
        near.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        near.write_all(&vec![0; 5_000_000]).unwrap();
        drop(near);
        assert_eq!(reader.join().unwrap(), 5_000_000);
    });
}

/// `shutdown` from another coroutine ends parked readers and writers.
#[test]
fn a_shutdown_of_our_own_wakes_reader_and_writer() {
    run(|| {
        for stream in [from_tcp(), pair()].into_iter().map(|(near, far)| (Arc::new(near), far)) {
            let (near, _far) = stream;
            let (reader, writer) = (Arc::clone(&near), Arc::clone(&near));
            let reader = thread::spawn(move || { &*reader }.read(&mut [0]).unwrap());
            let writer = thread::spawn(move || {
                loop {
                    if let Err(error) = { &*writer }.write(&[0; 100_000]) {
                        return error.kind();
                    }
                }
            });
            thread::sleep(Duration::from_millis(5));
            near.shutdown(Shutdown::Both).unwrap();
            assert_eq!(reader.join().unwrap(), 0);
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        }
    });
}

/// Connections that are reset while they wait to be accepted, or right after.
#[test]
fn a_listener_survives_connections_that_are_gone() {
    run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rounds = 300 / scale();
        let client = thread::spawn(move || {
            for _ in 0..rounds {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_linger(Some(Duration::ZERO)).unwrap();
                drop(OwnedFd::from(stream));
            }
        });
        for _ in 0..rounds {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let error = stream.read(&mut [0]).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionAborted),
            }
        }
        client.join().unwrap();
    });
}
