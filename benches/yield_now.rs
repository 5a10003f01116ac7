//! What it costs to let the next one run, beside tokio, may and std's threads in the same run.
//!
//! So many coroutines, tasks or threads each yield so often and do nothing else; the time is that
//! until all are done, and the throughput is in yields. Coroutines and tasks have one worker; the
//! two threads are pinned to one processor, since on two they would not have to take turns.
//! `hooked` are coroutines with a thread-local of their own, which is swapped at each switch.
//!
//! `cargo bench --bench yield_now`

#![allow(missing_docs, unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = yield_now
}
criterion_main!(benches);

fn yield_now(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("yield_now");
    let cosocket = cosocket::Builder::new().workers(1).build().expect("a runtime");
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    may::config().set_workers(1);
    for count in [2, 1000] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("cosocket", count), |bencher| {
            bencher.iter_custom(|yields| cosocket.run(|| cosocket_yields(yields, count)));
        });
        group.bench_function(BenchmarkId::new("cosocket hooked", count), |bencher| {
            bencher.iter_custom(|yields| cosocket.run(|| hooked_yields(yields, count)));
        });
        group.bench_function(BenchmarkId::new("tokio", count), |bencher| {
            bencher.iter_custom(|yields| tokio.block_on(tokio_yields(yields, count)));
        });
        group.bench_function(BenchmarkId::new("may", count), |bencher| {
            bencher
                .iter_custom(|yields| may::go!(move || may_yields(yields, count)).join().unwrap());
        });
    }
    group.throughput(Throughput::Elements(2));
    group.bench_function(BenchmarkId::new("std::thread", 2), |bencher| {
        bencher.iter_custom(|yields| {
            std::thread::spawn(move || thread_yields(yields)).join().unwrap()
        });
    });
    group.finish();
}

fn cosocket_yields(yields: u64, count: usize) -> Duration {
    time_of(count, move || (0..yields).for_each(|_| cosocket::thread::yield_now()))
}

fn hooked_yields(yields: u64, count: usize) -> Duration {
    thread_local!(static VALUE: Cell<u64> = const { Cell::new(0) });
    time_of(count, move || {
        cosocket::thread::with_thread_local(&VALUE, 1, || {
            (0..yields).for_each(|_| cosocket::thread::yield_now());
        });
    })
}

fn time_of(count: usize, run: impl FnOnce() + Copy + Send + 'static) -> Duration {
    let start = Instant::now();
    let all: Vec<_> = (0..count).map(|_| cosocket::spawn(run)).collect();
    all.into_iter().for_each(|one| one.join().unwrap());
    start.elapsed()
}

async fn tokio_yields(yields: u64, count: usize) -> Duration {
    let run = move || async move {
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
    };
    let start = Instant::now();
    let all: Vec<_> = (0..count).map(|_| tokio::spawn(run())).collect();
    for one in all {
        one.await.unwrap();
    }
    start.elapsed()
}

fn may_yields(yields: u64, count: usize) -> Duration {
    let run = move || (0..yields).for_each(|_| may::coroutine::yield_now());
    let start = Instant::now();
    let all: Vec<_> = (0..count).map(|_| may::go!(run)).collect();
    all.into_iter().for_each(|one| one.join().unwrap());
    start.elapsed()
}

fn thread_yields(yields: u64) -> Duration {
    pin_to_one_processor();
    let run = move || (0..yields).for_each(|_| std::thread::yield_now());
    let start = Instant::now();
    let all = [std::thread::spawn(run), std::thread::spawn(run)];
    all.into_iter().for_each(|one| one.join().unwrap());
    start.elapsed()
}

/// The calling thread, and those that it spawns.
fn pin_to_one_processor() {
    // SAFETY: a set of processors is plain bits, and the call reads it.
    unsafe {
        let mut processors: libc::cpu_set_t = std::mem::zeroed();
        let this_one = usize::try_from(libc::sched_getcpu()).expect("a processor's number");
        libc::CPU_SET(this_one, &mut processors);
        let status = libc::sched_setaffinity(0, size_of_val(&processors), &processors);
        assert_eq!(status, 0);
    }
}
