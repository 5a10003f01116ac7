//! What a step costs as more and more lies about at rest. It should not matter.
//!
//! `connections`: an echo on one connection while others rest, a matrix of its own. `coroutines`
//! and `timers`: a hand-over between two, and a timeout around a wait, in a fresh process each
//! (`scale-run RUNTIME NAME COUNT`).

use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cosocket::thread;
use serde_json::{Value, json};

use crate::arguments::{Options, unknown};
use crate::cells;
use crate::load::{self, Pace, Plan, Ready};
use crate::machine;
use crate::measure::Stage;
use crate::micro::read_number;
use crate::process::Process;
use crate::progress::Progress;
use crate::sample;
use crate::servers::{self, Server};
use crate::statistics;

/// Descriptors that a process has besides its connections.
const SPARE_DESCRIPTORS: usize = 100;

const STEPS: u64 = 100_000;
const FAR: Duration = Duration::from_secs(600);

pub struct Scale {
    pub name: &'static str,
    pub about: &'static str,
    axis: &'static str,
    unit: &'static str,
    counts: &'static [usize],
    /// Of servers or runtimes.
    subjects: &'static [&'static str],
}

pub const ALL: &[Scale] = &[
    Scale {
        name: "connections",
        about: "the server's CPU time for an echo on 1 connection, while others rest",
        axis: "resting connections",
        unit: "µs",
        // The last is what the limit of descriptors allows.
        counts: &[10, 100, 1000, 5000, usize::MAX],
        subjects: &["cosocket-uring", "cosocket-epoll", "raw-epoll", "raw-uring", "tokio", "go"],
    },
    Scale {
        name: "coroutines",
        about: "a hand-over between two, while others are suspended",
        axis: "suspended coroutines",
        unit: "ns",
        counts: &[10, 1000, 10_000, 100_000, 1_000_000],
        subjects: &["cosocket", "tokio"],
    },
    Scale {
        name: "timers",
        about: "a timeout around a wait, while others sleep",
        axis: "sleeping coroutines",
        unit: "ns",
        counts: &[10, 1000, 10_000, 100_000, 1_000_000],
        subjects: &["cosocket", "tokio"],
    },
];

pub struct ScaleResults {
    curves: Vec<Curve>,
}

/// What one subject did in one scale: the medians, by count.
struct Curve {
    scale: &'static Scale,
    subject: &'static str,
    points: Vec<(f64, f64)>,
    failure: Option<String>,
}

pub fn run(options: &Options, stage: &Stage) -> Result<ScaleResults, Box<dyn Error>> {
    let find = |name: &String| {
        ALL.iter().find(|scale| scale.name == name).ok_or_else(|| unknown("scale", name))
    };
    let chosen: Vec<&'static Scale> = match options.cells.is_empty() {
        true => ALL.iter().collect(),
        false => options.cells.iter().map(find).collect::<Result<_, _>>()?,
    };
    let is_wanted = |name: &str| {
        options.servers.is_empty() || options.servers.iter().any(|wanted| wanted == name)
    };
    let mut results = ScaleResults { curves: Vec::new() };
    let steps = |scale: &&'static Scale| scale.counts.len() * scale.subjects.len();
    let mut progress = Progress::new(chosen.iter().map(steps).sum::<usize>() * options.rounds);
    for scale in chosen {
        let subjects = scale.subjects.iter().copied().filter(|name| is_wanted(name));
        let mut curves: Vec<Curve> = subjects
            .map(|subject| Curve { scale, subject, points: Vec::new(), failure: None })
            .collect();
        for &count in scale.counts {
            let count = match count {
                usize::MAX => machine::descriptor_limit()?.saturating_sub(SPARE_DESCRIPTORS),
                count => count,
            };
            measure_point(options, stage, scale, count, &mut curves, &mut progress);
        }
        results.curves.extend(curves);
    }
    progress.finish();
    Ok(results)
}

