//! cosocket's micro benchmarks.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use cosocket::sync::{Mutex, mpmc};
use cosocket::thread::{self, Thread};
use cosocket::{Builder, Runtime};

use super::{FAR, Footprint, Growth, MANY, MILLION, Measured, STEPS, Stopwatch, per_step, time};

pub fn measure(name: &str) -> Measured {
    match name {
        "switch" => switch::measure(),
        "spawn-join" => runtime().run(|| {
            let spawn = || drop(black_box(cosocket::spawn(|| black_box(1)).join()));
            per_step(STEPS, || time(STEPS, spawn))
        }),
        "spawn-fresh" => runtime().run(|| Some(suspend_many(MANY, |_| ()).0)),
        "spawn-pooled" => runtime().run(|| {
            suspend_many(MANY, |_| ());
            Some(suspend_many(MANY, |_| ()).0)
        }),
        "yield" => runtime().run(|| per_step(2 * STEPS, || yield_pair(STEPS))),
        "park" => runtime().run(|| per_step(2 * STEPS, || park_pair(STEPS))),
        "channel" => runtime().run(|| per_step(STEPS, || ping_pong(STEPS))),
        "mutex" => runtime().run(|| per_step(2 * STEPS, || hand_over(STEPS))),
        "timeout" => runtime().run(|| {
            let wait = per_step(STEPS, || time(STEPS, thread::yield_now))?;
            let limited = || cosocket::time::timeout(FAR, thread::yield_now).expect("it is far");
            Some(per_step(STEPS, || time(STEPS, limited))? - wait)
        }),
        "timer" => timer::measure(),
        "sleeps" => million_runtime().run(|| Some(sleep_many(MILLION))),
        "memory-100k" => runtime().run(|| Some(memory(MANY).resident_bytes)),
        "memory-1m" => million_runtime().run(|| Some(memory(MILLION).resident_bytes)),
        "tables-100k" => runtime().run(|| Some(memory(MANY).table_bytes)),
        "tables-1m" => million_runtime().run(|| Some(memory(MILLION).table_bytes)),
        _ => None,
    }
}

fn runtime() -> Runtime {
    Builder::new().workers(1).build().expect("a runtime")
}

/// As one that wants a million would be set up: see the guide on stacks.
fn million_runtime() -> Runtime {
    Builder::new().workers(1).stack_size(64 << 10).build().expect("a runtime")
}

/// Spawns so many that suspend, and calls `at_rest`. Nanoseconds for each, and what that said.
fn suspend_many<T>(count: usize, at_rest: impl FnOnce(usize) -> T) -> (f64, T) {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut handles = Vec::with_capacity(count);
    let start = Stopwatch::start();
    for _ in 0..count {
        let begun = Arc::clone(&begun);
        handles.push(cosocket::spawn(move || {
            begun.fetch_add(1, Relaxed);
            thread::park();
        }));
    }
    while begun.load(Relaxed) < count {
        thread::yield_now();
    }
    let nanoseconds = start.elapsed().as_nanos() as f64 / count as f64;
    let said = at_rest(count);
    handles.iter().for_each(|handle| handle.thread().unpark());
    handles.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
    (nanoseconds, said)
}

fn memory(count: usize) -> Growth {
    let before = Footprint::now();
    let (_, grown) = suspend_many(count, |count| before.growth_per(count));
    // The vector of handles is the benchmark's.
    let handle_bytes = size_of::<thread::JoinHandle<()>>() as f64;
    Growth { resident_bytes: grown.resident_bytes - handle_bytes, ..grown }
}

/// So many are suspended already, and all begin to sleep. Nanoseconds for each.
fn sleep_many(count: usize) -> f64 {
    let [ready, begun] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let sleepers: Vec<_> = (0..count)
        .map(|index| {
            let (ready, begun) = (Arc::clone(&ready), Arc::clone(&begun));
            cosocket::spawn(move || {
                ready.fetch_add(1, Relaxed);
                thread::park();
                begun.fetch_add(1, Relaxed);
                thread::sleep(FAR + Duration::from_micros(index as u64));
            })
        })
        .collect();
    while ready.load(Relaxed) < count {
        thread::yield_now();
    }
    let start = Stopwatch::start();
    sleepers.iter().for_each(|sleeper| sleeper.thread().unpark());
    while begun.load(Relaxed) < count {
        thread::yield_now();
    }
    let elapsed = start.elapsed();
    sleepers.iter().for_each(|sleeper| sleeper.cancel());
    elapsed.as_nanos() as f64 / count as f64
}

fn yield_pair(turns: u64) -> Duration {
    // Both by the same code, as in the others: returns into other code would be mispredicted.
    let other = cosocket::spawn(move || time(turns, thread::yield_now));
    let elapsed = time(turns, thread::yield_now);
    other.join().expect("it does not panic");
    elapsed
}

