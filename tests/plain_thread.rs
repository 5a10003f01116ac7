//! The same sockets on plain threads: calls block, alone or together with coroutines.

mod socket_util;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, thread};
use socket_util::{Agents, is_nonblocking, pair};

#[test]
fn a_server_and_a_client_without_any_coroutine() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"quiet").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "QUIET");
    server.join().unwrap();
}

#[test]
fn a_thread_and_a_coroutine_on_the_two_ends() {
    let (mut left, mut right) = pair();
    let echo = thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            match right.read(&mut buffer).unwrap() {
                0 => return,
                count => right.write_all(&buffer[..count]).unwrap(),
            }
        }
    });
    let mut buffer = [0; 64];
    for round in 0..500_usize {
        let len = round % 64 + 1;
        left.write_all(&vec![round as u8; len]).unwrap();
        left.read_exact(&mut buffer[..len]).unwrap();
        assert!(buffer[..len].iter().all(|&byte| byte == round as u8));
    }
    drop(left);
    echo.join().unwrap();
}

#[test]
fn a_thread_accepts_from_a_listener_that_a_coroutine_has_used() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    for round in 0..5 {
        let mine = Arc::clone(&listener);
        let agent = agents.at(round);
        let accepted = agent.start(move || mine.accept().unwrap().1);
        agent.settle();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(accepted.recv().unwrap(), client.local_addr().unwrap());
        // The thread is there first and blocks, then the connection comes.
        let mine = Arc::clone(&listener);
        let thread = std::thread::spawn(move || mine.accept().unwrap().1);
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(thread.join().unwrap(), client.local_addr().unwrap());
    }
}

#[test]
fn a_thread_and_a_coroutine_accept_from_one_listener() {
    const CONNECTIONS: usize = 100;
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let serve = |listener: Arc<TcpListener>| {
        move || {
            let mut count = 0;
            loop {
                let mut word = Vec::new();
                listener.accept().unwrap().0.read_to_end(&mut word).unwrap();
                if word == b"stop" {
                    return count;
                }
                count += 1;
            }
        }
    };
    let coroutine = thread::spawn(serve(Arc::clone(&listener)));
    let plain = std::thread::spawn(serve(Arc::clone(&listener)));
    let say = |word: &[u8]| {
        std::net::TcpStream::connect(address).unwrap().write_all(word).unwrap();
    };
    (0..CONNECTIONS).for_each(|_| say(b"work"));
    (0..2).for_each(|_| say(b"stop"));
    assert_eq!(coroutine.join().unwrap() + plain.join().unwrap(), CONNECTIONS);
}

#[test]
fn a_thread_and_a_coroutine_read_one_socket() {
    let (reader, mut writer) = pair();
    let reader = Arc::new(reader);
    let read = |reader: Arc<TcpStream>| {
        move || {
            let (mut buffer, mut counts) = ([0; 33], [0_usize; 256]);
            loop {
                match (&*reader).read(&mut buffer).unwrap() {
                    0 => return counts,
                    len => buffer[..len].iter().for_each(|&byte| counts[usize::from(byte)] += 1),
                }
            }
        }
    };
    let coroutine = thread::spawn(read(Arc::clone(&reader)));
    let plain = std::thread::spawn(read(reader));
    let mut sent = [0; 256];
    for round in 0..3000_usize {
        let bytes: Vec<u8> = (0..round % 40 + 1).map(|n| (n * round) as u8).collect();
        bytes.iter().for_each(|&byte| sent[usize::from(byte)] += 1);
        writer.write_all(&bytes).unwrap();
        std::thread::yield_now();
    }
    drop(writer);
    let (one, other) = (coroutine.join().unwrap(), plain.join().unwrap());
    let received: Vec<usize> = one.iter().zip(other).map(|(one, other)| one + other).collect();
    assert_eq!(received, sent);
}

#[test]
fn the_mode_a_coroutine_set_holds_for_a_thread_and_the_other_way_round() {
    let (socket, _peer) = pair();
    thread::scope(|scope| {
        scope.spawn(|| socket.set_nonblocking(true).unwrap());
    });
    assert!(is_nonblocking(&socket));
    assert_eq!((&socket).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
    let kind = cosocket::run(|| (&socket).read(&mut [0]).unwrap_err().kind());
    assert_eq!(kind, ErrorKind::TimedOut);
}

#[test]
fn a_shutdown_by_a_coroutine_wakes_a_thread_and_the_other_way_round() {
    let (socket, _peer) = pair();
    let socket = Arc::new(socket);
    let reader = Arc::clone(&socket);
    let reader = std::thread::spawn(move || (&*reader).read(&mut [0]).unwrap());
    cosocket::run(|| socket.shutdown(std::net::Shutdown::Read).unwrap());
    assert_eq!(reader.join().unwrap(), 0);

    let (socket, _peer) = pair();
    let socket = Arc::new(socket);
    let reader = Arc::clone(&socket);
    let reader = thread::spawn(move || (&*reader).read(&mut [0]).unwrap());
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn unblock_outside_a_coroutine_runs_in_place() {
    let here = std::thread::current().id();
    assert_eq!(cosocket::unblock(|| std::thread::current().id()), here);
    cosocket::run(|| {
        let worker = std::thread::current().id();
        assert_ne!(cosocket::unblock(|| std::thread::current().id()), worker);
    });
}

#[test]
fn a_destructor_of_a_thread_local_may_use_sockets() {
    struct Farewell(TcpStream);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.0.write_all(b"bye").unwrap();
        }
    }
    thread_local!(static FAREWELL: std::cell::OnceCell<Farewell> = const {
        std::cell::OnceCell::new()
    });
    let (socket, mut peer) = pair();
    std::thread::spawn(move || FAREWELL.with(|cell| drop(cell.set(Farewell(socket)))))
        .join()
        .unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
}
