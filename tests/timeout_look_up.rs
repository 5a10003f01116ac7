//! A name look-up inside a `timeout` is cut, with an error. The pool is the process's, and all of
//! it is made busy, so this is a program of its own.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use cosocket::net::{TcpStream, ToSocketAddrs};
use cosocket::time::timeout;
use cosocket::{run, shield, spawn, unblock};

/// As many as the pool has threads.
const JOBS: usize = 64;

#[test]
fn a_look_up_that_gets_no_answer_is_cut() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    run(move || {
        let abandoned = (0..JOBS).map(|_| {
            let gate = Arc::clone(&gate);
            let job = move || gate.lock().unwrap_or_else(PoisonError::into_inner).recv().is_err();
            spawn(move || timeout(Duration::ZERO, || unblock(job)).unwrap_err())
        });
        let abandoned: Vec<_> = abandoned.collect();
        abandoned.into_iter().for_each(|job| _ = job.join().unwrap());
    });
    let look_up = || {
        let short = Duration::from_millis(3);
        let error = timeout(short, || "localhost:80".to_socket_addrs().map(drop)).unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        let error = timeout(short, || TcpStream::connect("localhost:80")).unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        let error = timeout(short, || shield(|| "localhost:80".to_socket_addrs().map(drop)));
        assert_eq!(error.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    };
    run(look_up);
    look_up();
    drop(open);
    run(|| timeout(Duration::MAX, || "localhost:80".to_socket_addrs()).unwrap().unwrap());
}
