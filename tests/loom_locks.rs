//! Models of `src/sync/raw_mutex.rs` and `src/sync/raw_rw_lock.rs`: who gets in, who is woken, and
//! that nobody who waits is forgotten. A wake-up that is lost is a deadlock, which loom reports.
//!
//! `RUSTFLAGS="--cfg loom -C debug-assertions" cargo test --release --test loom_locks`
#![cfg(loom)]
#![allow(unsafe_code)]

#[path = "../src/atomics.rs"]
#[allow(unused_imports)]
mod atomics;
#[path = "../src/sync/raw_mutex.rs"]
mod raw_mutex;
#[path = "../src/sync/raw_rw_lock.rs"]
mod raw_rw_lock;

/// The clock of each thread stands still.
mod clock {
    use std::cell::Cell;

    pub(crate) type Nanos = u64;

    loom::thread_local! {
        pub(crate) static NOW: Cell<Nanos> = Cell::new(EARLY);
        /// What it was at the last look.
        pub(crate) static RECENT: Cell<Nanos> = Cell::new(EARLY);
    }

    /// When they all come to wait.
    pub(crate) const EARLY: Nanos = 5_000_000;
    /// When one who came early has waited for too long.
    pub(crate) const LATE: Nanos = 9_000_000;

    pub(crate) fn now() -> Nanos {
        NOW.with(Cell::get)
    }
}

/// Stands in for the queue of `src/wait.rs`: the same calls, over a locked deque.
mod wait {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Mutex, MutexGuard};
    use loom::thread::{self, Thread};

    use crate::clock::{self, Nanos};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Signal {
        Wake,
        Cancelled,
    }

    pub(crate) struct Reason;

    impl Reason {
        pub(crate) const LOCK: Reason = Reason;
    }

    pub(crate) struct Shield;

    impl Shield {
        pub(crate) fn where_nothing_unwinds() -> Option<Shield> {
            None
        }
    }

    loom::thread_local! {
        /// A cancel has come for this thread: it leaves every queue, unless it is chosen first.
        pub(crate) static CANCELLED: Cell<bool> = Cell::new(false);
        /// Whom this thread finds to be of its own worker: the last in the queue, or nobody.
        pub(crate) static PREFERS_LAST: Cell<bool> = Cell::new(false);
        /// How often this thread has waited.
        pub(crate) static WAITS: Cell<u32> = Cell::new(0);
    }

    pub(crate) fn recent_time() -> Nanos {
        clock::RECENT.with(Cell::get)
    }

    pub(crate) struct Waiter(Arc<Node>);

    struct Node {
        thread: Thread,
        woken: AtomicBool,
        /// Checked by loom: two threads never use it at a time.
        note: loom::cell::Cell<u64>,
    }

    // SAFETY: the note is what the models are about; the rest may be shared.
    unsafe impl Sync for Node {}
    // SAFETY: as above.
    unsafe impl Send for Node {}

    impl Waiter {
        pub(crate) fn with_note(note: u64) -> Waiter {
            let (woken, note) = (AtomicBool::new(false), loom::cell::Cell::new(note));
            Waiter(Arc::new(Node { thread: thread::current(), woken, note }))
        }

        pub(crate) fn note(&self) -> u64 {
            self.0.note.get()
        }

        fn is_woken(&self) -> bool {
            self.0.woken.load(Ordering::Acquire)
        }
    }

    pub(crate) struct Chosen(Arc<Node>);

    impl Chosen {
        pub(crate) fn set_note(&self, note: u64) {
            self.0.note.set(note);
        }

        pub(crate) fn wake(self) {
            self.0.woken.store(true, Ordering::Release);
            self.0.thread.unpark();
        }
    }

    pub(crate) struct ChosenList(Vec<Chosen>);

    impl ChosenList {
        pub(crate) fn new() -> ChosenList {
            ChosenList(Vec::new())
        }

        pub(crate) fn push(&mut self, chosen: Chosen) {
            self.0.push(chosen);
        }

        pub(crate) fn wake(self) {
            self.0.into_iter().for_each(Chosen::wake);
        }
    }

    pub(crate) struct WaitQueue(Mutex<VecDeque<Waiter>>);

    pub(crate) struct LockedQueue<'a>(MutexGuard<'a, VecDeque<Waiter>>);

    impl WaitQueue {
        pub(crate) fn new() -> WaitQueue {
            WaitQueue(Mutex::new(VecDeque::new()))
        }

        pub(crate) fn lock(&self) -> LockedQueue<'_> {
            LockedQueue(self.0.lock().unwrap())
        }

        pub(crate) fn wait(&self, waiter: &Waiter, _: Reason, _: Option<Nanos>) -> Signal {
            WAITS.with(|waits| waits.set(waits.get() + 1));
            if CANCELLED.with(Cell::get) {
                let mut queue = self.lock();
                let before = queue.0.len();
                queue.0.retain(|other| !Arc::ptr_eq(&other.0, &waiter.0));
                if queue.0.len() < before {
                    return Signal::Cancelled;
                }
            }
            while !waiter.is_woken() {
                thread::park();
            }
            Signal::Wake
        }
    }

    impl LockedQueue<'_> {
        pub(crate) unsafe fn push(&mut self, waiter: &Waiter) {
            self.0.push_back(Waiter(waiter.0.clone()));
        }

        pub(crate) unsafe fn push_front(&mut self, waiter: &Waiter) {
            self.0.push_front(Waiter(waiter.0.clone()));
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        pub(crate) fn front(&self) -> Option<&Waiter> {
            self.0.front()
        }

        pub(crate) fn pop(&mut self) -> Option<Chosen> {
            self.0.pop_front().map(|waiter| Chosen(waiter.0))
        }

        pub(crate) fn pop_near(&mut self, _reach: usize) -> Option<Chosen> {
            let last = PREFERS_LAST.with(Cell::get).then(|| self.0.pop_back()).flatten();
            last.map(|waiter| Chosen(waiter.0))
        }
    }
}

