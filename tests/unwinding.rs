//! Destructors that run in mid-unwind: what they may do, and that it disturbs nobody.

mod socket_util;
mod support;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosocket::{LocalJoinHandle, run, spawn_local, thread, time};
use socket_util::full_listener;
use support::{
    Drops, OnDrop, assert_cancelled, connection, fill, message, on_workers, panic_quietly,
    suspended, until,
};

/// A coroutine that panics and is parked in the destructor which that runs, until unparked.
fn parked_in_mid_unwind() -> LocalJoinHandle<()> {
    suspended(|| {
        let _guard = OnDrop(thread::park);
        panic_quietly("on purpose");
    })
}

fn end(parked: LocalJoinHandle<()>) {
    assert!(!parked.is_finished());
    parked.thread().unpark();
    assert_eq!(message(&*parked.join().unwrap_err()), "on purpose");
}

/// What `call` returned in a destructor in mid-unwind.
fn in_mid_unwind<T: 'static>(call: impl FnOnce() -> T + 'static) -> T {
    let outcome = Rc::new(RefCell::new(None));
    let theirs = Rc::clone(&outcome);
    let mut call = Some(call);
    let coroutine = spawn_local(move || {
        let _guard = OnDrop(move || *theirs.borrow_mut() = Some(call.take().unwrap()()));
        panic_quietly("on purpose");
    });
    assert_eq!(message(&*coroutine.join().unwrap_err()), "on purpose");
    outcome.take().expect("the destructor ran")
}

#[track_caller]
fn assert_unwinding<T>(result: io::Result<T>) {
    let error = result.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("coroutine is unwinding"), "{error}");
}

#[test]
fn a_write_that_finds_room_is_made() {
    run(|| {
        let (mut writer, mut reader) = connection();
        assert_eq!(in_mid_unwind(move || writer.write(b"goodbye")).unwrap(), 7);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "goodbye");
    });
}

#[test]
fn a_write_that_would_wait_is_an_error() {
    run(|| {
        let (writer, _reader) = connection();
        let written = in_mid_unwind(move || {
            fill(&writer);
            loop {
                // The kernel may find a little more room, but not for ever.
                if let Err(error) = (&writer).write(&[7; 65536]) {
                    break Err::<(), _>(error);
                }
            }
        });
        assert_unwinding(written);
    });
}

#[test]
fn a_read_takes_what_is_there_and_does_not_wait_for_more() {
    run(|| {
        let (mut reader, mut writer) = connection();
        writer.write_all(b"x").unwrap();
        // Loopback delivers in the call; peek says so.
        reader.peek(&mut [0]).unwrap();
        let (first, second) =
            in_mid_unwind(move || (reader.read(&mut [0; 2]), reader.read(&mut [0; 2])));
        assert_eq!(first.unwrap(), 1);
        assert_unwinding(second);
        drop(writer);
    });
}

/// Where the closure of a limit had given way, in the destructor, the unwind was forgotten with it.
#[test]
fn a_read_after_a_limit_does_not_wait_either() {
    run(|| {
        let (reader, _writer) = connection();
        let read = in_mid_unwind(move || {
            time::timeout(Duration::from_secs(600), thread::yield_now).unwrap();
            (&reader).read(&mut [0])
        });
        assert_unwinding(read);
    });
}

#[test]
fn connect_and_accept_do_not_wait() {
    run(|| {
        let listener = cosocket::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_unwinding(in_mid_unwind(move || listener.accept()));
        // To several addresses, too: there the attempts race. Nobody answers at these.
        let (_full, address, _clients) = full_listener();
        let connect = move || cosocket::net::TcpBuilder::new().connect_any(&[address; 2][..]);
        assert_unwinding(in_mid_unwind(connect).map(drop));
    });
}

#[test]
fn a_destructor_may_sleep_park_yield_join_and_scope() {
    run(|| {
        let others = Rc::new(Cell::new(0));
        let stop = Rc::new(Cell::new(false));
        let (counter, flag) = (Rc::clone(&others), Rc::clone(&stop));
        let healthy = suspended(move || {
            while !flag.get() {
                counter.set(counter.get() + 1);
                thread::yield_now();
            }
        });
        let counter = Rc::clone(&others);
        in_mid_unwind(move || {
            let waits: [fn(); 5] = [
                || thread::sleep(Duration::from_micros(100)),
                || thread::park_timeout(Duration::from_micros(100)),
                thread::yield_now,
                || assert_eq!(spawn_local(|| (thread::yield_now(), 5).1).join().unwrap(), 5),
                || {
                    thread::scope(|scope| {
                        scope.spawn(|| thread::sleep(Duration::from_micros(100)));
                    });
                },
            ];
            for (number, wait) in waits.into_iter().enumerate() {
                let before = counter.get();
                wait();
                assert!(counter.get() > before, "wait {number} kept the worker to itself");
                assert!(std::thread::panicking());
            }
        });
        stop.set(true);
        healthy.join().unwrap();
    });
}

