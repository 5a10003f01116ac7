//! `sync::RwLock`: readers together, writers alone, in the order of arrival; in coroutines, on
//! threads and between both; what poisons it; and that no cancel loses it.

mod support;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cosocket::sync::{RwLock, RwLockWriteGuard, TryLockError};
use cosocket::{LocalJoinHandle, run, thread};
use support::{
    OnDrop, assert_cancel_ends, assert_cancelled, message, panic_quietly, suspended, until,
};

/// A lock, and the names of those who got in, in order. Whoever has got in stays until told to go.
#[derive(Clone, Default)]
struct House {
    lock: Rc<RwLock<()>>,
    log: Rc<RefCell<Vec<&'static str>>>,
}

impl House {
    fn reader(&self, name: &'static str) -> LocalJoinHandle<()> {
        let house = self.clone();
        suspended(move || {
            let _guard = house.lock.read().unwrap();
            house.log.borrow_mut().push(name);
            thread::park();
        })
    }

    fn writer(&self, name: &'static str) -> LocalJoinHandle<()> {
        let house = self.clone();
        suspended(move || {
            let _guard = house.lock.write().unwrap();
            house.log.borrow_mut().push(name);
            thread::park();
        })
    }

    /// Who is in, or was, once all that can happen by itself has happened.
    #[track_caller]
    fn assert_log(&self, names: &[&str]) {
        (0..20).for_each(|_| thread::yield_now());
        assert_eq!(*self.log.borrow(), names);
    }
}

fn go(coroutine: LocalJoinHandle<()>) {
    coroutine.thread().unpark();
    coroutine.join().unwrap();
}

#[test]
fn readers_enter_together_and_writers_alone_in_the_order_of_arrival() {
    run(|| {
        let house = House::default();
        let first = house.reader("r1");
        let second = house.reader("r2");
        let third = house.writer("w3");
        let fourth = house.reader("r4");
        let fifth = house.reader("r5");
        let sixth = house.writer("w6");
        let seventh = house.reader("r7");
        house.assert_log(&["r1", "r2"]);
        go(first);
        house.assert_log(&["r1", "r2"]);
        go(second);
        house.assert_log(&["r1", "r2", "w3"]);
        go(third);
        house.assert_log(&["r1", "r2", "w3", "r4", "r5"]);
        go(fourth);
        go(fifth);
        house.assert_log(&["r1", "r2", "w3", "r4", "r5", "w6"]);
        go(sixth);
        go(seventh);
        drop(house.lock.try_write().unwrap());
    });
}

#[test]
fn try_read_and_try_write_go_past_nobody() {
    run(|| {
        let house = House::default();
        let lock = &house.lock;
        let reader = lock.try_read().unwrap();
        drop(lock.try_read().unwrap());
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        let writer = house.writer("w");
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        drop(reader);
        // Handed over, though the writer has not run yet.
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        go(writer);
        drop(lock.try_write().unwrap());
        drop(lock.try_read().unwrap());
    });
}

#[test]
fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer() {
    run(|| {
        let house = House::default();
        let guard = house.lock.write().unwrap();
        let first = house.reader("r1");
        let second = house.reader("r2");
        let third = house.writer("w3");
        let fourth = house.reader("r4");
        let guard = RwLockWriteGuard::downgrade(guard);
        house.assert_log(&["r1", "r2"]);
        drop(guard);
        go(first);
        house.assert_log(&["r1", "r2"]);
        go(second);
        house.assert_log(&["r1", "r2", "w3"]);
        go(third);
        go(fourth);
    });
}

#[test]
fn a_cancelled_writer_lets_those_behind_it_in() {
    run(|| {
        let house = House::default();
        let guard = house.lock.read().unwrap();
        let writer = house.writer("w");
        let readers: Vec<_> = (0..40).map(|_| house.reader("r")).collect();
        house.assert_log(&[]);
        writer.cancel();
        assert_cancelled(writer.join());
        house.assert_log(&["r"; 40]);
        readers.into_iter().for_each(go);
        drop(guard);
        drop(house.lock.try_write().unwrap());
    });
}

#[test]
fn a_cancel_ends_the_wait_and_leaves_the_lock_as_it_was() {
    run(|| {
        let house = House::default();
        let guard = house.lock.write().unwrap();
        for _ in 0..2 {
            let lock = Rc::clone(&house.lock);
            assert_cancel_ends(move || drop(lock.read()));
            let lock = Rc::clone(&house.lock);
            assert_cancel_ends(move || drop(lock.write()));
        }
        drop(guard);
        drop(house.lock.try_write().unwrap());
        // Chosen and cancelled at once: it is in, and ends at its next wait.
        let guard = house.lock.write().unwrap();
        let [reader, other] = ["r", "o"].map(|name| house.reader(name));
        drop(guard);
        reader.cancel();
        assert_cancelled(reader.join());
        house.assert_log(&["r", "o"]);
        go(other);
        assert!(house.lock.try_write().is_ok());
    });
}

