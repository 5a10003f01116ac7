//! What a mutex costs, beside std's, tokio's and may's.
//!
//! `uncontended` is one lock and unlock of a mutex that nobody else wants. In `handed over` two go
//! round three mutexes, hand over hand: each takes the next one before it lets go of the one it has.
//! With three that is always one the other has, so each step waits for the other's last, and wakes
//! the other with what it lets go: one iteration is one mutex that one lets go and the other gets.
//! `one worker` has both on one thread, `two workers` on two: there every step wakes a thread that
//! may have gone to sleep. In `fought over`, two threads lock and unlock as fast as they can;
//! one iteration is a lock and unlock of one of them.
//!
//! cosocket and tokio have two runtimes of one worker each for two workers, so that neither moves
//! the two together.
//!
//! `cargo bench --bench mutex`

#![allow(missing_docs)]

use std::hint::black_box;
use std::ops::DerefMut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = uncontended, one_worker, two_workers, fought_over
}
criterion_main!(benches);

fn uncontended(criterion: &mut Criterion) {
    may::config().set_workers(1);
    let mut group = criterion.benchmark_group("mutex, uncontended");
    let cosocket = cosocket_runtime();
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let mutex = cosocket::sync::Mutex::new(0);
            cosocket.run(|| time(rounds, || mutex.count()))
        });
    });
    let tokio = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            let mutex = tokio::sync::Mutex::new(0);
            let timed = tokio.spawn(async move {
                let start = Instant::now();
                for _ in 0..rounds {
                    *black_box(&mutex).lock().await += 1;
                }
                start.elapsed()
            });
            tokio.block_on(timed).unwrap()
        });
    });
    group.bench_function("may", |bencher| {
        bencher.iter_custom(|rounds| {
            let mutex = may::sync::Mutex::new(0);
            may::go!(move || time(rounds, || mutex.count())).join().unwrap()
        });
    });
    group.bench_function("std", |bencher| {
        let mutex = std::sync::Mutex::new(0);
        bencher.iter_custom(|rounds| time(rounds, || mutex.count()));
    });
    group.finish();
}

fn one_worker(criterion: &mut Criterion) {
    may::config().set_workers(1);
    let mut group = criterion.benchmark_group("mutex handed over, one worker");
    let cosocket = cosocket_runtime();
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let ring = Arc::new(Ring::<cosocket::sync::Mutex<u64>>::default());
            let theirs = Arc::clone(&ring);
            cosocket.run(|| {
                let second = cosocket::spawn(move || {
                    theirs.walk(1, rounds / 2, cosocket::thread::yield_now)
                });
                let elapsed = ring.walk(0, rounds / 2, cosocket::thread::yield_now);
                second.join().unwrap();
                elapsed
            })
        });
    });
    let tokio = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            let ring = Arc::new(Ring::<tokio::sync::Mutex<u64>>::default());
            tokio.block_on(async {
                let first = tokio::spawn(Arc::clone(&ring).walk_async(0, rounds / 2));
                drop(tokio::spawn(ring.walk_async(1, rounds / 2)));
                first.await.unwrap()
            })
        });
    });
    group.bench_function("may", |bencher| {
        bencher.iter_custom(|rounds| {
            // A worker of may's that is kept busy by yields does not start others.
            let rest = || may::coroutine::sleep(Duration::from_millis(1));
            let walk_both = move || {
                let ring = Arc::new(Ring::<may::sync::Mutex<u64>>::default());
                let theirs = Arc::clone(&ring);
                let second = may::go!(move || theirs.walk(1, rounds / 2, rest));
                let elapsed = ring.walk(0, rounds / 2, rest);
                second.join().unwrap();
                elapsed
            };
            may::go!(walk_both).join().unwrap()
        });
    });
    group.finish();
}

fn two_workers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mutex handed over, two workers");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let ring = Arc::new(Ring::<cosocket::sync::Mutex<u64>>::default());
            let theirs = Arc::clone(&ring);
            here.run(|| {
                let second =
                    there.spawn(move || theirs.walk(1, rounds / 2, cosocket::thread::yield_now));
                let elapsed = ring.walk(0, rounds / 2, cosocket::thread::yield_now);
                second.join().unwrap();
                elapsed
            })
        });
    });
    let there = tokio_thread();
    let here = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            let ring = Arc::new(Ring::<tokio::sync::Mutex<u64>>::default());
            there.send((Arc::clone(&ring), rounds / 2)).unwrap();
            here.block_on(async { tokio::spawn(ring.walk_async(0, rounds / 2)).await.unwrap() })
        });
    });
    group.bench_function("std", |bencher| {
        bencher.iter_custom(|rounds| {
            let ring = Arc::new(Ring::<std::sync::Mutex<u64>>::default());
            let theirs = Arc::clone(&ring);
            let second =
                std::thread::spawn(move || theirs.walk(1, rounds / 2, std::thread::yield_now));
            let elapsed = ring.walk(0, rounds / 2, std::thread::yield_now);
            second.join().unwrap();
            elapsed
        });
    });
    group.finish();
}

