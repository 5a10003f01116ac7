//! Models of `src/mailbox.rs`: every interleaving of a few threads, with weak memory.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_wake`
#![cfg(loom)]
#![allow(unsafe_code)]

#[path = "../src/atomics.rs"]
mod atomics;
#[path = "../src/mailbox.rs"]
#[allow(dead_code)]
mod mailbox;

/// Stands in for the eventfd. A relaxed flag: the mailbox may expect no ordering from the bell.
mod doorbell {
    use loom::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug)]
    pub(crate) struct Doorbell(AtomicBool);

    impl Doorbell {
        pub(crate) fn new() -> Doorbell {
            Doorbell(AtomicBool::new(false))
        }

        pub(crate) fn ring(&self) {
            self.0.swap(true, Ordering::Relaxed);
        }

        /// A sleep that nothing but the bell ends. With a lost wake-up it never ends, and loom
        /// reports that a model takes too many steps.
        pub(crate) fn sleep(&self) {
            while !self.0.load(Ordering::Relaxed) {
                loom::thread::yield_now();
            }
            self.0.swap(false, Ordering::Relaxed);
        }
    }
}

mod loom_util;

use std::ptr::NonNull;
use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use doorbell::Doorbell;
use loom_util::{check, spawn};
use mailbox::{CANCELLED, Delivery, FINISHED, Mailbox, Outcome, Retired, Signals, UNPARKED, WOKEN};

/// One worker and one block, and what their users would keep beside them.
struct World {
    mailbox: Mailbox,
    signals: Signals,
    /// Plain data, published by nothing but the signals.
    data: [AtomicUsize; 2],
    /// How often somebody had to link the block.
    links: std::sync::atomic::AtomicUsize,
}

impl World {
    /// With the block occupied.
    fn new() -> (Arc<World>, u32) {
        let world = World {
            mailbox: Mailbox::new(0, Doorbell::new()),
            signals: Signals::new(),
            data: [AtomicUsize::new(0), AtomicUsize::new(0)],
            links: Default::default(),
        };
        let generation = world.signals.occupy();
        (Arc::new(world), generation)
    }

    /// What a waker does; true if the coroutine was still there.
    fn send(&self, generation: u32, bits: u32) -> bool {
        let outcome = self.signals.signal(generation, bits);
        if outcome == Outcome::MustLink {
            self.links.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // SAFETY: the world outlives its threads, and the answer was MustLink.
            unsafe { self.mailbox.push(NonNull::from(&self.signals)) };
        }
        outcome != Outcome::Stale
    }

    fn drain(&self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        self.mailbox.drain(|delivery| deliveries.push(delivery));
        assert!(deliveries.len() <= 1, "one block, linked twice");
        deliveries
    }

    /// The owner's loop: drains and sleeps until `done`, which is asked after each drain.
    fn run_until(&self, mut done: impl FnMut(&[Delivery]) -> bool) {
        while !done(&self.drain()) {
            if self.mailbox.prepare_sleep() {
                self.mailbox.doorbell().sleep();
                self.mailbox.wake_up();
            }
        }
    }
}

