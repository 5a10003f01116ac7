//! The end of a runtime: everything unwinds, nothing is left, nobody is harmed.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use cosocket::net::TcpListener;
use cosocket::{Builder, Driver, Runtime, run, spawn, spawn_local, thread, unblock};
use support::{Drops, OnDrop, assert_cancelled, connection, message, panic_quietly, until};

/// The tests count descriptors and threads, which are the process's: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn worker_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.ok()?));
    names.filter(|name| name.trim().strip_prefix("cosocket-").is_some_and(is_number)).count()
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn runtime() -> Runtime {
    Builder::new().build().unwrap()
}

/// Fills the runtime with coroutines in every kind of wait; each holds a counted value.
fn wait_in_every_way(runtime: &Runtime, each: usize, drops: &Drops) -> usize {
    let started = Arc::new(AtomicUsize::new(0));
    let mut count = 0;
    let mut start = |wait: Box<dyn FnOnce() + Send>| {
        let (counted, started) = (drops.counted(), Arc::clone(&started));
        count += 1;
        drop(runtime.spawn(move || {
            let _counted = counted;
            started.fetch_add(1, Ordering::SeqCst);
            wait();
            unreachable!("nothing ends these waits but a cancel");
        }));
    };
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    for _ in 0..each {
        let (mut reader, peer) = connection();
        start(Box::new(move || (reader.read(&mut [0]).unwrap(), peer.local_addr().unwrap(), ()).2));
        let shared = Arc::clone(&listener);
        start(Box::new(move || drop(shared.accept())));
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        start(Box::new(move || drop(own.accept())));
        start(Box::new(|| thread::sleep(Duration::MAX)));
        start(Box::new(|| {
            loop {
                thread::park()
            }
        }));
        let parked = runtime.spawn(|| {
            loop {
                thread::park()
            }
        });
        start(Box::new(move || drop(parked.join())));
        start(Box::new(|| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    loop {
                        thread::park()
                    }
                });
            });
            thread::park();
        }));
    }
    while started.load(Ordering::SeqCst) < count {
        std::thread::yield_now();
    }
    count
}

#[test]
fn a_thousand_waits_of_every_kind_are_unwound_and_every_descriptor_is_closed() {
    let _alone = alone();
    let mut open = 0;
    for round in 0..3 {
        let drops = Drops::default();
        let runtime = runtime();
        let count = wait_in_every_way(&runtime, 150, &drops);
        assert!(count >= 1000);
        drop(runtime);
        assert_eq!(drops.count(), count);
        // The first round leaves what workers share: doorbells, epolls.
        if round > 0 {
            assert_eq!(descriptors(), open);
        }
        open = descriptors();
    }
    assert_eq!(worker_threads(), 0);
}

#[test]
fn a_blocking_job_does_not_hold_the_drop_up() {
    let _alone = alone();
    let (gate, wait) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let runtime = runtime();
    let handle = runtime.spawn(move || {
        unblock(move || {
            started.send(()).unwrap();
            let _ = wait.recv();
        });
    });
    starts.recv().unwrap();
    drop(runtime);
    assert_cancelled(handle.join());
    drop(gate);
}

#[test]
fn destructors_may_still_wait_spawn_and_join() {
    let _alone = alone();
    let finished = Arc::new(AtomicUsize::new(0));
    let started = Arc::new(AtomicUsize::new(0));
    let runtime = runtime();
    for _ in 0..50 {
        let (started, finished) = (Arc::clone(&started), Arc::clone(&finished));
        drop(runtime.spawn(move || {
            let _guard = OnDrop(move || {
                thread::sleep(Duration::from_micros(200));
                // Spawned in a shutdown: its closure is dropped, or it is cut at its first wait.
                let late = spawn_local(|| {
                    loop {
                        thread::park()
                    }
                });
                assert_cancelled(late.join());
                assert_cancelled(
                    spawn(|| {
                        loop {
                            thread::yield_now()
                        }
                    })
                    .join(),
                );
                finished.fetch_add(1, Ordering::SeqCst);
            });
            started.fetch_add(1, Ordering::SeqCst);
            thread::park();
        }));
    }
    while started.load(Ordering::SeqCst) < 50 {
        std::thread::yield_now();
    }
    drop(runtime);
    assert_eq!(finished.load(Ordering::SeqCst), 50);
}

#[test]
fn dropped_from_one_of_its_own_coroutines_it_stops_by_itself() {
    let _alone = alone();
    let drops = Drops::default();
    let runtime = runtime();
    for _ in 0..10 {
        let counted = drops.counted();
        drop(runtime.spawn(move || (counted, thread::park()).1));
    }
    let (give, given) = mpsc::channel::<Runtime>();
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let handle = runtime.spawn(move || {
        drop(unblock(move || given.recv().unwrap()));
        flag.store(true, Ordering::SeqCst);
        // It is one of those that end.
        loop {
            thread::park();
        }
    });
    give.send(runtime).unwrap();
    assert_cancelled(handle.join());
    assert!(dropped.load(Ordering::SeqCst));
    while worker_threads() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(drops.count(), 10);
}

