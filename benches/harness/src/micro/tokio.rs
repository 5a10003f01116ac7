//! tokio's, on its current-thread runtime. Its tasks have no stacks.

use std::future::{Future, pending};
use std::hint::black_box;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{sleep_until, timeout};

use super::{FAR, Footprint, MANY, MILLION, Measured, Noise, STEPS, Stopwatch, per_step};

pub fn measure(name: &str) -> Measured {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    // What is left in it ends with the process.
    let runtime = ManuallyDrop::new(runtime);
    match name {
        "spawn-join" => timed(&runtime, STEPS, spawn_and_join),
        "spawn-fresh" => Some(suspend_many(&runtime, MANY)),
        "spawn-pooled" => {
            suspend_many(&runtime, MANY);
            Some(suspend_many(&runtime, MANY))
        }
        "yield" => timed(&runtime, 2 * STEPS, yield_pair),
        "park" => timed(&runtime, 2 * STEPS, notify_pair),
        "channel" => timed(&runtime, STEPS, ping_pong),
        "mutex" => timed(&runtime, 2 * STEPS, hand_over),
        "timeout" => {
            let wait = timed(&runtime, STEPS, || time_async(STEPS, yield_now))?;
            let limited = || timeout(FAR, yield_now());
            Some(timed(&runtime, STEPS, || time_async(STEPS, limited))? - wait)
        }
        "timer" => Some(arm_million(&runtime)),
        "sleeps" => Some(runtime.block_on(sleep_many(MILLION))),
        "memory-100k" => Some(memory(&runtime, MANY)),
        "memory-1m" => Some(memory(&runtime, MILLION)),
        _ => None,
    }
}

fn timed<F>(runtime: &Runtime, steps: u64, pass: impl Fn() -> F) -> Measured
where
    F: Future<Output = Duration> + Send + 'static,
{
    // As a task, as servers' code is.
    per_step(steps, || runtime.block_on(async { tokio::spawn(pass()).await.unwrap() }))
}

async fn time_async<F: Future + Send>(turns: u64, turn: impl Fn() -> F + Send) -> Duration {
    let start = Stopwatch::start();
    for _ in 0..turns {
        turn().await;
    }
    start.elapsed()
}

async fn spawn_and_join() -> Duration {
    time_async(STEPS, || tokio::spawn(async { black_box(1) })).await
}

/// Nanoseconds to spawn one of many, and to have it suspended.
fn suspend_many(runtime: &Runtime, count: usize) -> f64 {
    runtime.block_on(async {
        let begun = Arc::new(AtomicUsize::new(0));
        let start = Stopwatch::start();
        let handles = rest_many(count, &begun);
        while begun.load(Relaxed) < count {
            yield_now().await;
        }
        let nanoseconds = start.elapsed().as_nanos() as f64 / count as f64;
        for handle in handles {
            handle.abort();
            let _ = handle.await;
        }
        nanoseconds
    })
}

fn rest_many(count: usize, begun: &Arc<AtomicUsize>) -> Vec<tokio::task::JoinHandle<()>> {
    let mut handles = Vec::with_capacity(count);
    handles.extend((0..count).map(|_| {
        let begun = Arc::clone(begun);
        tokio::spawn(async move {
            begun.fetch_add(1, Relaxed);
            pending::<()>().await;
        })
    }));
    handles
}

fn memory(runtime: &Runtime, count: usize) -> f64 {
    runtime.block_on(async {
        let (before, begun) = (Footprint::now(), Arc::new(AtomicUsize::new(0)));
        let handles = rest_many(count, &begun);
        while begun.load(Relaxed) < count {
            yield_now().await;
        }
        // The vector of handles is the benchmark's.
        let handle_bytes = size_of_val(&handles[..]) as f64 / count as f64;
        before.growth_per(count).resident_bytes - handle_bytes
    })
}

async fn yield_pair() -> Duration {
    let other = tokio::spawn(time_async(STEPS, yield_now));
    let us = tokio::spawn(time_async(STEPS, yield_now));
    let elapsed = us.await.expect("it does not panic");
    other.await.expect("it does not panic");
    elapsed
}

