//! Cancelling a coroutine: at any wait, once, quietly, and without losing a byte.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread::shield;
use cosocket::{Builder, Cancelled, run, spawn, spawn_local, thread, unblock};
use support::{
    Drops, OnDrop, assert_cancel_ends, assert_cancelled, connection, fill, on_workers, suspended,
    until,
};

#[test]
fn a_sleep_is_cut() {
    run(|| assert_cancel_ends(|| thread::sleep(Duration::MAX)));
}

#[test]
fn a_park_is_cut() {
    run(|| {
        assert_cancel_ends(thread::park);
        assert_cancel_ends(|| thread::park_timeout(Duration::from_secs(3600)));
    });
}

#[test]
fn a_join_is_cut_and_detaches_the_other() {
    run(|| {
        let gate = Rc::new(Cell::new(false));
        let drops = Drops::default();
        let (open, counted) = (Rc::clone(&gate), drops.counted());
        let other = suspended(move || {
            until(|| open.get());
            counted
        });
        assert_cancel_ends(move || drop(other.join()));
        gate.set(true);
        until(|| drops.count() == 1);
    });
}

#[test]
fn a_read_is_cut() {
    run(|| {
        let (mut reader, writer) = connection();
        assert_cancel_ends(move || drop(reader.read(&mut [0])));
        drop(writer);
    });
}

#[test]
fn a_peek_is_cut() {
    run(|| {
        let (reader, writer) = connection();
        assert_cancel_ends(move || drop(reader.peek(&mut [0])));
        drop(writer);
    });
}

#[test]
fn a_write_is_cut() {
    run(|| {
        let (writer, _reader) = connection();
        fill(&writer);
        assert_cancel_ends(move || {
            loop {
                (&writer).write_all(&[7; 65536]).unwrap();
            }
        });
    });
}

#[test]
fn an_accept_is_cut() {
    run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_cancel_ends(move || drop(listener.accept()));
    });
}

/// An address where connections are neither accepted nor refused, and what keeps it so.
fn full_listener() -> (SocketAddr, impl Sized) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut backlog = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(20)) {
        backlog.push(stream);
    }
    (address, (listener, backlog))
}

#[test]
fn a_connect_is_cut() {
    run(|| {
        let (address, _full) = full_listener();
        assert_cancel_ends(move || drop(TcpStream::connect(address)));
    });
}

#[test]
fn the_wait_at_a_scopes_end_passes_the_cancel_on() {
    run(|| {
        let drops = Drops::default();
        let (one, two) = (drops.counted(), drops.counted());
        let went_on = Rc::new(Cell::new(false));
        let flag = Rc::clone(&went_on);
        let handle = suspended(move || {
            let value = thread::scope(|scope| {
                scope.spawn(move || (one, thread::park()).1);
                scope.spawn(move || (two, thread::sleep(Duration::MAX)).1);
                5
            });
            // The scope itself had a value; the cancel shows at the next wait.
            assert_eq!(value, 5);
            flag.set(true);
            thread::park();
        });
        handle.cancel();
        assert_cancelled(handle.join());
        assert_eq!(drops.count(), 2);
        assert!(went_on.get());
    });
}

#[test]
fn a_blocking_job_is_abandoned_and_its_result_dropped() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let (gate, wait) = mpsc::channel::<()>();
        assert_cancel_ends(move || {
            unblock(move || {
                let _ = wait.recv();
                counted
            });
        });
        assert_eq!(drops.count(), 0);
        drop(gate);
        until(|| drops.count() == 1);
    });
}

#[test]
fn the_wait_for_another_reader_is_cut_and_the_next_one_gets_its_turn() {
    run(|| {
        let (reader, mut writer) = connection();
        let reader = Rc::new(reader);
        let read = |stream: &Rc<TcpStream>| {
            let stream = Rc::clone(stream);
            suspended(move || {
                let mut byte = [0];
                (&*stream).read_exact(&mut byte).unwrap();
                byte[0]
            })
        };
        let (first, second, third) = (read(&reader), read(&reader), read(&reader));
        second.cancel();
        assert_cancelled(second.join());
        writer.write_all(b"ab").unwrap();
        assert_eq!(first.join().unwrap(), b'a');
        assert_eq!(third.join().unwrap(), b'b');
    });
}

#[test]
fn the_reader_that_others_wait_for_is_cut_and_they_get_their_turn() {
    run(|| {
        let (reader, mut writer) = connection();
        let reader = Rc::new(reader);
        let read = |stream: &Rc<TcpStream>| {
            let stream = Rc::clone(stream);
            suspended(move || (&*stream).read(&mut [0]).unwrap())
        };
        let (first, second) = (read(&reader), read(&reader));
        first.cancel();
        assert_cancelled(first.join());
        writer.write_all(b"a").unwrap();
        assert_eq!(second.join().unwrap(), 1);
    });
}

