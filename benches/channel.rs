//! What it costs to pass values through channels, beside tokio, may and std's threads.
//!
//! `ping-pong` is there and back through two channels with room for one value: two hand-overs
//! and two switches an iteration. `one way` has one sender and one receiver, `4 x 4` four of
//! each; there an iteration is one value. `one worker` has all on one thread, `two workers` on
//! two: cosocket and tokio have two runtimes of one worker each for that, so that neither moves
//! the two together.
//!
//! `cargo bench --bench channel`

#![allow(missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::mpmc;
use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = ping_pong_one_worker, ping_pong_two_workers, one_way_bounded, one_way_unbounded,
        four_by_four
}
criterion_main!(benches);

/// How many values a bounded channel holds where it is not one.
const BOUND: usize = 128;

fn ping_pong_one_worker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel ping-pong, one worker");
    let cosocket = cosocket_runtime();
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            cosocket.run(|| {
                let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpmc::sync_channel(1));
                cosocket::spawn(move || answer(rounds, || pinged.recv(), |n| pong.send(n)));
                ask(rounds, |n| ping.send(n), || ponged.recv())
            })
        });
    });
    let tokio = tokio_runtime();
    group.bench_function("tokio mpsc", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio.block_on(async {
                let [(ping, pinged), (pong, ponged)] =
                    [(); 2].map(|()| tokio::sync::mpsc::channel(1));
                drop(tokio::spawn(tokio_answer(rounds, pinged, pong)));
                tokio::spawn(tokio_ask(rounds, ping, ponged)).await.unwrap()
            })
        });
    });
    may::config().set_workers(1);
    group.bench_function("may mpsc", |bencher| {
        bencher.iter_custom(|rounds| {
            let pair = move || {
                let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| may::sync::mpsc::channel());
                may::go!(move || answer(rounds, || pinged.recv(), |n| pong.send(n)));
                ask(rounds, |n| ping.send(n), || ponged.recv())
            };
            may::go!(pair).join().unwrap()
        });
    });
    group.finish();
}

fn ping_pong_two_workers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel ping-pong, two workers");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket", |bencher| {
        bencher.iter_custom(|rounds| {
            let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpmc::sync_channel(1));
            there.spawn(move || answer(rounds, || pinged.recv(), |n| pong.send(n)));
            here.run(|| ask(rounds, |n| ping.send(n), || ponged.recv()))
        });
    });
    let (here, there) = (tokio_runtime(), tokio_thread());
    group.bench_function("tokio mpsc", |bencher| {
        bencher.iter_custom(|rounds| {
            let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| tokio::sync::mpsc::channel(1));
            drop(there.spawn(tokio_answer(rounds, pinged, pong)));
            here.block_on(async { tokio::spawn(tokio_ask(rounds, ping, ponged)).await.unwrap() })
        });
    });
    group.bench_function("std threads", |bencher| {
        bencher.iter_custom(|rounds| {
            let [(ping, pinged), (pong, ponged)] =
                [(); 2].map(|()| std::sync::mpsc::sync_channel(1));
            let second =
                std::thread::spawn(move || answer(rounds, || pinged.recv(), |n| pong.send(n)));
            let time = ask(rounds, |n| ping.send(n), || ponged.recv());
            second.join().unwrap();
            time
        });
    });
    group.bench_function("cosocket's, between threads", |bencher| {
        bencher.iter_custom(|rounds| {
            let [(ping, pinged), (pong, ponged)] = [(); 2].map(|()| mpmc::sync_channel(1));
            let second =
                std::thread::spawn(move || answer(rounds, || pinged.recv(), |n| pong.send(n)));
            let time = ask(rounds, |n| ping.send(n), || ponged.recv());
            second.join().unwrap();
            time
        });
    });
    group.finish();
}

fn one_way_bounded(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel one way, bounded");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket, one worker", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = mpmc::sync_channel(BOUND);
            here.run(|| {
                cosocket::spawn(move || send_all(values, |n| sender.send(n)));
                receive_all(values, || receiver.recv())
            })
        });
    });
    group.bench_function("cosocket, two workers", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = mpmc::sync_channel(BOUND);
            there.spawn(move || send_all(values, |n| sender.send(n)));
            here.run(|| receive_all(values, || receiver.recv()))
        });
    });
    let (here, there) = (tokio_runtime(), tokio_thread());
    group.bench_function("tokio mpsc, one worker", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = tokio::sync::mpsc::channel(BOUND);
            here.block_on(async {
                drop(tokio::spawn(tokio_send_all(values, sender)));
                tokio::spawn(tokio_receive_all(values, receiver)).await.unwrap()
            })
        });
    });
    group.bench_function("tokio mpsc, two workers", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = tokio::sync::mpsc::channel(BOUND);
            drop(there.spawn(tokio_send_all(values, sender)));
            here.block_on(async {
                tokio::spawn(tokio_receive_all(values, receiver)).await.unwrap()
            })
        });
    });
    group.bench_function("std threads", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = std::sync::mpsc::sync_channel(BOUND);
            std::thread::spawn(move || send_all(values, |n| sender.send(n)));
            receive_all(values, || receiver.recv())
        });
    });
    group.finish();
}

