//! What UDP and Unix datagram sockets have in common: each datagram is received whole and once,
//! whatever comes in between.

mod socket_util;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cosocket::net::UdpSocket;
use cosocket::os::unix::net::UnixDatagram;
use cosocket::{Builder, thread, time};
use socket_util::{Agents, everywhere, spawn_waiting, turn, until};

/// The calls of both types that these tests make.
trait Datagrams: Send + Sync + Sized + 'static {
    fn pair() -> (Self, Self);
    fn send(&self, data: &[u8]) -> io::Result<usize>;
    fn recv(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn peek(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn peek_from(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn try_clone(&self) -> io::Result<Self>;
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
}

macro_rules! implement {
    ($socket:ident, $pair:expr) => {
        impl Datagrams for $socket {
            fn pair() -> (Self, Self) {
                $pair
            }
            fn send(&self, data: &[u8]) -> io::Result<usize> {
                $socket::send(self, data)
            }
            fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
                $socket::recv(self, buffer)
            }
            fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
                $socket::peek(self, buffer)
            }
            fn recv_from(&self, buffer: &mut [u8]) -> io::Result<usize> {
                $socket::recv_from(self, buffer).map(|(len, _)| len)
            }
            fn peek_from(&self, buffer: &mut [u8]) -> io::Result<usize> {
                $socket::peek_from(self, buffer).map(|(len, _)| len)
            }
            fn try_clone(&self) -> io::Result<Self> {
                $socket::try_clone(self)
            }
            fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                $socket::set_read_timeout(self, timeout)
            }
            fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                $socket::set_nonblocking(self, nonblocking)
            }
        }
    };
}

