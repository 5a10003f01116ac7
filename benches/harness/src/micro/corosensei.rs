//! corosensei's: switches and stacks, for it has no scheduler.

use std::hint::black_box;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::{Footprint, MANY, Measured, STEPS, Stopwatch, per_step, time};

const STACK_BYTES: usize = 64 << 10;

/// Each stack takes two mappings, of which there are 65 530 by default.
const MOST: usize = 30_000;

type Suspended = Coroutine<usize, usize, ()>;

pub fn measure(name: &str) -> Measured {
    match name {
        "switch" => {
            let (mut coroutine, mut word) = (suspended(), 0);
            let turn = || match coroutine.resume(word) {
                CoroutineResult::Yield(next) => word = next,
                CoroutineResult::Return(()) => unreachable!("it suspends for ever"),
            };
            let mut turn = turn;
            per_step(100 * STEPS, || time(100 * STEPS, &mut turn))
        }
        "spawn-fresh" => {
            let start = Stopwatch::start();
            let all: Vec<Suspended> = (0..MOST).map(|_| begun()).collect();
            let elapsed = start.elapsed();
            std::mem::forget(black_box(all));
            Some(elapsed.as_nanos() as f64 / MOST as f64)
        }
        "memory-100k" => {
            let count = MANY.min(MOST);
            let mut all: Vec<Suspended> = Vec::with_capacity(count);
            let before = Footprint::now();
            all.extend((0..count).map(|_| begun()));
            let bytes = before.growth_per(count).resident_bytes - size_of::<Suspended>() as f64;
            std::mem::forget(all);
            Some(bytes)
        }
        _ => None,
    }
}

fn begun() -> Suspended {
    let mut coroutine = suspended();
    let _ = coroutine.resume(0);
    coroutine
}

fn suspended() -> Suspended {
    let stack = DefaultStack::new(STACK_BYTES).expect("a stack can be mapped");
    Coroutine::with_stack(stack, |yielder, mut word| {
        loop {
            word = yielder.suspend(word + 1);
        }
    })
}
