//! What a context switch costs, beside the corosensei crate in the same run.
//!
//! `pair` is a resume and the suspend that answers it. `direct` is two coroutines that switch to
//! each other, one pair per iteration. `ring` is one lap of 1000 coroutines that each switch to
//! the next: the throughput is in switches. Its stacks lie a power of two apart with their tops
//! alike (`plain`), or an odd number of pages apart with their tops spread over 1 KiB
//! (`coloured`). A bare switch touches contexts only; `touching` also writes to 512 bytes of each
//! stack, as a coroutine with something to do would.
//!
//! `cargo bench --bench switch`, best pinned to a core by `taskset -c 1`.

#![allow(missing_docs, unsafe_code)]

use std::hint::black_box;
use std::ptr;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use cosocket::internals::arch::{self, Context, Entry};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PAGE_BYTES: usize = 4096;
const RING: usize = 1000;
const PLAIN: Layout = Layout { stride: 16 * PAGE_BYTES, colour: 0 };
const COLOURED: Layout = Layout { stride: 17 * PAGE_BYTES, colour: 64 };

/// How stacks lie in memory.
#[derive(Clone, Copy)]
struct Layout {
    /// Bytes from one stack to the next; the lowest page of each is its guard.
    stride: usize,
    /// Bytes by which the top of each lies lower than that of the one before, modulo 1 KiB.
    colour: usize,
}

/// Stacks side by side in one mapping, each with a context on the line of a control block.
struct Stacks {
    mapping: *mut u8,
    layout: Layout,
    blocks: Vec<Block>,
}

#[repr(align(64))]
#[derive(Default)]
struct Block {
    context: Context,
}

impl Block {
    fn context(&self) -> *mut Context {
        ptr::from_ref(&self.context).cast_mut()
    }
}

impl Stacks {
    fn new(count: usize, layout: Layout) -> Stacks {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let len = count * layout.stride;
        // SAFETY: a new mapping, in which the advice and the guards below stay.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        assert_ne!(mapping, libc::MAP_FAILED);
        // SAFETY: as above.
        let status = unsafe { libc::madvise(mapping, len, libc::MADV_NOHUGEPAGE) };
        assert_eq!(status, 0);
        for index in 0..count {
            let guard = mapping.wrapping_byte_add(index * layout.stride);
            // SAFETY: as above.
            let status = unsafe { libc::mprotect(guard, PAGE_BYTES, libc::PROT_NONE) };
            assert_eq!(status, 0);
        }
        let blocks = (0..count).map(|_| Block::default()).collect();
        Stacks { mapping: mapping.cast(), layout, blocks }
    }

    /// Prepares the coroutine of this index to run `entry` with its own pair of contexts.
    fn init(&self, index: usize, entry: Entry, pair: &Pair) {
        let slot = self.mapping.wrapping_add(index * self.layout.stride);
        let lowered = index * self.layout.colour % 1024;
        let top = slot.wrapping_add(self.layout.stride - lowered);
        let data = ptr::from_ref(pair).cast_mut().cast();
        let context = self.blocks[index].context();
        // SAFETY: a slot of its own, and a context that has not been used.
        unsafe { arch::init(context, (top, slot.wrapping_add(PAGE_BYTES)), entry, data) };
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        for block in &self.blocks {
            // SAFETY: it is not resumed again; its frames own nothing.
            unsafe { arch::release(block.context()) };
        }
        let len = self.blocks.len() * self.layout.stride;
        // SAFETY: the mapping made by `new`.
        unsafe { libc::munmap(self.mapping.cast(), len) };
    }
}

/// The context that a coroutine of these benches is, and the one to which it switches.
struct Pair {
    from: *mut Context,
    to: *mut Context,
}

unsafe extern "C" fn suspend_for_ever(mut word: usize, data: *mut ()) -> ! {
    // SAFETY: `init` was given a pair that outlives the coroutine.
    let &Pair { from, to } = unsafe { &*data.cast::<Pair>() };
    loop {
        // SAFETY: we run as `from`, and the loop waits in `to`.
        word = unsafe { arch::suspend(from, to, word + 1) };
    }
}

/// Writes to eight cache lines of its frame between switches.
unsafe extern "C" fn touch_and_switch_for_ever(mut word: usize, data: *mut ()) -> ! {
    // SAFETY: `init` was given a pair that outlives the coroutine.
    let &Pair { from, to } = unsafe { &*data.cast::<Pair>() };
    let mut lines = [[0_usize; 8]; 8];
    loop {
        for line in &mut lines {
            line[0] = line[0].wrapping_add(word);
        }
        black_box(&mut lines);
        // SAFETY: we run as `from`, and all the others wait.
        word = unsafe { arch::switch(from, to, word + 1) };
    }
}

