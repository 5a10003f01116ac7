//! The driver alone, on real sockets: no worker, no coroutine.
//!
//! Slots and buffers are leaked, as the contract wants: a test that fails must not pull them
//! from under the kernel.

mod cancel;
mod operations;
mod pressure;
mod refused;
mod waiting;

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::ring::{LADDER, Setup};
use super::{Capabilities, Uring, probe};
use crate::driver::op::Op;
use crate::driver::{Completion, OpSlot, OpState, Wait};

/// A driver with its doorbell, and the slots it has reported.
pub(super) struct Bench {
    pub(super) uring: Uring,
    pub(super) doorbell: OwnedFd,
}

impl Bench {
    /// As a worker opens it.
    pub(super) fn open(entries: u32) -> Bench {
        let doorbell = eventfd();
        let uring = Uring::open(entries, doorbell.as_fd()).expect("a ring on this machine");
        Bench { uring, doorbell }
    }

    /// With exact sizes and flags.
    pub(super) fn exact(setup: Setup, entries: u32, completions: u32) -> Bench {
        let doorbell = eventfd();
        let ring = probe::climb(entries, completions, &[setup]).expect("a ring of this kind");
        let capabilities = probe::examine(&ring).expect("a ring that works");
        let uring = Uring::over(ring, capabilities, doorbell.as_fd()).unwrap();
        Bench { uring, doorbell }
    }

    /// With what the newest kernels add left out.
    pub(super) fn without_capabilities(entries: u32) -> Bench {
        let doorbell = eventfd();
        let ring = probe::climb(entries, entries * 8, &LADDER).unwrap();
        let uring = Uring::over(ring, Capabilities::default(), doorbell.as_fd()).unwrap();
        Bench { uring, doorbell }
    }

    pub(super) fn start(&self, op: Op) -> &'static OpSlot {
        let slot = slot();
        self.restart(slot, op);
        slot
    }

    pub(super) fn restart(&self, slot: &'static OpSlot, op: Op) {
        // SAFETY: slots and buffers are leaked; the tests keep descriptors open until the end.
        unsafe { self.uring.start(slot, &op) };
    }

    pub(super) fn cancel(&self, slot: &'static OpSlot) {
        // SAFETY: the slot is leaked and belongs to this driver.
        unsafe { self.uring.cancel(slot) };
    }

    /// One turn; tells which slots it reported.
    pub(super) fn turn(&self, wait: Wait) -> Vec<*const OpSlot> {
        let mut reported = Vec::new();
        self.uring.turn(wait, &mut |slot| {
            // SAFETY: the slots of the tests are leaked.
            assert_eq!(unsafe { &(*slot).state }.get(), OpState::Done);
            reported.push(slot);
        });
        reported
    }

    /// Turns until the slot is done.
    pub(super) fn finish(&self, slot: &'static OpSlot) -> Completion {
        loop {
            if let Some(completion) = slot.take() {
                return completion;
            }
            self.turn(Wait::Forever);
        }
    }

    pub(super) fn run(&self, op: Op) -> i32 {
        self.finish(self.start(op)).result
    }

    pub(super) fn finish_all(&self) -> usize {
        let mut reported = 0;
        while self.uring.in_flight() > 0 {
            reported += self.turn(Wait::Forever).len();
        }
        reported
    }

    pub(super) fn ring(&self) {
        probe::ring_bell(&self.doorbell);
    }
}

pub(super) fn slot() -> &'static OpSlot {
    Box::leak(Box::new(OpSlot::new()))
}

pub(super) fn buffer(len: usize) -> &'static mut [u8] {
    Vec::leak(vec![0; len])
}

pub(super) fn recv(socket: &impl AsRawFd, buffer: &mut [u8]) -> Op {
    Op::Recv { fd: socket.as_raw_fd(), buffer: buffer.as_mut_ptr(), len: buffer.len(), flags: 0 }
}

pub(super) fn send(socket: &impl AsRawFd, bytes: &'static [u8]) -> Op {
    Op::Send { fd: socket.as_raw_fd(), buffer: bytes.as_ptr(), len: bytes.len() }
}

pub(super) fn unix_pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

pub(super) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    (near, far)
}

pub(super) fn eventfd() -> OwnedFd {
    // SAFETY: the call takes no pointers, and its result is a new descriptor.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// A small generator of repeatable numbers (splitmix64).
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}