fn one_way_unbounded(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel one way, unbounded");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket, one worker", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = mpmc::channel();
            here.run(|| {
                cosocket::spawn(move || send_all(values, |n| sender.send(n)));
                receive_all(values, || receiver.recv())
            })
        });
    });
    group.bench_function("cosocket, two workers", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = mpmc::channel();
            there.spawn(move || send_all(values, |n| sender.send(n)));
            here.run(|| receive_all(values, || receiver.recv()))
        });
    });
    group.bench_function("may mpsc, one worker", |bencher| {
        bencher.iter_custom(|values| {
            let pair = move || {
                let (sender, receiver) = may::sync::mpsc::channel();
                may::go!(move || send_all(values, |n| sender.send(n)));
                receive_all(values, || receiver.recv())
            };
            may::go!(pair).join().unwrap()
        });
    });
    group.bench_function("std threads", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::spawn(move || send_all(values, |n| sender.send(n)));
            receive_all(values, || receiver.recv())
        });
    });
    group.finish();
}

fn four_by_four(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel 4 x 4, bounded");
    let cosocket = cosocket::Builder::new().workers(2).build().expect("a runtime");
    group.bench_function("cosocket, two workers", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = mpmc::sync_channel(BOUND);
            let start = Instant::now();
            cosocket.run(|| {
                let each = values.div_ceil(4);
                for sender in vec![sender; 4] {
                    cosocket::spawn(move || send_all(each, |n| sender.send(n)));
                }
                let spawn = |receiver: mpmc::Receiver<u64>| {
                    cosocket::spawn(move || receiver.iter().map(drop).count())
                };
                let receivers: Vec<_> = vec![receiver; 4].into_iter().map(spawn).collect();
                receivers.into_iter().for_each(|receiver| _ = receiver.join().unwrap());
            });
            start.elapsed()
        });
    });
    group.bench_function("cosocket's, between threads", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = mpmc::sync_channel(BOUND);
            let receive = |receiver: mpmc::Receiver<u64>| receiver.iter().map(drop).count();
            on_threads(values, sender, receiver, |n, sender| sender.send(n).unwrap(), receive)
        });
    });
    group.bench_function("crossbeam threads", |bencher| {
        bencher.iter_custom(|values| {
            let (sender, receiver) = crossbeam_channel::bounded(BOUND);
            let receive =
                |receiver: crossbeam_channel::Receiver<u64>| receiver.iter().map(drop).count();
            on_threads(values, sender, receiver, |n, sender| sender.send(n).unwrap(), receive)
        });
    });
    group.finish();
}

fn on_threads<S: Clone + Send, R: Clone + Send>(
    values: u64,
    sender: S,
    receiver: R,
    send: impl Fn(u64, &S) + Copy + Send,
    receive: impl Fn(R) -> usize + Copy + Send,
) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for sender in vec![sender; 4] {
            scope.spawn(move || (0..values.div_ceil(4)).for_each(|n| send(n, &sender)));
        }
        for receiver in vec![receiver; 4] {
            scope.spawn(move || receive(receiver));
        }
    });
    start.elapsed()
}

fn ask<S, R, E: std::fmt::Debug>(
    rounds: u64,
    send: impl Fn(u64) -> Result<(), S>,
    recv: impl Fn() -> Result<R, E>,
) -> Duration {
    let start = Instant::now();
    for round in 0..rounds {
        assert!(send(round).is_ok());
        recv().unwrap();
    }
    start.elapsed()
}

fn answer<S, R, E: std::fmt::Debug>(
    rounds: u64,
    recv: impl Fn() -> Result<R, E>,
    send: impl Fn(R) -> Result<(), S>,
) {
    for _ in 0..rounds {
        assert!(send(recv().unwrap()).is_ok());
    }
}

fn send_all<S>(values: u64, send: impl Fn(u64) -> Result<(), S>) {
    for value in 0..values {
        assert!(send(value).is_ok());
    }
}

fn receive_all<E: std::fmt::Debug>(values: u64, recv: impl Fn() -> Result<u64, E>) -> Duration {
    let start = Instant::now();
    for _ in 0..values {
        recv().unwrap();
    }
    start.elapsed()
}

type TokioSender = tokio::sync::mpsc::Sender<u64>;
type TokioReceiver = tokio::sync::mpsc::Receiver<u64>;

async fn tokio_ask(rounds: u64, sender: TokioSender, mut receiver: TokioReceiver) -> Duration {
    let start = Instant::now();
    for round in 0..rounds {
        sender.send(round).await.unwrap();
        receiver.recv().await.unwrap();
    }
    start.elapsed()
}

async fn tokio_answer(rounds: u64, mut receiver: TokioReceiver, sender: TokioSender) {
    for _ in 0..rounds {
        let value = receiver.recv().await.unwrap();
        sender.send(value).await.unwrap();
    }
}

async fn tokio_send_all(values: u64, sender: TokioSender) {
    for value in 0..values {
        sender.send(value).await.unwrap();
    }
}

async fn tokio_receive_all(values: u64, mut receiver: TokioReceiver) -> Duration {
    let start = Instant::now();
    for _ in 0..values {
        receiver.recv().await.unwrap();
    }
    start.elapsed()
}

fn cosocket_runtime() -> cosocket::Runtime {
    cosocket::Builder::new().workers(1).build().expect("a runtime")
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A runtime that another thread runs, for as long as the program.
fn tokio_thread() -> Arc<tokio::runtime::Runtime> {
    let runtime = Arc::new(tokio_runtime());
    let there = Arc::clone(&runtime);
    std::thread::spawn(move || there.block_on(std::future::pending::<()>()));
    runtime
}
