//! Takes connections out of a listener's queue, whatever happens there.
//!
//! ```text
//!            .--> a permit, if connections wait for one
//!            |      |
//!            |    accept ----> a connection: to the service
//!            |      |--------> nobody: wait for somebody      (the permit goes back meanwhile)
//!            |      |--------> one connection's error: next
//!            |      |--------> no descriptor: close those who wait, pause
//!            |      |--------> no memory: pause
//!            '------'--------> the listener's end: so is ours
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::accept_error::Remedy;
use super::event::Event;
use super::listener::Listener;
use super::service::Service;
use crate::Address;
use crate::thread;

/// A pause doubles from here on, for as long as it is one after the other,
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// So many lost connections in a row are a reason to pause.
const SKIPS_IN_A_ROW: u32 = 64;

/// Whether the descriptors are exhausted, and what it has cost: one for all acceptors.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    is_on: AtomicBool,
    closed: AtomicU64,
}

/// One of those who accept at a listener.
pub(super) struct Acceptor {
    pub(super) listener: Listener,
    pub(super) address: Arc<Address>,
    pub(super) service: Arc<Service>,
    pub(super) shortage: Arc<Shortage>,
}

/// How things went lately.
struct Trouble {
    pause: Duration,
    skips: u32,
}

impl Trouble {
    fn none() -> Trouble {
        Trouble { pause: FIRST_PAUSE, skips: 0 }
    }

    fn pause(&mut self) {
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Acceptor {
    /// Until the listener is broken, or this is cancelled.
    pub(super) fn run(&self) -> io::Error {
        self.accept_while(usize::MAX, |listener| listener.wait(None).map(|()| true))
    }

    /// Until nobody is left of those who wait in the queue now. While these are served others come,
    /// and if they were served too this might never end.
    pub(super) fn run_queue(&self) {
        let _ = self.accept_while(self.listener.queue_len(), |_| Ok(false));
    }

    /// Accepts `most` connections; `wait` says, when nobody is there, whether to go on.
    fn accept_while(&self, most: usize, wait: impl Fn(&Listener) -> io::Result<bool>) -> io::Error {
        let mut trouble = Trouble::none();
        let (mut accepted, mut in_a_row) = (0, 0);
        loop {
            if accepted == most {
                return io::ErrorKind::WouldBlock.into();
            }
            let permit = self.service.permit();
            let error = match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.end_shortage();
                    trouble = Trouble::none();
                    accepted += 1;
                    self.service.admit(stream, peer, &self.address, permit);
                    in_a_row += 1;
                    if in_a_row >= self.service.accept_batch {
                        in_a_row = 0;
                        thread::yield_now();
                    }
                    continue;
                }
                Err(error) => error,
            };
            drop(permit);
            in_a_row = 0;
            match Remedy::of(&error) {
                Remedy::Wait => match wait(&self.listener) {
                    Ok(true) => {}
                    Ok(false) => return error,
                    Err(error) => return error,
                },
                Remedy::Skip => self.skip(&error, &mut trouble),
                Remedy::Shed => self.shed(&error, &mut trouble),
                Remedy::Pause => {
                    self.service.observer.tell(&Event::Paused { error: &error });
                    trouble.pause();
                }
                Remedy::GiveUp => return error,
            }
        }
    }

    /// A connection was lost before it was ours. If that is all that ever comes, it is no
    /// connection's fault.
    fn skip(&self, error: &io::Error, trouble: &mut Trouble) {
        trouble.skips += 1;
        if trouble.skips >= SKIPS_IN_A_ROW {
            trouble.skips = 0;
            self.service.observer.tell(&Event::Paused { error });
            trouble.pause();
        }
    }

    fn shed(&self, error: &io::Error, trouble: &mut Trouble) {
        if !self.shortage.is_on.swap(true, Ordering::Relaxed) {
            self.service.observer.tell(&Event::OutOfDescriptors { error });
        }
        let closed = self.service.reserve.shed(&self.listener);
        self.shortage.closed.fetch_add(closed, Ordering::Relaxed);
        trouble.pause();
    }

    fn end_shortage(&self) {
        let shortage = &self.shortage;
        if shortage.is_on.load(Ordering::Relaxed) && shortage.is_on.swap(false, Ordering::Relaxed) {
            self.service.reserve.refill();
            let closed = shortage.closed.swap(0, Ordering::Relaxed);
            self.service.observer.tell(&Event::DescriptorsBack { closed });
        }
    }
}
