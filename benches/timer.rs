//! The timer wheel beside a sorted map, a heap and tokio's, in one run: `cargo bench --bench timer`.
//!
//! `arm_cancel` is the life of a timeout that does not fire: armed and disarmed while so many
//! others stay armed. `timeout` is the same as a user sees it: a limit around a call that yields
//! once, beside the bare yield. `fire` arms timers and lets the clock run until all have fired, cascades
//! and all. `create` is a worker's start. Deadlines are spread evenly over 60 s.

#![allow(unsafe_code, missing_docs)]

#[cfg(not(cosocket_internals))]
compile_error!("benches need `--cfg cosocket_internals`, which .cargo/config.toml sets");

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use cosocket::internals::{Timer, Wheel};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SPREAD_NS: u64 = 60_000_000_000;
const START_NS: u64 = 1 << 50;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = arm_cancel, timeout, fire, create
}
criterion_main!(benches);

fn arm_cancel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arm_cancel");
    for armed in [0, 1_000, 1_000_000] {
        bench_arm_cancel::<OurWheel>(&mut group, armed);
        bench_arm_cancel::<SortedMap>(&mut group, armed);
        bench_arm_cancel::<Heap>(&mut group, armed);
        bench_tokio_sleep(&mut group, armed);
    }
}

fn timeout(criterion: &mut Criterion) {
    const LIMIT: Duration = Duration::from_secs(60);
    let mut group = criterion.benchmark_group("timeout");
    let cosocket = cosocket::Builder::new().workers(1).build().expect("a runtime");
    let ours = |rounds: u64, round: fn()| {
        cosocket.run(|| {
            let start = Instant::now();
            (0..rounds).for_each(|_| round());
            start.elapsed()
        })
    };
    group.bench_function("cosocket, empty", |bencher| {
        bencher
            .iter_custom(|rounds| ours(rounds, || cosocket::time::timeout(LIMIT, || ()).unwrap()));
    });
    group.bench_function("cosocket, yield", |bencher| {
        let round = || cosocket::time::timeout(LIMIT, cosocket::thread::yield_now).unwrap();
        bencher.iter_custom(|rounds| ours(rounds, round));
    });
    group.bench_function("cosocket, bare yield", |bencher| {
        bencher.iter_custom(|rounds| ours(rounds, cosocket::thread::yield_now));
    });
    let tokio =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    group.bench_function("tokio, empty", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio.block_on(async {
                let start = Instant::now();
                for _ in 0..rounds {
                    tokio::time::timeout(LIMIT, async {}).await.unwrap();
                }
                start.elapsed()
            })
        });
    });
    group.bench_function("tokio, yield", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio.block_on(async {
                let start = Instant::now();
                for _ in 0..rounds {
                    tokio::time::timeout(LIMIT, tokio::task::yield_now()).await.unwrap();
                }
                start.elapsed()
            })
        });
    });
    group.finish();
}

fn fire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fire");
    for count in [1_000, 100_000] {
        group.throughput(Throughput::Elements(count as u64));
        bench_fire::<OurWheel>(&mut group, count);
        bench_fire::<SortedMap>(&mut group, count);
        bench_fire::<Heap>(&mut group, count);
    }
}

