//! A write to a closed connection is an error, and never the signal that ends the process.
//!
//! Rust programs ignore SIGPIPE, so this one takes that back first; it is alone in its process.

#![allow(unsafe_code)]

mod socket_util;

use std::io::{ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::time::Duration;

use cosocket::net::TcpStream;
use socket_util::{everywhere, pair, spawn_waiting};

type Call = fn(&TcpStream, &[u8]) -> std::io::Result<usize>;

const CALLS: [Call; 2] = [
    |mut socket, data| socket.write(data),
    |mut socket, data| socket.write_vectored(&[IoSlice::new(data), IoSlice::new(data)]),
];

fn until_error(socket: &TcpStream, call: Call, data: &[u8]) -> ErrorKind {
    loop {
        if let Err(error) = call(socket, data) {
            return error.kind();
        }
    }
}

#[test]
fn no_write_raises_sigpipe() {
    // SAFETY: the default action is restored; no handler of ours is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    for call in CALLS {
        everywhere(|| {
            let (socket, peer) = pair();
            drop(peer);
            assert_eq!(until_error(&socket, call, b"x"), ErrorKind::BrokenPipe);
            socket.set_nonblocking(true).unwrap();
            assert_eq!(until_error(&socket, call, b"x"), ErrorKind::BrokenPipe);
            let (socket, _peer) = pair();
            socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(until_error(&socket, call, b"x"), ErrorKind::BrokenPipe);
        });
        // A write that waits in the driver when the end comes.
        cosocket::run(move || {
            let (socket, _peer) = pair();
            socket.set_write_timeout(Some(Duration::from_millis(2))).unwrap();
            assert_eq!(until_error(&socket, call, &[0; 65536]), ErrorKind::TimedOut);
            socket.set_write_timeout(None).unwrap();
            let clone = socket.try_clone().unwrap();
            let writer = spawn_waiting(move || until_error(&clone, call, &[0; 65536]));
            assert!(!writer.is_finished());
            socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        });
    }
    // The check can fail: without the flag the signal does end a process.
    // SAFETY: the child makes plain system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut pipe = [0; 2];
        // SAFETY: plain system calls in a forked child; the array has room for two descriptors.
        unsafe {
            libc::pipe(pipe.as_mut_ptr());
            libc::close(pipe[0]);
            libc::write(pipe[1], [0_u8].as_ptr().cast(), 1);
            libc::_exit(0);
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and `status` lives through the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGPIPE);
}