#[test]
fn a_healthy_coroutine_does_its_io_meanwhile() {
    run(|| {
        let parked = parked_in_mid_unwind();
        assert!(std::thread::panicking(), "std counts panics a thread");
        let (mut writer, mut reader) = connection();
        let echo = suspended(move || {
            let mut byte = [0];
            for _ in 0..100 {
                reader.read_exact(&mut byte).unwrap();
                reader.write_all(&byte).unwrap();
            }
        });
        for n in 0..100 {
            writer.write_all(&[n]).unwrap();
            let mut byte = [0];
            writer.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], n);
        }
        echo.join().unwrap();
        end(parked);
    });
}

// When the first of two had ended, the second one's panic was taken for everybody's.
#[test]
fn a_healthy_coroutine_does_its_io_when_one_of_two_that_unwind_has_ended() {
    run(|| {
        let (first, second) = (parked_in_mid_unwind(), parked_in_mid_unwind());
        end(first);
        assert!(std::thread::panicking());
        let (mut writer, mut reader) = connection();
        let read = suspended(move || reader.read(&mut [0]));
        writer.write_all(b"x").unwrap();
        assert_eq!(read.join().unwrap().unwrap(), 1);
        let parked = suspended(thread::park);
        parked.cancel();
        assert_cancelled(parked.join());
        end(second);
    });
}

// `yield_now` left the mark out that `park` sets.
#[test]
fn a_healthy_coroutine_does_its_io_while_a_destructor_yields() {
    run(|| {
        let stop = Rc::new(Cell::new(false));
        let flag = Rc::clone(&stop);
        let yields = suspended(move || {
            let _guard = OnDrop(|| until(|| flag.get()));
            panic_quietly("on purpose");
        });
        assert!(std::thread::panicking());
        let (mut writer, mut reader) = connection();
        let read = suspended(move || reader.read(&mut [0]));
        thread::yield_now();
        writer.write_all(b"x").unwrap();
        assert_eq!(read.join().unwrap().unwrap(), 1);
        let parked = suspended(thread::park);
        parked.cancel();
        assert_cancelled(parked.join());
        stop.set(true);
        assert!(yields.join().is_err());
    });
}

#[test]
fn a_healthy_coroutine_locks_a_std_mutex_meanwhile_and_does_not_poison_it() {
    run(|| {
        let parked = parked_in_mid_unwind();
        let mutex = Rc::new(Mutex::new(0));
        for _ in 0..10 {
            let theirs = Rc::clone(&mutex);
            spawn_local(move || *theirs.lock().unwrap() += 1).join().unwrap();
        }
        end(parked);
        assert_eq!(*mutex.lock().unwrap(), 10);
    });
}

#[test]
fn a_healthy_coroutine_is_cancelled_meanwhile() {
    run(|| {
        let drops = Drops::default();
        let before = drops.counted();
        let waited_before = suspended(move || (before, thread::park()).1);
        let parked = parked_in_mid_unwind();
        let after = drops.counted();
        let waits_since = suspended(move || (after, thread::sleep(Duration::MAX)).1);
        waited_before.cancel();
        waits_since.cancel();
        assert_cancelled(waited_before.join());
        assert_cancelled(waits_since.join());
        assert_eq!(drops.count(), 2);
        end(parked);
    });
}

// The second one's destructor was taken for a healthy coroutine's, and unwound: a panic in a
// destructor in mid-unwind, which ends the process.
#[test]
fn coroutines_that_are_cancelled_together_may_all_wait_in_their_destructors() {
    run(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = (0..10)
            .map(|n| {
                let order = Rc::clone(&order);
                suspended(move || {
                    let _guard = OnDrop(|| {
                        thread::sleep(Duration::from_micros(100));
                        thread::yield_now();
                        spawn_local(thread::yield_now).join().unwrap();
                        order.borrow_mut().push(n);
                    });
                    thread::park();
                })
            })
            .collect();
        handles.iter().for_each(|handle| handle.cancel());
        handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
        assert_eq!(order.borrow().len(), 10);
    });
}

#[test]
fn scopes_that_are_cancelled_together_may_wait_in_destructors_outside_of_them() {
    run(|| {
        let ended = Rc::new(Cell::new(0));
        let handles: Vec<_> = (0..10)
            .map(|_| {
                let ended = Rc::clone(&ended);
                suspended(move || {
                    let _outer = OnDrop(|| {
                        thread::sleep(Duration::from_micros(100));
                        ended.set(ended.get() + 1);
                    });
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            let _inner = OnDrop(thread::yield_now);
                            thread::park();
                        });
                        thread::park();
                    });
                })
            })
            .collect();
        handles.iter().for_each(|handle| handle.cancel());
        handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
        assert_eq!(ended.get(), 10);
    });
}

#[test]
fn a_cancel_that_comes_in_a_panics_unwind_does_not_cut_the_destructor() {
    run(|| {
        let steps = Rc::new(Cell::new(0));
        let counter = Rc::clone(&steps);
        let parked = suspended(move || {
            let _guard = OnDrop(|| {
                for _ in 0..3 {
                    thread::park();
                    counter.set(counter.get() + 1);
                }
            });
            panic_quietly("on purpose");
        });
        parked.cancel();
        for step in 1..=3 {
            parked.thread().unpark();
            until(|| steps.get() == step);
        }
        assert_eq!(message(&*parked.join().unwrap_err()), "on purpose");
    });
}