fn create(criterion: &mut Criterion) {
    criterion.bench_function("create/wheel", |bencher| {
        bencher.iter_with_large_drop(|| Wheel::new(black_box(START_NS)));
    });
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn bench_arm_cancel<T: Timers>(group: &mut Group<'_>, armed: usize) {
    let mut timers = T::new(armed + 1);
    let mut noise = Noise(armed as u64 + 1);
    for index in 0..armed {
        timers.arm(index, START_NS + noise.next() % SPREAD_NS);
    }
    group.bench_function(BenchmarkId::new(T::NAME, armed), |bencher| {
        bencher.iter(|| {
            timers.arm(armed, START_NS + noise.next() % SPREAD_NS);
            timers.cancel(armed);
        });
    });
}

/// A `sleep` that is polled once, which arms it, and dropped, which cancels it.
fn bench_tokio_sleep(group: &mut Group<'_>, armed: usize) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let start = tokio::time::Instant::now();
    let mut noise = Noise(armed as u64 + 1);
    let mut sleep = || {
        tokio::time::sleep_until(start + Duration::from_nanos(SPREAD_NS + noise.next() % SPREAD_NS))
    };
    let mut context = Context::from_waker(Waker::noop());
    let _others: Vec<_> = (0..armed)
        .map(|_| {
            let mut other = Box::pin(sleep());
            assert!(other.as_mut().poll(&mut context).is_pending());
            other
        })
        .collect();
    group.bench_function(BenchmarkId::new("tokio", armed), |bencher| {
        bencher.iter(|| pin!(sleep()).poll(&mut context).is_pending());
    });
}

fn bench_fire<T: Timers>(group: &mut Group<'_>, count: usize) {
    let mut noise = Noise(count as u64);
    group.bench_function(BenchmarkId::new(T::NAME, count), |bencher| {
        bencher.iter_batched_ref(
            || T::new(count),
            |timers| {
                for index in 0..count {
                    timers.arm(index, START_NS + noise.next() % SPREAD_NS);
                }
                // A worker that turns once a millisecond.
                let mut fired = 0;
                let mut now = START_NS;
                while fired < count {
                    now += 1_000_000;
                    fired += timers.expire(now);
                }
                assert_eq!(fired, count);
            },
            BatchSize::LargeInput,
        );
    });
}

/// What the rivals have in common. An `index` names a timer; it is armed at most once.
trait Timers {
    const NAME: &'static str;
    fn new(count: usize) -> Self;
    fn arm(&mut self, index: usize, at: u64);
    fn cancel(&mut self, index: usize);
    /// How many were due.
    fn expire(&mut self, now: u64) -> usize;
}

struct OurWheel {
    wheel: Wheel,
    timers: Box<[Timer]>,
}

impl Timers for OurWheel {
    const NAME: &'static str = "wheel";

    fn new(count: usize) -> OurWheel {
        OurWheel { wheel: Wheel::new(START_NS), timers: (0..count).map(|_| Timer::new()).collect() }
    }

    fn arm(&mut self, index: usize, at: u64) {
        // SAFETY: the timers are boxed, and disarmed before they are dropped.
        unsafe { self.wheel.arm(&raw const self.timers[index], at) };
    }

    fn cancel(&mut self, index: usize) {
        // SAFETY: the timer is live and in no other wheel.
        unsafe { self.wheel.disarm(&raw const self.timers[index]) };
    }

    fn expire(&mut self, now: u64) -> usize {
        std::iter::from_fn(|| self.wheel.expire(now)).count()
    }
}

impl Drop for OurWheel {
    fn drop(&mut self) {
        (0..self.timers.len()).for_each(|index| self.cancel(index));
    }
}

struct SortedMap {
    map: BTreeMap<(u64, u64), ()>,
    deadlines: Box<[u64]>,
}

impl Timers for SortedMap {
    const NAME: &'static str = "btree_map";

    fn new(count: usize) -> SortedMap {
        SortedMap { map: BTreeMap::new(), deadlines: vec![0; count].into() }
    }

    fn arm(&mut self, index: usize, at: u64) {
        self.deadlines[index] = at;
        self.map.insert((at, index as u64), ());
    }

    fn cancel(&mut self, index: usize) {
        self.map.remove(&(self.deadlines[index], index as u64));
    }

    fn expire(&mut self, now: u64) -> usize {
        let mut fired = 0;
        while let Some(entry) = self.map.first_entry() {
            if entry.key().0 > now {
                break;
            }
            entry.remove();
            fired += 1;
        }
        fired
    }
}

/// A cancelled entry stays in the heap until it comes up, or until half of the heap is stale.
struct Heap {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    generations: Box<[u32]>,
    stale: usize,
}

impl Timers for Heap {
    const NAME: &'static str = "lazy_heap";

    fn new(count: usize) -> Heap {
        Heap { heap: BinaryHeap::new(), generations: vec![0; count].into(), stale: 0 }
    }

    fn arm(&mut self, index: usize, at: u64) {
        let generation = self.generations[index];
        self.heap.push(Reverse((at, index as u32, generation)));
    }

    fn cancel(&mut self, index: usize) {
        self.generations[index] = self.generations[index].wrapping_add(1);
        self.stale += 1;
        if self.stale > 64 && self.stale > self.heap.len() / 2 {
            let generations = &self.generations;
            self.heap.retain(|&Reverse((_, index, generation))| {
                generations[index as usize] == generation
            });
            self.stale = 0;
        }
    }

    fn expire(&mut self, now: u64) -> usize {
        let mut fired = 0;
        while let Some(&Reverse((at, index, generation))) = self.heap.peek() {
            if at > now {
                break;
            }
            self.heap.pop();
            let current = &mut self.generations[index as usize];
            if *current == generation {
                *current = current.wrapping_add(1);
                fired += 1;
            } else {
                self.stale -= 1;
            }
        }
        fired
    }
}

/// Xorshift: cheap enough to vanish beside what is measured.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
