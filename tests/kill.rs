//! Coroutines are cancelled while they wait in I/O calls: no descriptor is leaked, every byte is
//! either with the coroutine or still in the socket, and the socket goes on working for others.

#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread::{self, JoinHandle};
use cosocket::{Cancelled, run};
use socket2::{Domain, Socket, Type};
use util::{Random, child, descriptors, is_quick, pair, readable_bytes, tcp_pair};

fn rounds() -> usize {
    if is_quick() { 50 } else { 1500 }
}

/// Cancels it a little later: before it waits, while it waits, or when it is just being woken.
fn cancel_soon<T>(coroutine: JoinHandle<T>, random: &mut Random) -> Option<T> {
    pause(random);
    coroutine.cancel();
    match coroutine.join() {
        Ok(result) => Some(result),
        Err(payload) => {
            assert!(payload.is::<Cancelled>(), "a panic, not a cancel");
            None
        }
    }
}

fn pause(random: &mut Random) {
    match random.below(3) {
        0 => {}
        1 => (0..random.below(4)).for_each(|_| thread::yield_now()),
        _ => thread::sleep(Duration::from_micros(random.below(200))),
    }
}

/// Runs `body` in a child, and there on a runtime that has warmed up, and counts descriptors.
fn without_leaks(test: &str, body: impl FnOnce() + Send) {
    child::passes(test, || {
        run(|| {
            // What is opened once and kept: an epoll, a pool thread.
            let (mut near, mut far) = pair();
            let reader = thread::spawn(move || near.read(&mut [0]).unwrap());
            far.write_all(&[1]).unwrap();
            reader.join().unwrap();
            drop(far);
            let before = descriptors();
            body();
            assert_eq!(descriptors(), before);
        });
    });
}

#[test]
fn a_cancelled_read_leaves_the_byte_or_has_it() {
    without_leaks("a_cancelled_read_leaves_the_byte_or_has_it", || {
        let mut random = Random::new();
        let (near, mut far) = tcp_pair();
        let near = Arc::new(TcpStream::from(near));
        let (mut sent, mut cancelled) = (0u64, 0);
        let received = Arc::new(AtomicUsize::new(0));
        for _ in 0..rounds() {
            let reader = {
                let (near, received) = (Arc::clone(&near), Arc::clone(&received));
                thread::spawn(move || {
                    let mut buffer = [0; 16];
                    loop {
                        let count = { &*near }.read(&mut buffer).unwrap();
                        for byte in &buffer[..count] {
                            assert_eq!(*byte, received.fetch_add(1, SeqCst) as u8);
                        }
                    }
                })
            };
            let writer = {
                let mut far = far.try_clone().unwrap();
                let mut random = random.split();
                thread::spawn(move || {
                    let count = random.below(3);
                    for number in 0..count {
                        pause(&mut random);
                        far.write_all(&[(sent + number) as u8]).unwrap();
                    }
                    count
                })
            };
            let never: Option<()> = cancel_soon(reader, &mut random);
            assert!(never.is_none());
            cancelled += 1;
            sent += writer.join().unwrap();
        }
        let left = sent - received.load(SeqCst) as u64;
        let mut rest = vec![0; left as usize];
        { &*near }.read_exact(&mut rest).unwrap();
        for byte in rest {
            assert_eq!(byte, received.fetch_add(1, SeqCst) as u8);
        }
        assert_eq!(readable_bytes(&*near), 0);
        far.write_all(&[9]).unwrap();
        assert_eq!({ &*near }.read(&mut [0; 9]).unwrap(), 1);
        println!("{sent} bytes, {cancelled} cancelled, {left} left to the end");
    });
}

#[test]
fn a_cancelled_write_sends_what_it_said() {
    without_leaks("a_cancelled_write_sends_what_it_said", || {
        let mut random = Random::new();
        let (near, far) = pair();
        let (near, far) = (Arc::new(near), Arc::new(far));
        // Bytes count up, modulo a prime, so that a gap shows.
        let value = |position: usize| (position % 251) as u8;
        let sent = Arc::new(AtomicUsize::new(0));
        let mut received = 0;
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..rounds() / 5 {
            let writer = {
                let (near, sent) = (Arc::clone(&near), Arc::clone(&sent));
                thread::spawn(move || {
                    loop {
                        let from = sent.load(SeqCst);
                        let data: Vec<u8> = (from..from + 100_000).map(value).collect();
                        let count = { &*near }.write(&data).unwrap();
                        sent.fetch_add(count, SeqCst);
                    }
                })
            };
            for _ in 0..random.below(3) {
                pause(&mut random);
                if readable_bytes(&*far) > 0 {
                    let size = 1 + random.below(300_000) as usize;
                    let count = { &*far }.read(&mut buffer[..size]).unwrap();
                    assert!((0..count).all(|at| buffer[at] == value(received + at)));
                    received += count;
                }
            }
            let never: Option<()> = cancel_soon(writer, &mut random);
            assert!(never.is_none());
        }
        while received < sent.load(SeqCst) {
            let count = { &*far }.read(&mut buffer).unwrap();
            assert!((0..count).all(|at| buffer[at] == value(received + at)));
            received += count;
        }
        assert_eq!(received, sent.load(SeqCst));
        assert_eq!(readable_bytes(&*far), 0, "more was sent than the writer was told");
        { &*near }.write_all(b"goes on").unwrap();
        { &*far }.read_exact(&mut buffer[..7]).unwrap();
        assert_eq!(&buffer[..7], b"goes on");
    });
}