/// All subjects at one count, interleaved.
fn measure_point(
    options: &Options,
    stage: &Stage,
    scale: &'static Scale,
    count: usize,
    curves: &mut [Curve],
    progress: &mut Progress,
) {
    let mut values = vec![Vec::new(); curves.len()];
    for _ in 0..options.rounds {
        for (curve, values) in curves.iter_mut().zip(&mut values) {
            progress.begin(&format!("{} {count}", scale.name), curve.subject);
            match measure(stage, scale, curve.subject, count) {
                Ok(value) => {
                    values.push(value);
                    progress.end(&format!("{value:.1} {}", scale.unit));
                }
                Err(error) => {
                    progress.end(&error.to_string());
                    curve.failure = Some(format!("at {count}: {error}"));
                }
            }
        }
    }
    for (curve, values) in curves.iter_mut().zip(&values) {
        curve.points.extend(statistics::median(values).map(|median| (count as f64, median)));
    }
}

fn measure(
    stage: &Stage,
    scale: &Scale,
    subject: &str,
    count: usize,
) -> Result<f64, Box<dyn Error>> {
    if scale.name == "connections" {
        let server = servers::find(subject).ok_or_else(|| unknown("server", subject))?;
        return measure_echo(stage, server, count);
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["scale-run", subject, scale.name, &count.to_string()]);
    let number = read_number(command, &stage.server_cores)?;
    Ok(number.ok_or("has none")?)
}

/// CPU microseconds of the server for each reply.
fn measure_echo(stage: &Stage, server: &Server, resting: usize) -> Result<f64, Box<dyn Error>> {
    let cell = cells::find("echo-64-1").ok_or("no such cell")?;
    let process = stage.start(server, cell)?;
    let plan = stage.plan(&process, cell);
    // They keep their connections until they are dropped.
    let others = rest(&process, &plan, resting)?;
    let observe = || sample::usage(process.pid());
    let (tally, [before, after], _) = load::prepare(plan)?.run(observe)?;
    let cpu = after?.cpu - before?.cpu;
    others.release();
    match tally.errors() {
        0 => Ok(cpu.as_nanos() as f64 / 1e3 / tally.replies as f64),
        _ => Err(tally.troubles().into()),
    }
}

fn rest(process: &Process, plan: &Plan, connections: usize) -> std::io::Result<Ready> {
    let pace = Pace::Closed { depth: 1 };
    load::prepare(Plan { connections, pace, server: process.address, ..plan.clone() })
}

/// Prints nanoseconds for each step.
pub fn run_here(runtime: &str, name: &str, count: usize) -> Result<(), Box<dyn Error>> {
    let nanoseconds = match (runtime, name) {
        ("cosocket", "coroutines") => in_cosocket(count, thread::park, hand_over),
        ("cosocket", "timers") => in_cosocket(count, || thread::sleep(FAR), time_out),
        ("tokio", "coroutines") => in_tokio(count, false),
        ("tokio", "timers") => in_tokio(count, true),
        _ => return Err(unknown("scale", name).into()),
    };
    println!("{nanoseconds}");
    Ok(())
}

fn in_cosocket(count: usize, rest: fn(), pass: fn() -> f64) -> f64 {
    let builder = cosocket::Builder::new().workers(1).stack_size(64 << 10);
    builder.build().expect("a runtime").run(move || {
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..count {
            let begun = Arc::clone(&begun);
            drop(cosocket::spawn(move || {
                begun.fetch_add(1, Relaxed);
                rest();
            }));
        }
        while begun.load(Relaxed) < count {
            thread::yield_now();
        }
        median_of(pass)
    })
}

fn median_of(mut pass: impl FnMut() -> f64) -> f64 {
    let passes: Vec<f64> = (0..5).map(|_| pass()).collect();
    statistics::median(&passes).expect("there are some")
}

