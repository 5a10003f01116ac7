//! Models of `src/driver/readiness.rs`: edges from one thread, attempts and waits on another.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_readiness`
#![cfg(loom)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/driver/readiness.rs"]
#[allow(dead_code)]
mod readiness;

mod loom_util;

use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use loom_util::check;
use readiness::{Edge, Readiness};

const READER: *const () = std::ptr::without_provenance(64);

struct World {
    readiness: Readiness,
    /// Bytes in the socket's buffer. Relaxed: only readiness tells of them.
    buffered: AtomicUsize,
    woken: AtomicBool,
    /// What the reader writes before it waits, and whoever wakes it reads: its control block.
    block: AtomicBool,
    /// Whether the one arm there is watches: the list of `src/driver/watch.rs`.
    watching: Mutex<bool>,
    arm_woken: AtomicBool,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            readiness: Readiness::new(),
            buffered: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            block: AtomicBool::new(false),
            watching: Mutex::new(false),
            arm_woken: AtomicBool::new(false),
        })
    }

    /// The kernel gets a byte, and a worker's turn gets the edge.
    fn deliver(&self, edge: Edge) {
        self.buffered.fetch_add(1, Ordering::Relaxed);
        if let Some(waiter) = self.readiness.event(edge) {
            assert_eq!(waiter, READER);
            assert!(self.block.load(Ordering::Relaxed), "woken before it is known to wait");
            self.woken.swap(true, Ordering::Relaxed);
        }
        if self.readiness.is_watched() {
            let mut watching = self.watching.lock().unwrap();
            if std::mem::take(&mut *watching) {
                self.arm_woken.swap(true, Ordering::Relaxed);
            }
            self.readiness.unwatch();
        }
    }

    /// An arm waits until there is a byte, and leaves it where it is.
    fn wait_by_arm(&self) {
        loop {
            let snapshot = self.readiness.snapshot();
            if self.buffered.load(Ordering::Relaxed) > 0 {
                return;
            }
            let mut watching = self.watching.lock().unwrap();
            *watching = self.readiness.watch(snapshot);
            let suspends = *watching;
            drop(watching);
            while suspends && !self.arm_woken.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            self.arm_woken.swap(false, Ordering::Relaxed);
        }
    }

    /// A system call that reads up to `len` bytes, none if it would have to wait. A plain load
    /// first: nothing but the word's ordering makes a byte visible.
    fn attempt(&self, len: usize) -> usize {
        let seen = self.buffered.load(Ordering::Relaxed).min(len);
        self.buffered.fetch_sub(seen, Ordering::Relaxed);
        seen
    }

    /// A coroutine's `read` of up to `len` bytes.
    fn read(&self, len: usize) -> usize {
        loop {
            let snapshot = self.readiness.snapshot();
            if snapshot.is_ready() {
                let count = self.attempt(len);
                if 0 < count && count < len {
                    self.readiness.clear(snapshot);
                }
                if count > 0 {
                    return count;
                }
            }
            self.block.store(true, Ordering::Relaxed);
            if self.readiness.park(snapshot, READER) {
                self.sleep();
                self.readiness.unpark(READER);
            }
        }
    }

    /// Ends only when the waiter is woken; loom reports a model in which that never happens.
    fn sleep(&self) {
        while !self.woken.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        self.woken.swap(false, Ordering::Relaxed);
    }
}

#[test]
fn an_edge_that_races_with_the_wait_is_not_lost() {
    check(|| {
        let world = World::new();
        let kernel = thread::spawn({
            let world = world.clone();
            move || world.deliver(Edge::Ready)
        });
        assert_eq!(world.read(4), 1);
        kernel.join().unwrap();
    });
}

/// The second edge may come between a short read and the `clear` that it leads to.
#[test]
fn an_edge_that_races_with_a_short_read_is_not_lost() {
    check(|| {
        let world = World::new();
        let kernel = thread::spawn({
            let world = world.clone();
            move || {
                world.deliver(Edge::Ready);
                world.deliver(Edge::Ready);
            }
        });
        let mut bytes = 0;
        while bytes < 2 {
            bytes += world.read(4);
        }
        kernel.join().unwrap();
        assert_eq!(bytes, 2);
    });
}

/// The descriptor is in two workers' epolls, and each reports an edge of its own.
#[test]
fn edges_from_two_workers_are_not_lost() {
    check(|| {
        let world = World::new();
        let kernels = [Edge::Ready, Edge::Closed].map(|edge| {
            let world = world.clone();
            thread::spawn(move || world.deliver(edge))
        });
        let mut bytes = 0;
        while bytes < 2 {
            bytes += world.read(4);
        }
        for kernel in kernels {
            kernel.join().unwrap();
        }
    });
}

#[test]
fn a_waiter_is_taken_by_the_event_or_by_its_own_timeout() {
    check(|| {
        let world = World::new();
        let snapshot = world.readiness.snapshot();
        assert!(world.readiness.park(snapshot, READER));
        let kernel = thread::spawn({
            let world = world.clone();
            move || world.readiness.event(Edge::Ready).is_some()
        });
        let timed_out = world.readiness.unpark(READER);
        assert_ne!(timed_out, kernel.join().unwrap());
        assert!(world.readiness.snapshot().is_ready(), "the edge stays for the next read");
    });
}

/// Whichever of two workers' turns comes first takes the arm.
#[test]
fn an_arm_that_races_with_edges_is_not_lost() {
    check(|| {
        let world = World::new();
        let kernels = [Edge::Ready, Edge::Closed].map(|edge| {
            let world = world.clone();
            thread::spawn(move || world.deliver(edge))
        });
        world.wait_by_arm();
        for kernel in kernels {
            kernel.join().unwrap();
        }
    });
}

/// One edge tells both: neither the park nor the watch undoes the other.
#[test]
fn an_arm_and_a_reader_are_both_told() {
    check(|| {
        let world = World::new();
        let snapshot = world.readiness.snapshot();
        world.block.store(true, Ordering::Relaxed);
        let parked = world.readiness.park(snapshot, READER);
        assert!(parked);
        let kernel = thread::spawn({
            let world = world.clone();
            move || world.deliver(Edge::Ready)
        });
        world.wait_by_arm();
        kernel.join().unwrap();
        assert!(world.woken.load(Ordering::Relaxed));
    });
}