#[test]
fn a_closure_that_has_not_started_is_dropped_in_a_coroutine_and_not_run() {
    run(|| {
        let dropped_in = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&dropped_in);
        let guard = OnDrop(move || {
            // Waits are cut here too, but this is a coroutine with a stack and a name.
            *seen.borrow_mut() = Some(thread::current().id());
        });
        let ran = Rc::new(Cell::new(false));
        let flag = Rc::clone(&ran);
        let handle = spawn_local(move || {
            let _guard = &guard;
            flag.set(true);
        });
        let id = handle.thread().id();
        handle.cancel();
        assert!(dropped_in.borrow().is_none());
        assert_cancelled(handle.join());
        assert_eq!(*dropped_in.borrow(), Some(id));
        assert!(!ran.get());
    });
}

#[test]
fn a_closure_that_panics_when_dropped_unstarted_ends_as_cancelled() {
    run(|| {
        let guard = OnDrop(|| support::panic_quietly("from a closure's drop"));
        let handle = spawn_local(move || {
            let _guard = &guard;
        });
        handle.cancel();
        assert_cancelled(handle.join());
    });
}

#[test]
fn one_cancels_itself_and_is_unwound_at_the_next_wait() {
    run(|| {
        let own = Rc::new(RefCell::new(None::<cosocket::LocalJoinHandle<()>>));
        let passed = Rc::new(Cell::new(false));
        let (handle, flag) = (Rc::clone(&own), Rc::clone(&passed));
        *own.borrow_mut() = Some(spawn_local(move || {
            handle.borrow().as_ref().unwrap().cancel();
            flag.set(true);
            thread::yield_now();
            unreachable!("yielding is a wait");
        }));
        until(|| own.borrow().as_ref().unwrap().is_finished());
        assert_cancelled(own.take().unwrap().join());
        assert!(passed.get());
    });
}

type Wait<'a> = Box<dyn FnMut() + 'a>;

/// Calls every kind of wait, each of which must unwind.
fn waits_all_unwind() {
    let (mut stream, peer) = shield(connection);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let parked = Rc::new(RefCell::new(Some(spawn_local(|| shield(thread::park)))));
    let thread = parked.borrow().as_ref().unwrap().thread().clone();
    let waits: [(&str, Wait); 9] = [
        ("yield", Box::new(thread::yield_now)),
        ("park", Box::new(thread::park)),
        ("sleep", Box::new(|| thread::sleep(Duration::from_nanos(1)))),
        ("read", Box::new(move || drop(stream.read(&mut [0])))),
        ("write", Box::new(move || drop((&peer).write(&[0])))),
        ("accept", Box::new(move || drop(listener.accept()))),
        (
            "unblock",
            Box::new(|| {
                let (_gate, wait) = mpsc::channel::<()>();
                let _ = unblock(move || wait.recv());
            }),
        ),
        ("join", Box::new(|| drop(parked.take().unwrap().join()))),
        (
            "unwound connect",
            Box::new(move || {
                // Over loopback it may be there at once: then there was no wait to be unwound.
                drop(TcpStream::connect(address));
                thread::yield_now();
            }),
        ),
    ];
    for (name, mut wait) in waits {
        for _ in 0..if name == "join" { 1 } else { 50 } {
            let unwound = catch_unwind(AssertUnwindSafe(&mut wait)).unwrap_err();
            assert!(unwound.is::<Cancelled>(), "{name}");
        }
    }
    thread.unpark();
}

#[test]
fn a_cancel_is_sticky_at_every_wait() {
    run(|| {
        let gate = Rc::new(Cell::new(false));
        let open = Rc::clone(&gate);
        let handle = suspended(move || {
            shield(|| until(|| open.get()));
            waits_all_unwind();
            17
        });
        handle.cancel();
        gate.set(true);
        // It came to its end without a wait in between, so it has a result.
        assert_eq!(handle.join().unwrap(), 17);
    });
}

#[test]
fn one_that_swallows_its_cancel_lets_others_run() {
    run(|| {
        let (mut stream, _peer) = connection();
        let waits: [Wait; 5] = [
            Box::new(thread::park),
            Box::new(thread::yield_now),
            Box::new(|| thread::sleep(Duration::MAX)),
            Box::new(move || drop(stream.read(&mut [0]))),
            Box::new(|| drop(spawn_local(|| shield(thread::yield_now)).join())),
        ];
        for mut wait in waits {
            let stop = Rc::new(Cell::new(false));
            let flag = Rc::clone(&stop);
            let stubborn = suspended(move || {
                while !flag.get() {
                    let _ = catch_unwind(AssertUnwindSafe(&mut wait));
                }
            });
            stubborn.cancel();
            for _ in 0..100 {
                thread::yield_now();
            }
            assert!(!stubborn.is_finished());
            stop.set(true);
            stubborn.join().unwrap();
        }
    });
}

