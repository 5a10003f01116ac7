//! `coroutine_local!`: one value for each coroutine, from its first use to the coroutine's end.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cosocket::thread::AccessError;
use cosocket::{Builder, coroutine_local, run, spawn, spawn_local, thread};
use support::{Drops, OnDrop, assert_cancelled, on_workers, panic_quietly, suspended, until};

coroutine_local! {
    static NUMBER: Cell<u32> = Cell::new(1);
    /// A list.
    pub static LIST: RefCell<Vec<u32>> = RefCell::new(Vec::new());
    static OWNED: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::new(None);
}

type Log = Arc<std::sync::Mutex<Vec<String>>>;

/// Calls its closure when it is destroyed.
struct AtEnd(RefCell<Option<Box<dyn FnOnce()>>>);

impl AtEnd {
    const fn new() -> AtEnd {
        AtEnd(RefCell::new(None))
    }

    fn set(&self, f: impl FnOnce() + 'static) {
        *self.0.borrow_mut() = Some(Box::new(f));
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

coroutine_local! {
    static FIRST: AtEnd = AtEnd::new();
    static SECOND: AtEnd = AtEnd::new();
    static THIRD: AtEnd = AtEnd::new();
}

#[test]
fn each_coroutine_has_its_own_value_across_waits() {
    on_workers(3, || {
        let handles: Vec<_> = (0..200)
            .map(|n| {
                spawn(move || {
                    assert_eq!(NUMBER.get(), 1);
                    NUMBER.set(n);
                    for _ in 0..5 {
                        LIST.with_borrow_mut(|list| list.push(n));
                        thread::yield_now();
                        assert_eq!(NUMBER.get(), n);
                    }
                    assert_eq!(LIST.take(), [n; 5]);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        assert_eq!(NUMBER.get(), 1);
    });
}

#[test]
fn a_value_is_made_at_its_first_use_only() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    coroutine_local! {
        static COUNTED: usize = MADE.fetch_add(1, Ordering::SeqCst);
    }
    run(|| {
        spawn(|| ()).join().unwrap();
        assert_eq!(MADE.load(Ordering::SeqCst), 0);
        spawn(|| (COUNTED.with(|_| ()), COUNTED.with(|_| ())).1).join().unwrap();
        assert_eq!(MADE.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn making_a_value_may_wait_and_use_other_keys() {
    coroutine_local! {
        static SLOW: u32 = {
            thread::yield_now();
            NUMBER.set(NUMBER.get() + 1);
            spawn(|| 5).join().unwrap() + NUMBER.get()
        };
    }
    run(|| assert_eq!(spawn(|| SLOW.with(|&value| value)).join().unwrap(), 7));
}

#[test]
fn values_are_dropped_on_the_coroutines_stack_before_join_returns_the_youngest_first() {
    run(|| {
        let log = Log::default();
        let theirs = Arc::clone(&log);
        let handle = spawn(move || {
            let id = thread::current().id();
            for (key, name) in [(&FIRST, "first"), (&SECOND, "second"), (&THIRD, "third")] {
                let log = Arc::clone(&theirs);
                key.with(|at_end| {
                    at_end.set(move || {
                        assert_eq!(thread::current().id(), id);
                        thread::yield_now();
                        log.lock().unwrap().push(name.to_owned());
                    });
                });
            }
        });
        handle.join().unwrap();
        assert_eq!(*log.lock().unwrap(), ["third", "second", "first"]);
    });
}

#[test]
fn a_destructor_uses_older_keys_and_finds_its_own_and_unused_ones_gone() {
    run(|| {
        let seen = Rc::new(RefCell::new(None));
        let theirs = Rc::clone(&seen);
        let handle = spawn_local(move || {
            NUMBER.set(23);
            FIRST.with(|at_end| {
                at_end.set(move || {
                    let older = NUMBER.try_with(Cell::get);
                    let own = FIRST.try_with(|_| ());
                    let unused = SECOND.try_with(|_| ());
                    *theirs.borrow_mut() = Some((older, own, unused));
                });
            });
        });
        handle.join().unwrap();
        assert_eq!(*seen.borrow(), Some((Ok(23), Err(AccessError), Err(AccessError))));
    });
}

#[test]
fn a_destructor_that_panics_does_not_keep_the_others_or_the_result_back() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let handle = spawn(move || {
            FIRST.with(|at_end| at_end.set(move || drop(counted)));
            SECOND.with(|at_end| at_end.set(|| panic_quietly("from a local")));
            5
        });
        assert_eq!(handle.join().unwrap(), 5);
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn values_are_dropped_after_a_panic_and_after_a_cancel() {
    run(|| {
        let drops = Drops::default();
        let (one, two) = (drops.counted(), drops.counted());
        let panicked = spawn(move || {
            FIRST.with(|at_end| at_end.set(move || drop(one)));
            panic_quietly("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(drops.count(), 1);
        let cancelled = suspended(move || {
            FIRST.with(|at_end| at_end.set(move || drop(two)));
            thread::park();
        });
        cancelled.cancel();
        assert_cancelled(cancelled.join());
        assert_eq!(drops.count(), 2);
    });
}

// The values that a result's destructor made were left to the next coroutine.
#[test]
fn what_the_destructor_of_a_detached_result_makes_is_not_the_next_coroutines() {
    run(|| {
        let drops = Drops::default();
        for round in 1..=100 {
            let ended = Rc::new(Cell::new(false));
            let (flag, counted) = (Rc::clone(&ended), drops.counted());
            let mut counted = Some(counted);
            // Detached before it starts, so that the coroutine drops its result itself.
            drop(spawn_local(move || {
                NUMBER.set(99);
                OnDrop(move || {
                    let counted = counted.take();
                    NUMBER.set(NUMBER.get() + 99);
                    FIRST.with(|at_end| at_end.set(move || drop(counted)));
                    flag.set(true);
                })
            }));
            until(|| ended.get());
            assert_eq!(spawn_local(|| NUMBER.get()).join().unwrap(), 1);
            assert_eq!(drops.count(), round);
        }
    });
}

#[test]
fn a_plain_thread_has_its_own_values_too() {
    NUMBER.set(5);
    let drops = Drops::default();
    let counted = drops.counted();
    let other = std::thread::spawn(move || {
        FIRST.with(|at_end| at_end.set(move || drop(counted)));
        let before = NUMBER.replace(6);
        (before, NUMBER.get())
    });
    assert_eq!(other.join().unwrap(), (1, 6));
    assert_eq!(drops.count(), 1);
    assert_eq!(thread::spawn(|| NUMBER.get()).join().unwrap(), 1);
    assert_eq!(NUMBER.get(), 5);
    OWNED.with_borrow_mut(|owned| *owned = Some(Box::new(|| ())));
    assert!(OWNED.take().is_some());
}

#[test]
fn values_are_dropped_when_the_runtime_is() {
    let drops = Drops::default();
    let runtime = Builder::new().build().unwrap();
    runtime.run(|| {
        for _ in 0..10 {
            let counted = drops.counted();
            let ready = Arc::new(AtomicUsize::new(0));
            let flag = Arc::clone(&ready);
            drop(spawn(move || {
                FIRST.with(|at_end| at_end.set(move || drop(counted)));
                flag.store(1, Ordering::SeqCst);
                thread::park();
            }));
            until(|| ready.load(Ordering::SeqCst) == 1);
        }
    });
    assert_eq!(drops.count(), 0);
    drop(runtime);
    assert_eq!(drops.count(), 10);
}
