//! Ten thousand connections, served and driven by coroutines of one thread.
//!
//! ```text
//! cargo run --release --example c10k
//! cargo run --release --example c10k -- --connections 1000 --seconds 3
//! ```
//!
//! An echo server and as many clients, each a coroutine that blocks as if it were a thread, over
//! real TCP on loopback. Both ends of a connection take a descriptor of this process.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cosocket::net::{TcpListener, TcpStream};
use cosocket::{Builder, thread};
use hdrhistogram::Histogram;

#[derive(Default)]
struct Shared {
    connected: AtomicUsize,
    round_trips: AtomicUsize,
    stop: AtomicBool,
    latencies_ns: Mutex<Option<Histogram<u64>>>,
}

fn serve(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            let mut buffer = [0; 64];
            loop {
                stream.read_exact(&mut buffer)?;
                stream.write_all(&buffer)?;
            }
        });
    }
    Ok(())
}

fn drive(address: std::net::SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    shared.connected.fetch_add(1, Relaxed);
    let (question, mut answer) = ([7; 64], [0; 64]);
    while !shared.stop.load(Relaxed) {
        let start = Instant::now();
        stream.write_all(&question)?;
        stream.read_exact(&mut answer)?;
        assert_eq!(question, answer);
        shared.round_trips.fetch_add(1, Relaxed);
        let nanos = start.elapsed().as_nanos() as u64;
        shared.latencies_ns.lock().unwrap().as_mut().unwrap().saturating_record(nanos);
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let wanted = argument("--connections", 10_000);
    let seconds = argument("--seconds", 5) as u64;
    let connections = wanted.min((raise_descriptor_limit()? as usize).saturating_sub(20) / 2);
    if connections < wanted {
        println!("the hard limit of descriptors allows {connections} connections, not {wanted}");
    }
    let runtime = Builder::new().workers(1).stack_size(64 << 10).build()?;
    let empty = resident_bytes();
    let shared = Arc::new(Shared::default());
    *shared.latencies_ns.lock().unwrap() = Histogram::new_with_bounds(1, 60_000_000_000, 3).ok();
    let (elapsed, metrics, resident) = runtime.run(|| -> io::Result<_> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        socket2::SockRef::from(&listener).listen(4096)?; // std's backlog is 128
        let address = listener.local_addr()?;
        thread::spawn(|| serve(listener));
        let clients: Vec<_> = (0..connections).map(|_| Arc::clone(&shared)).collect();
        let clients: Vec<_> =
            clients.into_iter().map(|s| thread::spawn(move || drive(address, &s))).collect();
        while shared.connected.load(Relaxed) < connections {
            progress(&format!("connected {}", shared.connected.load(Relaxed)));
            assert!(!clients.iter().any(|client| client.is_finished()), "a client failed");
        }
        let (start, before) = (Instant::now(), runtime.metrics());
        shared.round_trips.store(0, Relaxed);
        let mut resident = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            let rate = shared.round_trips.load(Relaxed) as f64 / start.elapsed().as_secs_f64();
            progress(&format!("{connections} connections, {rate:.0} round trips/s"));
            resident = resident_bytes();
        }
        let after = runtime.metrics();
        let done = shared.round_trips.load(Relaxed);
        let elapsed = start.elapsed();
        shared.stop.store(true, Relaxed);
        for client in clients {
            client.join().expect("a client panicked")?;
        }
        Ok(((elapsed, done), (before, after), resident))
    })?;
    let ((elapsed, done), (before, after)) = (elapsed, metrics);
    let latencies = shared.latencies_ns.lock().unwrap().take().unwrap();
    let at = |quantile| Duration::from_nanos(latencies.value_at_quantile(quantile));
    let per_trip = |count: u64| count as f64 / done as f64;
    progress("");
    println!("driver                     {}", runtime.driver());
    println!("connections                {connections} (two coroutines each, one worker)");
    println!("round trips/s              {:.0}", done as f64 / elapsed.as_secs_f64());
    println!("latency p50, p99, p99.9    {:.1?}, {:.1?}, {:.1?}", at(0.5), at(0.99), at(0.999));
    println!("resident per connection    {} bytes", resident.saturating_sub(empty) / connections);
    println!("switches per round trip    {:.2}", per_trip(after.switches - before.switches));
    println!(
        "system calls/round trip    {:.2}",
        per_trip(after.system_calls - before.system_calls)
    );
    Ok(())
}

fn progress(line: &str) {
    if io::stdout().is_terminal() {
        print!("\r{line:<60}");
        let _ = io::stdout().flush();
    }
    thread::sleep(Duration::from_millis(100));
}

fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().expect("a number"))
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Raises the soft limit to the hard one; returns it.
#[allow(unsafe_code)]
fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for both calls.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    if result == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}
