//! Micro benchmarks: what single steps cost, beside the rivals that have them.
//!
//! Each runs in a process of its own (`micro-run RUNTIME NAME`), which prints one number: the
//! median of [`PASSES`] passes, one worker, one core. Processes are interleaved as in the matrix.

mod corosensei;
mod cosocket;
mod may;
mod tokio;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::{Options, unknown};
use crate::process::spawn_pinned;
use crate::progress::Progress;
use crate::sample;
use crate::servers::compile_go;
use crate::statistics;

const PASSES: usize = 7;
/// A benchmark that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Steps of one pass.
const STEPS: u64 = 200_000;
/// Coroutines alive in `spawn-suspend` and the smaller memory benchmark.
const MANY: usize = 100_000;
const MILLION: usize = 1_000_000;
/// No timer of these benchmarks fires.
const FAR: Duration = Duration::from_secs(60);

const GO_SOURCE: &str = include_str!("../../programs/micro.go");

pub struct Micro {
    pub name: &'static str,
    pub about: &'static str,
    unit: &'static str,
    /// What it should be, at most.
    target: Option<f64>,
}

const fn nanoseconds(name: &'static str, about: &'static str, target: Option<f64>) -> Micro {
    Micro { name, about, unit: "ns", target }
}

const fn bytes(name: &'static str, about: &'static str, target: Option<f64>) -> Micro {
    Micro { name, about, unit: "bytes", target }
}

pub const ALL: &[Micro] = &[
    nanoseconds("switch", "a switch to another context and back", None),
    nanoseconds("spawn-join", "spawn one that returns a number, and join it", Some(100.0)),
    nanoseconds("spawn-fresh", "spawn and suspend, the first 100 000", Some(1300.0)),
    nanoseconds("spawn-pooled", "the same, when as many have been before", Some(300.0)),
    nanoseconds("yield", "one turn of two that yield to each other", Some(15.0)),
    nanoseconds("park", "one hand-over of two that unpark each other", None),
    nanoseconds("channel", "a value there and back, through two channels", Some(80.0)),
    nanoseconds("mutex", "a mutex handed to one who waits for it", Some(60.0)),
    nanoseconds("timeout", "a timeout around a wait, less the wait", Some(40.0)),
    nanoseconds("timer", "arm one of a million timers", None),
    nanoseconds("sleeps", "wake one of a million, which begins to sleep", Some(150.0)),
    bytes("memory-100k", "resident memory of one of 100 000 that are suspended", Some(4400.0)),
    bytes("memory-1m", "the same, of a million", Some(4400.0)),
    bytes("tables-100k", "the kernel's page tables for one of 100 000", None),
    bytes("tables-1m", "the same, of a million", None),
];

const RUNTIMES: [&str; 5] = ["cosocket", "tokio", "may", "go", "corosensei"];

/// What a runtime measures under a name; `None` if it has no such thing.
type Measured = Option<f64>;

/// Runs one benchmark in this process, and prints what it measured.
pub fn run_here(runtime: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let measured = match runtime {
        "cosocket" => cosocket::measure(name),
        "tokio" => tokio::measure(name),
        "may" => may::measure(name),
        "corosensei" => corosensei::measure(name),
        _ => return Err(unknown("runtime", runtime).into()),
    };
    match measured {
        Some(value) => println!("{value}"),
        None => println!("none"),
    }
    Ok(())
}

/// The median, over the passes, of nanoseconds per step.
fn per_step(steps: u64, mut pass: impl FnMut() -> Duration) -> Measured {
    let passes: Vec<f64> = (0..PASSES).map(|_| pass().as_nanos() as f64 / steps as f64).collect();
    statistics::median(&passes)
}

/// The time that so many turns take.
fn time(turns: u64, mut turn: impl FnMut()) -> Duration {
    let start = Stopwatch::start();
    for _ in 0..turns {
        turn();
    }
    start.elapsed()
}

/// Measures the processor time of the calling thread, which is all that these benchmarks take: on a
/// machine that others use, time on the wall is mostly theirs.
#[derive(Clone, Copy)]
struct Stopwatch {
    started: Duration,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch { started: thread_time() }
    }

    fn elapsed(self) -> Duration {
        thread_time() - self.started
    }
}

fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a local.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0, "every thread has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes that this process has grown by since `before`, for each of `count`.
struct Footprint(sample::Memory);

/// What one of many adds to a footprint.
struct Growth {
    resident_bytes: f64,
    /// The kernel's memory, but the layout of ours decides how much.
    table_bytes: f64,
}

impl Footprint {
    fn now() -> Footprint {
        Footprint(sample::memory(std::process::id()).expect("/proc is there"))
    }

    fn growth_per(&self, count: usize) -> Growth {
        let Footprint(now) = Footprint::now();
        let each = |now: u64, then: u64| now.saturating_sub(then) as f64 / count as f64;
        Growth {
            resident_bytes: each(now.resident_bytes, self.0.resident_bytes),
            table_bytes: each(now.page_table_bytes, self.0.page_table_bytes),
        }
    }
}

/// Random deadlines, the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub struct MicroResults {
    rows: Vec<Row>,
    /// Runtimes and benchmarks without a result, and why.
    missing: BTreeMap<String, String>,
}