#[test]
fn a_writers_panic_poisons_and_a_readers_or_a_cancel_does_not() {
    let check = || {
        let mut lock = RwLock::new(1);
        let reader = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.read().unwrap();
            panic_quietly("a reader's");
        }));
        assert!(reader.is_err());
        assert!(!lock.is_poisoned());
        let writer = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = lock.write().unwrap();
            *guard = 2;
            panic_quietly("a writer's");
        }));
        assert_eq!(message(&*writer.unwrap_err()), "a writer's");
        assert!(lock.is_poisoned());
        assert_eq!(*lock.read().unwrap_err().into_inner(), 2);
        assert_eq!(*lock.write().unwrap_err().into_inner(), 2);
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        assert_eq!(*lock.get_mut().unwrap_err().into_inner(), 2);
        lock.clear_poison();
        assert_eq!(*lock.read().unwrap(), 2);
        assert_eq!(lock.into_inner().unwrap(), 2);
    };
    check();
    run(check);
    run(|| {
        let house = House::default();
        let writer = house.writer("w");
        writer.cancel();
        assert_cancelled(writer.join());
        assert!(!house.lock.is_poisoned());
    });
}

#[test]
fn another_coroutines_panic_does_not_poison() {
    run(|| {
        let parked = suspended(|| {
            let _guard = OnDrop(thread::park);
            panic_quietly("parked in mid-unwind");
        });
        let house = House::default();
        go(house.writer("w"));
        assert!(std::thread::panicking());
        assert!(!house.lock.is_poisoned());
        parked.thread().unpark();
        assert!(parked.join().is_err());
    });
}

/// A stream of readers, one entering before the other leaves, and a writer.
#[test]
fn readers_do_not_starve_a_writer_nor_writers_a_reader() {
    run(|| {
        for hog_writes in [false, true] {
            let lock = Rc::new(RwLock::new(0));
            let stop = Rc::new(Cell::new(false));
            let hogs = [(); 3].map(|()| {
                let (lock, stop) = (Rc::clone(&lock), Rc::clone(&stop));
                suspended(move || {
                    while !stop.get() {
                        if hog_writes {
                            let _guard = lock.write().unwrap();
                            thread::yield_now();
                        } else {
                            let _guard = lock.read().unwrap();
                            thread::yield_now();
                        }
                    }
                })
            });
            for _ in 0..5 {
                *lock.write().unwrap() += 1;
                let _guard = lock.read().unwrap();
            }
            assert_eq!(*lock.read().unwrap(), 5);
            stop.set(true);
            hogs.into_iter().for_each(|hog| hog.join().unwrap());
        }
    });
}

/// Coroutines on all workers and plain threads; every third one is cancelled on its way.
#[test]
fn in_a_storm_of_readers_writers_and_cancels_writers_are_alone_and_nobody_is_forgotten() {
    let lock = Arc::new(RwLock::new(0_usize));
    let (readers, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let alone = Arc::new(AtomicBool::new(false));
    let job = |n: usize| {
        let (lock, readers, written, alone) =
            (Arc::clone(&lock), Arc::clone(&readers), Arc::clone(&written), Arc::clone(&alone));
        move || {
            for turn in 0..40 {
                if (n + turn).is_multiple_of(4) {
                    let mut guard = lock.write().unwrap();
                    alone.store(true, Ordering::Relaxed);
                    assert_eq!(readers.load(Ordering::Relaxed), 0);
                    *guard += 1;
                    written.fetch_add(1, Ordering::Relaxed);
                    cosocket::shield(thread::yield_now);
                    assert_eq!(readers.load(Ordering::Relaxed), 0);
                    alone.store(false, Ordering::Relaxed);
                } else {
                    let _guard = lock.read().unwrap();
                    readers.fetch_add(1, Ordering::Relaxed);
                    assert!(!alone.load(Ordering::Relaxed));
                    cosocket::shield(thread::yield_now);
                    assert!(!alone.load(Ordering::Relaxed));
                    readers.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    };
    let threads: Vec<_> = (0..3).map(|n| std::thread::spawn(job(n))).collect();
    let jobs: Vec<_> = (0..60).map(job).collect();
    run(|| {
        let coroutines: Vec<_> = jobs.into_iter().map(thread::spawn).collect();
        until(|| written.load(Ordering::Relaxed) > 20);
        coroutines.iter().step_by(3).for_each(|coroutine| coroutine.cancel());
        for (n, coroutine) in coroutines.into_iter().enumerate() {
            match coroutine.join() {
                Err(payload) if n % 3 == 0 && payload.is::<cosocket::Cancelled>() => {}
                result => result.unwrap(),
            }
        }
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(!lock.is_poisoned());
    assert_eq!(*lock.try_write().unwrap(), written.load(Ordering::Relaxed));
}

#[test]
fn a_forgotten_reader_keeps_writers_out_and_readers_in() {
    run(|| {
        let lock = RwLock::new(0);
        std::mem::forget(lock.read());
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        assert_eq!(*lock.try_read().unwrap(), 0);
    });
}
