//! Each operation, there and back.

use std::io::{Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use socket2::{SockAddr, Socket};

use super::*;
use crate::driver::uring::more_is_waiting;

#[test]
fn receive_waits_for_data_then_delivers_it() {
    for bench in [Bench::open(64), Bench::without_capabilities(64)] {
        let (mut near, far) = tcp_pair();
        let data = buffer(16);
        let slot = bench.start(recv(&far, data));
        assert!(bench.turn(Wait::Poll).is_empty());
        assert_eq!(slot.state.get(), OpState::InFlight);
        assert_eq!(bench.uring.in_flight(), 1);
        near.write_all(b"hello").unwrap();
        assert_eq!(bench.finish(slot).result, 5);
        assert_eq!(&data[..5], b"hello");
        assert_eq!(bench.uring.in_flight(), 0);
        assert_eq!(slot.state.get(), OpState::Idle);
    }
}

#[test]
fn receive_of_what_is_there_already_needs_no_further_event() {
    let bench = Bench::open(64);
    let (mut near, far) = tcp_pair();
    near.write_all(b"early").unwrap();
    let data = buffer(3);
    let completion = bench.finish(bench.start(recv(&far, data)));
    assert_eq!(completion.result, 3);
    assert!(more_is_waiting(completion.flags));
    let completion = bench.finish(bench.start(recv(&far, data)));
    assert_eq!(completion.result, 2);
    assert!(!more_is_waiting(completion.flags));
}

#[test]
fn peek_leaves_the_data() {
    let bench = Bench::open(64);
    let (mut near, far) = unix_pair();
    near.write_all(b"peek").unwrap();
    let data = buffer(8);
    let mut peek = recv(&far, data);
    if let Op::Recv { flags, .. } = &mut peek {
        *flags = libc::MSG_PEEK;
    }
    assert_eq!(bench.run(peek), 4);
    assert_eq!(bench.run(recv(&far, data)), 4);
}

#[test]
fn end_of_stream_is_zero_and_reset_is_an_error() {
    let bench = Bench::open(64);
    let (near, far) = tcp_pair();
    let data = buffer(8);
    let slot = bench.start(recv(&far, data));
    bench.turn(Wait::Poll);
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bench.finish(slot).result, 0);

    let (near, far) = tcp_pair();
    let slot = bench.start(recv(&far, data));
    bench.turn(Wait::Poll);
    let near = Socket::from(near);
    near.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(near);
    assert_eq!(bench.finish(slot).result, -libc::ECONNRESET);
}

#[test]
fn send_waits_for_room() {
    let bench = Bench::open(64);
    let (near, mut far) = unix_pair();
    near.set_nonblocking(true).unwrap();
    let chunk: &'static [u8] = Vec::leak(vec![7; 65536]);
    let mut sent = 0;
    while let Ok(count) = (&near).write(chunk) {
        sent += count;
    }
    let slot = bench.start(send(&near, chunk));
    assert!(bench.turn(Wait::Poll).is_empty());
    let mut sink = vec![0; sent];
    far.read_exact(&mut sink).unwrap();
    let count = bench.finish(slot).result;
    assert!(count > 0, "{count}");
    drop(near);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), count as usize);
}

#[test]
fn send_to_a_closed_peer_is_an_error_and_no_signal() {
    let bench = Bench::open(64);
    let (near, far) = unix_pair();
    drop(far);
    // A child that another test has just forked has it, too, until it comes to its end.
    while bench.run(send(&near, b"x")) > 0 {}
    assert_eq!(bench.run(send(&near, b"x")), -libc::EPIPE);
}

#[test]
fn messages_go_and_come() {
    let bench = Bench::open(64);
    let near = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to: &'static SockAddr = Box::leak(Box::new(far.local_addr().unwrap().into()));
    let text = buffer(4);
    text.copy_from_slice(b"dgra");

    let outgoing = message(text);
    outgoing.msg_name = to.as_ptr().cast_mut().cast();
    outgoing.msg_namelen = to.len();
    let sent = bench.run(Op::SendMsg { fd: near.as_raw_fd(), message: outgoing });
    assert_eq!(sent, 4);

    let (data, name) = (buffer(16), buffer(128));
    let incoming = message(data);
    incoming.msg_name = name.as_mut_ptr().cast();
    incoming.msg_namelen = 128;
    let received = bench.run(Op::RecvMsg { fd: far.as_raw_fd(), message: incoming, flags: 0 });
    assert_eq!((received, &data[..4]), (4, &b"dgra"[..]));
    let from = SockAddr::from(near.local_addr().unwrap());
    assert_eq!(incoming.msg_namelen, from.len());
    assert_eq!(&name[2..8], {
        // SAFETY: an IPv4 socket address has 16 bytes.
        unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<u8>().add(2), 6) }
    });
}

fn message(data: &mut [u8]) -> &'static mut libc::msghdr {
    let vector = Box::leak(Box::new(libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    }));
    // SAFETY: zeros are a valid, empty message.
    let message = Box::leak(Box::new(unsafe { mem::zeroed::<libc::msghdr>() }));
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message
}

#[test]
fn poll_tells_the_ready_mask() {
    let bench = Bench::open(64);
    let (mut near, far) = unix_pair();
    let poll = |events| Op::Poll { fd: far.as_raw_fd(), events };
    let both = i32::from(libc::POLLIN | libc::POLLOUT);
    assert_eq!(bench.run(poll(libc::POLLOUT)), i32::from(libc::POLLOUT));
    let slot = bench.start(poll(libc::POLLIN));
    assert!(bench.turn(Wait::Poll).is_empty());
    near.write_all(b"x").unwrap();
    assert_eq!(bench.finish(slot).result & both, i32::from(libc::POLLIN));
    near.shutdown(Shutdown::Write).unwrap();
    let hang_up = bench.run(poll(libc::POLLRDHUP));
    assert_ne!(hang_up & i32::from(libc::POLLRDHUP), 0, "{hang_up}");
}

#[test]
fn a_bad_descriptor_is_a_result() {
    let bench = Bench::open(64);
    let op = Op::Poll { fd: -1, events: libc::POLLIN };
    assert_eq!(bench.run(op), -libc::EBADF);
}

#[test]
fn both_directions_of_a_socket_at_once() {
    let bench = Bench::open(64);
    let (near, far) = tcp_pair();
    let (here, there) = (buffer(4), buffer(4));
    let slots = [
        bench.start(recv(&near, here)),
        bench.start(recv(&far, there)),
        bench.start(send(&near, b"ping")),
        bench.start(send(&far, b"pong")),
    ];
    for slot in slots {
        assert_eq!(bench.finish(slot).result, 4);
    }
    assert_eq!((&here[..], &there[..]), (&b"pong"[..], &b"ping"[..]));
}