fn join(threads: [thread::JoinHandle<()>; 2]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn two_wakers_racing_with_a_worker_going_to_sleep_are_both_seen() {
    check(|| {
        let (world, generation) = World::new();
        world.signals.begin();
        let wakers = [0, 1].map(|i| {
            spawn(&world, move |world| {
                world.data[i].store(1, Ordering::Relaxed);
                assert!(world.send(generation, WOKEN));
            })
        });
        let mut deliveries = 0;
        world.run_until(|delivered| {
            assert!(delivered.iter().all(|d| d.bits == WOKEN && d.generation == generation));
            deliveries += delivered.len();
            world.data.iter().all(|data| data.load(Ordering::Relaxed) == 1)
        });
        join(wakers);
        deliveries += world.drain().len();
        let links = world.links.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(deliveries, links);
    });
}

/// A wake that meets the drain of the one before must link the block anew.
#[test]
fn a_block_can_be_linked_again_while_its_last_delivery_is_under_way() {
    check(|| {
        let (world, generation) = World::new();
        world.signals.begin();
        let waker = spawn(&world, move |world| {
            for data in &world.data {
                data.store(1, Ordering::Relaxed);
                assert!(world.send(generation, WOKEN));
            }
        });
        world.run_until(|_| world.data.iter().all(|data| data.load(Ordering::Relaxed) == 1));
        waker.join().unwrap();
    });
}

/// Several blocks in one inbox: none is dropped while it is turned round.
#[test]
fn blocks_of_two_coroutines_arrive_once_each() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(0, Doorbell::new()));
        let blocks = Arc::new([Signals::new(), Signals::new()]);
        let wakers = [0, 1].map(|i| {
            let generation = blocks[i].occupy();
            blocks[i].begin();
            let (mailbox, blocks) = (mailbox.clone(), blocks.clone());
            thread::spawn(move || {
                assert_eq!(blocks[i].signal(generation, WOKEN), Outcome::MustLink);
                // SAFETY: the blocks outlive the mailbox's use, and the answer was MustLink.
                unsafe { mailbox.push(NonNull::from(&blocks[i])) };
            })
        });
        let mut seen = [0, 0];
        loop {
            mailbox.drain(|delivery| {
                let is = |block| std::ptr::eq(delivery.signals.as_ptr(), block);
                seen[usize::from(is(&blocks[1]))] += 1;
            });
            if seen == [1, 1] {
                break;
            }
            if mailbox.prepare_sleep() {
                mailbox.doorbell().sleep();
                mailbox.wake_up();
            }
        }
        join(wakers);
        mailbox.drain(|_| panic!("delivered twice"));
    });
}

/// A block signalled again in mid-drain is relinked; the rest of the drain must not follow it.
#[test]
fn relinking_a_block_leaves_the_drain_its_list() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(0, Doorbell::new()));
        let blocks = Arc::new([Signals::new(), Signals::new()]);
        let link = |mailbox: &Mailbox, block: &Signals| {
            if block.signal(0, WOKEN) == Outcome::MustLink {
                // SAFETY: the blocks outlive the mailbox's use, and the answer was MustLink.
                unsafe { mailbox.push(NonNull::from(block)) };
            }
        };
        for block in blocks.iter() {
            block.occupy();
            block.begin();
            link(&mailbox, block);
        }
        let waker = thread::spawn({
            let (mailbox, blocks) = (mailbox.clone(), blocks.clone());
            move || link(&mailbox, &blocks[0])
        });
        let mut seen = Vec::new();
        mailbox.drain(|delivery| seen.push(delivery.signals.as_ptr().cast_const()));
        assert_eq!(seen, [std::ptr::from_ref(&blocks[0]), std::ptr::from_ref(&blocks[1])]);
        waker.join().unwrap();
    });
}

/// Two cancels of the old coroutine race with its end; its successor must not feel them.
#[test]
fn a_recycled_block_is_not_touched_by_signals_of_the_generation_before() {
    check(|| {
        let (world, old) = World::new();
        world.signals.begin();
        let wakers = [0, 1].map(|_| {
            spawn(&world, move |world| {
                world.send(old, CANCELLED | WOKEN);
            })
        });
        if world.signals.retire() == Retired::StillLinked {
            world.run_until(|delivered| delivered.iter().any(|d| d.bits == FINISHED));
        }
        let new = world.signals.occupy();
        assert_ne!(new, old);
        assert_eq!(world.signals.begin(), 0);
        join(wakers);
        assert!(!world.signals.is_cancelled());
        assert!(world.drain().is_empty());
        assert!(world.send(new, WOKEN), "the new coroutine can be reached");
        assert_eq!(world.drain()[0].generation, new);
    });
}

