//! What `RwLock`, `Condvar` and `Semaphore` cost, beside tokio's and std's.
//!
//! `uncontended` is one turn at a lock that nobody else wants. `handed over` is two that wait for
//! each other all the time: one iteration is there and back, two hand-overs. `one worker` has both
//! on one thread, `two workers` on two; cosocket and tokio have two runtimes of one worker each for
//! that. tokio has no condition variable: `Notify` is what does the work there.
//!
//! `cargo bench --bench locks`

#![allow(missing_docs)]

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cosocket::sync::{Condvar, Mutex, RwLock, Semaphore};
use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = rw_lock, semaphore, handed_over
}
criterion_main!(benches);

fn rw_lock(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rw_lock, uncontended");
    let cosocket = cosocket_runtime();
    group.bench_function("cosocket read", |bencher| {
        let lock = RwLock::new(0_u64);
        bencher.iter_custom(|rounds| {
            cosocket.run(|| time(rounds, || _ = black_box(*lock.read().unwrap())))
        });
    });
    group.bench_function("cosocket write", |bencher| {
        let lock = RwLock::new(0_u64);
        bencher.iter_custom(|rounds| {
            cosocket.run(|| time(rounds, || *black_box(&lock).write().unwrap() += 1))
        });
    });
    let tokio = tokio_runtime();
    group.bench_function("tokio read", |bencher| {
        let lock = tokio::sync::RwLock::new(0_u64);
        bencher.iter_custom(|rounds| {
            tokio.block_on(time_async(rounds, async || _ = black_box(*lock.read().await)))
        });
    });
    group.bench_function("tokio write", |bencher| {
        let lock = tokio::sync::RwLock::new(0_u64);
        bencher.iter_custom(|rounds| {
            tokio.block_on(time_async(rounds, async || *black_box(&lock).write().await += 1))
        });
    });
    group.bench_function("std read", |bencher| {
        let lock = std::sync::RwLock::new(0_u64);
        bencher.iter_custom(|rounds| time(rounds, || _ = black_box(*lock.read().unwrap())));
    });
    group.bench_function("std write", |bencher| {
        let lock = std::sync::RwLock::new(0_u64);
        bencher.iter_custom(|rounds| time(rounds, || *black_box(&lock).write().unwrap() += 1));
    });
    group.finish();
}

fn semaphore(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("semaphore, uncontended");
    let cosocket = cosocket_runtime();
    group.bench_function("cosocket", |bencher| {
        let semaphore = Semaphore::new(2);
        bencher.iter_custom(|rounds| {
            cosocket.run(|| time(rounds, || drop(black_box(&semaphore).acquire())))
        });
    });
    let tokio = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        let semaphore = tokio::sync::Semaphore::new(2);
        bencher.iter_custom(|rounds| {
            let turn = async || drop(black_box(&semaphore).acquire().await.unwrap());
            tokio.block_on(time_async(rounds, turn))
        });
    });
    group.finish();
}

