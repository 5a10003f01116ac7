//! Unix sockets with no room on the other side, of which no readiness tells: a connect to a full
//! backlog and a datagram to a full queue wait, as the blocking calls do.

mod socket_util;

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cosocket::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use cosocket::{thread, time};
use socket_util::{everywhere, is_nonblocking, spawn_waiting};

fn name() -> SocketAddr {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let name = format!("cosocket-unix-full-{}-{number}", std::process::id());
    SocketAddr::from_abstract_name(name).unwrap()
}

/// A listener that has no room, and who took it.
fn full_listener() -> (UnixListener, SocketAddr, Vec<UnixStream>) {
    let address = name();
    let listener = UnixListener::bind_addr(&address).unwrap();
    socket2::SockRef::from(&listener).listen(1).unwrap();
    // One more than the backlog finds room.
    let clients = [(); 2].map(|()| UnixStream::connect_addr(&address).unwrap());
    (listener, address, clients.into())
}

#[test]
fn a_connect_waits_for_room_in_the_backlog() {
    everywhere(|| {
        let (listener, address, clients) = full_listener();
        let attempt = std::thread::spawn({
            let address = address.clone();
            move || {
                cosocket::run(|| {
                    let stream = UnixStream::connect_addr(&address).unwrap();
                    assert!(!is_nonblocking(&stream), "our own O_NONBLOCK shows");
                    stream
                })
            }
        });
        let threads = std::thread::spawn(move || UnixStream::connect_addr(&address).unwrap());
        for _ in 0..clients.len() + 2 {
            thread::sleep(Duration::from_millis(2));
            listener.accept().unwrap();
        }
        drop((attempt.join().unwrap(), threads.join().unwrap()));
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "one each");
    });
}

#[test]
fn others_run_while_a_connect_waits() {
    cosocket::run(|| {
        let (listener, address, _clients) = full_listener();
        // On one worker with the acceptor, who runs only because this gives way.
        let attempt = spawn_waiting(move || UnixStream::connect_addr(&address).map(drop));
        thread::sleep(Duration::from_millis(20));
        assert!(!attempt.is_finished(), "it says that there is no room");
        listener.accept().unwrap();
        attempt.join().unwrap().unwrap();
    });
}

#[test]
fn many_connect_to_a_backlog_of_one() {
    const CLIENTS: usize = 200;
    cosocket::run(|| {
        let (listener, address, clients) = full_listener();
        let attempts: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let address = address.clone();
                thread::spawn(move || UnixStream::connect_addr(&address).unwrap())
            })
            .collect();
        for stream in listener.incoming().take(clients.len() + CLIENTS) {
            stream.unwrap();
        }
        attempts.into_iter().for_each(|attempt| drop(attempt.join().unwrap()));
    });
}

