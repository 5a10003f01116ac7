//! `Runtime::shutdown`: a clean end, or the names of those that outlive it, who keep what they have.

mod support;

use std::hint::spin_loop;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cosocket::time::timeout;
use cosocket::{Builder, Runtime, Straggler, run, shield, spawn, thread};
use support::{Drops, OnDrop, connection};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    Builder::new().build().unwrap()
}

/// Spawns a coroutine with a name, and returns when it runs.
fn start(runtime: &Runtime, name: &'static str, f: impl FnOnce() + Send + 'static) {
    let (started, starts) = mpsc::channel();
    runtime.run(|| {
        let builder = thread::Builder::new().name(name.into());
        let body = move || {
            started.send(()).unwrap();
            f();
        };
        drop(builder.spawn(body).unwrap());
    });
    starts.recv().unwrap();
}

/// Waits for the condition on a plain thread.
fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

fn names(stragglers: &[Straggler]) -> Vec<&str> {
    let mut names: Vec<_> = stragglers.iter().map(|one| one.name().unwrap_or("")).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_clean_one_returns_nobody_and_leaves_nothing() {
    for _ in 0..20 {
        let runtime = runtime();
        let drops = Drops::default();
        for _ in 0..20 {
            let counted = drops.counted();
            start(&runtime, "sleeper", move || (counted, thread::sleep(LONG)).1);
        }
        assert!(runtime.shutdown(LONG).is_empty());
        assert_eq!(drops.count(), 20);
    }
    assert!(runtime().shutdown(Duration::ZERO).is_empty());
}

#[test]
fn it_waits_for_destructors_that_wait() {
    let runtime = runtime();
    let finished = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let finished = Arc::clone(&finished);
        start(&runtime, "slow", move || {
            let _guard = OnDrop(|| {
                thread::sleep(SHORT);
                finished.fetch_add(1, SeqCst);
            });
            thread::park();
        });
    }
    assert!(runtime.shutdown(LONG).is_empty());
    assert_eq!(finished.load(SeqCst), 10);
}

/// Coroutines that outlive their cancel until the gate opens.
fn start_stubborn(runtime: &Runtime, gate: &Arc<AtomicBool>, ended: &Arc<AtomicUsize>) {
    let count = |f: fn(&AtomicBool)| {
        let (gate, ended) = (Arc::clone(gate), Arc::clone(ended));
        move || {
            f(&gate);
            ended.fetch_add(1, SeqCst);
        }
    };
    start(
        runtime,
        "shielded",
        count(|gate| {
            while !gate.load(SeqCst) {
                shield(|| thread::sleep(Duration::from_millis(1)));
            }
        }),
    );
    start(
        runtime,
        "swallows",
        count(|gate| {
            while !gate.load(SeqCst) {
                let _ = catch_unwind(thread::park);
            }
        }),
    );
}

#[test]
fn those_who_outlive_it_are_named_with_what_they_wait_for() {
    let runtime = runtime();
    let workers = runtime.workers();
    let gate = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicUsize::new(0));
    start(&runtime, "obeys", || thread::sleep(LONG));
    start_stubborn(&runtime, &gate, &ended);
    let started = Instant::now();
    let stragglers = runtime.shutdown(SHORT);
    assert!(started.elapsed() >= SHORT);
    assert_eq!(names(&stragglers), ["shielded", "swallows"]);
    for straggler in &stragglers {
        assert!(straggler.worker() < workers);
        assert!(straggler.spawned_at().file().ends_with("shutdown.rs"));
        let text = straggler.to_string();
        assert!(text.contains(straggler.name().unwrap()) && text.contains("shutdown.rs"), "{text}");
        match straggler.name() {
            Some("shielded") => assert!(matches!(straggler.waits_for(), Some("sleep") | None)),
            // It is always about to run again.
            _ => assert_eq!(straggler.waits_for(), None),
        }
    }
    assert_ne!(stragglers[0].id(), stragglers[1].id());
    // Their threads go on.
    assert_eq!(ended.load(SeqCst), 0);
    gate.store(true, SeqCst);
    until(|| ended.load(SeqCst) == 2);
}