fn handed_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("locks handed over");
    let [here, there] = [cosocket_runtime(), cosocket_runtime()];
    group.bench_function("cosocket Condvar, one worker", |bencher| {
        bencher.iter_custom(|rounds| cosocket_table_tennis::<Table>(rounds, &here, &here));
    });
    group.bench_function("cosocket Condvar, two workers", |bencher| {
        bencher.iter_custom(|rounds| cosocket_table_tennis::<Table>(rounds, &here, &there));
    });
    group.bench_function("cosocket Semaphore, one worker", |bencher| {
        bencher.iter_custom(|rounds| cosocket_table_tennis::<Permits>(rounds, &here, &here));
    });
    group.bench_function("cosocket Semaphore, two workers", |bencher| {
        bencher.iter_custom(|rounds| cosocket_table_tennis::<Permits>(rounds, &here, &there));
    });
    let (here, there) = (tokio_runtime(), tokio_thread());
    let notify = || [tokio::sync::Notify::new(), tokio::sync::Notify::new()];
    let semaphores = || [tokio::sync::Semaphore::new(0), tokio::sync::Semaphore::new(0)];
    async fn notified(pair: Arc<[tokio::sync::Notify; 2]>, me: usize) {
        pair[1 - me].notify_one();
        pair[me].notified().await;
    }
    async fn permitted(pair: Arc<[tokio::sync::Semaphore; 2]>, me: usize) {
        pair[1 - me].add_permits(1);
        pair[me].acquire().await.unwrap().forget();
    }
    group.bench_function("tokio Notify, one worker", |bencher| {
        bencher.iter_custom(|rounds| tokio_table_tennis(rounds, &here, None, notify(), notified));
    });
    group.bench_function("tokio Notify, two workers", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio_table_tennis(rounds, &here, Some(&there), notify(), notified)
        });
    });
    group.bench_function("tokio Semaphore, one worker", |bencher| {
        bencher
            .iter_custom(|rounds| tokio_table_tennis(rounds, &here, None, semaphores(), permitted));
    });
    group.bench_function("tokio Semaphore, two workers", |bencher| {
        bencher.iter_custom(|rounds| {
            tokio_table_tennis(rounds, &here, Some(&there), semaphores(), permitted)
        });
    });
    group.bench_function("std Condvar, threads", |bencher| {
        bencher.iter_custom(|rounds| {
            let table = Arc::new((std::sync::Mutex::new(0), std::sync::Condvar::new()));
            let play = move |table: &(std::sync::Mutex<usize>, std::sync::Condvar), me| {
                time(rounds, || {
                    let ball = table.0.lock().unwrap();
                    let mut ball = table.1.wait_while(ball, |ball| *ball != me).unwrap();
                    *ball = 1 - me;
                    table.1.notify_one();
                })
            };
            let theirs = Arc::clone(&table);
            let other = std::thread::spawn(move || play(&theirs, 1));
            let elapsed = play(&table, 0);
            other.join().unwrap();
            elapsed
        });
    });
    group.finish();
}

/// Two play with one ball: `hit` waits until it is here, and sends it back.
trait Game: Default + Send + Sync + 'static {
    fn hit(&self, me: usize);
}

/// The player who has the ball; who waits for it.
#[derive(Default)]
struct Table(Mutex<usize>, Condvar);

impl Game for Table {
    fn hit(&self, me: usize) {
        let ball = self.0.lock().unwrap();
        let mut ball = self.1.wait_while(ball, |ball| *ball != me).unwrap();
        *ball = 1 - me;
        self.1.notify_one();
    }
}

/// Who has a permit has the ball.
struct Permits([Semaphore; 2]);

impl Default for Permits {
    fn default() -> Permits {
        Permits([Semaphore::new(1), Semaphore::new(0)])
    }
}

impl Game for Permits {
    fn hit(&self, me: usize) {
        self.0[me].acquire().unwrap().forget();
        self.0[1 - me].add_permits(1);
    }
}

fn cosocket_table_tennis<G: Game>(
    rounds: u64,
    here: &cosocket::Runtime,
    there: &cosocket::Runtime,
) -> Duration {
    let game = Arc::new(G::default());
    let theirs = Arc::clone(&game);
    let other = there.spawn(move || time(rounds, || theirs.hit(1)));
    let elapsed = here.run(|| time(rounds, || game.hit(0)));
    other.join().unwrap();
    elapsed
}

/// `turn` tells the other one, then waits to be told.
fn tokio_table_tennis<P, F>(
    rounds: u64,
    here: &tokio::runtime::Runtime,
    there: Option<&tokio::runtime::Runtime>,
    pair: P,
    turn: fn(Arc<P>, usize) -> F,
) -> Duration
where
    P: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let pair = Arc::new(pair);
    let [ours, theirs] = [Arc::clone(&pair), pair];
    let play = move |pair: Arc<P>, me| async move {
        let start = Instant::now();
        for _ in 0..rounds {
            turn(Arc::clone(&pair), me).await;
        }
        start.elapsed()
    };
    let other = there.unwrap_or(here).spawn(play(theirs, 1));
    here.block_on(async {
        let elapsed = tokio::spawn(play(ours, 0)).await.unwrap();
        other.await.unwrap();
        elapsed
    })
}

fn time(rounds: u64, mut turn: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        turn();
    }
    start.elapsed()
}

async fn time_async(rounds: u64, turn: impl AsyncFn()) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        turn().await;
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
