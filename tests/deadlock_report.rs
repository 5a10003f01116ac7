//! The report on coroutines that wait for each other, from child processes that print it.

#![allow(unsafe_code)]

mod support;

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Duration;

use cosocket::sync::{Condvar, Mutex, RwLock};
use cosocket::{Builder, Runtime, thread, unblock};

const VARIABLE: &str = "COSOCKET_TEST_CHILD";

/// Runs `body` in a child, which is the same test of this program, and returns how that went.
fn in_child(test: &str, body: fn()) -> (Output, String) {
    if std::env::var(VARIABLE).is_ok_and(|name| name == test) {
        body();
        std::process::exit(0);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("running 1 test"), "{test}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

fn aborting() -> Runtime {
    Builder::new().abort_on_deadlock(true).build().unwrap()
}

#[track_caller]
fn assert_aborted(output: &Output, text: &str) {
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{:?}: {text}", output.status);
    assert_eq!(text.matches("wait for each other").count(), 1, "{text}");
}

/// THR-9
#[test]
fn coroutines_that_wait_for_each_other_are_named_with_what_they_wait_for() {
    let test = "coroutines_that_wait_for_each_other_are_named_with_what_they_wait_for";
    let (output, text) = in_child(test, || {
        aborting().run(|| {
            let parked = thread::Builder::new().name("the parked one".into());
            let parked = parked
                .spawn(|| {
                    loop {
                        thread::park()
                    }
                })
                .unwrap();
            let joins = thread::Builder::new().name("the one that joins".into());
            let joins = joins.spawn(move || parked.join().is_ok()).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| joins.join().is_ok());
            });
        });
    });
    assert_aborted(&output, &text);
    assert!(text.contains("4 coroutines wait for each other"), "{text}");
    let line = |part: &str| {
        let line = text.lines().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no {part} in {text}")).to_owned()
    };
    assert!(line("\"the parked one\"").contains("waits for park"));
    assert!(line("\"the one that joins\"").contains("waits for join"));
    assert!(line("the end of a scope").contains("spawned at tests/deadlock_report.rs:"));
    assert_eq!(text.matches("spawned at tests/deadlock_report.rs:").count(), 4, "{text}");
}

#[test]
fn those_who_wait_for_locks_and_conditions_are_named() {
    let test = "those_who_wait_for_locks_and_conditions_are_named";
    let (output, text) = in_child(test, || {
        aborting().run(|| {
            let spawn = |name: &str, f: fn()| {
                thread::Builder::new().name(name.into()).spawn(f).unwrap();
            };
            spawn("twice", || {
                static MUTEX: Mutex<()> = Mutex::new(());
                let _guard = MUTEX.lock();
                drop(MUTEX.lock());
            });
            spawn("upgrade", || {
                static LOCK: RwLock<()> = RwLock::new(());
                let _guard = LOCK.read();
                drop(LOCK.write());
            });
            spawn("unnotified", || {
                static MUTEX: Mutex<()> = Mutex::new(());
                static CONDVAR: Condvar = Condvar::new();
                drop(CONDVAR.wait(MUTEX.lock().unwrap()));
            });
            thread::park();
        });
    });
    assert_aborted(&output, &text);
    let waits_for = |name: &str, what: &str| {
        let name = format!("\"{name}\"");
        let line = text.lines().find(|line| line.contains(&name));
        assert!(line.is_some_and(|line| line.contains(what)), "{name}, {what}: {text}");
    };
    waits_for("twice", "waits for a lock; spawned at tests/deadlock_report.rs:");
    waits_for("upgrade", "waits for a lock;");
    waits_for("unnotified", "waits for a condition variable;");
}

#[test]
fn it_is_a_possible_deadlock_while_another_thread_lives() {
    let test = "it_is_a_possible_deadlock_while_another_thread_lives";
    let (output, text) = in_child(test, || {
        let _other = std::thread::spawn(|| {
            loop {
                std::thread::park()
            }
        });
        aborting().run(|| {
            loop {
                thread::park()
            }
        });
    });
    assert_aborted(&output, &text);
    assert!(text.contains("possible deadlock"), "{text}");
}

