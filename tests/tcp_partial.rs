//! Calls that move less than was asked for, or nothing: what is left must still be found.

mod socket_util;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::time::Duration;

use cosocket::net::TcpStream;
use socket_util::{everywhere, pair, spawn_waiting, turn};

/// A pair whose first end has waited in both directions, so that a driver knows it and goes by
/// what it knows.
fn seasoned_pair() -> (TcpStream, TcpStream) {
    let (mut socket, mut peer) = pair();
    let timeout = Some(Duration::from_millis(1));
    socket.set_read_timeout(timeout).unwrap();
    socket.set_write_timeout(timeout).unwrap();
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    let mut sent = 0;
    while let Ok(count) = socket.write(&[0; 65536]) {
        sent += count;
    }
    peer.read_exact(&mut vec![0; sent]).unwrap();
    socket.set_read_timeout(None).unwrap();
    socket.set_write_timeout(None).unwrap();
    (socket, peer)
}

#[test]
fn an_empty_read_does_not_wait() {
    everywhere(|| {
        let (mut socket, _peer) = seasoned_pair();
        assert_eq!(socket.read(&mut []).unwrap(), 0);
        assert_eq!(socket.peek(&mut []).unwrap(), 0);
        assert_eq!(socket.read_vectored(&mut []).unwrap(), 0);
        let empty = &mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        assert_eq!(socket.read_vectored(empty).unwrap(), 0);
    });
}

#[test]
fn an_empty_read_takes_no_turn_behind_one_that_waits() {
    cosocket::run(|| {
        let (socket, mut peer) = pair();
        let socket = std::rc::Rc::new(socket);
        let clone = std::rc::Rc::clone(&socket);
        let reader = spawn_waiting(move || (&*clone).read(&mut [0]).unwrap());
        assert_eq!((&*socket).read(&mut []).unwrap(), 0);
        peer.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 1);
    });
}

/// An empty write to a full socket used to wait for room.
#[test]
fn an_empty_write_does_not_wait() {
    everywhere(|| {
        let (mut socket, _peer) = pair();
        socket.set_write_timeout(Some(Duration::from_millis(2))).unwrap();
        while socket.write(&[0; 65536]).is_ok() {}
        socket.set_write_timeout(None).unwrap();
        assert_eq!(socket.write(&[]).unwrap(), 0);
        assert_eq!(socket.write_vectored(&[]).unwrap(), 0);
        assert_eq!(socket.write_vectored(&[IoSlice::new(&[])]).unwrap(), 0);
    });
}