#[test]
fn a_cancelled_accept_leaves_the_connection_or_has_it() {
    without_leaks("a_cancelled_accept_leaves_the_connection_or_has_it", || {
        let mut random = Random::new();
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut connected = 0;
        for _ in 0..rounds() / 3 {
            let acceptor = {
                let (listener, accepted) = (Arc::clone(&listener), Arc::clone(&accepted));
                thread::spawn(move || {
                    loop {
                        let (stream, _) = listener.accept().unwrap();
                        accepted.fetch_add(1, SeqCst);
                        drop(stream);
                    }
                })
            };
            let clients: Vec<_> = (0..random.below(3)).map(|_| connector(address)).collect();
            let never: Option<()> = cancel_soon(acceptor, &mut random);
            assert!(never.is_none());
            for client in clients {
                client.join().unwrap();
                connected += 1;
            }
        }
        while accepted.load(SeqCst) < connected {
            drop(listener.accept().unwrap());
            accepted.fetch_add(1, SeqCst);
        }
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        println!("{connected} connections");
    });
}

fn connector(address: SocketAddr) -> JoinHandle<()> {
    thread::spawn(move || drop(TcpStream::connect(address).unwrap()))
}

#[test]
fn a_cancelled_connect_closes_its_socket() {
    without_leaks("a_cancelled_connect_closes_its_socket", || {
        let mut random = Random::new();
        // Nobody accepts, and what does not fit into the backlog is never answered.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let first = TcpStream::connect(address).unwrap();
        let mut cancelled = 0;
        for _ in 0..rounds() / 3 {
            let connects = [(); 3].map(|()| connector(address));
            for connect in connects {
                cancelled += usize::from(cancel_soon(connect, &mut random).is_none());
            }
        }
        assert!(cancelled > 0, "every connection was answered");
        drop(first);
    });
}

/// One holds the half and is parked; the others wait for their turn. Any of them is cancelled.
#[test]
fn cancelled_readers_in_the_queue_hand_their_turn_on() {
    without_leaks("cancelled_readers_in_the_queue_hand_their_turn_on", || {
        let mut random = Random::new();
        let (near, far) = pair();
        let (near, mut far) = (Arc::new(near), far);
        for _ in 0..rounds() / 3 {
            let bytes = Arc::new(AtomicUsize::new(0));
            let mut readers: Vec<_> = (0..4)
                .map(|_| {
                    let (near, bytes) = (Arc::clone(&near), Arc::clone(&bytes));
                    thread::spawn(move || {
                        let count = { &*near }.read(&mut [0]).unwrap();
                        bytes.fetch_add(count, SeqCst);
                    })
                })
                .collect();
            pause(&mut random);
            let victim = readers.swap_remove(random.below(4) as usize);
            let writer = {
                let far = far.try_clone().unwrap();
                thread::spawn(move || { &far }.write_all(&[1, 2, 3]).unwrap())
            };
            cancel_soon(victim, &mut random);
            writer.join().unwrap();
            // If the victim was faster than its cancel, one of the others lacks a byte.
            if bytes.load(SeqCst) + readable_bytes(&*near) == 3 {
                far.write_all(&[4]).unwrap();
            }
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            while bytes.load(SeqCst) < 4 {
                bytes.fetch_add({ &*near }.read(&mut [0]).unwrap(), SeqCst);
            }
            assert_eq!(readable_bytes(&*near), 0);
        }
    });
}

/// The stream that a cancelled coroutine owned is closed by its unwinding: the peer sees the end.
#[test]
fn a_cancelled_owner_closes_its_stream() {
    without_leaks("a_cancelled_owner_closes_its_stream", || {
        let mut random = Random::new();
        for _ in 0..rounds() / 3 {
            let (mut near, mut far) = pair();
            let owner = thread::spawn(move || near.read(&mut [0; 8]).unwrap());
            cancel_soon(owner, &mut random);
            assert_eq!(far.read(&mut [0]).unwrap(), 0);
        }
    });
}