mod loom_util;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use loom_util::{check, spawn};
use raw_mutex::RawMutex;
use raw_rw_lock::RawRwLock;

/// A lock, and what it guards: loom finds accesses that exclude each other and are not ordered.
struct World<L> {
    lock: L,
    data: UnsafeCell<u32>,
}

// SAFETY: loom checks the accesses to the data.
unsafe impl<L: Sync> Sync for World<L> {}
// SAFETY: as above.
unsafe impl<L: Send> Send for World<L> {}

impl<L> World<L> {
    fn change(&self) {
        // SAFETY: under the lock, says the model, and loom checks it.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    fn look(&self) -> u32 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }
}

impl World<RawMutex> {
    fn new() -> Arc<Self> {
        Arc::new(World { lock: RawMutex::new(), data: UnsafeCell::new(0) })
    }

    /// False if a cancel came first.
    fn locked(&self) -> bool {
        let locked = self.lock.lock().is_ok();
        if locked {
            self.change();
            self.unlock();
        }
        locked
    }

    fn unlock(&self) {
        // SAFETY: this thread has the lock.
        unsafe { self.lock.unlock() };
    }
}

impl World<RawRwLock> {
    fn new_rw() -> Arc<Self> {
        Arc::new(World { lock: RawRwLock::new(), data: UnsafeCell::new(0) })
    }

    fn read(&self) -> bool {
        let entered = self.lock.read().is_ok();
        if entered {
            self.look();
            self.unlock_read();
        }
        entered
    }

    fn unlock_read(&self) {
        // SAFETY: this thread is in as a reader.
        unsafe { self.lock.unlock_read() };
    }

    fn write(&self) -> bool {
        let entered = self.lock.write().is_ok();
        if entered {
            self.change();
            self.unlock_write();
        }
        entered
    }