/// A peek into a larger buffer used to be taken for a read that drained the socket: under epoll
/// the next call waited for more.
#[test]
fn peek_leaves_the_data() {
    everywhere(|| {
        let (mut socket, mut peer) = seasoned_pair();
        peer.write_all(b"12345").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.peek(&mut buffer[..2]).unwrap(), 2);
        for _ in 0..3 {
            assert_eq!(socket.peek(&mut buffer).unwrap(), 5);
            assert_eq!(&buffer[..5], b"12345");
        }
        assert_eq!(socket.read(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"12345");
        drop(peer);
        assert_eq!(socket.peek(&mut buffer).unwrap(), 0);
        assert_eq!(socket.read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn a_read_after_a_peek_that_waited_finds_the_data() {
    cosocket::run(|| {
        let (mut socket, mut peer) = pair();
        for _ in 0..3 {
            let writer = spawn_waiting(move || {
                turn();
                peer.write_all(b"12345").unwrap();
                peer
            });
            let mut buffer = [0; 16];
            assert_eq!(socket.peek(&mut buffer).unwrap(), 5);
            assert_eq!(socket.peek(&mut buffer).unwrap(), 5);
            assert_eq!(socket.read(&mut buffer).unwrap(), 5);
            assert_eq!(&buffer[..5], b"12345");
            peer = writer.join().unwrap();
        }
    });
}

#[test]
fn vectored_calls_gather_and_scatter() {
    everywhere(|| {
        let (mut socket, mut peer) = pair();
        let parts = [&b"one"[..], b"", b"two", b"three"].map(IoSlice::new);
        assert_eq!(socket.write_vectored(&parts).unwrap(), 11);
        let (mut first, mut second, mut third) = ([0; 4], [0; 0], [0; 20]);
        let mut buffers = [&mut first[..], &mut second, &mut third].map(IoSliceMut::new);
        assert_eq!(peer.read_vectored(&mut buffers).unwrap(), 11);
        assert_eq!((&first, &third[..7]), (b"onet", &b"wothree"[..]));
    });
}

/// The kernel takes 1024 buffers a call. The rest used to be taken for a sign that the socket was
/// drained, or full, and under epoll the next call waited for ever.
#[test]
fn more_buffers_than_the_kernel_takes_are_a_shorter_transfer() {
    everywhere(|| {
        let (mut socket, mut peer) = seasoned_pair();
        let data: Vec<u8> = (0..3000).map(|n| (n % 251) as u8).collect();
        let slices: Vec<_> = data.chunks(1).map(IoSlice::new).collect();
        let mut sent = 0;
        while sent < data.len() {
            let count = socket.write_vectored(&slices[sent..]).unwrap();
            assert!((1..=1024).contains(&count));
            sent += count;
        }
        let mut received = vec![0; 3000];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, data);

        peer.write_all(&data).unwrap();
        received.fill(0);
        let mut slices: Vec<_> = received.chunks_mut(1).map(IoSliceMut::new).collect();
        let mut count = 0;
        while count < data.len() {
            count += socket.read_vectored(&mut slices[count..]).unwrap();
        }
        assert_eq!(received, data);
    });
}

#[test]
fn a_vectored_call_that_waits_keeps_its_buffers() {
    cosocket::run(|| {
        let (mut socket, peer) = pair();
        let data: Vec<u8> = (0..4 << 20).map(|n| (n % 251) as u8).collect();
        let len = data.len();
        let writer = cosocket::thread::spawn(move || {
            let mut sent = 0;
            while sent < len {
                let (left, right) = data[sent..].split_at((len - sent) / 2);
                let slices = [IoSlice::new(left), IoSlice::new(right)];
                sent += (&peer).write_vectored(&slices).unwrap();
            }
            (data, peer)
        });
        let mut received = vec![0; len];
        let mut count = 0;
        while count < len {
            let end = len.min(count + 100_000);
            let middle = (count + end) / 2;
            let (left, right) = received[count..end].split_at_mut(middle - count);
            let mut slices = [IoSliceMut::new(left), IoSliceMut::new(right)];
            count += socket.read_vectored(&mut slices).unwrap();
        }
        assert!(received == writer.join().unwrap().0);
    });
}

/// Reads that stop short of, at, and beyond what one write brought, many times over.
#[test]
fn every_mix_of_read_and_write_sizes_delivers_everything() {
    cosocket::run(|| {
        for (write_len, read_len) in [(1, 1), (7, 3), (3, 7), (64, 64), (65, 64), (4096, 1000)] {
            let (mut reader, mut writer) = pair();
            let rounds = 300;
            let data: Vec<u8> = (0..write_len * rounds).map(|n| (n % 251) as u8).collect();
            let sent = data.clone();
            let writer = cosocket::thread::spawn(move || {
                for (number, chunk) in sent.chunks(write_len).enumerate() {
                    writer.write_all(chunk).unwrap();
                    if number % 5 == 0 {
                        turn();
                    }
                }
            });
            let (mut buffer, mut received) = (vec![0; read_len], Vec::new());
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => break,
                    count => received.extend_from_slice(&buffer[..count]),
                }
            }
            writer.join().unwrap();
            assert!(received == data, "{write_len} {read_len}");
        }
    });
}