fn park_pair(turns: u64) -> Duration {
    let us = thread::current();
    let other = cosocket::spawn(move || answer_parks(&us, turns));
    let them = other.thread().clone();
    let elapsed = time(turns, || {
        them.unpark();
        thread::park();
    });
    other.join().expect("it does not panic");
    elapsed
}

fn answer_parks(asker: &Thread, turns: u64) {
    for _ in 0..turns {
        thread::park();
        asker.unpark();
    }
}

fn ping_pong(turns: u64) -> Duration {
    let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpmc::sync_channel::<u64>(1));
    let other = cosocket::spawn(move || {
        for value in pinged {
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

/// Two walk round a ring of three mutexes, each holding one and waiting for the next.
fn hand_over(steps: u64) -> Duration {
    let ring = Arc::new([(); 3].map(|()| Mutex::new(0_u64)));
    let ready = Arc::new(AtomicUsize::new(0));
    let (theirs, ready_too) = (Arc::clone(&ring), Arc::clone(&ready));
    let other = cosocket::spawn(move || walk(&theirs, &ready_too, 1, steps));
    let elapsed = walk(&ring, &ready, 0, steps);
    other.join().expect("it does not panic");
    elapsed
}

fn walk(ring: &[Mutex<u64>; 3], ready: &AtomicUsize, mut place: usize, steps: u64) -> Duration {
    let mut held = ring[place].lock().expect("nobody panics");
    ready.fetch_add(1, Relaxed);
    while ready.load(Relaxed) < 2 {
        thread::yield_now();
    }
    time(steps, || {
        place = (place + 1) % 3;
        held = ring[place].lock().expect("nobody panics");
        *held += 1;
    })
}

#[cfg(cosocket_internals)]
mod switch {
    use super::super::{Measured, STEPS, per_step, time};
    use cosocket::internals::arch::{self, Context};

    const STACK_BYTES: usize = 64 << 10;

    /// Its own context, and the one that resumes it.
    struct Pair {
        own: Context,
        home: Context,
    }

    unsafe extern "C" fn suspend_for_ever(mut word: usize, data: *mut ()) -> ! {
        let pair = data.cast::<Pair>();
        loop {
            // SAFETY: the pair outlives the coroutine; we run as `own`, and `home` waits.
            word = unsafe { arch::suspend(&raw mut (*pair).own, &raw mut (*pair).home, word + 1) };
        }
    }

    pub fn measure() -> Measured {
        let mut stack = vec![0_u8; STACK_BYTES];
        let low = stack.as_mut_ptr();
        let low = low.wrapping_add(low.align_offset(64));
        let top = low.wrapping_add(STACK_BYTES - 64);
        let mut pair = Pair { own: Context::new(), home: Context::new() };
        let pair = &raw mut pair;
        // SAFETY: a stack of its own, which outlives the last switch.
        unsafe { arch::init(&raw mut (*pair).own, (top, low), suspend_for_ever, pair.cast()) };
        let mut word = 0;
        let mut turn = || {
            // SAFETY: it suspends to `home`, and is never done.
            word = unsafe { arch::resume(&raw mut (*pair).home, &raw mut (*pair).own, word) };
        };
        let measured = per_step(100 * STEPS, || time(100 * STEPS, &mut turn));
        // SAFETY: it is not resumed again; its frames own nothing.
        unsafe { arch::release(&raw mut (*pair).own) };
        measured
    }
}

#[cfg(cosocket_internals)]
mod timer {
    use super::super::{FAR, MILLION, Measured, Noise, Stopwatch};
    use cosocket::internals::{Timer, Wheel};

    /// A million timers on the wheel of a worker.
    pub fn measure() -> Measured {
        let (wheel, mut noise) = (Wheel::new(1 << 50), Noise(1));
        let timers: Vec<Timer> = (0..MILLION).map(|_| Timer::new()).collect();
        let start = Stopwatch::start();
        for timer in &timers {
            // SAFETY: the timers stay in their places, and are disarmed before they are dropped.
            unsafe { wheel.arm(timer, (1 << 50) + noise.next() % FAR.as_nanos() as u64) };
        }
        let elapsed = start.elapsed();
        for timer in &timers {
            // SAFETY: armed on this wheel.
            unsafe { wheel.disarm(timer) };
        }
        Some(elapsed.as_nanos() as f64 / MILLION as f64)
    }
}

/// Built without `--cfg cosocket_internals`, as nobody does in this repository.
#[cfg(not(cosocket_internals))]
mod switch {
    pub fn measure() -> super::Measured {
        None
    }
}

#[cfg(not(cosocket_internals))]
mod timer {
    pub fn measure() -> super::Measured {
        None
    }
}
