//! may's.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use may::coroutine::{self, yield_now};
use may::sync::{Mutex, mpsc};

use super::{Footprint, Measured, STEPS, Stopwatch, per_step, time};

/// Each stack takes two mappings, of which there are 65 530 by default.
const MOST: usize = 25_000;

pub fn measure(name: &str) -> Measured {
    may::config().set_workers(1);
    match name {
        "spawn-join" => inside(|| {
            let spawn = || drop(black_box(may::go!(|| black_box(1)).join()));
            per_step(STEPS, || time(STEPS, spawn))
        }),
        "spawn-fresh" => inside(|| Some(suspend_many(MOST, |_| ()).0)),
        "spawn-pooled" => inside(|| {
            suspend_many(MOST, |_| ());
            Some(suspend_many(MOST, |_| ()).0)
        }),
        "yield" => inside(|| per_step(2 * STEPS, || yield_pair(STEPS))),
        "park" => inside(|| per_step(2 * STEPS, || park_pair(STEPS))),
        "channel" => inside(|| per_step(STEPS, || ping_pong(STEPS))),
        "mutex" => inside(|| per_step(2 * STEPS, || hand_over(STEPS))),
        "memory-100k" => inside(|| Some(memory(MOST))),
        _ => None,
    }
}

fn inside(f: impl FnOnce() -> Measured + Send + 'static) -> Measured {
    may::go!(f).join().expect("it does not panic")
}

fn suspend_many<T>(count: usize, at_rest: impl FnOnce(usize) -> T) -> (f64, T) {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut handles = Vec::with_capacity(count);
    let start = Stopwatch::start();
    for _ in 0..count {
        let begun = Arc::clone(&begun);
        handles.push(may::go!(move || {
            begun.fetch_add(1, Relaxed);
            coroutine::park();
        }));
    }
    while begun.load(Relaxed) < count {
        yield_now();
    }
    let nanoseconds = start.elapsed().as_nanos() as f64 / count as f64;
    let said = at_rest(count);
    handles.iter().for_each(|handle| handle.coroutine().unpark());
    handles.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
    (nanoseconds, said)
}

fn memory(count: usize) -> f64 {
    let handle_bytes = size_of::<coroutine::JoinHandle<()>>() as f64;
    let before = Footprint::now();
    suspend_many(count, |count| before.growth_per(count)).1.resident_bytes - handle_bytes
}

fn yield_pair(turns: u64) -> Duration {
    let begun = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&begun);
    let other = may::go!(move || {
        theirs.store(1, Relaxed);
        time(turns, yield_now);
    });
    while begun.load(Relaxed) == 0 {
        rest();
    }
    let elapsed = time(turns, yield_now);
    other.join().expect("it does not panic");
    elapsed
}

fn park_pair(turns: u64) -> Duration {
    let us = coroutine::current();
    let other = may::go!(move || {
        for _ in 0..turns {
            coroutine::park();
            us.unpark();
        }
    });
    let them = other.coroutine().clone();
    let elapsed = time(turns, || {
        them.unpark();
        coroutine::park();
    });
    other.join().expect("it does not panic");
    elapsed
}

fn ping_pong(turns: u64) -> Duration {
    let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpsc::channel::<u64>());
    let other = may::go!(move || {
        while let Ok(value) = pinged.recv() {
            pong.send(value).expect("the asker waits");
        }
    });
    let elapsed = time(turns, || {
        ping.send(1).expect("the other waits");
        black_box(ponged.recv().expect("the other answers"));
    });
    drop(ping);
    other.join().expect("it does not panic");
    elapsed
}

fn hand_over(steps: u64) -> Duration {
    let ring = Arc::new([(); 3].map(|()| Mutex::new(0_u64)));
    let ready = Arc::new(AtomicUsize::new(0));
    let (theirs, ready_too) = (Arc::clone(&ring), Arc::clone(&ready));
    let other = may::go!(move || walk(&theirs, &ready_too, 1, steps));
    let elapsed = walk(&ring, &ready, 0, steps);
    other.join().expect("it does not panic");
    elapsed
}

fn walk(ring: &[Mutex<u64>; 3], ready: &AtomicUsize, mut place: usize, steps: u64) -> Duration {
    let mut held = ring[place].lock().expect("nobody panics");
    ready.fetch_add(1, Relaxed);
    while ready.load(Relaxed) < 2 {
        rest();
    }
    time(steps, || {
        place = (place + 1) % 3;
        held = ring[place].lock().expect("nobody panics");
        *held += 1;
    })
}

/// A worker of may's that is kept busy by yields does not start others.
fn rest() {
    coroutine::sleep(Duration::from_millis(1));
}
