//! Spawning and joining: results, panics, detached coroutines, names, stacks.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use cosocket::{Builder, run, spawn, spawn_local, thread};
use support::{Drops, OnDrop, message, on_workers, panic_quietly, suspended, until};

#[test]
fn a_result_comes_back_through_join() {
    let results: Vec<_> = run(|| {
        let handles: Vec<_> = (0..100).map(|n| spawn(move || vec![n; 3])).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(results.into_iter().eq((0..100).map(|n| vec![n; 3])));
}

#[test]
fn a_panics_payload_comes_back_through_join() {
    run(|| {
        let payload = spawn(|| panic_quietly("seventeen")).join().unwrap_err();
        assert_eq!(message(&*payload), "seventeen");
        struct Payload(u64);
        let thrown = spawn(|| std::panic::panic_any(Payload(17))).join().unwrap_err();
        assert_eq!(thrown.downcast::<Payload>().unwrap().0, 17);
    });
}

#[test]
fn a_panic_ends_its_own_coroutine_only() {
    run(|| {
        let steps = Rc::new(Cell::new(0));
        let counter = Rc::clone(&steps);
        let healthy = suspended(move || {
            for _ in 0..10 {
                thread::yield_now();
                counter.set(counter.get() + 1);
            }
        });
        assert!(spawn_local(|| panic_quietly("alone")).join().is_err());
        healthy.join().unwrap();
        assert_eq!(steps.get(), 10);
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_once_by_the_coroutine() {
    run(|| {
        let drops = Drops::default();
        let (counted, gate) = (drops.counted(), Rc::new(Cell::new(false)));
        let open = Rc::clone(&gate);
        let handle = suspended(move || {
            until(|| open.get());
            counted
        });
        drop(handle);
        assert_eq!(drops.count(), 0);
        gate.set(true);
        until(|| drops.count() > 0);
        (0..10).for_each(|_| thread::yield_now());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_once_by_the_handle() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let handle = spawn(move || counted);
        until(|| handle.is_finished());
        assert_eq!(drops.count(), 0);
        drop(handle);
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_result_is_dropped_once_whoever_lets_go_first() {
    let drops = Drops::default();
    on_workers(3, || {
        for _ in 0..3000 {
            let counted = drops.counted();
            drop(spawn(move || counted));
        }
        until(|| drops.count() >= 3000);
    });
    assert_eq!(drops.count(), 3000);
}

#[test]
fn a_detached_result_may_panic_when_dropped() {
    run(|| {
        let drops = Rc::new(Cell::new(0));
        let counter = Rc::clone(&drops);
        drop(spawn_local(move || {
            OnDrop(move || {
                counter.set(counter.get() + 1);
                panic_quietly("from a result's drop");
            })
        }));
        until(|| drops.get() > 0);
        // Its worker goes on, and so does the next coroutine in the same control block.
        assert_eq!(spawn_local(|| 5).join().unwrap(), 5);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn a_panics_payload_may_panic_when_dropped() {
    run(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&dropped);
        drop(spawn(move || {
            let payload = OnDrop(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                panic_quietly("from a payload's drop");
            });
            std::panic::resume_unwind(Box::new(payload));
        }));
        until(|| dropped.load(Ordering::SeqCst) > 0);
        assert_eq!(spawn_local(|| 5).join().unwrap(), 5);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn the_closures_captures_are_dropped_before_join_returns() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let handle = spawn(move || {
            let _counted = counted;
        });
        handle.join().unwrap();
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_hundred_thousand_coroutines_come_and_go() {
    let ran = AtomicUsize::new(0);
    run(|| {
        for _ in 0..100 {
            thread::scope(|scope| {
                for _ in 0..1000 {
                    scope.spawn(|| ran.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    assert_eq!(ran.into_inner(), 100_000);
}

#[test]
fn is_finished_turns_true_and_join_then_returns() {
    run(|| {
        let gate = Arc::new(AtomicBool::new(false));
        let open = Arc::clone(&gate);
        let handle = spawn(move || until(|| open.load(Ordering::SeqCst)));
        (0..100).for_each(|_| thread::yield_now());
        assert!(!handle.is_finished());
        gate.store(true, Ordering::SeqCst);
        until(|| handle.is_finished());
        handle.join().unwrap();
    });
}

#[test]
fn names_and_ids_are_those_of_the_coroutine() {
    run(|| {
        let named = thread::Builder::new().name("reader".into());
        let named = named.spawn(thread::current).unwrap();
        let unnamed = spawn(thread::current);
        assert_eq!(named.thread().name(), Some("reader"));
        assert_eq!(unnamed.thread().name(), None);
        assert_ne!(named.thread().id(), unnamed.thread().id());
        assert_ne!(named.thread().id(), thread::current().id());
        let id = named.thread().id();
        let inside = named.join().unwrap();
        assert_eq!((inside.id(), inside.name()), (id, Some("reader")));
        assert_eq!(unnamed.join().unwrap().name(), None);
    });
    // On a plain thread: the thread's own.
    assert_eq!(thread::current().name(), std::thread::current().name());
}

#[test]
fn a_name_with_a_nul_byte_panics_as_in_std() {
    run(|| {
        let builder = thread::Builder::new().name("a\0b".into());
        assert!(catch_unwind(AssertUnwindSafe(|| builder.spawn(|| ()))).is_err());
    });
}

#[test]
fn a_plain_thread_joins() {
    let runtime = Builder::new().build().unwrap();
    let (sender, receiver) = mpsc::channel();
    let handles: Vec<_> = (0..8)
        .map(|n| {
            let sender = sender.clone();
            runtime.spawn(move || {
                sender.send(thread::current()).unwrap();
                thread::park();
                n
            })
        })
        .collect();
    let joiners: Vec<_> =
        handles.into_iter().map(|h| std::thread::spawn(move || h.join().unwrap())).collect();
    for _ in 0..8 {
        receiver.recv().unwrap().unpark();
    }
    let results = joiners.into_iter().map(|joiner| joiner.join().unwrap());
    assert!(results.eq(0..8));
}

#[test]
fn a_coroutine_of_another_worker_is_joined() {
    on_workers(3, || {
        let here = std::thread::current().id();
        let elsewhere = loop {
            // Runs where it can while we hold this worker.
            let started = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&started);
            let handle = spawn(move || {
                flag.store(true, Ordering::SeqCst);
                thread::park();
                std::thread::current().id()
            });
            spawn(|| ()).join().unwrap();
            until(|| started.load(Ordering::SeqCst));
            let thread = handle.thread().clone();
            let waker = spawn(move || thread.unpark());
            let id = handle.join().unwrap();
            waker.join().unwrap();
            if id != here {
                break id;
            }
            // Two more that stay push the next ones away.
            drop((spawn_local(thread::park), spawn_local(thread::park)));
        };
        assert_ne!(elsewhere, here);
    });
}

#[test]
fn a_coroutine_of_another_runtime_is_joined() {
    let other = Builder::new().build().unwrap();
    run(|| {
        for n in 0..200 {
            assert_eq!(other.spawn(move || n).join().unwrap(), n);
        }
    });
}

#[test]
fn a_local_coroutine_keeps_an_rc_across_waits() {
    run(|| {
        let shared = Rc::new(Cell::new(0));
        let here = std::thread::current().id();
        let handles: Vec<_> = (0..10)
            .map(|_| {
                let shared = Rc::clone(&shared);
                spawn_local(move || {
                    for _ in 0..10 {
                        let before = shared.get();
                        shared.set(before + 1);
                        thread::yield_now();
                    }
                    assert_eq!(std::thread::current().id(), here);
                    shared
                })
            })
            .collect();
        for handle in handles {
            assert!(Rc::ptr_eq(&handle.join().unwrap(), &shared));
        }
        assert_eq!(shared.get(), 100);
        assert_eq!(Rc::strong_count(&shared), 1);
    });
}

#[test]
#[should_panic(expected = "outside a coroutine")]
fn spawn_local_outside_a_coroutine_panics() {
    spawn_local(|| ());
}

#[test]
fn a_stack_that_cannot_be_had_is_an_error_and_drops_the_closure() {
    run(|| {
        let drops = Drops::default();
        let counted = drops.counted();
        let huge = thread::Builder::new().stack_size(1 << 60);
        let error = huge.spawn(move || drop(counted)).unwrap_err();
        assert!(!error.to_string().is_empty());
        assert_eq!(drops.count(), 1);
        assert!(thread::Builder::new().stack_size(usize::MAX).spawn(|| ()).is_err());
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
    });
}

/// Uses some `KIB_PER_CALL` KiB of stack a level and returns the number of levels.
fn recurse(levels: usize) -> usize {
    let mut frame = [0u8; KIB_PER_CALL << 10];
    std::hint::black_box(&mut frame);
    if levels == 0 { 0 } else { 1 + recurse(levels - 1) + usize::from(frame[levels % 7]) }
}

const KIB_PER_CALL: usize = 4;

#[test]
fn a_stack_is_as_large_as_asked_for() {
    run(|| {
        let large = thread::Builder::new().stack_size(1 << 20);
        assert_eq!(large.spawn(|| recurse(200)).unwrap().join().unwrap(), 200);
        let larger = thread::Builder::new().stack_size(16 << 20);
        assert_eq!(larger.spawn(|| recurse(3500)).unwrap().join().unwrap(), 3500);
    });
    let runtime = Builder::new().stack_size(4 << 20).build().unwrap();
    assert_eq!(runtime.run(|| recurse(900)), 900);
}

#[test]
fn a_plain_thread_spawns_on_the_global_runtime() {
    let threads = |_| {
        let handle = thread::spawn(|| {
            let inner = thread::spawn(|| std::thread::current().name().map(str::to_owned));
            (std::thread::current().name().map(str::to_owned), inner.join().unwrap())
        });
        handle.join().unwrap()
    };
    let plain: Vec<_> = (0..4).map(|n| std::thread::spawn(move || threads(n))).collect();
    for thread in plain {
        let (outer, inner) = thread.join().unwrap();
        assert!(outer.unwrap().starts_with("cosocket-"));
        assert!(inner.unwrap().starts_with("cosocket-"));
    }
}
