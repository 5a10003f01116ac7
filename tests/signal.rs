//! `signal::ctrl_c` waits for SIGINT, in coroutines and on plain threads.

#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use cosocket::{Cancelled, signal, thread};

/// How often the handler was called that was there before `ctrl_c`'s.
static CHAINED: AtomicUsize = AtomicUsize::new(0);
/// How often SIGINT was raised.
static RAISED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    CHAINED.fetch_add(1, SeqCst);
}

/// Signals are the whole process's, so one test at a time. The counting handler comes first: it
/// is what the first `ctrl_c` finds, and it keeps SIGINT from ending the process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static COUNTING: Once = Once::new();
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    COUNTING.call_once(|| {
        let handler: extern "C" fn(libc::c_int) = count;
        // SAFETY: the handler only touches an atomic.
        let before = unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
    });
    guard
}

fn interrupt() {
    RAISED.fetch_add(1, SeqCst);
    // SAFETY: SIGINT has a handler in every test here. It has run when this returns.
    assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
}

/// Signals that come before a waiter waits do not count, so they are raised until all have gone.
fn interrupt_until(all_done: impl Fn() -> bool) {
    while !all_done() {
        interrupt();
        std::thread::yield_now();
    }
}

#[test]
fn one_signal_wakes_coroutines_and_threads_alike() {
    let _alone = alone();
    let runtime = cosocket::Builder::new().build().unwrap();
    let coroutines: Vec<_> = (0..5).map(|_| runtime.spawn(signal::ctrl_c)).collect();
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(signal::ctrl_c)).collect();
    interrupt_until(|| {
        coroutines.iter().all(|coroutine| coroutine.is_finished())
            && threads.iter().all(|thread| thread.is_finished())
    });
    let coroutines = coroutines.into_iter().map(thread::JoinHandle::join);
    let threads = threads.into_iter().map(std::thread::JoinHandle::join);
    for result in coroutines.chain(threads) {
        result.unwrap().unwrap();
    }
}

#[test]
fn all_waiters_of_one_worker_go_on_after_a_single_signal() {
    let _alone = alone();
    cosocket::run(|| {
        let waiters: Vec<_> = (0..3).map(|_| thread::spawn_local(signal::ctrl_c)).collect();
        yield_often();
        interrupt();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap().unwrap());
    });
}

#[test]
fn each_call_waits_for_a_signal_of_its_own() {
    let _alone = alone();
    cosocket::run(|| {
        for _ in 0..5 {
            let waiter = thread::spawn_local(signal::ctrl_c);
            yield_often();
            assert!(!waiter.is_finished(), "an earlier signal was taken for a new one");
            interrupt();
            waiter.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_cancel_ends_the_wait_and_leaves_the_signal_to_others() {
    let _alone = alone();
    cosocket::run(|| {
        let (cancelled, other) =
            (thread::spawn_local(signal::ctrl_c), thread::spawn_local(signal::ctrl_c));
        yield_often();
        cancelled.cancel();
        assert!(cancelled.join().unwrap_err().is::<Cancelled>());
        yield_often();
        assert!(!other.is_finished());
        interrupt();
        other.join().unwrap().unwrap();
    });
}

#[test]
fn the_handler_that_was_there_before_is_still_called() -> io::Result<()> {
    let _alone = alone();
    let waiter = thread::spawn(signal::ctrl_c);
    interrupt_until(|| waiter.is_finished());
    waiter.join().unwrap()?;
    assert_eq!(CHAINED.load(SeqCst), RAISED.load(SeqCst));
    Ok(())
}

/// Long enough for several turns of the worker's loop: whoever can go on has gone on.
fn yield_often() {
    (0..1000).for_each(|_| thread::yield_now());
}