fn hand_over() -> f64 {
    let us = thread::current();
    let other = cosocket::spawn(move || {
        for _ in 0..STEPS {
            thread::park();
            us.unpark();
        }
    });
    let start = Instant::now();
    for _ in 0..STEPS {
        other.thread().unpark();
        thread::park();
    }
    let elapsed = start.elapsed();
    other.join().expect("it does not panic");
    elapsed.as_nanos() as f64 / (2 * STEPS) as f64
}

fn time_out() -> f64 {
    let start = Instant::now();
    for _ in 0..STEPS {
        black_box(cosocket::time::timeout(FAR, thread::yield_now)).expect("it is far");
    }
    start.elapsed().as_nanos() as f64 / STEPS as f64
}

fn in_tokio(count: usize, sleeps: bool) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..count {
            let begun = Arc::clone(&begun);
            drop(tokio::spawn(async move {
                begun.fetch_add(1, Relaxed);
                match sleeps {
                    true => tokio::time::sleep(FAR).await,
                    false => std::future::pending().await,
                }
            }));
        }
        while begun.load(Relaxed) < count {
            tokio::task::yield_now().await;
        }
    });
    median_of(|| {
        let pass =
            async move { if sleeps { tokio_time_out().await } else { tokio_hand_over().await } };
        runtime.block_on(async { tokio::spawn(pass).await.expect("it does not panic") })
    })
}

async fn tokio_hand_over() -> f64 {
    let [us, them] = [(); 2].map(|()| Arc::new(tokio::sync::Notify::new()));
    let [we, they] = [Arc::clone(&us), Arc::clone(&them)];
    let other = tokio::spawn(async move {
        for _ in 0..STEPS {
            they.notified().await;
            we.notify_one();
        }
    });
    let start = Instant::now();
    for _ in 0..STEPS {
        them.notify_one();
        us.notified().await;
    }
    let elapsed = start.elapsed();
    other.await.expect("it does not panic");
    elapsed.as_nanos() as f64 / (2 * STEPS) as f64
}

async fn tokio_time_out() -> f64 {
    let start = Instant::now();
    for _ in 0..STEPS {
        let wait = tokio::time::timeout(FAR, tokio::task::yield_now());
        wait.await.expect("it is far");
    }
    start.elapsed().as_nanos() as f64 / STEPS as f64
}

type Lines = Vec<(String, Vec<(f64, f64)>)>;

impl ScaleResults {
    pub fn text(&self) -> String {
        let mut out = String::new();
        for scale in ALL {
            let curves: Vec<&Curve> =
                self.curves.iter().filter(|curve| curve.scale.name == scale.name).collect();
            let Some(longest) = curves.iter().max_by_key(|curve| curve.points.len()) else {
                continue;
            };
            let _ = write!(out, "\n{}, {}: {}\n  {:<20}", scale.name, scale.unit, scale.about, "");
            longest.points.iter().for_each(|(count, _)| out += &format!("{count:>10}"));
            out.push('\n');
            for curve in curves {
                let _ = write!(out, "  {:<20}", curve.subject);
                curve.points.iter().for_each(|(_, value)| out += &format!("{value:>10.1}"));
                let failure = curve.failure.as_deref().unwrap_or_default();
                let _ = writeln!(out, "  {failure}");
            }
        }
        out
    }

    pub fn json(&self) -> Value {
        let curves = self.curves.iter().map(|curve| {
            json!({
                "scale": curve.scale.name,
                "unit": curve.scale.unit,
                "subject": curve.subject,
                "points": curve.points,
                "failure": curve.failure,
            })
        });
        Value::Array(curves.collect())
    }

    /// Title, axis, unit and lines of each plot.
    pub fn curves(&self) -> Vec<(&'static str, &'static str, &'static str, Lines)> {
        let plots = ALL.iter().map(|scale| {
            let curves = self.curves.iter().filter(|curve| curve.scale.name == scale.name);
            let lines = curves.map(|curve| (curve.subject.to_owned(), curve.points.clone()));
            (scale.about, scale.axis, scale.unit, lines.collect())
        });
        plots.collect()
    }
}