    fn unlock_write(&self) {
        // SAFETY: this thread is in as the writer.
        unsafe { self.lock.unlock_write() };
    }
}

/// Spawns one for whom a cancel has come already.
fn spawn_cancelled<L: Send + Sync + 'static, T: 'static>(
    world: &Arc<World<L>>,
    f: impl FnOnce(&World<L>) -> T + 'static,
) -> thread::JoinHandle<T> {
    spawn(world, |world| {
        wait::CANCELLED.with(|cancelled| cancelled.set(true));
        f(world)
    })
}

fn join_all<T>(threads: [thread::JoinHandle<T>; 2]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

fn be_late() {
    clock::NOW.with(|now| now.set(clock::LATE));
    clock::RECENT.with(|recent| recent.set(clock::LATE));
}

fn prefer_the_last() {
    wait::PREFERS_LAST.with(|prefers| prefers.set(true));
}

#[test]
fn three_threads_exclude_each_other_and_all_get_the_mutex() {
    check(|| {
        let world = World::new();
        let others = [(); 2].map(|()| spawn(&world, |world| assert!(world.locked())));
        assert!(world.locked());
        join_all(others);
        assert_eq!(world.look(), 3);
    });
}

/// The one who unlocks takes the mutex again, past the one it has called.
#[test]
fn one_who_was_called_and_came_too_late_is_called_again() {
    check(|| {
        let world = World::new();
        let other = spawn(&world, |world| assert!(world.locked()));
        for _ in 0..3 {
            assert!(world.locked());
        }
        other.join().unwrap();
        assert_eq!(world.look(), 4);
    });
}

/// The unlocker never looks at the clock, so it is the one who waits that must.
#[test]
fn one_who_has_waited_long_and_was_called_in_vain_is_so_once() {
    check(|| {
        let world = World::new();
        let other = spawn(&world, |world| {
            clock::NOW.with(|now| now.set(clock::LATE));
            assert!(world.locked());
            assert!(wait::WAITS.with(|waits| waits.get()) <= 2);
        });
        for _ in 0..4 {
            assert!(world.locked());
        }
        other.join().unwrap();
    });
}

#[test]
fn whoever_is_preferred_nobody_is_forgotten() {
    check(|| {
        let world = World::new();
        assert!(world.lock.lock().is_ok());
        let others = [(); 2].map(|()| spawn(&world, |world| assert!(world.locked())));
        prefer_the_last();
        world.change();
        world.unlock();
        assert!(world.locked());
        join_all(others);
        assert_eq!(world.look(), 4);
    });
}

/// Handed over, and past one who is on its way.
#[test]
fn one_who_has_waited_long_is_handed_the_mutex() {
    check(|| {
        let world = World::new();
        assert!(world.lock.lock().is_ok());
        let others = [(); 2].map(|()| spawn(&world, |world| assert!(world.locked())));
        prefer_the_last();
        world.change();
        world.unlock();
        be_late();
        for _ in 0..2 {
            assert!(world.locked());
        }
        join_all(others);
        assert_eq!(world.look(), 5);
    });
}

#[test]
fn one_who_leaves_takes_no_wake_up_along() {
    check(|| {
        let world = World::new();
        assert!(world.lock.lock().is_ok());
        let leaves = spawn_cancelled(&world, |world| world.locked());
        let stays = spawn(&world, |world| assert!(world.locked()));
        world.change();
        world.unlock();
        assert!(world.locked());
        let got_it = leaves.join().unwrap();
        stays.join().unwrap();
        assert!(world.lock.try_lock());
        assert_eq!(world.look(), 3 + u32::from(got_it));
    });
}

/// The choice and the cancel at the same moment: then the mutex is taken, and let go.
#[test]
fn a_mutex_handed_to_one_who_is_cancelled_is_not_lost() {
    check(|| {
        let world = World::new();
        assert!(world.lock.lock().is_ok());
        let leaves = spawn_cancelled(&world, |world| {
            be_late();
            world.locked()
        });
        let stays = spawn(&world, |world| assert!(world.locked()));
        be_late();
        world.change();
        world.unlock();
        leaves.join().unwrap();
        stays.join().unwrap();
        assert!(world.lock.try_lock());
    });
}

#[test]
fn a_try_that_finds_the_mutex_free_excludes_others() {
    check(|| {
        let world = World::new();
        let other = spawn(&world, |world| assert!(world.locked()));
        if world.lock.try_lock() {
            world.change();
            world.unlock();
        }
        other.join().unwrap();
    });
}

#[test]
fn writers_exclude_each_other_and_a_reader() {
    check(|| {
        let world = World::new_rw();
        let writer = spawn(&world, |world| assert!(world.write()));
        let reader = spawn(&world, |world| assert!(world.read()));
        assert!(world.write());
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(world.look(), 2);
    });
}

#[test]
fn readers_who_let_go_together_let_the_writer_in() {
    check(|| {
        let world = World::new_rw();
        let readers = [(); 2].map(|()| spawn(&world, |world| assert!(world.read())));
        assert!(world.write());
        join_all(readers);
        assert!(world.lock.try_write());
    });
}

/// The writer that leaves was what kept the second reader out. This thread stays in until that
/// one has been in.
#[test]
fn a_writer_that_leaves_lets_the_readers_behind_it_in() {
    check(|| {
        let world = World::new_rw();
        assert!(world.lock.read().is_ok());
        let writer = spawn_cancelled(&world, |world| assert!(!world.write()));
        let reader = spawn(&world, |world| assert!(world.read()));
        reader.join().unwrap();
        writer.join().unwrap();
        world.unlock_read();
        assert!(world.lock.try_write());
    });
}

#[test]
fn one_who_leaves_an_empty_queue_leaves_the_lock_free() {
    check(|| {
        let world = World::new_rw();
        assert!(world.lock.write().is_ok());
        let leavers = [World::read, World::write].map(|enter| spawn_cancelled(&world, enter));
        world.change();
        world.unlock_write();
        join_all(leavers);
        assert!(world.lock.try_write());
    });
}

#[test]
fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer() {
    check(|| {
        let world = World::new_rw();
        assert!(world.lock.write().is_ok());
        let reader = spawn(&world, |world| assert!(world.read()));
        let writer = spawn(&world, |world| assert!(world.write()));
        world.change();
        // SAFETY: this thread is in as the writer.
        unsafe { world.lock.downgrade() };
        assert_eq!(world.look(), 1);
        world.unlock_read();
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!(world.look(), 2);
    });
}