#[test]
fn one_that_loops_in_yield_now_is_ended() {
    run(|| {
        assert_cancel_ends(|| {
            loop {
                thread::yield_now()
            }
        })
    });
}

#[test]
fn a_cancel_after_the_end_does_nothing() {
    run(|| {
        let handle = spawn_local(|| 5);
        until(|| handle.is_finished());
        handle.cancel();
        handle.cancel();
        assert_eq!(handle.join().unwrap(), 5);
        assert_eq!(spawn_local(|| (thread::yield_now(), 6).1).join().unwrap(), 6);
    });
}

#[test]
fn two_cancels_are_one() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let handle = suspended(move || (counted, thread::park()).1);
        handle.cancel();
        handle.cancel();
        assert_cancelled(handle.join());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_plain_thread_cancels() {
    let runtime = Builder::new().build().unwrap();
    for round in 0..200 {
        let (sender, receiver) = mpsc::channel();
        let handle = runtime.spawn(move || {
            sender.send(()).unwrap();
            thread::park();
        });
        if round % 2 == 0 {
            receiver.recv().unwrap();
        }
        handle.cancel();
        assert_cancelled(handle.join());
    }
}

#[test]
fn another_worker_cancels() {
    on_workers(3, || {
        let drops = Drops::default();
        let handles: Vec<_> = (0..300)
            .map(|_| {
                let counted = drops.counted();
                spawn(move || (counted, thread::park()).1)
            })
            .collect();
        let cancellers = handles.into_iter().map(|handle| {
            spawn(move || {
                handle.cancel();
                assert_cancelled(handle.join());
            })
        });
        let cancellers: Vec<_> = cancellers.collect();
        cancellers.into_iter().for_each(|canceller| canceller.join().unwrap());
        assert_eq!(drops.count(), 300);
    });
}

// Whatever the kernel did before the cancel reached it is returned; what it did not do is there
// for the next reader.
#[test]
fn no_byte_is_lost_between_a_cancel_and_the_next_reader() {
    run(|| {
        let (reader, mut writer) = connection();
        let reader = Rc::new(reader);
        let received = Rc::new(RefCell::new(Vec::new()));
        let mut sent = Vec::new();
        for round in 0..300 {
            let (stream, bytes) = (Rc::clone(&reader), Rc::clone(&received));
            let victim = suspended(move || {
                loop {
                    let mut buffer = [0; 16];
                    let count = (&*stream).read(&mut buffer).unwrap();
                    bytes.borrow_mut().extend_from_slice(&buffer[..count]);
                }
            });
            let message = [round as u8, (round >> 8) as u8, 3];
            writer.write_all(&message).unwrap();
            sent.extend_from_slice(&message);
            for _ in 0..round % 4 {
                thread::yield_now();
            }
            victim.cancel();
            assert_cancelled(victim.join());
        }
        drop(writer);
        let mut rest = Vec::new();
        (&*reader).read_to_end(&mut rest).unwrap();
        received.borrow_mut().extend(rest);
        assert_eq!(*received.borrow(), sent);
    });
}

#[test]
fn no_connection_is_lost_between_a_cancel_and_the_next_accept() {
    run(|| {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        for round in 0..100 {
            let (theirs, accepted) = (Rc::clone(&listener), Rc::new(Cell::new(false)));
            let flag = Rc::clone(&accepted);
            let victim = suspended(move || {
                let _connection = theirs.accept().unwrap();
                flag.set(true);
                thread::park();
            });
            let mut client = TcpStream::connect(address).unwrap();
            for _ in 0..round % 3 {
                thread::yield_now();
            }
            victim.cancel();
            assert_cancelled(victim.join());
            if !accepted.get() {
                drop(listener.accept().unwrap());
            }
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    });
}

#[test]
fn cancels_and_ends_that_race_give_one_or_the_other() {
    let drops = Drops::default();
    let finished = Arc::new(AtomicUsize::new(0));
    on_workers(3, || {
        for round in 0..3000 {
            let (counted, finished) = (drops.counted(), Arc::clone(&finished));
            let started = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&started);
            let handle = spawn(move || {
                let _counted = counted;
                flag.store(true, Ordering::SeqCst);
                thread::yield_now();
                finished.fetch_add(1, Ordering::SeqCst);
            });
            if round % 2 == 0 {
                until(|| started.load(Ordering::SeqCst));
            }
            handle.cancel();
            match handle.join() {
                Ok(()) => {}
                Err(payload) => assert!(payload.is::<Cancelled>()),
            }
            assert_eq!(drops.count(), round + 1);
        }
    });
}
