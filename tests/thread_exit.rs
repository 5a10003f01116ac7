//! A process ends while coroutines have operations in flight on the global runtime, which nobody
//! drops: with the right code, without a hang, and without a word.

#[allow(unsafe_code)]
mod util;

use std::io::{Read, Write};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::thread;
use util::{child, pair, tcp_pair, wait_until};

const OF_EACH: usize = 20;

/// Coroutines in reads, accepts, blocked writes, sleeps, parks, pool jobs and busy exchanges.
fn put_operations_in_flight() {
    let begun = Arc::new(AtomicUsize::new(0));
    let spawn = |f: Box<dyn FnOnce() + Send>| {
        let begun = Arc::clone(&begun);
        thread::spawn(move || {
            begun.fetch_add(1, SeqCst);
            f();
        });
    };
    for _ in 0..OF_EACH {
        let (near, far) = tcp_pair();
        let (mut near, far) = (TcpStream::from(near), TcpStream::from(far));
        let writer = far.try_clone().unwrap();
        spawn(Box::new(move || drop(near.read(&mut [0]).map(|_| far))));
        spawn(Box::new(move || {
            loop {
                // Its peer reads one byte and leaves, or nothing at all.
                if { &writer }.write(&[0; 100_000]).is_err() {
                    break;
                }
            }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        spawn(Box::new(move || drop(listener.accept())));
        spawn(Box::new(|| thread::sleep(Duration::from_secs(3600))));
        spawn(Box::new(|| {
            // A sibling that waits without end, and not for others alone.
            thread::park_timeout(Duration::from_secs(3600));
        }));
        let (mut ping, mut pong) = pair();
        spawn(Box::new(move || {
            while pong.read_exact(&mut [0]).is_ok() {
                pong.write_all(&[1]).unwrap();
            }
        }));
        spawn(Box::new(move || {
            loop {
                ping.write_all(&[1]).unwrap();
                ping.read_exact(&mut [0]).unwrap();
            }
        }));
    }
    thread::spawn(|| cosocket::unblock(|| std::thread::sleep(Duration::from_secs(3600))));
    wait_until(|| begun.load(SeqCst) == 7 * OF_EACH);
}

/// In the parent: the child has ended with `code`, and said nothing.
fn ended_quietly(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", child::describe(output));
    assert!(output.stderr.is_empty(), "{}", child::describe(output));
}

fn repeatedly(test: &str, code: i32, body: impl FnOnce()) {
    if child::is_one(test) {
        return body();
    }
    for _ in 0..5 {
        ended_quietly(&child::start(test, &[]), code);
    }
}

#[test]
fn exit_called_by_main_ends_the_process() {
    repeatedly("exit_called_by_main_ends_the_process", 3, || {
        put_operations_in_flight();
        std::process::exit(3);
    });
}

/// The test harness returns from `main` once its test has.
#[test]
fn a_return_from_main_ends_the_process() {
    repeatedly("a_return_from_main_ends_the_process", 0, put_operations_in_flight);
}

#[test]
fn exit_called_by_a_coroutine_ends_the_process() {
    repeatedly("exit_called_by_a_coroutine_ends_the_process", 4, || {
        put_operations_in_flight();
        thread::spawn(|| std::process::exit(4)).join().unwrap();
    });
}

#[test]
fn exit_called_by_a_coroutine_of_another_runtime_ends_the_process() {
    repeatedly("exit_called_by_a_coroutine_of_another_runtime_ends_the_process", 5, || {
        put_operations_in_flight();
        cosocket::run(|| {
            put_operations_in_flight();
            std::process::exit(5)
        });
    });
}

/// Threads that used the library end; their destructors run; the others go on.
#[test]
fn plain_threads_that_end_disturb_nobody() {
    repeatedly("plain_threads_that_end_disturb_nobody", 0, || {
        put_operations_in_flight();
        let (mut near, far) = pair();
        for number in 0..20u8 {
            let far = far.try_clone().unwrap();
            let spawner = std::thread::spawn(move || {
                thread::spawn(move || { &far }.write_all(&[number]).unwrap());
            });
            spawner.join().unwrap();
            let mut byte = [0];
            near.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], number);
        }
    });
}

/// A C library's `exit` handlers may still use sockets; so may destructors of threads.
#[test]
fn a_thread_local_destructor_makes_blocking_calls() {
    struct Farewell(TcpStream);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.0.write_all(b"bye").unwrap();
        }
    }
    thread_local!(static FAREWELL: std::cell::RefCell<Option<Farewell>> = const {
        std::cell::RefCell::new(None)
    });
    repeatedly("a_thread_local_destructor_makes_blocking_calls", 0, || {
        put_operations_in_flight();
        let (near, mut far) = pair();
        let leaver = std::thread::spawn(move || FAREWELL.set(Some(Farewell(near))));
        leaver.join().unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bye");
    });
}
