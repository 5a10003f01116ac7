//! Arms of a select on sockets: they wait for readiness, move nothing, and leave nothing behind.

mod support;
#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::os::Interest;
use cosocket::sync::select::{Arm, Select};
use cosocket::sync::{mpmc, mpsc, select};
use cosocket::{run, spawn, thread, time};
use support::{assert_cancel_ends, connection, fill, on_workers};
use util::{descriptors, is_quick};

/// On a plain thread and in a coroutine.
fn both(check: impl Fn() + Send + Sync) {
    check();
    run(&check);
}

const LONG: Duration = Duration::from_secs(3600);

fn read_one(mut stream: &TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

#[test]
fn what_is_ready_already_needs_no_wait() {
    both(|| {
        let (mut client, server) = connection();
        client.write_all(b"x").unwrap();
        select! {
            ready = select::ready(&client, Interest::WRITE) =>
                assert!(ready.unwrap().is_writable()),
            () = select::after(LONG) => panic!("it was ready"),
        }
        // Loopback delivers within the call.
        let is_readable = select! {
            ready = select::ready(&server, Interest::READ) => ready.unwrap().is_readable(),
            else => false,
        };
        assert!(is_readable);
        assert_eq!(read_one(&server), b'x', "readiness takes nothing");
        let is_readable = select! {
            _ = select::ready(&server, Interest::READ) => true,
            else => false,
        };
        assert!(!is_readable);
    });
}

#[test]
fn a_socket_that_becomes_ready_ends_the_wait() {
    both(|| {
        let (mut client, server) = connection();
        let (_sender, receiver) = mpsc::channel::<i32>();
        let (wait, waits) = mpsc::sync_channel(0);
        let writing = spawn(move || {
            waits.recv().unwrap();
            client.write_all(b"x").unwrap();
            client
        });
        wait.send(()).unwrap();
        select! {
            ready = select::ready(&server, Interest::READ) => assert!(ready.unwrap().is_readable()),
            _ = select::recv(&receiver) => panic!("nothing was sent"),
            () = select::after(LONG) => panic!("it is ready"),
        }
        assert_eq!(read_one(&server), b'x');
        drop(writing.join().unwrap());
        select! {
            ready = select::ready(&server, Interest::READ) => assert!(ready.unwrap().is_readable()),
            () = select::after(LONG) => panic!("the end can be read"),
        }
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn room_to_write_ends_the_wait() {
    both(|| {
        let (client, mut server) = connection();
        let written = fill(&client);
        let mut full = select::ready(&client, Interest::WRITE);
        let mut select = Select::new();
        select.add(&mut full);
        assert_eq!(select.try_wait(), None);
        let reading = spawn(move || {
            let mut rest = vec![0; written];
            server.read_exact(&mut rest).unwrap();
            server
        });
        let mut select = Select::new();
        select.add(&mut full);
        assert_eq!(select.wait_timeout(LONG), Some(0));
        assert!(full.take().unwrap().unwrap().is_writable());
        reading.join().unwrap();
    });
}

#[test]
fn a_listener_is_ready_when_somebody_connects() {
    both(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = spawn(move || TcpStream::connect(address).unwrap());
        select! {
            ready = select::ready(&listener, Interest::READ) =>
                assert!(ready.unwrap().is_readable()),
            () = select::after(LONG) => panic!("somebody connects"),
        }
        listener.accept().unwrap();
        client.join().unwrap();
    });
}

#[test]
fn a_channel_that_wins_leaves_the_socket_alone() {
    both(|| {
        let (mut client, server) = connection();
        let (sender, receiver) = mpmc::sync_channel(0);
        let rounds = if is_quick() { 20 } else { 300 };
        let sending = spawn(move || (0..rounds).for_each(|number| sender.send(number).unwrap()));
        for number in 0..rounds {
            let got = select! {
                _ = select::ready(&server, Interest::READ) => panic!("nobody has written"),
                number = select::recv(&receiver) => number,
            };
            assert_eq!(got, Ok(number));
        }
        sending.join().unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(read_one(&server), b'x');
    });
}

#[test]
fn a_timeout_or_a_cancel_leaves_nothing_behind() {
    run(|| {
        let (mut client, server) = connection();
        let other = server.try_clone().unwrap();
        assert_cancel_ends(move || {
            select! {
                _ = select::ready(&other, Interest::READ) => {}
                () = select::after(LONG) => {}
            }
        });
        let start = Instant::now();
        let timeout = Duration::from_millis(3);
        let elapsed = time::timeout(timeout, || {
            select! {
                _ = select::ready(&server, Interest::READ) => {}
                () = select::after(LONG) => {}
            }
        });
        assert!(elapsed.is_err());
        assert!(start.elapsed() >= timeout);
        select! {
            _ = select::ready(&server, Interest::READ) => panic!("nobody has written"),
            () = select::after(timeout) => {}
        }
        client.write_all(b"x").unwrap();
        assert_eq!(read_one(&server), b'x');
    });
}

#[test]
fn a_plain_threads_select_leaves_nothing_behind() {
    let (_client, server) = connection();
    let poll = || {
        select! {
            _ = select::ready(&server, Interest::READ) => panic!("nobody has written"),
            () = select::after(Duration::from_millis(1)) => {}
        }
    };
    // What the global runtime needs, it keeps.
    poll();
    let before = descriptors();
    (0..5).for_each(|_| poll());
    // Other tests run beside this one; but those five would be seen.
    assert!(descriptors() < before + 5 || is_parallel());
}

/// Whether other tests of this program may have descriptors open.
fn is_parallel() -> bool {
    !std::env::args().any(|argument| argument == "--test-threads=1")
}

#[test]
fn a_silent_select_on_a_socket_is_no_deadlock() {
    // The only coroutine waits, for a socket among others: a report would abort.
    let runtime = cosocket::Builder::new().workers(1).abort_on_deadlock(true).build().unwrap();
    let (mut client, server) = connection();
    let (_sender, receiver) = mpsc::channel::<i32>();
    let waiting = runtime.spawn(move || {
        select! {
            ready = select::ready(&server, Interest::READ) => ready.is_ok(),
            _ = select::recv(&receiver) => false,
        }
    });
    std::thread::sleep(Duration::from_millis(20));
    client.write_all(b"x").unwrap();
    assert!(waiting.join().unwrap());
}

#[test]
fn bytes_and_messages_all_arrive() {
    for workers in [1, 3] {
        on_workers(workers, || {
            let count = if is_quick() { 100 } else { 2000 };
            let (mut client, server) = connection();
            let (mut other, second) = connection();
            let (sender, receiver) = mpmc::sync_channel(1);
            // Kept here, so that the channel never says that all is over.
            let kept = sender.clone();
            let sending = spawn(move || (0..count).for_each(|number| sender.send(number).unwrap()));
            let writing = spawn(move || {
                for number in 0..count {
                    let stream = if number % 3 == 0 { &mut other } else { &mut client };
                    stream.write_all(&[number as u8]).unwrap();
                    if number % 7 == 0 {
                        thread::yield_now();
                    }
                }
            });
            let (mut bytes, mut messages) = (0, 0);
            while bytes < count || messages < count {
                let stream = select! {
                    number = select::recv(&receiver) => {
                        assert_eq!(number, Ok(messages));
                        messages += 1;
                        continue;
                    }
                    ready = select::ready(&server, Interest::READ) => ready.map(|_| &server),
                    ready = select::ready(&second, Interest::READ) => ready.map(|_| &second),
                };
                bytes += stream.unwrap().read(&mut [0; 16]).unwrap();
            }
            assert_eq!((bytes, messages), (count, count));
            sending.join().unwrap();
            writing.join().unwrap();
            drop(kept);
        });
    }
}

/// The ring misses urgent data that comes right behind other data; a select does not.
#[test]
fn urgent_data_is_not_missed() {
    let rounds = if is_quick() { 5 } else { 60 };
    both(|| {
        for _ in 0..rounds {
            let (near, far) = connection();
            let sending = spawn(move || {
                thread::yield_now();
                (&far).write_all(b"plain").unwrap();
                socket2::SockRef::from(&far).send_out_of_band(b"!").unwrap();
                far
            });
            let ready = select! {
                ready = select::ready(&near, Interest::PRIORITY) => ready.unwrap(),
                () = select::after(Duration::from_secs(3600)) => panic!("it came"),
            };
            assert!(ready.is_priority());
            // What is there already, too.
            let ready = select! {
                ready = select::ready(&near, Interest::PRIORITY | Interest::WRITE) => ready.unwrap(),
                else => panic!("it is there"),
            };
            assert!(ready.is_priority());
            drop(sending.join().unwrap());
        }
    });
}