#[test]
fn a_cancel_that_races_with_the_start_is_seen() {
    check(|| {
        let (world, generation) = World::new();
        let canceller = spawn(&world, move |world| {
            world.data[0].store(1, Ordering::Relaxed);
            assert!(world.send(generation, CANCELLED));
        });
        // What tells wakers the worker is written before `begin`.
        let early = world.signals.begin() & CANCELLED != 0;
        world.run_until(|delivered| early || delivered.iter().any(|d| d.bits & CANCELLED != 0));
        assert!(world.signals.is_cancelled());
        assert_eq!(world.data[0].load(Ordering::Relaxed), 1);
        canceller.join().unwrap();
        assert!(world.signals.is_cancelled(), "sticky");
    });
}

/// Whoever must link the block reads the worker's address out of it.
#[test]
fn the_worker_is_known_to_whoever_must_link() {
    check(|| {
        let (world, generation) = World::new();
        let waker = spawn(&world, move |world| {
            let outcome = world.signals.signal(generation, WOKEN);
            if outcome == Outcome::MustLink {
                assert_eq!(world.data[0].load(Ordering::Relaxed), 7);
                // SAFETY: the world outlives its threads, and the answer was MustLink.
                unsafe { world.mailbox.push(NonNull::from(&world.signals)) };
            }
        });
        world.data[0].store(7, Ordering::Relaxed);
        world.signals.begin();
        waker.join().unwrap();
    });
}

#[test]
fn park_returns_after_an_unpark_that_races_with_it() {
    check(|| {
        let (world, generation) = World::new();
        world.signals.begin();
        let unparker = spawn(&world, move |world| {
            world.data[0].store(1, Ordering::Relaxed);
            assert!(world.send(generation, UNPARKED));
        });
        world.run_until(|_| world.signals.take_unparked());
        assert_eq!(world.data[0].load(Ordering::Relaxed), 1);
        unparker.join().unwrap();
        assert!(!world.signals.take_unparked());
    });
}

/// The token may be found without a look into the inbox; it carries its own ordering.
#[test]
fn the_token_shows_what_was_done_before_the_unpark() {
    check(|| {
        let (world, generation) = World::new();
        world.signals.begin();
        let unparker = spawn(&world, move |world| {
            world.data[0].store(1, Ordering::Relaxed);
            assert!(world.send(generation, UNPARKED));
        });
        if world.signals.take_unparked() {
            assert_eq!(world.data[0].load(Ordering::Relaxed), 1);
        }
        unparker.join().unwrap();
    });
}

#[test]
fn two_unparks_before_the_park_are_one_token() {
    check(|| {
        let (world, generation) = World::new();
        let early = spawn(&world, move |world| {
            assert!(world.send(generation, UNPARKED));
        });
        world.signals.begin();
        early.join().unwrap();
        assert!(world.send(generation, UNPARKED));
        assert!(world.signals.take_unparked(), "park returns at once");
        assert!(!world.signals.take_unparked(), "and the next one waits");
    });
}

/// A cancel and an unpark together: the token is consumed, the cancel stays.
#[test]
fn taking_the_token_leaves_a_cancel_that_comes_at_the_same_time() {
    check(|| {
        let (world, generation) = World::new();
        world.signals.begin();
        let senders = [CANCELLED, UNPARKED]
            .map(|bits| spawn(&world, move |world| assert!(world.send(generation, bits))));
        world.run_until(|_| world.signals.take_unparked());
        join(senders);
        assert!(world.signals.is_cancelled());
    });
}

/// The doorbell costs a system call, so only a sleeper's first caller rings it.
#[test]
fn an_awake_worker_is_not_rung() {
    loom::model(|| {
        let mailbox = Mailbox::new(0, Doorbell::new());
        mailbox.ring();
        assert!(mailbox.prepare_sleep(), "a ring without mail keeps nobody awake");
        mailbox.ring();
        mailbox.doorbell().sleep();
        mailbox.wake_up();
    });
}
