//! What the scheduler's tests share.

// Each test program uses a part of it.
#![allow(dead_code)]

pub mod cosockets;
pub mod ledger;

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, Cancelled, LocalJoinHandle, spawn_local, thread};

/// Runs `f` on a runtime with so many workers, whatever the environment says.
pub fn on_workers<T: Send>(workers: usize, f: impl FnOnce() -> T + Send) -> T {
    Builder::new().workers(workers).build().unwrap().run(f)
}

/// Lets others run until `condition` holds.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Spawns a coroutine here and returns when it is in its first wait. That is certain: it shares
/// our worker, so we run again only when it has given way.
pub fn suspended<T: 'static>(f: impl FnOnce() -> T + 'static) -> LocalJoinHandle<T> {
    let started = Rc::new(Cell::new(false));
    let flag = Rc::clone(&started);
    let handle = spawn_local(move || {
        flag.set(true);
        f()
    });
    until(|| started.get());
    handle
}

/// Counts its drops.
#[derive(Clone, Default)]
pub struct Drops(Arc<AtomicUsize>);

/// One to be counted.
pub struct Counted(Drops);

impl Drops {
    pub fn counted(&self) -> Counted {
        Counted(self.clone())
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.0).0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Calls the closure when dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Two ends of a TCP connection.
pub fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// Writes until the connection takes no more; how much it took.
pub fn fill(mut stream: &TcpStream) -> usize {
    let mut written = 0;
    stream.set_nonblocking(true).unwrap();
    loop {
        match io::Write::write(&mut stream, &[7; 65536]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    written
}

/// What a `join` returned of a coroutine that must have been cancelled.
#[track_caller]
pub fn assert_cancelled<T>(joined: thread::Result<T>) {
    match joined {
        Ok(_) => panic!("the coroutine was not cancelled"),
        Err(payload) => assert!(payload.is::<Cancelled>(), "panicked: {}", message(&*payload)),
    }
}

/// Cancels a coroutine that is in `wait`, and checks that it was unwound, once.
#[track_caller]
pub fn assert_cancel_ends(wait: impl FnOnce() + 'static) {
    let drops = Drops::default();
    let counted = drops.counted();
    let returned = Rc::new(Cell::new(false));
    let flag = Rc::clone(&returned);
    let handle = suspended(move || {
        let _counted = counted;
        wait();
        flag.set(true);
    });
    assert!(!handle.is_finished(), "it does not wait");
    handle.cancel();
    assert_cancelled(handle.join());
    assert_eq!(drops.count(), 1);
    assert!(!returned.get());
}

/// The words of a panic.
pub fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("(no text)")
}

/// Panics without the hook's noise.
pub fn panic_quietly(payload: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(payload))
}
