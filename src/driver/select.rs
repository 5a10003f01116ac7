//! Which driver a worker gets, and the one enum through which it is reached.

use std::io;
use std::os::fd::AsFd;

use super::arm_slot::ArmSlot;
use super::epoll::Epoll;
use super::uring::Uring;
use super::{OpSlot, Refused, Wait};
use crate::clock::{self, Nanos};
use crate::coroutine::Coroutine;
use crate::mailbox::Mailbox;

/// Which kernel interface workers wait on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// io_uring where the kernel (Linux 6.1 or later) allows it and it passes a self-test, else
    /// epoll. [`Runtime::driver`](crate::Runtime::driver) tells which.
    #[default]
    Auto,
    /// io_uring, or an error of [`build`](crate::Builder::build) that says why not.
    IoUring,
    /// epoll, which works everywhere.
    Epoll,
}

impl Choice {
    /// What `COSOCKET_DRIVER` says; `Auto` when it is not set.
    pub(crate) fn from_environment() -> io::Result<Choice> {
        match std::env::var("COSOCKET_DRIVER").as_deref() {
            Err(_) | Ok("" | "auto") => Ok(Choice::Auto),
            Ok("io_uring") => Ok(Choice::IoUring),
            Ok("epoll") => Ok(Choice::Epoll),
            Ok(other) => {
                let message =
                    format!("COSOCKET_DRIVER is {other:?}; it takes io_uring, epoll or auto");
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// A worker's driver: a branch that always goes the same way, in place of a table of functions.
/// A simulated one would be a third variant.
pub(crate) enum Driver {
    Uring(Box<Uring>),
    /// With the reason why it is not the ring, where that was tried.
    Epoll(Box<Epoll>, Option<Refused>),
}

impl Driver {
    /// Opens the driver of the calling thread.
    pub(crate) fn open(
        choice: Choice,
        ring_entries: u32,
        mailbox: &'static Mailbox,
    ) -> io::Result<Driver> {
        let refused = match choice {
            Choice::Epoll => None,
            Choice::Auto | Choice::IoUring => {
                match Uring::open(ring_entries, mailbox.doorbell().as_fd()) {
                    Ok(ring) => return Ok(Driver::Uring(Box::new(ring))),
                    Err(refused) if choice == Choice::IoUring => return Err(refused.into()),
                    Err(refused) => Some(refused),
                }
            }
        };
        Ok(Driver::Epoll(Box::new(Epoll::open(mailbox)?), refused))
    }

    /// One turn: hand over what is staged, wait if told to, tell who can go on. Under epoll that
    /// may be another worker's coroutine: a descriptor is in the epoll of every worker that ever
    /// waited on it, and the first to look takes the waiter.
    pub(crate) fn turn(&self, wait: Wait, mut ready: impl FnMut(&'static Coroutine)) {
        match self {
            Driver::Uring(ring) => {
                // SAFETY: what a worker's ring reports was started by one of its coroutines.
                ring.turn(wait, &mut |slot| ready(unsafe { owner(slot) }));
            }
            Driver::Epoll(epoll, _) => {
                epoll.turn(wait, &mut |waiter| {
                    // SAFETY: what parks on readiness are control blocks, never freed.
                    ready(unsafe { &*waiter.cast::<Coroutine>() });
                });
            }
        }
    }

    /// The time by which this driver's timeouts run. All that coroutines wait for is reckoned from
    /// it, so that a simulated driver can have a clock of its own.
    pub(crate) fn now(&self) -> Nanos {
        match self {
            Driver::Uring(_) | Driver::Epoll(..) => clock::now(),
        }
    }

    pub(crate) fn system_calls(&self) -> u64 {
        match self {
            Driver::Uring(ring) => ring.system_calls(),
            Driver::Epoll(epoll, _) => epoll.system_calls(),
        }
    }

    /// For people: `io_uring`, or `epoll (io_uring refused: ...)`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Driver::Uring(_) => "io_uring".into(),
            Driver::Epoll(_, None) => "epoll".into(),
            Driver::Epoll(_, Some(refused)) => format!("epoll (io_uring refused: {refused})"),
        }
    }
}

/// Whose operation it is.
///
/// # Safety
///
/// The slot is a control block's, or that of an arm which is taken.
unsafe fn owner(slot: *const OpSlot) -> &'static Coroutine {
    // SAFETY: neither kind of slot is ever freed, and neither are control blocks.
    unsafe {
        if (*slot).is_of_arm { &*(*ArmSlot::of_op(slot)).owner() } else { &*Coroutine::of_op(slot) }
    }
}