struct Row {
    micro: &'static Micro,
    /// By runtime; the values of all rounds.
    values: Vec<(&'static str, Vec<f64>)>,
}

pub fn run(options: &Options) -> Result<MicroResults, Box<dyn Error>> {
    let directory = std::path::absolute(&options.output)?.join("programs");
    fs::create_dir_all(&directory)?;
    let find = |name: &String| {
        ALL.iter().find(|micro| micro.name == name).ok_or_else(|| unknown("benchmark", name))
    };
    let chosen: Vec<&'static Micro> = match options.cells.is_empty() {
        true => ALL.iter().collect(),
        false => options.cells.iter().map(find).collect::<Result<_, _>>()?,
    };
    let is_wanted = |runtime: &&'static str| {
        options.servers.is_empty() || options.servers.iter().any(|name| name == runtime)
    };
    let runtimes: Vec<&'static str> = RUNTIMES.into_iter().filter(|name| is_wanted(name)).collect();
    let mut results = MicroResults { rows: Vec::new(), missing: BTreeMap::new() };
    let mut progress = Progress::new(chosen.len() * runtimes.len() * options.rounds);
    for micro in chosen {
        let values = runtimes.iter().map(|&runtime| (runtime, Vec::new())).collect();
        let mut row = Row { micro, values };
        for _ in 0..options.rounds {
            for (runtime, values) in &mut row.values {
                progress.begin(micro.name, runtime);
                let result = run_apart(runtime, micro.name, &directory, &options.server_cores);
                let outcome = match result {
                    Ok(Some(value)) => {
                        values.push(value);
                        format!("{value:.1} {}", micro.unit)
                    }
                    Ok(None) => "has none".to_owned(),
                    Err(error) => {
                        let key = format!("{runtime} {}", micro.name);
                        results.missing.insert(key, error.to_string());
                        error.to_string()
                    }
                };
                progress.end(&outcome);
            }
        }
        results.rows.push(row);
    }
    progress.finish();
    Ok(results)
}

/// In a process of its own, on one core.
fn run_apart(
    runtime: &str,
    name: &str,
    directory: &Path,
    cores: &[usize],
) -> io::Result<Option<f64>> {
    let command = match runtime {
        "go" => {
            let binary = compile_go(GO_SOURCE, "micro", directory).map_err(io::Error::other)?;
            let mut command = Command::new(binary);
            command.env("GOMAXPROCS", "1").arg(name);
            command
        }
        _ => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["micro-run", runtime, name]);
            command
        }
    };
    read_number(command, cores)
}

/// What the command prints, on the first of the cores; `None` where it says that it has none.
pub fn read_number(mut command: Command, cores: &[usize]) -> io::Result<Option<f64>> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = wait_for_output(spawn_pinned(&mut command, &cores[..1])?)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        return Err(io::Error::other(format!("{}: {last}", output.status)));
    }
    match String::from_utf8_lossy(&output.stdout).trim() {
        "none" => Ok(None),
        value => value.parse().map(Some).map_err(io::Error::other),
    }
}

/// What it printed, which is little, or an error if it takes too long.
fn wait_for_output(mut child: Child) -> io::Result<Output> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("not over after {PATIENCE:?}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output()
}

/// A value for each runtime.
type Bars = Vec<(String, f64)>;

impl MicroResults {
    pub fn text(&self) -> String {
        let mut out = format!("\n{:<14}{:<6}{:>9}", "micro", "", "target");
        let runtimes = self.rows.first().map_or(&[][..], |row| &row.values[..]);
        runtimes.iter().for_each(|(runtime, _)| out += &format!("{runtime:>12}"));
        out.push('\n');
        for Row { micro, values } in &self.rows {
            let target = micro.target.map_or(String::new(), |target| format!("≤ {target}"));
            let _ = write!(out, "{:<14}{:<6}{target:>9}", micro.name, micro.unit);
            for (_, values) in values {
                let median = statistics::median(values);
                let median = median.map_or("-".to_owned(), |median| format!("{median:.1}"));
                let _ = write!(out, "{median:>12}");
            }
            let _ = writeln!(out, "   {}", micro.about);
        }
        for (what, reason) in &self.missing {
            let _ = writeln!(out, "no {what}: {reason}");
        }
        out
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|Row { micro, values }| {
            let by_runtime: serde_json::Map<String, Value> = values
                .iter()
                .map(|(runtime, values)| (runtime.to_string(), json!(values)))
                .collect();
            json!({
                "name": micro.name,
                "about": micro.about,
                "unit": micro.unit,
                "target": micro.target,
                "rounds": by_runtime,
            })
        });
        json!({ "benchmarks": rows.collect::<Vec<_>>(), "missing": self.missing })
    }

    /// Title, unit and bars of each benchmark.
    pub fn bars(&self) -> Vec<(&'static str, &'static str, Bars)> {
        let rows = self.rows.iter().map(|Row { micro, values }| {
            let bars = values.iter().filter_map(|(runtime, values)| {
                Some((runtime.to_string(), statistics::median(values)?))
            });
            (micro.about, micro.unit, bars.collect())
        });
        rows.collect()
    }
}
