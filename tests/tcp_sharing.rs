//! One socket, several coroutines and several handles: turns, clones, both directions at once,
//! and a socket that moves from worker to worker.

mod socket_util;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;

use cosocket::net::TcpStream;
use cosocket::{Builder, thread};
use socket_util::{Agents, everywhere, pair, spawn_waiting, turn};

#[test]
fn readers_of_one_socket_take_turns_in_the_order_of_their_arrival() {
    cosocket::run(|| {
        let (reader, mut writer) = pair();
        let reader = Rc::new(reader);
        let order = Rc::new(RefCell::new(Vec::new()));
        let readers: Vec<_> = (0..5)
            .map(|number| {
                let (reader, order) = (Rc::clone(&reader), Rc::clone(&order));
                spawn_waiting(move || {
                    let mut byte = [0];
                    assert_eq!((&*reader).read(&mut byte).unwrap(), 1);
                    order.borrow_mut().push((number, byte[0]));
                })
            })
            .collect();
        assert!(order.borrow().is_empty());
        writer.write_all(&[0, 1, 2, 3, 4]).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(*order.borrow(), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
    });
}

/// Reads until the end; the numbers, four bytes each, that came in whole.
fn read_numbers(stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 97];
    loop {
        match (&*stream).read(&mut buffer).unwrap() {
            0 => return bytes,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

#[test]
fn several_readers_get_every_byte_exactly_once() {
    // Handles of two kinds: shared ones, and clones with waits of their own.
    for clones in [false, true] {
        cosocket::run(|| {
            let (reader, mut writer) = pair();
            let reader = Arc::new(reader);
            let readers: Vec<_> = (0..6)
                .map(|_| {
                    let reader = match clones {
                        true => Arc::new(reader.try_clone().unwrap()),
                        false => Arc::clone(&reader),
                    };
                    thread::spawn(move || read_numbers(&reader))
                })
                .collect();
            // How often each value is sent differs, so that a loss cannot hide behind a double.
            let mut sent = [0_usize; 256];
            for round in 0..2000_usize {
                let bytes: Vec<u8> = (0..round % 61 + 1).map(|n| (n * round) as u8).collect();
                bytes.iter().for_each(|&byte| sent[usize::from(byte)] += 1);
                writer.write_all(&bytes).unwrap();
                if round % 7 == 0 {
                    thread::yield_now();
                }
            }
            drop(writer);
            let mut received = [0_usize; 256];
            for reader in readers {
                for byte in reader.join().unwrap() {
                    received[usize::from(byte)] += 1;
                }
            }
            assert_eq!(received, sent);
        });
    }
}

#[test]
fn several_writers_lose_nothing_and_keep_their_own_order() {
    const WRITERS: u8 = 5;
    const BYTES: usize = 200_000;
    for clones in [false, true] {
        cosocket::run(|| {
            let (writer, mut reader) = pair();
            let writer = Arc::new(writer);
            let writers: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let writer = match clones {
                        true => Arc::new(writer.try_clone().unwrap()),
                        false => Arc::clone(&writer),
                    };
                    // Who wrote it, and where it stands in that writer's row.
                    let row: Vec<u8> = (0..BYTES).map(|n| number << 5 | (n % 31) as u8).collect();
                    thread::spawn(move || (&*writer).write_all(&row).unwrap())
                })
                .collect();
            drop(writer);
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            assert_eq!(received.len(), usize::from(WRITERS) * BYTES);
            let mut positions: HashMap<u8, usize> = HashMap::new();
            for byte in received {
                let position = positions.entry(byte >> 5).or_default();
                assert_eq!(usize::from(byte & 31), *position % 31, "out of order");
                *position += 1;
            }
        });
    }
}

/// A write that the socket has room for is one piece in the stream, whoever else writes.
#[test]
fn small_writes_of_several_coroutines_are_whole() {
    cosocket::run(|| {
        let (writer, reader) = pair();
        let writer = Arc::new(writer);
        let writers: Vec<_> = (0..8_u8)
            .map(|number| {
                let writer = Arc::clone(&writer);
                thread::spawn(move || {
                    for _ in 0..200 {
                        assert_eq!((&*writer).write(&[number; 64]).unwrap(), 64);
                    }
                })
            })
            .collect();
        let mut message = [0; 64];
        for _ in 0..8 * 200 {
            (&reader).read_exact(&mut message).unwrap();
            assert_eq!(message, [message[0]; 64], "another write in the middle");
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8 ^ seed).collect()
}

/// 16 MiB each way over one connection, reader and writer of each end at the same time.
fn full_duplex(split: fn(&Arc<TcpStream>) -> Arc<TcpStream>) {
    const LEN: usize = 16 << 20;
    let (left, right) = pair();
    let ends = [(Arc::new(left), 1_u8, 2_u8), (Arc::new(right), 2, 1)];
    let mut tasks = Vec::new();
    for (end, mine, theirs) in ends {
        let writer = split(&end);
        tasks.push(thread::spawn(move || {
            (&*writer).write_all(&pattern(mine, LEN)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        }));
        tasks.push(thread::spawn(move || {
            let mut received = Vec::new();
            (&*end).read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), LEN);
            assert!(received == pattern(theirs, LEN), "bytes changed on the way");
        }));
    }
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

#[test]
fn one_handle_carries_both_directions_at_once() {
    cosocket::run(|| full_duplex(Arc::clone));
}

#[test]
fn two_clones_carry_both_directions_at_once() {
    cosocket::run(|| full_duplex(|end| Arc::new(end.try_clone().unwrap())));
}

#[test]
fn a_clone_is_the_same_connection() {
    everywhere(|| {
        let (mut one, mut peer) = pair();
        let mut other = one.try_clone().unwrap();
        one.write_all(b"a").unwrap();
        other.write_all(b"b").unwrap();
        let mut both = [0; 2];
        peer.read_exact(&mut both).unwrap();
        assert_eq!(&both, b"ab");
        peer.write_all(b"cd").unwrap();
        let mut byte = [0];
        other.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"c");
        one.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"d");
        drop(one);
        other.write_all(b"e").unwrap();
        peer.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"e");
        drop(other);
        assert_eq!(peer.read(&mut byte).unwrap(), 0);
    });
}

