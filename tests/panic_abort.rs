//! With `panic = "abort"` a cancel or a time limit ends I/O waits, by an error, and leaves other
//! waits alone.
//!
//! Cargo builds all tests with unwinding, so this builds a program of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "panic-abort"
version = "0.0.0"
edition = "2024"

[dependencies]
cosocket = { path = "CRATE" }

[profile.dev]
panic = "abort"

[workspace]
"#;

/// Each coroutine is cancelled while it waits; its result says how the wait ended.
const PROGRAM: &str = r#"
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use cosocket::sync::{Condvar, Mutex, RwLock};
use cosocket::{net::{TcpListener, TcpStream, ToSocketAddrs}, thread, time::timeout, unblock};

static MUTEX: Mutex<u32> = Mutex::new(0);
static LOCK: RwLock<u32> = RwLock::new(0);
static CONDVAR: Condvar = Condvar::new();

fn nap() -> bool {
    let start = Instant::now();
    thread::sleep(Duration::from_millis(50));
    start.elapsed() >= Duration::from_millis(50)
}

fn cancelled(f: impl FnOnce() -> bool + 'static) -> bool {
    let coroutine = thread::spawn_local(f);
    (0..1000).for_each(|_| thread::yield_now());
    coroutine.cancel();
    coroutine.join().unwrap()
}

fn limited<T>(f: impl FnOnce() -> T) -> T {
    timeout(Duration::from_millis(5), f).unwrap()
}

/// In a coroutine, and on the thread of `main`.
fn limits() {
    assert!(limited(nap), "sleep");
    assert!(limited(|| thread::spawn(nap).join().unwrap()), "join");
    assert!(limited(|| unblock(nap)), "unblock");
    assert!(limited(|| thread::scope(|scope| scope.spawn(nap).join().unwrap())), "scope");
    assert!(limited(|| thread::scope(|scope| { scope.spawn(nap); true })), "end of a scope");
    assert!(limited(|| {
        let start = Instant::now();
        let parked = thread::current();
        thread::spawn(move || (nap(), parked.unpark()));
        while start.elapsed() < Duration::from_millis(50) { thread::park(); }
        thread::yield_now();
        true
    }), "park");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = limited(|| listener.accept().map(drop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "accept");
    let past = Duration::ZERO;
    let error = timeout(past, || TcpStream::connect(listener.local_addr().unwrap())).unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut, "connect");
    let error = timeout(past, || "localhost:1".to_socket_addrs().map(drop)).unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut, "look-up");
}

fn main() {
    limits();
    cosocket::run(|| {
        limits();
        // Returned early.
        assert!(cancelled(nap), "sleep");
        // Ended the process.
        assert!(cancelled(|| thread::spawn(nap).join().unwrap()), "join");
        // Ended the process, with a message about threads.
        assert!(cancelled(|| unblock(nap)), "unblock");
        assert!(cancelled(|| thread::scope(|scope| scope.spawn(nap).join().unwrap())), "scope");
        // Locks: each has in the end what it waited for.
        assert!(cancelled(|| {
            let guard = MUTEX.lock().unwrap();
            let other = thread::spawn_local(|| *MUTEX.lock().unwrap() += 1);
            thread::yield_now();
            other.cancel();
            nap();
            drop(guard);
            other.join().is_ok() && *MUTEX.lock().unwrap() == 1
        }), "mutex");
        assert!(cancelled(|| {
            let guard = LOCK.write().unwrap();
            let other = thread::spawn_local(|| drop(LOCK.read().unwrap()));
            thread::yield_now();
            other.cancel();
            nap();
            drop(guard);
            other.join().is_ok()
        }), "read-write lock");
        assert!(cancelled(|| {
            let guard = MUTEX.lock().unwrap();
            CONDVAR.wait_timeout(guard, Duration::from_millis(50)).unwrap().1.timed_out()
        }), "condition variable");
        assert!(cancelled(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let error = listener.accept().unwrap_err();
            error.into_inner().is_some_and(|source| source.is::<cosocket::Cancelled>())
        }), "accept");
    });
}
"#;

#[test]
fn a_cancel_and_a_limit_end_io_waits_and_no_others() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-abort");
    let this_crate = env!("CARGO_MANIFEST_DIR");
    fs::create_dir_all(directory.join("src")).unwrap();
    fs::write(directory.join("Cargo.toml"), MANIFEST.replace("CRATE", this_crate)).unwrap();
    fs::write(directory.join("src/main.rs"), PROGRAM).unwrap();
    // What this crate's build needed is there already: nothing is fetched.
    fs::copy(Path::new(this_crate).join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline"])
        .current_dir(&directory)
        .env("CARGO_TARGET_DIR", directory.join("target"))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
