//! A limit that does not pass allocates nothing and makes no system call of its own. Alone in its
//! process, for it counts what the process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cosocket::net::{TcpListener, TcpStream};
use cosocket::time::timeout;
use cosocket::{Builder, Runtime, spawn_local, thread};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code)]
// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that it asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: u64 = 2000;
const LIMIT: Duration = Duration::from_secs(3600);

/// What so many rounds of `round` cost: allocations, and system calls of the runtime's.
fn cost_of(runtime: &Runtime, mut round: impl FnMut()) -> (u64, u64) {
    round();
    let calls = runtime.metrics().system_calls;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    (0..ROUNDS).for_each(|_| round());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    (allocations, runtime.metrics().system_calls - calls)
}

fn within<T>(is_limited: bool, f: impl FnOnce() -> T) -> T {
    if is_limited { timeout(LIMIT, || timeout(LIMIT * 2, f)).unwrap().unwrap() } else { f() }
}

/// A request and its answer, both of which wait, with and without limits around.
fn exchanges(runtime: &Runtime, is_limited: bool) -> (u64, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let echo = spawn_local(move || {
        let mut byte = [0];
        while within(is_limited, || server.read(&mut byte)).unwrap() == 1 {
            within(is_limited, || server.write_all(&byte)).unwrap();
        }
    });
    let cost = cost_of(runtime, || {
        let mut byte = [7];
        within(is_limited, || client.write_all(&byte)).unwrap();
        within(is_limited, || client.read_exact(&mut byte)).unwrap();
    });
    drop(client);
    echo.join().unwrap();
    cost
}

#[test]
fn a_limit_that_does_not_pass_costs_no_allocation_and_no_system_call() {
    let runtime = Builder::new().workers(1).build().unwrap();
    // Nothing but the limits themselves.
    let (allocations, calls) = runtime.run(|| cost_of(&runtime, || within(true, || ())));
    assert_eq!((allocations, calls), (0, 0));
    // The loop turns every 64 switches, and that may be a system call; a limit adds none.
    let (allocations, limited) =
        runtime.run(|| cost_of(&runtime, || within(true, thread::yield_now)));
    let (_, free) = runtime.run(|| cost_of(&runtime, || within(false, thread::yield_now)));
    assert_eq!(allocations, 0);
    assert!(limited <= free + 1, "{limited} system calls with limits, {free} without");
    let (allocations, limited) = runtime.run(|| exchanges(&runtime, true));
    let (_, free) = runtime.run(|| exchanges(&runtime, false));
    assert_eq!(allocations, 0);
    // A few either way, by how the two take turns.
    let (few, calls_a_round) = (ROUNDS / 20, free as f64 / ROUNDS as f64);
    assert!(limited <= free + few, "{limited} with, {free} ({calls_a_round} a round) without");
    // On a plain thread.
    let (allocations, _) = cost_of(&runtime, || within(true, || ()));
    assert_eq!(allocations, 0);
}