/// A thread that sleeps will wake them, for all we know: the way of a `main` that feeds workers.
#[test]
fn no_report_while_a_thread_will_go_on_by_itself() {
    let test = "no_report_while_a_thread_will_go_on_by_itself";
    let (output, text) = in_child(test, || {
        let (sender, receiver) = cosocket::sync::mpsc::channel();
        let worker = cosocket::spawn(move || receiver.iter().sum::<u32>());
        for number in 1..=2 {
            std::thread::sleep(Duration::from_millis(250));
            sender.send(number).unwrap();
        }
        drop(sender);
        assert_eq!(worker.join().unwrap(), 3);
    });
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("wait for each other"), "{text}");
}

/// One that waits for them without end will not: and it is said once, though it goes on.
#[test]
fn without_abort_it_is_printed_and_an_end_of_the_wait_still_helps() {
    let test = "without_abort_it_is_printed_and_an_end_of_the_wait_still_helps";
    let (output, text) = in_child(test, || {
        static PARKED: std::sync::OnceLock<thread::Thread> = std::sync::OnceLock::new();
        extern "C" fn unpark(_signal: i32) {
            // As good as sure not to interrupt anybody who has a lock that this takes: they sleep.
            PARKED.wait().unpark();
        }
        let runtime = Builder::new().build().unwrap();
        let handle = runtime.spawn(|| {
            PARKED.set(thread::current()).unwrap();
            thread::park();
        });
        // SAFETY: the handler does what a signal may interrupt here, see above.
        unsafe {
            libc::signal(libc::SIGALRM, unpark as *const () as libc::sighandler_t);
            libc::alarm(1);
        }
        handle.join().unwrap();
        eprintln!("went on");
    });
    assert!(output.status.success(), "{text}");
    assert!(text.contains("went on"), "{text}");
    assert_eq!(text.matches("wait for each other").count(), 1, "{text}");
}

#[test]
fn no_report_while_a_timer_a_socket_or_a_job_is_pending() {
    let test = "no_report_while_a_timer_a_socket_or_a_job_is_pending";
    let (output, text) = in_child(test, || {
        aborting().run(|| {
            let forever = thread::spawn(|| {
                loop {
                    thread::park()
                }
            });
            let pause = Duration::from_millis(20);
            thread::sleep(pause);
            thread::park_timeout(pause);
            unblock(move || std::thread::sleep(pause));
            let (mut reader, writer) = support::connection();
            let peer = std::thread::spawn(move || {
                std::thread::sleep(pause);
                drop(writer);
            });
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            peer.join().unwrap();
            forever.cancel();
            assert!(forever.join().is_err());
        });
    });
    assert!(output.status.success(), "{:?} {text}", output.status);
    assert!(!text.contains("wait for each other"), "{text}");
}

#[test]
fn no_report_when_a_runtime_has_no_coroutines() {
    let test = "no_report_when_a_runtime_has_no_coroutines";
    let (output, text) = in_child(test, || {
        let runtime = aborting();
        for _ in 0..20 {
            runtime.run(|| thread::spawn(thread::yield_now).join().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(output.status.success(), "{:?} {text}", output.status);
    assert!(!text.contains("wait for each other"), "{text}");
}

// Workers that unpark each other over and over: one of the two always has something to do, though
// each falls silent again and again.
#[test]
fn no_report_while_workers_wake_each_other() {
    let test = "no_report_while_workers_wake_each_other";
    let (output, text) = in_child(test, || {
        let runtime = Builder::new().workers(2).abort_on_deadlock(true).build().unwrap();
        runtime.run(|| {
            for _ in 0..2000 {
                let me = thread::current();
                thread::spawn(move || me.unpark());
                thread::park();
            }
        });
    });
    assert!(output.status.success(), "{:?} {text}", output.status);
    assert!(!text.contains("wait for each other"), "{text}");
}

/// A coroutine that was counted but in no queue yet looked like one that nobody could wake.
#[test]
fn coroutines_on_their_way_to_a_worker_are_not_deadlocked() {
    for workers in [1, 2] {
        let builder = cosocket::Builder::new().workers(workers).abort_on_deadlock(true);
        let runtime = builder.build().unwrap();
        for round in 0..3000 {
            assert_eq!(runtime.run(|| round), round);
        }
    }
}
