//! Ten thousand reads time out at once, through a submission queue of eight entries: no cancel
//! may be dropped for want of room, or its reader would wait for ever.

#[allow(unsafe_code)]
mod util;

use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cosocket::net::TcpStream;
use cosocket::thread;
use util::{child, wait_until};

const SOCKETS: usize = 10_000;

#[derive(Default)]
struct Progress {
    started: AtomicUsize,
    timed_out: AtomicUsize,
    received: AtomicUsize,
    deadline: OnceLock<Instant>,
}

#[test]
fn ten_thousand_reads_time_out_at_once_and_every_socket_works_on() {
    child::passes("ten_thousand_reads_time_out_at_once_and_every_socket_works_on", || {
        let descriptors = util::raise_nofile(SOCKETS as u64 + 100);
        let count = SOCKETS.min(descriptors as usize - 100);
        assert!(count == SOCKETS || std::env::var_os("CI").is_none(), "only {descriptors}");
        println!("{count} sockets");
        let runtime = cosocket::Builder::new().ring_entries(8).stack_size(64 << 10);
        let runtime = runtime.build().unwrap();
        runtime.run(|| time_out_together(count));
    });
}

fn time_out_together(count: usize) {
    let progress = Arc::new(Progress::default());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut addresses = Vec::new();
    let mut readers = Vec::new();
    for number in 0..count as u32 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        addresses.push(socket.local_addr().unwrap());
        let progress = Arc::clone(&progress);
        let socket = TcpStream::from(OwnedFd::from(socket));
        readers.push(thread::spawn(move || reader(number, socket, &progress)));
    }
    wait_until(|| progress.started.load(SeqCst) == count);
    progress.deadline.set(Instant::now() + Duration::from_secs(1)).unwrap();
    readers.iter().for_each(|reader| reader.thread().unpark());

    wait_until(|| {
        thread::sleep(Duration::from_millis(10));
        assert!(!readers.iter().any(|reader| reader.is_finished()), "a reader failed");
        progress.timed_out.load(SeqCst) == count
    });
    for (number, address) in addresses.iter().enumerate() {
        let datagram = (number as u32).to_ne_bytes();
        assert_eq!(sender.send_to(&datagram, address).unwrap(), 4);
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(progress.received.load(SeqCst), count);
}

fn reader(number: u32, mut socket: TcpStream, progress: &Progress) {
    let mut buffer = [0; 8];
    progress.started.fetch_add(1, SeqCst);
    while progress.deadline.get().is_none() {
        thread::park();
    }
    let start = Instant::now();
    let left = progress.deadline.get().unwrap().saturating_duration_since(start);
    let timeout = left.max(Duration::from_millis(1));
    socket.set_read_timeout(Some(timeout)).unwrap();
    assert_eq!(socket.read(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= timeout, "too early");

    socket.set_read_timeout(None).unwrap();
    progress.timed_out.fetch_add(1, SeqCst);
    assert_eq!(socket.read(&mut buffer).unwrap(), 4);
    assert_eq!(buffer[..4], number.to_ne_bytes(), "somebody else's datagram");
    progress.received.fetch_add(1, SeqCst);
}