#[test]
fn one_that_computes_is_named_though_its_worker_does_not_answer() {
    for _ in 0..3 {
        let runtime = runtime();
        let gate = Arc::new(AtomicBool::new(false));
        let (closed, ended) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
        let flag = Arc::clone(&ended);
        start(&runtime, "computes", move || {
            while !closed.load(SeqCst) {
                spin_loop();
            }
            flag.fetch_add(1, SeqCst);
        });
        let stragglers = runtime.shutdown(SHORT);
        assert_eq!(names(&stragglers), ["computes"]);
        assert_eq!(stragglers[0].waits_for(), None);
        gate.store(true, SeqCst);
        until(|| ended.load(SeqCst) == 1);
    }
}

/// Looks at who runs while coroutines by the thousand come to their end.
#[test]
fn a_look_races_with_ends() {
    for round in 0..30 {
        let runtime = runtime();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        start(&runtime, "spawner", move || {
            shield(|| {
                while !stopped.load(SeqCst) {
                    // None of them gives way, so the worker does not answer for a while.
                    (0..round * 10).for_each(|_| drop(spawn(|| ())));
                    spawn(|| ()).join().ok();
                }
            });
        });
        let stragglers = runtime.shutdown(Duration::from_micros(round * 50));
        assert!(stragglers.iter().any(|one| one.name() == Some("spawner")) || round == 0);
        stop.store(true, SeqCst);
    }
}

#[test]
fn buffers_in_flight_stay_valid() {
    let runtime = runtime();
    let (mut reader, mut writer) = connection();
    let (told, hears) = mpsc::channel();
    start(&runtime, "reads", move || {
        let mut buffer = [0; 4096];
        let mut received = Vec::new();
        shield(|| {
            while received.len() < 100_000 {
                let count = reader.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..count]);
            }
        });
        told.send(received).unwrap();
    });
    let stragglers = runtime.shutdown(SHORT);
    assert_eq!(names(&stragglers), ["reads"]);
    assert!(stragglers[0].waits_for().unwrap().starts_with("read fd="));
    let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    writer.write_all(&sent).unwrap();
    assert_eq!(hears.recv().unwrap(), sent);
}

#[test]
fn in_a_coroutine_of_another_runtime_it_waits_and_lets_others_run() {
    run(|| {
        let inner = runtime();
        let gate = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicUsize::new(0));
        let (open, count) = (Arc::clone(&gate), Arc::clone(&ended));
        let inner = cosocket::unblock(move || {
            start_stubborn(&inner, &open, &count);
            inner
        });
        // This one runs meanwhile, and ends them.
        let opener = spawn(move || {
            thread::sleep(SHORT);
            gate.store(true, SeqCst);
        });
        assert!(inner.shutdown(LONG).is_empty());
        assert_eq!(ended.load(SeqCst), 2);
        opener.join().unwrap();
    });
}

#[test]
fn a_limit_around_it_ends_its_patience() {
    let gate = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let runtime = runtime();
        start_stubborn(&runtime, &gate, &ended);
        let stragglers = timeout(SHORT, || runtime.shutdown(LONG)).unwrap();
        assert_eq!(names(&stragglers), ["shielded", "swallows"]);
    }
    gate.store(true, SeqCst);
    until(|| ended.load(SeqCst) == 4);
}

#[test]
fn in_one_of_its_own_coroutines_it_panics_and_the_runtime_ends_all_the_same() {
    let (told, hears) = mpsc::channel();
    let runtime = Arc::new(std::sync::Mutex::new(Some(runtime())));
    let own = Arc::clone(&runtime);
    let spawner = runtime.lock().unwrap();
    let handle = spawner.as_ref().unwrap().spawn(move || {
        let runtime = own.lock().unwrap().take().unwrap();
        let payload = catch_unwind(AssertUnwindSafe(|| runtime.shutdown(LONG))).unwrap_err();
        let text = support::message(&*payload).to_owned();
        told.send(text).unwrap();
        thread::park();
    });
    drop(spawner);
    assert!(hears.recv().unwrap().contains("one of the runtime's own coroutines"));
    support::assert_cancelled(handle.join());
}
