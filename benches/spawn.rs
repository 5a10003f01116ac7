//! What it costs to spawn, beside tokio, may and std's threads in the same run.
//!
//! `join` spawns one that returns a number, and joins it. `detached` spawns a thousand that add
//! one to a counter, and parks until the last one wakes it: the throughput is in spawns. Coroutines and tasks
//! have one worker, and are spawned by one of their own.
//!
//! `cargo bench --bench spawn`

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::sync::Notify;

const BATCH: usize = 1000;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = join, detached
}
criterion_main!(benches);

fn join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spawn and join");
    let cosocket = one_worker();
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            cosocket.run(|| time(rounds, || cosocket::spawn(|| black_box(1)).join().unwrap()))
        });
    });
    let tokio = current_thread();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio.block_on(async {
                let start = Instant::now();
                for _ in 0..rounds {
                    black_box(tokio::spawn(async { black_box(1) }).await.unwrap());
                }
                start.elapsed()
            })
        });
    });
    may::config().set_workers(1);
    group.bench_function("may", |bencher| {
        bencher.iter_custom(|rounds| {
            may::go!(move || time(rounds, || may::go!(|| black_box(1)).join().unwrap()))
                .join()
                .unwrap()
        });
    });
    group.bench_function("std::thread", |bencher| {
        bencher.iter(|| std::thread::spawn(|| black_box(1)).join().unwrap());
    });
    group.finish();
}

fn detached(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spawn 1000 detached");
    group.throughput(Throughput::Elements(BATCH as u64));
    let cosocket = one_worker();
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| cosocket.run(|| time(rounds, cosocket_batch)));
    });
    let tokio = current_thread();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio.block_on(async {
                let start = Instant::now();
                for _ in 0..rounds {
                    tokio_batch().await;
                }
                start.elapsed()
            })
        });
    });
    may::config().set_workers(1);
    group.bench_function("may", |bencher| {
        bencher.iter_custom(|rounds| may::go!(move || time(rounds, may_batch)).join().unwrap());
    });
    group.sample_size(10).bench_function("std::thread", |bencher| bencher.iter(thread_batch));
    group.finish();
}

fn cosocket_batch() {
    let spawner = cosocket::thread::current();
    let batch = Batch::new(move || spawner.unpark());
    for _ in 0..BATCH {
        let batch = Arc::clone(&batch);
        drop(cosocket::spawn(move || batch.count()));
    }
    batch.wait(cosocket::thread::park);
}

fn may_batch() {
    let spawner = may::coroutine::current();
    let batch = Batch::new(move || spawner.unpark());
    for _ in 0..BATCH {
        let batch = Arc::clone(&batch);
        drop(may::go!(move || batch.count()));
    }
    batch.wait(may::coroutine::park);
}

fn thread_batch() {
    let spawner = std::thread::current();
    let batch = Batch::new(move || spawner.unpark());
    for _ in 0..BATCH {
        let batch = Arc::clone(&batch);
        drop(std::thread::spawn(move || batch.count()));
    }
    batch.wait(std::thread::park);
}

async fn tokio_batch() {
    let notify = Arc::new(Notify::new());
    let last = Arc::clone(&notify);
    let batch = Batch::new(move || last.notify_one());
    for _ in 0..BATCH {
        let batch = Arc::clone(&batch);
        drop(tokio::spawn(async move { batch.count() }));
    }
    while !batch.is_done() {
        notify.notified().await;
    }
}

/// Counts those that have run; the last one calls `wake`.
struct Batch<F> {
    done: AtomicUsize,
    wake: F,
}

impl<F: Fn()> Batch<F> {
    fn new(wake: F) -> Arc<Batch<F>> {
        Arc::new(Batch { done: AtomicUsize::new(0), wake })
    }

    fn count(&self) {
        if self.done.fetch_add(1, AcqRel) + 1 == BATCH {
            (self.wake)();
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Acquire) == BATCH
    }

    fn wait(&self, park: impl Fn()) {
        while !self.is_done() {
            park();
        }
    }
}

fn time<T>(rounds: u64, mut round: impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(round());
    }
    start.elapsed()
}

fn one_worker() -> cosocket::Runtime {
    cosocket::Builder::new().workers(1).build().expect("a runtime")
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}