/// `Notify` is what tokio has for park and unpark.
async fn notify_pair() -> Duration {
    let [us, them] = [(); 2].map(|()| Arc::new(Notify::new()));
    let [we, they] = [Arc::clone(&us), Arc::clone(&them)];
    let other = tokio::spawn(async move {
        for _ in 0..STEPS {
            they.notified().await;
            we.notify_one();
        }
    });
    let asking = tokio::spawn(async move {
        let start = Stopwatch::start();
        for _ in 0..STEPS {
            them.notify_one();
            us.notified().await;
        }
        start.elapsed()
    });
    let elapsed = asking.await.expect("it does not panic");
    other.await.expect("it does not panic");
    elapsed
}

async fn ping_pong() -> Duration {
    let [(ping, mut pinged), (pong, mut ponged)] = [(); 2].map(|()| mpsc::channel::<u64>(1));
    let other = tokio::spawn(async move {
        while let Some(value) = pinged.recv().await {
            pong.send(value).await.expect("the asker waits");
        }
    });
    let asking = tokio::spawn(async move {
        let start = Stopwatch::start();
        for _ in 0..STEPS {
            ping.send(1).await.expect("the other waits");
            black_box(ponged.recv().await.expect("the other answers"));
        }
        start.elapsed()
    });
    let elapsed = asking.await.expect("it does not panic");
    other.await.expect("it does not panic");
    elapsed
}

async fn hand_over() -> Duration {
    let ring = Arc::new([(); 3].map(|()| Arc::new(Mutex::new(0_u64))));
    let ready = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn(walk(Arc::clone(&ring), Arc::clone(&ready), 1));
    let us = tokio::spawn(walk(ring, ready, 0));
    let elapsed = us.await.expect("it does not panic");
    other.await.expect("it does not panic");
    elapsed
}

async fn walk(
    ring: Arc<[Arc<Mutex<u64>>; 3]>,
    ready: Arc<AtomicUsize>,
    mut place: usize,
) -> Duration {
    let mut held: OwnedMutexGuard<u64> = Arc::clone(&ring[place]).lock_owned().await;
    *held += 1;
    ready.fetch_add(1, Relaxed);
    while ready.load(Relaxed) < 2 {
        yield_now().await;
    }
    let start = Stopwatch::start();
    for _ in 0..STEPS {
        place = (place + 1) % 3;
        held = Arc::clone(&ring[place]).lock_owned().await;
        *held += 1;
    }
    start.elapsed()
}

/// So many are suspended already, and all begin to sleep. Nanoseconds for each.
async fn sleep_many(count: usize) -> f64 {
    let (begun, mut go) = (Arc::new(AtomicUsize::new(0)), Vec::with_capacity(count));
    for index in 0..count {
        let begun = Arc::clone(&begun);
        let (sender, told) = oneshot::channel();
        go.push(sender);
        tokio::spawn(async move {
            told.await.expect("it is told");
            begun.fetch_add(1, Relaxed);
            tokio::time::sleep(FAR + Duration::from_micros(index as u64)).await;
        });
    }
    yield_now().await;
    let start = Stopwatch::start();
    go.into_iter().for_each(|go| go.send(()).expect("it waits"));
    while begun.load(Relaxed) < count {
        yield_now().await;
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

/// A million sleeps, each polled once, which arms it.
fn arm_million(runtime: &Runtime) -> f64 {
    let _entered = runtime.enter();
    let (now, mut noise) = (tokio::time::Instant::now() + FAR, Noise(1));
    let mut sleeps: Vec<_> = (0..MILLION)
        .map(|_| {
            let extra = Duration::from_nanos(noise.next() % FAR.as_nanos() as u64);
            Box::pin(sleep_until(now + extra))
        })
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    let start = Stopwatch::start();
    for sleep in &mut sleeps {
        let sleep: Pin<&mut _> = sleep.as_mut();
        assert!(sleep.poll(&mut context).is_pending());
    }
    start.elapsed().as_nanos() as f64 / MILLION as f64
}