#[test]
fn a_connect_that_waits_is_cancelled() {
    cosocket::run(|| {
        let (listener, address, clients) = full_listener();
        let attempt = spawn_waiting(move || UnixStream::connect_addr(&address).map(drop));
        attempt.cancel();
        assert!(attempt.join().unwrap_err().is::<cosocket::Cancelled>());
        (0..clients.len()).for_each(|_| drop(listener.accept().unwrap()));
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_connect_that_waits_is_refused_when_the_listener_goes() {
    cosocket::run(|| {
        let (listener, address, _clients) = full_listener();
        let attempt = spawn_waiting(move || UnixStream::connect_addr(&address).map(drop));
        drop(listener);
        let error = attempt.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

/// A receiver whose queue is full, and how many datagrams that took.
fn full_receiver() -> (UnixDatagram, SocketAddr, usize) {
    let address = name();
    let receiver = UnixDatagram::bind_addr(&address).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    let mut count = 0;
    let error = loop {
        match filler.send_to_addr(b"filler", &address) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    (receiver, address, count)
}

fn empty(receiver: &UnixDatagram, count: usize) {
    for _ in 0..count {
        receiver.recv(&mut [0; 9]).unwrap();
    }
}

/// By address, and connected: of the second the driver is told.
fn send(address: &SocketAddr, connected: bool) -> std::io::Result<usize> {
    let sender = UnixDatagram::unbound().unwrap();
    if connected {
        sender.connect_addr(address).unwrap();
        sender.send(b"the last")
    } else {
        sender.send_to_addr(b"the last", address)
    }
}

#[test]
fn a_datagram_waits_for_room_in_the_receivers_queue() {
    cosocket::run(|| {
        for connected in [false, true] {
            let (receiver, address, count) = full_receiver();
            let sender = spawn_waiting(move || send(&address, connected));
            thread::sleep(Duration::from_millis(5));
            assert!(!sender.is_finished());
            let mut buffer = [0; 16];
            empty(&receiver, count);
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 8);
            assert_eq!(sender.join().unwrap().unwrap(), 8);
        }
    });
}

#[test]
fn a_datagram_that_waits_for_room_times_out() {
    everywhere(|| {
        for connected in [false, true] {
            let (receiver, address, count) = full_receiver();
            let sender = UnixDatagram::unbound().unwrap();
            sender.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let start = std::time::Instant::now();
            let error = if connected {
                sender.connect_addr(&address).unwrap();
                sender.send(b"x").unwrap_err()
            } else {
                sender.send_to_addr(b"x", &address).unwrap_err()
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= Duration::from_millis(15), "it gave up early");
            empty(&receiver, count);
            receiver.set_nonblocking(true).unwrap();
            let error = receiver.recv(&mut [0; 9]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "it was sent all the same");
        }
    });
}

#[test]
fn a_datagram_that_waits_for_room_is_cancelled_and_not_sent() {
    cosocket::run(|| {
        for connected in [false, true] {
            let (receiver, address, count) = full_receiver();
            let sender = spawn_waiting(move || send(&address, connected));
            sender.cancel();
            assert!(sender.join().unwrap_err().is::<cosocket::Cancelled>());
            empty(&receiver, count);
            receiver.set_nonblocking(true).unwrap();
            assert_eq!(receiver.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn one_that_waits_for_room_is_in_the_way_of_nobody_who_sends_elsewhere() {
    cosocket::run(|| {
        let (_receiver, address, _) = full_receiver();
        let elsewhere = name();
        let other = UnixDatagram::bind_addr(&elsewhere).unwrap();
        let sender = std::rc::Rc::new(UnixDatagram::unbound().unwrap());
        let mine = std::rc::Rc::clone(&sender);
        let waiting = spawn_waiting(move || mine.send_to_addr(b"x", &address).map(drop));
        assert_eq!(sender.send_to_addr(b"y", &elsewhere).unwrap(), 1);
        assert_eq!(other.recv(&mut [0; 9]).unwrap(), 1);
        assert!(!waiting.is_finished());
        waiting.cancel();
        drop(waiting.join());
    });
}

#[test]
fn a_timeout_around_them_ends_both_waits() {
    everywhere(|| {
        let patience = Duration::from_millis(20);
        let (listener, address, clients) = full_listener();
        let connected = time::timeout(patience, || UnixStream::connect_addr(&address).map(drop));
        assert_eq!(connected.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        (0..clients.len()).for_each(|_| drop(listener.accept().unwrap()));
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        for connected in [false, true] {
            let (receiver, address, count) = full_receiver();
            let sent = time::timeout(patience, || send(&address, connected));
            assert_eq!(sent.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
            empty(&receiver, count);
            receiver.set_nonblocking(true).unwrap();
            assert_eq!(receiver.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn in_nonblocking_mode_a_full_queue_is_said_at_once() {
    everywhere(|| {
        let (_receiver, address, _) = full_receiver();
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let error = sender.send_to_addr(b"x", &address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        sender.connect_addr(&address).unwrap();
        assert_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