#[test]
fn a_coroutine_that_caught_its_panic_is_healthy_again() {
    run(|| {
        let handle = suspended(|| {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _guard = OnDrop(|| thread::sleep(Duration::from_micros(100)));
                panic_quietly("on purpose");
            }));
            assert!(caught.is_err());
            let (mut writer, mut reader) = connection();
            let read = spawn_local(move || reader.read(&mut [0]).unwrap());
            thread::yield_now();
            writer.write_all(b"x").unwrap();
            assert_eq!(read.join().unwrap(), 1);
            thread::park();
        });
        (0..100).for_each(|_| thread::yield_now());
        until(|| !std::thread::panicking());
        handle.cancel();
        assert_cancelled(handle.join());
    });
}

#[test]
fn a_panicking_scope_cancels_its_coroutines_waits_and_panics_on() {
    run(|| {
        let drops = Drops::default();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                for _ in 0..10 {
                    let counted = drops.counted();
                    scope.spawn(move || (counted, thread::park()).1);
                }
                panic_quietly("the body's");
            })
        }));
        assert_eq!(message(&*caught.unwrap_err()), "the body's");
        assert_eq!(drops.count(), 10);
    });
}

// Those spawned after the cancel was passed on were never told.
#[test]
fn a_coroutine_that_joins_a_failed_scope_late_is_cancelled_too() {
    run(|| {
        let caught = catch_unwind(|| {
            thread::scope(|scope| {
                scope.spawn(move || {
                    // The unwind says that the scope has passed the cancel on.
                    let told = catch_unwind(|| {
                        loop {
                            thread::park()
                        }
                    });
                    assert!(told.is_err());
                    scope.spawn(thread::park);
                });
                thread::yield_now();
                panic_quietly("the body's");
            })
        });
        assert_eq!(message(&*caught.unwrap_err()), "the body's");
    });
}

#[test]
fn an_unjoined_coroutines_panic_becomes_the_scopes() {
    run(|| {
        let drops = Drops::default();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                scope.spawn(|| panic_quietly("a child's"));
                let counted = drops.counted();
                // Not cancelled: the scope waits for it, as in std.
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(1));
                    drop(counted);
                });
            })
        }));
        assert_eq!(message(&*caught.unwrap_err()), "a scoped coroutine panicked");
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_handle_dropped_after_its_coroutines_panic_makes_the_scope_panic() {
    run(|| {
        let caught = catch_unwind(|| {
            thread::scope(|scope| {
                let handle = scope.spawn(|| panic_quietly("a child's"));
                until(|| handle.is_finished());
                drop(handle);
            })
        });
        assert!(caught.is_err());
    });
}

#[test]
fn a_joined_panic_or_a_cancel_leaves_the_scope_alone() {
    run(|| {
        thread::scope(|scope| {
            let joined = scope.spawn(|| panic_quietly("joined"));
            assert_eq!(message(&*joined.join().unwrap_err()), "joined");
            let cancelled = scope.spawn(thread::park);
            cancelled.cancel();
            let finished = scope.spawn(thread::park);
            finished.cancel();
            until(|| finished.is_finished());
        });
    });
}

#[test]
fn panics_on_all_workers_at_once_are_told_apart() {
    on_workers(3, || {
        let drops = Drops::default();
        let results = Arc::new(Mutex::new(Vec::new()));
        let handles: Vec<_> = (0..60)
            .map(|n| {
                let (counted, results) = (drops.counted(), Arc::clone(&results));
                cosocket::spawn(move || {
                    let _counted = counted;
                    if n % 2 == 0 {
                        let _guard = OnDrop(|| thread::sleep(Duration::from_micros(300)));
                        thread::yield_now();
                        panic_quietly("even");
                    }
                    let (mut writer, mut reader) = connection();
                    writer.write_all(b"x").unwrap();
                    let read = reader.read(&mut [0]);
                    results.lock().unwrap_or_else(|e| e.into_inner()).push(read.is_ok());
                })
            })
            .collect();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.join().is_err(), n % 2 == 0);
        }
        assert_eq!(drops.count(), 60);
        assert_eq!(*results.lock().unwrap_or_else(|e| e.into_inner()), [true; 30]);
    });
}

/// A second panic on the worker was taken for the first one's: a cancel, or the end of the
/// runtime, then raised another panic in a destructor, and the process aborted.
#[test]
fn a_cancel_spares_one_who_panicked_while_another_was_parked_in_mid_unwind() {
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(20));
            thread::sleep(Duration::from_millis(20));
        }
    }
    for _ in 0..3 {
        cosocket::run(|| {
            let panics = || {
                let _waits = Waits;
                panic!("on purpose");
            };
            let coroutines: Vec<_> = (0..4).map(|_| cosocket::spawn_local(panics)).collect();
            thread::sleep(Duration::from_millis(10));
            coroutines.iter().for_each(|coroutine| coroutine.cancel());
            for coroutine in coroutines {
                let payload = coroutine.join().unwrap_err();
                assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
            }
        });
    }
}
