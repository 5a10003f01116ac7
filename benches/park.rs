//! What it costs to wake another and wait for it, beside tokio, may and std's threads.
//!
//! Two of a kind in turn wake the other and park; one iteration is there and back. `one worker`
//! has both on one thread, `two workers` on two: there every wake goes to a thread that may have
//! gone to sleep. cosocket and tokio have two runtimes of one worker each for that, so that
//! neither moves the two together. tokio has no park for tasks: `Notify` does the same.
//!
//! `cargo bench --bench park`

#![allow(missing_docs)]

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tokio::sync::Notify;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = one_worker, two_workers
}
criterion_main!(benches);

fn one_worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("park, one worker");
    let cosocket = cosocket_runtime();
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            cosocket.run(|| {
                let first = cosocket::thread::current();
                let second = cosocket::spawn(move || {
                    serve(rounds, cosocket::thread::park, || first.unpark());
                });
                time(rounds, || second.thread().unpark(), cosocket::thread::park)
            })
        });
    });
    let tokio = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            let pair = Notifies::default();
            tokio.block_on(async {
                let first = tokio::spawn(pair.clone().time(rounds));
                drop(tokio::spawn(pair.serve(rounds)));
                first.await.unwrap()
            })
        });
    });
    may::config().set_workers(1);
    group.bench_function("may", |bencher| {
        bencher.iter_custom(|rounds| {
            let ping_pong = move || {
                let first = may::coroutine::current();
                let second =
                    may::go!(move || serve(rounds, may::coroutine::park, || first.unpark()));
                time(rounds, || second.coroutine().unpark(), may::coroutine::park)
            };
            may::go!(ping_pong).join().unwrap()
        });
    });
    group.finish();
}

fn two_workers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("park, two workers");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            here.run(|| {
                let first = cosocket::thread::current();
                let second = there.spawn(move || {
                    serve(rounds, cosocket::thread::park, || first.unpark());
                });
                time(rounds, || second.thread().unpark(), cosocket::thread::park)
            })
        });
    });
    let there = tokio_thread();
    let here = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|rounds| {
            let pair = Notifies::default();
            there.send((pair.clone(), rounds)).unwrap();
            here.block_on(async { tokio::spawn(pair.time(rounds)).await.unwrap() })
        });
    });
    group.bench_function("std::thread", |bencher| {
        bencher.iter_custom(|rounds| {
            let first = std::thread::current();
            let second = std::thread::spawn(move || {
                serve(rounds, std::thread::park, || first.unpark());
            });
            time(rounds, || second.thread().unpark(), std::thread::park)
        });
    });
    group.finish();
}

/// The first one's part.
fn time(rounds: u64, unpark: impl Fn(), park: impl Fn()) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        unpark();
        park();
    }
    start.elapsed()
}

/// The second one's part.
fn serve(rounds: u64, park: impl Fn(), unpark: impl Fn()) {
    for _ in 0..rounds {
        park();
        unpark();
    }
}

/// A task's way to wake, and one to be woken, each.
#[derive(Clone, Default)]
struct Notifies {
    first: Arc<Notify>,
    second: Arc<Notify>,
}

impl Notifies {
    async fn time(self, rounds: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..rounds {
            self.second.notify_one();
            self.first.notified().await;
        }
        start.elapsed()
    }

    async fn serve(self, rounds: u64) {
        for _ in 0..rounds {
            self.second.notified().await;
            self.first.notify_one();
        }
    }
}

fn cosocket_runtime() -> cosocket::Runtime {
    cosocket::Builder::new().workers(1).build().expect("a runtime")
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A thread with a runtime that serves what it is sent.
fn tokio_thread() -> mpsc::Sender<(Notifies, u64)> {
    let (sender, receiver) = mpsc::channel::<(Notifies, u64)>();
    std::thread::spawn(move || {
        let runtime = tokio_runtime();
        for (pair, rounds) in receiver {
            runtime.block_on(async { tokio::spawn(pair.serve(rounds)).await.unwrap() });
        }
    });
    sender
}
