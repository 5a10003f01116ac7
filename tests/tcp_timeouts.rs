//! Read and write timeouts: what they say, where they are kept, and that they lose nothing.

mod socket_util;

use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use socket_util::{everywhere, kernel_timeouts, pair, spawn_waiting, std_pair};

const SHORT: Option<Duration> = Some(Duration::from_millis(2));

#[test]
fn a_read_that_times_out_says_so_and_the_next_one_gets_the_data() {
    everywhere(|| {
        let (mut reader, mut writer) = pair();
        reader.set_read_timeout(SHORT).unwrap();
        let mut buffer = [0; 8];
        for _ in 0..3 {
            assert_eq!(reader.read(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(reader.peek(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
            let slices = &mut [IoSliceMut::new(&mut buffer)];
            assert_eq!(reader.read_vectored(slices).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        writer.write_all(b"late").unwrap();
        reader.set_read_timeout(None).unwrap();
        assert_eq!(reader.read(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"late");
    });
}

#[test]
fn a_timed_out_call_waits_for_all_of_its_timeout() {
    everywhere(|| {
        let (mut reader, _writer) = pair();
        let timeout = Duration::from_millis(20);
        reader.set_read_timeout(Some(timeout)).unwrap();
        let start = Instant::now();
        assert!(reader.read(&mut [0]).is_err());
        // The kernel, which times plain threads, counts in its ticks.
        assert!(start.elapsed() >= timeout - Duration::from_millis(5));
    });
}

#[test]
fn a_write_that_times_out_says_so_and_what_was_written_arrives_once() {
    everywhere(|| {
        let (mut writer, mut reader) = pair();
        writer.set_write_timeout(SHORT).unwrap();
        let pattern: Vec<u8> = (0..64 << 10).map(|n| (n % 251) as u8).collect();
        let mut sent = 0;
        for _ in 0..3 {
            // A full socket may find some more room as the kernel sorts its packets.
            let error = loop {
                match writer.write(&pattern[sent % 251..]) {
                    Ok(count) => sent += count,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        drop(writer);
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
        assert!(received.iter().enumerate().all(|(n, &byte)| byte == (n % 251) as u8));
    });
}

#[test]
fn a_byte_that_races_the_timeout_is_never_lost() {
    cosocket::run(|| {
        let (mut reader, mut writer) = pair();
        reader.set_read_timeout(Some(Duration::from_micros(500))).unwrap();
        let writer = thread::spawn(move || {
            for number in 0..200_u32 {
                thread::sleep(Duration::from_micros(400 + u64::from(number)));
                writer.write_all(&[number as u8]).unwrap();
            }
        });
        let mut received = Vec::new();
        let mut buffer = [0; 16];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        writer.join().unwrap();
        assert_eq!(received, (0..200).collect::<Vec<u8>>());
    });
}

#[test]
fn zero_is_refused_and_changes_nothing_and_none_clears() {
    everywhere(|| {
        let (socket, _peer) = pair();
        let zero = Some(Duration::ZERO);
        let set = Some(Duration::from_secs(7));
        for before in [None, set] {
            socket.set_read_timeout(before).unwrap();
            socket.set_write_timeout(before).unwrap();
            let errors = [socket.set_read_timeout(zero), socket.set_write_timeout(zero)]
                .map(Result::unwrap_err);
            assert!(errors.iter().all(|error| error.kind() == ErrorKind::InvalidInput));
            assert_eq!(socket.read_timeout().unwrap(), before);
            assert_eq!(socket.write_timeout().unwrap(), before);
            assert_eq!(kernel_timeouts(&socket), [before; 2]);
        }
        socket.set_read_timeout(None).unwrap();
        socket.set_write_timeout(None).unwrap();
        assert_eq!(kernel_timeouts(&socket), [None; 2]);
        let address = socket.peer_addr().unwrap();
        let error = TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn timeouts_are_the_sockets_and_not_the_handles() {
    everywhere(|| {
        let (socket, _peer) = pair();
        let clone = socket.try_clone().unwrap();
        let (read, write) = (Some(Duration::from_millis(4)), Some(Duration::from_secs(9)));
        socket.set_read_timeout(read).unwrap();
        clone.set_write_timeout(write).unwrap();
        let clone_of_clone = clone.try_clone().unwrap();
        for handle in [&socket, &clone, &clone_of_clone] {
            assert_eq!(handle.read_timeout().unwrap(), read);
            assert_eq!(handle.write_timeout().unwrap(), write);
            assert_eq!(kernel_timeouts(handle), [read, write]);
        }
        drop(socket);
        assert_eq!((&clone_of_clone).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn an_adopted_socket_keeps_the_timeouts_that_std_set() {
    everywhere(|| {
        let (socket, _peer) = std_pair();
        let (read, write) = (Some(Duration::from_millis(4)), Some(Duration::from_secs(9)));
        socket.set_read_timeout(read).unwrap();
        socket.set_write_timeout(write).unwrap();
        let mut adopted = TcpStream::from(socket);
        assert_eq!(adopted.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(adopted.read_timeout().unwrap(), read);
        assert_eq!(adopted.write_timeout().unwrap(), write);
        // And back: std finds what it set.
        let socket = std::net::TcpStream::from(adopted);
        assert_eq!(socket.read_timeout().unwrap(), read);
    });
}

#[test]
fn a_setter_before_the_first_call_does_not_forget_the_other_timeout_of_an_adopted_socket() {
    everywhere(|| {
        let (socket, _peer) = std_pair();
        socket.set_read_timeout(SHORT).unwrap();
        let mut adopted = TcpStream::from(socket);
        adopted.set_write_timeout(Some(Duration::from_secs(9))).unwrap();
        assert_eq!(adopted.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn an_accept_honours_the_timeout_of_an_adopted_listener() {
    everywhere(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_read_timeout(SHORT).unwrap();
        let listener = TcpListener::from(listener);
        for _ in 0..2 {
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::TimedOut);
        }
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn the_shortest_and_the_longest_timeout_work() {
    everywhere(|| {
        let (mut reader, mut writer) = pair();
        reader.set_read_timeout(Some(Duration::from_nanos(1))).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        reader.set_read_timeout(Some(Duration::MAX)).unwrap();
        writer.set_write_timeout(Some(Duration::MAX)).unwrap();
        let answer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(1));
            writer.write_all(b"!").unwrap();
        });
        assert_eq!(reader.read(&mut [0]).unwrap(), 1);
        answer.join().unwrap();
    });
}

#[test]
fn a_reader_in_the_queue_times_out_too_and_takes_nothing() {
    cosocket::run(|| {
        let (reader, mut writer) = pair();
        reader.set_read_timeout(SHORT).unwrap();
        thread::scope(|scope| {
            let readers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (&reader).read(&mut [0]))).collect();
            for reader in readers {
                let error = reader.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut);
            }
        });
        writer.write_all(b"a").unwrap();
        reader.set_read_timeout(None).unwrap();
        assert_eq!((&reader).read(&mut [0; 8]).unwrap(), 1);
    });
}

/// The wheel keeps a timer armed from wait to wait; it must look at the wait of the moment.
#[test]
fn the_timeout_of_a_read_does_not_end_a_later_wait() {
    cosocket::run(|| {
        let (mut reader, mut writer) = pair();
        reader.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        writer.write_all(b"a").unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 1);
        let waker = spawn_waiting(move || {
            thread::sleep(Duration::from_millis(1));
            writer.write_all(b"b").unwrap();
            writer
        });
        assert_eq!(reader.read(&mut [0]).unwrap(), 1, "waited, with a timer that did not fire");
        let start = Instant::now();
        thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20));
        reader.set_read_timeout(None).unwrap();
        let mut writer = waker.join().unwrap();
        let waker = spawn_waiting(move || {
            thread::sleep(Duration::from_millis(10));
            writer.write_all(b"c").unwrap();
        });
        assert_eq!(reader.read(&mut [0]).unwrap(), 1, "a read without a timeout timed out");
        waker.join().unwrap();
    });
}