fn fought_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mutex fought over, two workers");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let prize = Arc::new(Prize::<cosocket::sync::Mutex<u64>>::default());
            let theirs = Arc::clone(&prize);
            let other = there.spawn(move || theirs.fight());
            let elapsed = here.run(|| prize.fight_for(rounds));
            other.join().unwrap();
            elapsed
        });
    });
    group.bench_function("std", |bencher| {
        bencher.iter_custom(|rounds| {
            let prize = Arc::new(Prize::<std::sync::Mutex<u64>>::default());
            let theirs = Arc::clone(&prize);
            let other = std::thread::spawn(move || theirs.fight());
            let elapsed = prize.fight_for(rounds);
            other.join().unwrap();
            elapsed
        });
    });
    group.finish();
}

/// Whose mutex it is.
trait Lock: Default {
    fn lock(&self) -> impl DerefMut<Target = u64> + '_;

    fn count(&self) {
        *Lock::lock(black_box(self)) += 1;
    }
}

macro_rules! locks {
    ($($mutex:ty),*) => {$(
        impl Lock for $mutex {
            fn lock(&self) -> impl DerefMut<Target = u64> + '_ {
                <$mutex>::lock(self).unwrap()
            }
        }
    )*};
}

locks!(cosocket::sync::Mutex<u64>, may::sync::Mutex<u64>, std::sync::Mutex<u64>);

/// Three mutexes, gone round by two.
#[derive(Default)]
struct Ring<M> {
    mutexes: [M; 3],
    /// How many stand in their places.
    ready: AtomicUsize,
}

impl<M: Lock> Ring<M> {
    fn walk(&self, start: usize, steps: u64, give_way: fn()) -> Duration {
        let mut place = start;
        let mut held = self.mutexes[place].lock();
        *held += 1;
        self.ready.fetch_add(1, Ordering::Relaxed);
        while self.ready.load(Ordering::Relaxed) < 2 {
            give_way();
        }
        time(steps, || {
            place = (place + 1) % 3;
            held = self.mutexes[place].lock();
            *held += 1;
        })
    }
}

impl Ring<tokio::sync::Mutex<u64>> {
    async fn walk_async(self: Arc<Self>, mut place: usize, steps: u64) -> Duration {
        let mut held = self.mutexes[place].lock().await;
        *held += 1;
        self.ready.fetch_add(1, Ordering::Relaxed);
        while self.ready.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        for _ in 0..steps {
            place = (place + 1) % 3;
            held = self.mutexes[place].lock().await;
            *held += 1;
        }
        start.elapsed()
    }
}

/// A mutex, and whether the fight for it is over.
#[derive(Default)]
struct Prize<M> {
    mutex: M,
    over: AtomicBool,
}

impl<M: Lock> Prize<M> {
    fn fight_for(&self, rounds: u64) -> Duration {
        let elapsed = time(rounds, || self.mutex.count());
        self.over.store(true, Ordering::Relaxed);
        elapsed
    }

    fn fight(&self) {
        while !self.over.load(Ordering::Relaxed) {
            self.mutex.count();
        }
    }
}

fn time(rounds: u64, mut turn: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        turn();
    }
    start.elapsed()
}

fn cosocket_runtime() -> cosocket::Runtime {
    cosocket::Builder::new().workers(1).build().expect("a runtime")
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A thread with a runtime that walks the rings it is sent.
fn tokio_thread() -> mpsc::Sender<(Arc<Ring<tokio::sync::Mutex<u64>>>, u64)> {
    let (sender, receiver) = mpsc::channel::<(Arc<Ring<tokio::sync::Mutex<u64>>>, u64)>();
    std::thread::spawn(move || {
        let runtime = tokio_runtime();
        for (ring, steps) in receiver {
            runtime.block_on(async { tokio::spawn(ring.walk_async(1, steps)).await.unwrap() });
        }
    });
    sender
}
