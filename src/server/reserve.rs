//! A descriptor kept for when there is none left.
//!
//! A connection can neither be served nor refused without a descriptor, and stays in the queue,
//! whose listener is readable all the time. So one is kept back (libuv's remedy):
//!
//! ```text
//!   EMFILE --> close the reserve --> accept, close --> nobody there, or enough --> open it again
//!                                      ^     |
//!                                      `-----'
//! ```
//!
//! Another thread may take the number while it is free: another acceptor, say, whose connection is
//! then served after all. There is no reserve until one can be had, and connections wait in the
//! queue meanwhile.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::listener::Listener;

/// So many connections are closed before the acceptor pauses.
const ROUND: u64 = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve(Mutex<Option<File>>);

impl Reserve {
    pub(super) fn new() -> io::Result<Reserve> {
        Ok(Reserve(Mutex::new(Some(open()?))))
    }

    /// Closes connections that wait to be accepted, and returns how many.
    pub(super) fn shed(&self, listener: &Listener) -> u64 {
        // Nothing in here waits or gives way, and nothing panics.
        let mut reserve = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(reserve.take());
        let mut closed = 0;
        while closed < ROUND && listener.turn_away().is_ok() {
            closed += 1;
        }
        *reserve = open().ok();
        closed
    }

    /// There are descriptors again.
    pub(super) fn refill(&self) {
        let mut reserve = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reserve.is_none() {
            *reserve = open().ok();
        }
    }
}

fn open() -> io::Result<File> {
    File::open("/dev/null")
}
