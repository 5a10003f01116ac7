//! Models of `src/sync/semaphore/permits.rs`: permits taken and given back with and without the
//! queue's lock.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_semaphore`
#![cfg(loom)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/sync/semaphore/permits.rs"]
#[allow(dead_code)]
mod permits;

mod loom_util;

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

use loom_util::{check, spawn};
use permits::{Frozen, Permits, Refused};

/// A semaphore whose queue is a list of requests, and data of which one permit is the lock.
struct World {
    permits: Permits,
    queue: Mutex<Queue>,
    woken: Condvar,
    /// Relaxed: only the permits order what is done here.
    data: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    /// What each one wants, the longest waiting first; and who it is.
    requests: VecDeque<(u64, usize)>,
    granted: Vec<usize>,
    refused: Vec<usize>,
}

impl World {
    fn new(permits: u64) -> Arc<World> {
        Arc::new(World {
            permits: Permits::new(permits),
            queue: Mutex::default(),
            woken: Condvar::new(),
            data: AtomicUsize::new(0),
        })
    }

    /// As `Semaphore::take_ever`.
    fn take(&self, name: usize, wanted: u64) -> bool {
        match self.permits.try_take(wanted) {
            Ok(()) => return true,
            Err(Refused::Closed) => return false,
            Err(Refused::Short) => {}
        }
        let mut queue = self.queue.lock().unwrap();
        let mut frozen = self.permits.freeze();
        let is_closed = frozen.is_closed;
        if is_closed || (queue.requests.is_empty() && frozen.left >= wanted) {
            frozen.left -= if is_closed { 0 } else { wanted };
            self.permits.thaw(frozen, queue.requests.is_empty());
            return !is_closed;
        }
        queue.requests.push_back((wanted, name));
        self.permits.thaw(frozen, false);
        loop {
            if queue.granted.contains(&name) {
                return true;
            }
            if queue.refused.contains(&name) {
                return false;
            }
            queue = self.woken.wait(queue).unwrap();
        }
    }

    /// As `Semaphore::give`.
    fn give(&self, count: u64) {
        if !self.permits.give(count) {
            self.hand_out(&mut self.queue.lock().unwrap(), count);
        }
    }

    fn hand_out(&self, queue: &mut Queue, count: u64) {
        let mut frozen = self.permits.freeze();
        frozen.left += count;
        while let Some(&(wanted, name)) = queue.requests.front()
            && wanted <= frozen.left
        {
            queue.requests.pop_front();
            frozen.left -= wanted;
            queue.granted.push(name);
        }
        self.permits.thaw(frozen, queue.requests.is_empty());
        self.woken.notify_all();
    }

    /// As `Semaphore::close`.
    fn close(&self) {
        let mut queue = self.queue.lock().unwrap();
        let frozen = self.permits.freeze();
        let refused: Vec<_> = queue.requests.drain(..).map(|(_, name)| name).collect();
        queue.refused.extend(refused);
        self.permits.thaw(Frozen { is_closed: true, ..frozen }, true);
        self.woken.notify_all();
    }

    /// What is done with a permit that is a lock: a plain load and store.
    fn count_up(&self) {
        let before = self.data.load(Ordering::Relaxed);
        self.data.store(before + 1, Ordering::Relaxed);
    }
}

#[test]
fn one_permit_is_a_lock() {
    check(|| {
        let world = World::new(1);
        let user = |name| {
            move |world: &World| {
                assert!(world.take(name, 1));
                world.count_up();
                world.give(1);
            }
        };
        let threads = [1, 2].map(|name| spawn(&world, user(name)));
        user(0)(&world);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(world.data.load(Ordering::Relaxed), 3);
        assert_eq!(world.permits.left(), 1);
        assert_eq!(world.permits.try_take(1), Ok(()), "nobody is left in the queue");
    });
}

/// A lost wake-up would leave the large one waiting for ever, which loom reports.
#[test]
fn a_large_request_gets_what_comes_back_in_pieces() {
    check(|| {
        let world = World::new(0);
        let givers = [0, 1].map(|_| spawn(&world, |world| world.give(1)));
        assert!(world.take(0, 2));
        givers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(world.permits.left(), 0);
    });
}

#[test]
fn nobody_is_granted_and_refused_and_no_permit_is_lost_when_it_closes() {
    check(|| {
        let world = World::new(0);
        let waiter = spawn(&world, |world| {
            if world.take(1, 1) {
                world.give(1);
            }
        });
        let closer = spawn(&world, World::close);
        world.give(1);
        closer.join().unwrap();
        waiter.join().unwrap();
        assert!(world.permits.is_closed());
        assert_eq!(world.permits.left(), 1);
        assert!(!world.take(2, 1));
    });
}

/// The one at the head leaves while a permit comes back: the one behind it gets that.
#[test]
fn one_who_leaves_lets_the_next_have_what_is_left() {
    check(|| {
        let world = World::new(0);
        {
            let mut queue = world.queue.lock().unwrap();
            let frozen = world.permits.freeze();
            queue.requests.push_back((2, 9));
            world.permits.thaw(frozen, false);
        }
        let giver = spawn(&world, |world| world.give(1));
        let leaver = spawn(&world, |world| {
            let mut queue = world.queue.lock().unwrap();
            queue.requests.retain(|&(_, name)| name != 9);
            world.hand_out(&mut queue, 0);
        });
        assert!(world.take(1, 1));
        giver.join().unwrap();
        leaver.join().unwrap();
        assert_eq!(world.permits.left(), 0);
    });
}