unsafe extern "C" fn switch_for_ever(mut word: usize, data: *mut ()) -> ! {
    // SAFETY: `init` was given a pair that outlives the coroutine.
    let &Pair { from, to } = unsafe { &*data.cast::<Pair>() };
    loop {
        // SAFETY: we run as `from`, and all the others wait.
        word = unsafe { arch::switch(from, to, word + 1) };
    }
}

fn pair(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair");

    let home = Block::default();
    let stacks = Stacks::new(1, COLOURED);
    let pair = Pair { from: stacks.blocks[0].context(), to: home.context() };
    stacks.init(0, suspend_for_ever, &pair);
    group.bench_function("cosocket", |bencher| {
        let mut word = 0;
        // SAFETY: it suspends to `home` and is never done.
        bencher.iter(|| word = unsafe { arch::resume(pair.to, pair.from, word) });
        black_box(word);
    });

    let stack = DefaultStack::new(16 * PAGE_BYTES).expect("a stack can be mapped");
    let mut coroutine = Coroutine::<usize, usize, (), _>::with_stack(stack, |yielder, first| {
        let mut word = first;
        loop {
            word = yielder.suspend(word + 1);
        }
    });
    group.bench_function("corosensei", |bencher| {
        let mut word = 0;
        bencher.iter(|| match coroutine.resume(word) {
            CoroutineResult::Yield(next) => word = next,
            CoroutineResult::Return(()) => unreachable!("it suspends for ever"),
        });
        black_box(word);
    });

    // Without words, as generators are mostly compared.
    group.bench_function("cosocket, no word", |bencher| {
        // SAFETY: it suspends to `home` and is never done.
        bencher.iter(|| unsafe { arch::resume(pair.to, pair.from, 0) });
    });
    let stack = DefaultStack::new(16 * PAGE_BYTES).expect("a stack can be mapped");
    let mut coroutine = Coroutine::<(), (), (), _>::with_stack(stack, |yielder, ()| {
        loop {
            yielder.suspend(());
        }
    });
    group.bench_function("corosensei, no word", |bencher| bencher.iter(|| coroutine.resume(())));
    group.finish();
}

/// A ring of coroutines that switch each to the next; the first one's place is taken by the
/// benchmark's own stack, so that one call is one lap.
fn ring(criterion: &mut Criterion, name: [&str; 2], count: usize, layout: Layout, run: Entry) {
    let [group, name] = name;
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(count as u64));
    let stacks = Stacks::new(count, layout);
    let pairs: Vec<Pair> = (0..count)
        .map(|index| Pair {
            from: stacks.blocks[index].context(),
            to: stacks.blocks[(index + 1) % count].context(),
        })
        .collect();
    for (index, pair) in pairs.iter().enumerate().skip(1) {
        stacks.init(index, run, pair);
    }
    // SAFETY: to these implementations the benchmark's stack is a coroutine like any other.
    let lap = |word| unsafe { arch::switch(pairs[0].from, pairs[0].to, word) };
    assert_eq!(lap(0), count - 1);
    group.bench_function(name, |bencher| bencher.iter(|| lap(black_box(0))));
    group.finish();
}

/// As many corosensei coroutines, resumed in turn.
fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring of 1000");
    group.throughput(Throughput::Elements(RING as u64));
    let mut coroutines: Vec<_> = (0..RING)
        .map(|_| {
            let stack = DefaultStack::new(15 * PAGE_BYTES).expect("a stack can be mapped");
            Coroutine::<usize, usize, (), _>::with_stack(stack, |yielder, first| {
                let mut word = first;
                loop {
                    word = yielder.suspend(word + 1);
                }
            })
        })
        .collect();
    group.bench_function("corosensei, resumed in turn", |bencher| {
        bencher.iter(|| {
            for coroutine in &mut coroutines {
                black_box(coroutine.resume(1));
            }
        });
    });
    group.finish();
}

fn switch(criterion: &mut Criterion) {
    pair(criterion);
    if arch::DIRECT {
        ring(criterion, ["direct", "cosocket"], 2, COLOURED, switch_for_ever);
        for (name, layout) in [("cosocket, plain", PLAIN), ("cosocket, coloured", COLOURED)] {
            ring(criterion, ["ring of 1000", name], RING, layout, switch_for_ever);
            let group = "ring of 1000, touching";
            ring(criterion, [group, name], RING, layout, touch_and_switch_for_ever);
        }
    }
    rounds(criterion);
}

criterion_group!(benches, switch);
criterion_main!(benches);
