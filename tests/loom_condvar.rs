//! Models of `src/sync/condvar/waiter_count.rs`: who notifies looks at a count without a lock.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_condvar`
#![cfg(loom)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/sync/condvar/waiter_count.rs"]
#[allow(dead_code)]
mod waiter_count;

mod loom_util;

use std::collections::VecDeque;

use loom::sync::{Arc, Condvar, Mutex};

use loom_util::{check, spawn};
use waiter_count::WaiterCount;

/// A condition variable, the mutex that is used with it, and the condition.
struct World {
    waiting: WaiterCount,
    queue: Mutex<Queue>,
    woken: Condvar,
    condition: Mutex<bool>,
}

#[derive(Default)]
struct Queue {
    waiters: VecDeque<usize>,
    notified: Vec<usize>,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            waiting: WaiterCount::new(),
            queue: Mutex::default(),
            woken: Condvar::new(),
            condition: Mutex::new(false),
        })
    }

    /// As `Condvar::wait_while`, until the condition holds.
    fn wait_for_it(&self, name: usize) {
        let mut condition = self.condition.lock().unwrap();
        while !*condition {
            self.enqueue(name);
            drop(condition);
            let mut queue = self.queue.lock().unwrap();
            while !queue.is_notified(name) {
                queue = self.woken.wait(queue).unwrap();
            }
            drop(queue);
            condition = self.condition.lock().unwrap();
        }
    }

    /// As `Condvar::wait_timeout`, when the time is over at once; false if nobody notified it.
    fn wait_briefly(&self, name: usize) -> bool {
        let condition = self.condition.lock().unwrap();
        if *condition {
            return true;
        }
        self.enqueue(name);
        drop(condition);
        let mut queue = self.queue.lock().unwrap();
        if queue.is_notified(name) {
            return true;
        }
        queue.waiters.retain(|&waiter| waiter != name);
        self.waiting.less(1);
        false
    }

    fn enqueue(&self, name: usize) {
        let mut queue = self.queue.lock().unwrap();
        queue.waiters.push_back(name);
        self.waiting.one_more();
    }

    fn set_condition(&self) {
        *self.condition.lock().unwrap() = true;
    }

    fn notify_one(&self) {
        if self.waiting.is_zero() {
            return;
        }
        let mut queue = self.queue.lock().unwrap();
        let Some(longest) = queue.waiters.pop_front() else {
            return;
        };
        self.waiting.less(1);
        queue.notified.push(longest);
        self.woken.notify_all();
    }

    fn notify_all(&self) {
        if self.waiting.is_zero() {
            return;
        }
        let mut queue = self.queue.lock().unwrap();
        let all: Vec<_> = queue.waiters.drain(..).collect();
        self.waiting.less(all.len() as u32);
        queue.notified.extend(all);
        self.woken.notify_all();
    }

    fn is_at_rest(&self) -> bool {
        self.waiting.is_zero() && self.queue.lock().unwrap().waiters.is_empty()
    }
}

impl Queue {
    fn is_notified(&mut self, name: usize) -> bool {
        let place = self.notified.iter().position(|&notified| notified == name);
        place.map(|place| self.notified.swap_remove(place)).is_some()
    }
}

#[test]
fn a_notification_after_the_condition_changed_is_not_missed() {
    check(|| {
        let world = World::new();
        let waiter = spawn(&world, |world| world.wait_for_it(1));
        world.set_condition();
        world.notify_one();
        waiter.join().unwrap();
        assert!(world.is_at_rest());
    });
}

#[test]
fn all_who_wait_are_notified() {
    check(|| {
        let world = World::new();
        let waiters = [1, 2].map(|name| spawn(&world, move |world| world.wait_for_it(name)));
        world.set_condition();
        world.notify_all();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(world.is_at_rest());
    });
}

#[test]
fn one_whose_time_is_over_leaves_the_count_right() {
    check(|| {
        let world = World::new();
        let brief = spawn(&world, |world| {
            let _ = world.wait_briefly(1);
        });
        let waiter = spawn(&world, |world| world.wait_for_it(2));
        world.set_condition();
        world.notify_all();
        brief.join().unwrap();
        waiter.join().unwrap();
        assert!(world.is_at_rest());
    });
}
