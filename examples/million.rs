//! A million coroutines, each suspended on a guarded stack of its own, on a stock kernel.
//!
//! ```text
//! cargo run --release --example million
//! cargo run --release --example million -- 100000
//! ```
//!
//! Needs about 4.6 GB for the million. Shows what each costs in memory and time.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use cosocket::{Builder, thread};

static AWAKE: AtomicUsize = AtomicUsize::new(0);

fn main() -> std::io::Result<()> {
    let count: usize = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().expect("a number"));
    let runtime = Builder::new().workers(1).stack_size(32 << 10).build()?;
    let before = Memory::now();
    let mut threads = Vec::with_capacity(count);
    let ((created, resumed), after) = runtime.run(|| {
        let start = Instant::now();
        for _ in 0..count {
            let handle = thread::spawn(|| {
                AWAKE.fetch_add(1, Relaxed);
                thread::park();
                AWAKE.fetch_sub(1, Relaxed);
            });
            threads.push(handle);
            if threads.len() % 1000 == 0 {
                thread::yield_now();
            }
        }
        while AWAKE.load(Relaxed) < count {
            thread::yield_now();
        }
        let created = start.elapsed();
        let after = Memory::now();
        let start = Instant::now();
        threads.iter().for_each(|handle| handle.thread().unpark());
        while AWAKE.load(Relaxed) > 0 {
            thread::yield_now();
        }
        ((created, start.elapsed()), after)
    });
    let each = |bytes: usize| bytes as f64 / count as f64;
    let handles = size_of_val(&threads[..]);
    println!("coroutines suspended        {count}, driver {}", runtime.driver());
    println!("resident, each              {:.0} bytes", each(after.resident - before.resident));
    println!("  of that, our handles      {:.0} bytes", each(handles));
    println!("page tables, each           {:.0} bytes", each(after.tables - before.tables));
    println!("mappings of the process     {} (was {})", after.mappings, before.mappings);
    println!("create and first run, each  {:.0} ns", each(created.as_nanos() as usize));
    println!("wake, resume and end, each  {:.0} ns", each(resumed.as_nanos() as usize));
    Ok(())
}

struct Memory {
    resident: usize,
    tables: usize,
    mappings: usize,
}

impl Memory {
    fn now() -> Memory {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().trim_end_matches(" kB").parse::<usize>().expect("kilobytes") * 1024
        };
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let (resident, tables) = (field("VmRSS:"), field("VmPTE:"));
        Memory { resident, tables, mappings: maps.lines().count() }
    }
}