implement!(UdpSocket, {
    let [one, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    (one, other)
});
implement!(UnixDatagram, UnixDatagram::pair().unwrap());

/// Every test, for both.
macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod udp {
            $(#[test] fn $name() { super::$name::<super::UdpSocket>(); })*
        }
        mod unix {
            $(#[test] fn $name() { super::$name::<super::UnixDatagram>(); })*
        }
    };
}

for_both!(
    each_call_takes_one_datagram_however_small,
    a_receiver_is_woken_by_every_kind_of_receive,
    an_empty_datagram_wakes_and_an_empty_buffer_takes,
    a_receive_that_times_out_leaves_the_datagram_to_the_next,
    no_datagram_is_lost_when_it_meets_a_timeout,
    a_timeout_around_a_receive_ends_it_and_loses_nothing,
    no_datagram_is_lost_when_it_meets_a_cancel,
    several_receivers_get_each_datagram_once,
    the_mode_is_shared_by_clones,
    a_clone_that_is_dropped_leaves_the_receiver_waiting,
    a_socket_is_used_on_one_worker_after_another,
    a_receive_while_unwinding_takes_what_is_there_and_does_not_wait,
);

/// A short read says of a stream that it is drained; here it must not, whatever the driver knows.
fn each_call_takes_one_datagram_however_small<T: Datagrams>() {
    everywhere(|| {
        let (one, other) = T::pair();
        let mut buffer = [0; 100];
        other.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        // The driver gets to know the socket.
        assert_eq!(other.recv(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
        other.set_read_timeout(None).unwrap();
        for round in 0..3 {
            for len in [1, 0, 5, 2, 0, 100, 3] {
                one.send(&vec![round; len]).unwrap();
            }
            (0..200).for_each(|_| thread::yield_now());
            for len in [1, 0, 5, 2, 0, 100, 3] {
                assert_eq!(other.peek(&mut buffer).unwrap(), len);
                assert_eq!(other.recv(&mut buffer).unwrap(), len);
                assert!(buffer[..len].iter().all(|&byte| byte == round));
            }
        }
    });
}

fn a_receiver_is_woken_by_every_kind_of_receive<T: Datagrams>() {
    cosocket::run(|| {
        let calls = [T::recv, T::recv_from, T::peek, T::peek_from];
        for (number, call) in calls.into_iter().enumerate() {
            let (one, other) = T::pair();
            let receiver = spawn_waiting(move || {
                let mut buffer = [0; 9];
                let len = call(&other, &mut buffer).unwrap();
                (len, buffer[0])
            });
            assert!(!receiver.is_finished());
            one.send(&[number as u8, 0]).unwrap();
            assert_eq!(receiver.join().unwrap(), (2, number as u8));
        }
    });
}

fn an_empty_datagram_wakes_and_an_empty_buffer_takes<T: Datagrams>() {
    cosocket::run(|| {
        for call in [T::recv, T::recv_from] {
            let (one, other) = T::pair();
            let other = Arc::new(other);
            let mine = Arc::clone(&other);
            let receiver = spawn_waiting(move || call(&mine, &mut []).unwrap());
            assert!(!receiver.is_finished(), "an empty buffer is not nothing to do");
            one.send(b"x").unwrap();
            assert_eq!(receiver.join().unwrap(), 0);
            let mine = Arc::clone(&other);
            let receiver = spawn_waiting(move || mine.recv(&mut [0; 9]).unwrap());
            assert!(!receiver.is_finished(), "the datagram was left in the socket");
            one.send(b"").unwrap();
            assert_eq!(receiver.join().unwrap(), 0);
        }
    });
}

fn a_receive_that_times_out_leaves_the_datagram_to_the_next<T: Datagrams>() {
    everywhere(|| {
        let (one, other) = T::pair();
        other.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let mut buffer = [0; 9];
        for call in [T::recv, T::recv_from, T::peek, T::peek_from] {
            assert_eq!(call(&other, &mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(call(&other, &mut []).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        one.send(b"late").unwrap();
        other.set_read_timeout(None).unwrap();
        assert_eq!(other.recv(&mut buffer).unwrap(), 4);
    });
}

/// The numbers from 0 on, each in a datagram, at about the times at which the receiver gives up.
fn numbers<T: Datagrams>(socket: T, count: u16) {
    for number in 0..count {
        thread::sleep(Duration::from_micros(250 + u64::from(number % 64) * 8));
        socket.send(&number.to_le_bytes()).unwrap();
    }
    socket.send(b"").unwrap();
}

fn number(buffer: [u8; 2]) -> u16 {
    u16::from_le_bytes(buffer)
}

fn no_datagram_is_lost_when_it_meets_a_timeout<T: Datagrams>() {
    const COUNT: u16 = 300;
    cosocket::run(|| {
        let (one, other) = T::pair();
        other.set_read_timeout(Some(Duration::from_micros(400))).unwrap();
        let sender = thread::spawn(move || numbers(one, COUNT));
        let (mut received, mut timeouts) = (Vec::new(), 0);
        loop {
            let mut buffer = [0; 2];
            match other.recv_from(&mut buffer) {
                Ok(0) => break,
                Ok(_) => received.push(number(buffer)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    timeouts += 1;
                }
            }
        }
        sender.join().unwrap();
        assert!(received.into_iter().eq(0..COUNT));
        assert!(timeouts > 0, "no race");
    });
}

fn a_timeout_around_a_receive_ends_it_and_loses_nothing<T: Datagrams>() {
    const COUNT: u16 = 200;
    cosocket::run(|| {
        let (one, other) = T::pair();
        let sender = thread::spawn(move || numbers(one, COUNT));
        let (mut received, mut timeouts) = (Vec::new(), 0);
        loop {
            let mut buffer = [0; 2];
            let patience = Duration::from_micros(400);
            match time::timeout(patience, || other.recv(&mut buffer)).unwrap() {
                Ok(0) => break,
                Ok(_) => received.push(number(buffer)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    timeouts += 1;
                }
            }
        }
        sender.join().unwrap();
        assert!(received.into_iter().eq(0..COUNT));
        assert!(timeouts > 0, "no race");
    });
}

fn no_datagram_is_lost_when_it_meets_a_cancel<T: Datagrams>() {
    const COUNT: u16 = 300;
    cosocket::run(|| {
        let (one, other) = T::pair();
        let other = Arc::new(other);
        let sender = thread::spawn(move || numbers(one, COUNT));
        let (mut received, mut cancels) = (Vec::new(), 0);
        loop {
            let mine = Arc::clone(&other);
            let receiver = thread::spawn(move || {
                let mut buffer = [0; 2];
                (mine.recv(&mut buffer).unwrap(), buffer)
            });
            thread::sleep(Duration::from_micros(300));
            receiver.cancel();
            match receiver.join() {
                Ok((0, _)) => break,
                Ok((_, buffer)) => received.push(number(buffer)),
                Err(payload) => {
                    assert!(payload.is::<cosocket::Cancelled>());
                    cancels += 1;
                }
            }
        }
        sender.join().unwrap();
        assert!(received.into_iter().eq(0..COUNT));
        assert!(cancels > 0, "no race");
    });
}

fn several_receivers_get_each_datagram_once<T: Datagrams>() {
    const COUNT: u16 = 400;
    const RECEIVERS: u16 = 8;
    cosocket::run(|| {
        let (one, other) = T::pair();
        let other = Arc::new(other);
        let taken = Arc::new(AtomicU16::new(0));
        let receivers: Vec<_> = (0..RECEIVERS)
            .map(|_| {
                let (other, taken) = (Arc::clone(&other), Arc::clone(&taken));
                thread::spawn(move || {
                    let mut received = Vec::new();
                    let mut buffer = [0; 2];
                    while other.recv(&mut buffer).unwrap() == 2 {
                        received.push(number(buffer));
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                    received
                })
            })
            .collect();
        for number in 0..COUNT {
            one.send(&number.to_le_bytes()).unwrap();
            // UDP drops what finds no room.
            until(|| number.saturating_sub(taken.load(Ordering::SeqCst)) < 50);
        }
        for _ in 0..RECEIVERS {
            one.send(b"").unwrap();
        }
        let received = receivers.into_iter().flat_map(|receiver| receiver.join().unwrap());
        let mut received: Vec<u16> = received.collect();
        received.sort();
        assert!(received.into_iter().eq(0..COUNT));
    });
}

fn the_mode_is_shared_by_clones<T: Datagrams>() {
    everywhere(|| {
        let (one, other) = T::pair();
        let clone = other.try_clone().unwrap();
        clone.set_nonblocking(true).unwrap();
        for call in [T::recv, T::recv_from, T::peek, T::peek_from] {
            for buffer in [&mut [][..], &mut [0; 4]] {
                assert_eq!(call(&other, buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
            }
        }
        one.send(b"x").unwrap();
        assert_eq!(other.recv(&mut [0; 4]).unwrap(), 1);
        other.set_nonblocking(false).unwrap();
        clone.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(other.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::TimedOut, "it waits");
    });
}

fn a_clone_that_is_dropped_leaves_the_receiver_waiting<T: Datagrams>() {
    cosocket::run(|| {
        let (one, other) = T::pair();
        let clone = other.try_clone().unwrap();
        let first = spawn_waiting(move || (other.recv(&mut [0; 4]).unwrap(), other));
        one.send(b"a").unwrap();
        let (_, other) = first.join().unwrap();
        let waiting = spawn_waiting(move || clone.recv(&mut [0; 4]).unwrap());
        // It has waited too, so the driver knows both.
        drop(other);
        turn();
        one.send(b"bc").unwrap();
        assert_eq!(waiting.join().unwrap(), 2);
    });
}

fn a_socket_is_used_on_one_worker_after_another<T: Datagrams>() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (one, other) = T::pair();
    let other = Arc::new(other);
    for round in 0..20 {
        let (agent, other) = (agents.at(round), Arc::clone(&other));
        let received = agent.start(move || {
            let mut buffer = [0; 4];
            (other.recv(&mut buffer).unwrap(), buffer[0])
        });
        agent.settle();
        one.send(&[round as u8]).unwrap();
        assert_eq!(received.recv().unwrap(), (1, round as u8));
    }
}

fn a_receive_while_unwinding_takes_what_is_there_and_does_not_wait<T: Datagrams>() {
    struct ReceivesTwice<T: Datagrams>(T, std::sync::mpsc::Sender<io::Result<usize>>);
    impl<T: Datagrams> Drop for ReceivesTwice<T> {
        fn drop(&mut self) {
            (0..2).for_each(|_| self.1.send(self.0.recv(&mut [0; 4])).unwrap());
        }
    }
    cosocket::run(|| {
        let (one, other) = T::pair();
        one.send(b"abc").unwrap();
        let (results, told) = std::sync::mpsc::channel();
        let receiver = thread::spawn(move || {
            let _receives = ReceivesTwice(other, results);
            std::panic::resume_unwind(Box::new(()));
        });
        receiver.join().unwrap_err();
        assert_eq!(told.recv().unwrap().unwrap(), 3);
        let error = told.recv().unwrap().unwrap_err();
        assert!(error.to_string().contains("unwinding"), "{error}");
    });
}