#[test]
fn dropping_a_handle_leaves_those_who_wait_on_a_clone_alone() {
    cosocket::run(|| {
        let (original, mut peer) = pair();
        let clone = original.try_clone().unwrap();
        // Both have waited, so that whatever a driver keeps for a descriptor is there for both.
        for mut handle in [&original, &clone] {
            let mut other = peer.try_clone().unwrap();
            let writer = spawn_waiting(move || {
                turn();
                other.write_all(b"x").unwrap();
            });
            assert_eq!(handle.read(&mut [0]).unwrap(), 1);
            writer.join().unwrap();
        }
        let reader = spawn_waiting(move || {
            let mut text = String::new();
            (&clone).read_to_string(&mut text).unwrap();
            text
        });
        drop(original);
        turn();
        assert!(!reader.is_finished());
        peer.write_all(b"after the drop").unwrap();
        drop(peer);
        assert_eq!(reader.join().unwrap(), "after the drop");
    });
}

#[test]
fn waits_on_two_clones_at_once_are_both_woken() {
    cosocket::run(|| {
        let (one, mut peer) = pair();
        let other = one.try_clone().unwrap();
        let readers = [one, other]
            .map(|handle| spawn_waiting(move || assert_eq!((&handle).read(&mut [0]).unwrap(), 1)));
        peer.write_all(b"12").unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// A wake that another worker's epoll reports is for the worker of the coroutine that waits: it
/// used to make the coroutine ready on the worker that saw the event.
#[test]
fn a_coroutine_stays_on_its_worker_when_its_socket_has_waited_on_another() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (reader, mut writer) = pair();
    let reader = Arc::new(reader);
    for round in 0..60 {
        let agent = agents.at(round);
        let mine = Arc::clone(&reader);
        // `start` asserts that it ends on the thread where it began.
        let read = agent.start(move || {
            let mut byte = [0];
            (&*mine).read_exact(&mut byte).unwrap();
            byte[0]
        });
        agent.settle();
        writer.write_all(&[round as u8]).unwrap();
        assert_eq!(read.recv().unwrap(), round as u8);
    }
}

/// As above, for writers, and with the reading half waiting on yet another worker.
#[test]
fn both_halves_may_wait_on_different_workers() {
    let runtime = Builder::new().build().unwrap();
    let agents = Agents::of(&runtime);
    let (socket, peer) = pair();
    let (socket, peer) = (Arc::new(socket), Arc::new(peer));
    let bulk = Arc::new(pattern(3, 8 << 20));
    for round in 0..agents.len() * 2 {
        let (reader, writer) = (Arc::clone(&socket), Arc::clone(&socket));
        let read = agents.at(round).start(move || {
            let mut byte = [0];
            (&*reader).read_exact(&mut byte).unwrap();
            byte[0]
        });
        let data = Arc::clone(&bulk);
        let write = agents.at(round + 1).start(move || (&*writer).write_all(&data).unwrap());
        agents.at(round).settle();
        agents.at(round + 1).settle();
        let mut received = vec![0; bulk.len()];
        (&*peer).read_exact(&mut received).unwrap();
        assert!(received == *bulk);
        write.recv().unwrap();
        (&*peer).write_all(&[round as u8]).unwrap();
        assert_eq!(read.recv().unwrap(), round as u8);
    }
}

#[test]
fn a_socket_outlives_the_runtime_it_waited_on() {
    let (reader, mut writer) = pair();
    for round in 0..5_u8 {
        cosocket::run(|| {
            thread::scope(|scope| {
                let read = scope.spawn(|| {
                    let mut byte = [0];
                    (&reader).read_exact(&mut byte).unwrap();
                    byte[0]
                });
                turn();
                writer.write_all(&[round]).unwrap();
                assert_eq!(read.join().unwrap(), round);
            });
        });
    }
}

/// A reader whose coroutine is cancelled in its wait leaves the data, and its turn, to the next.
#[test]
fn a_cancelled_reader_takes_nothing_and_gives_up_its_turn() {
    cosocket::run(|| {
        let (reader, mut writer) = pair();
        let reader = Rc::new(reader);
        let mut readers: Vec<_> = (0..4)
            .map(|_| {
                let reader = Rc::clone(&reader);
                spawn_waiting(move || {
                    let mut byte = [0];
                    (&*reader).read_exact(&mut byte).unwrap();
                    byte[0]
                })
            })
            .collect();
        // One that holds the turn, and one in the middle of the queue.
        for cancelled in [readers.remove(2), readers.remove(0)] {
            cancelled.cancel();
            assert!(cancelled.join().unwrap_err().is::<cosocket::Cancelled>());
        }
        writer.write_all(&[7, 8]).unwrap();
        let rest: Vec<u8> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert_eq!(rest, [7, 8]);
    });
}