#[test]
fn handles_that_outlive_it_are_harmless() {
    let _alone = alone();
    let runtime = runtime();
    let finished = runtime.spawn(|| 5);
    let waiting = runtime.spawn(|| {
        loop {
            thread::park()
        }
    });
    let cut = runtime.spawn(|| {
        loop {
            thread::park()
        }
    });
    let thread = waiting.thread().clone();
    drop(runtime);
    for _ in 0..3 {
        thread.unpark();
        waiting.cancel();
        finished.cancel();
        assert!(cut.is_finished());
    }
    // The next runtime has the same workers' mailboxes and control blocks.
    run(|| {
        let next: Vec<_> = (0..10).map(|_| spawn(|| (thread::yield_now(), 7).1)).collect();
        thread.unpark();
        waiting.cancel();
        cut.cancel();
        next.into_iter().for_each(|handle| assert_eq!(handle.join().unwrap(), 7));
        assert_cancelled(cut.join());
    });
    assert_cancelled(waiting.join());
    match finished.join() {
        Ok(value) => assert_eq!(value, 5),
        Err(payload) => assert!(payload.is::<cosocket::Cancelled>()),
    }
}

#[test]
fn wakes_and_cancels_from_a_thread_race_with_the_drop() {
    let _alone = alone();
    for _ in 0..30 {
        let runtime = runtime();
        let handles: Vec<_> = (0..50)
            .map(|_| {
                runtime.spawn(|| {
                    loop {
                        thread::park()
                    }
                })
            })
            .collect();
        let racer = std::thread::spawn(move || {
            for handle in &handles {
                handle.thread().unpark();
                handle.cancel();
                handle.thread().unpark();
            }
            handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
        });
        drop(runtime);
        racer.join().unwrap();
    }
}

#[test]
fn sockets_outlive_it_and_work_on_the_next_on_either_driver() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (mut here, mut there) = connection();
    let drivers = [Driver::Epoll, Driver::IoUring, Driver::Epoll, Driver::Epoll, Driver::Auto];
    for (round, driver) in drivers.into_iter().enumerate() {
        let byte = round as u8;
        let runtime = match Builder::new().driver(driver).build() {
            Ok(runtime) => runtime,
            Err(error) if driver == Driver::IoUring => {
                assert_ne!(std::env::var("COSOCKET_DRIVER").as_deref(), Ok("io_uring"), "{error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        runtime.run(|| {
            thread::scope(|scope| {
                let read = scope.spawn(|| {
                    let mut buffer = [0];
                    here.read_exact(&mut buffer).unwrap();
                    buffer[0]
                });
                let accept = scope.spawn(|| listener.accept().unwrap());
                (0..10).for_each(|_| thread::yield_now());
                there.write_all(&[byte]).unwrap();
                assert_eq!(read.join().unwrap(), byte);
                let _client = cosocket::net::TcpStream::connect(address).unwrap();
                accept.join().unwrap();
            });
        });
        // A reader that is cut when the runtime goes, so that a wait was under way.
        let clone = here.try_clone().unwrap();
        drop(runtime.spawn(move || drop((&clone).read(&mut [0]))));
    }
    // And on this plain thread.
    there.write_all(b"z").unwrap();
    let mut buffer = [0];
    here.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"z");
}

#[test]
fn a_hundred_runtimes_in_a_row() {
    let _alone = alone();
    for n in 0..100 {
        assert_eq!(run(|| spawn(move || n).join().unwrap()), n);
    }
}

// A ring between a worker's last look and its mark was lost, and the drop hung.
#[test]
fn the_last_coroutine_ends_while_other_workers_fall_asleep() {
    let _alone = alone();
    for _ in 0..300 {
        let runtime = Builder::new().workers(3).build().unwrap();
        for _ in 0..3 {
            drop(runtime.spawn(thread::yield_now));
        }
        drop(runtime);
    }
}

#[test]
fn one_that_was_never_used_just_goes() {
    let _alone = alone();
    for workers in [1, 2, 7] {
        drop(Builder::new().workers(workers).build().unwrap());
    }
}

#[test]
fn run_borrows() {
    let _alone = alone();
    let mut numbers = vec![1];
    let text = String::from("borrowed");
    let runtime = runtime();
    let length = runtime.run(|| {
        numbers.push(2);
        thread::yield_now();
        text.len()
    });
    let last = runtime.run(|| numbers.last_mut().map(|last| (*last += 1, *last).1));
    assert_eq!((length, last), (8, Some(3)));
    assert_eq!(numbers, [1, 3]);
}

#[test]
fn a_panic_goes_through_run_and_leaves_the_runtime_usable() {
    let _alone = alone();
    let runtime = runtime();
    let through = std::panic::AssertUnwindSafe(&runtime);
    let caught = catch_unwind(move || through.run(|| panic_quietly("through")));
    assert_eq!(message(&*caught.unwrap_err()), "through");
    assert_eq!(runtime.run(|| 5), 5);
    let caught = catch_unwind(|| run(|| panic_quietly("through and drained")));
    assert_eq!(message(&*caught.unwrap_err()), "through and drained");
}

#[test]
fn run_inside_run_panics() {
    let _alone = alone();
    let other = std::panic::AssertUnwindSafe(runtime());
    run(move || {
        let caught = catch_unwind(|| run(|| ())).unwrap_err();
        assert!(message(&*caught).contains("inside a coroutine"), "{}", message(&*caught));
        assert!(catch_unwind(move || other.run(|| ())).is_err());
    });
}

#[test]
fn several_threads_run_on_one_runtime() {
    let _alone = alone();
    let runtime = runtime();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let runtime = &runtime;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(runtime.run(|| spawn(move || n).join().unwrap()), n);
                }
            });
        }
    });
}

#[test]
fn what_was_spawned_and_not_joined_has_unwound_when_run_returns() {
    let _alone = alone();
    let drops = Drops::default();
    run(|| {
        for _ in 0..100 {
            let counted = drops.counted();
            drop(spawn(move || (counted, thread::park()).1));
        }
        until(|| true);
    });
    assert_eq!(drops.count(), 100);
}
