//! One run: a server, a load, and what both used. Whether something else used the cores, too.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::cells::{Cell, Task};
use crate::load::{self, Plan, Tally};
use crate::machine::{self, Busy};
use crate::process::Process;
use crate::sample::{self, Memory, SystemCalls, Usage};
use crate::servers::{Server, Settings};

/// A run is disturbed when others had more than this share of one core...
const TOLERATED_SHARE: f64 = 0.05;
/// ... and more than the clock ticks of /proc/stat can be wrong by.
const TOLERATED_SECONDS: f64 = 0.03;

/// How long memory is given to come to rest.
const REST: Duration = Duration::from_millis(200);

/// Where servers and load run, and for how long.
pub struct Stage {
    pub server_cores: Vec<usize>,
    pub load_cores: Vec<usize>,
    /// Binaries of other languages, and the logs of what wants one.
    pub directory: PathBuf,
    pub warm_up: Duration,
    pub duration: Duration,
    /// Of the open loop, in all.
    pub per_second: f64,
    pub redis: Option<Process>,
}

/// What one run showed.
#[derive(Clone, Debug)]
pub struct Round {
    pub replies: u64,
    pub seconds: f64,
    /// The server's.
    pub cpu_seconds: f64,
    pub switches: u64,
    /// Nanoseconds at the percentiles of [`PERCENTILES`].
    pub latency: [u64; PERCENTILES.len()],
    /// Requests of an open loop without a reply at the end.
    pub unanswered: u64,
    pub errors: u64,
    pub troubles: String,
    /// What the server has grown by, for each connection.
    pub rest: Option<Rest>,
    /// Seconds that others had of our cores.
    pub foreign_seconds: f64,
    pub is_disturbed: bool,
}

/// Bytes for each connection at rest.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    pub resident_bytes: f64,
    pub page_table_bytes: f64,
}

pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

impl Round {
    pub fn per_second(&self) -> f64 {
        self.replies as f64 / self.seconds
    }

    pub fn per_cpu_second(&self) -> f64 {
        self.replies as f64 / self.cpu_seconds
    }

    pub fn switches_per_reply(&self) -> f64 {
        self.switches as f64 / self.replies as f64
    }

    pub fn resident_bytes(&self) -> f64 {
        self.rest.map_or(f64::NAN, |rest| rest.resident_bytes)
    }

    pub fn page_table_bytes(&self) -> f64 {
        self.rest.map_or(f64::NAN, |rest| rest.page_table_bytes)
    }

    pub fn percentile(&self, percentile: f64) -> u64 {
        let index = PERCENTILES.iter().position(|&known| known == percentile);
        self.latency[index.expect("one of those that are kept")]
    }
}

/// What is read at both ends of the window.
#[derive(Clone, Copy)]
struct Observation {
    server: Usage,
    /// This process and Redis.
    others: Duration,
    busy: Busy,
}

impl Stage {
    pub fn settings(&self, cell: &Cell) -> Settings {
        Settings {
            service: cell.service,
            buffer_bytes: cell.buffer_bytes,
            workers: self.server_cores.len().max(2),
            redis: self.redis_address(),
        }
    }

    fn redis_address(&self) -> std::net::SocketAddr {
        let nowhere = || ([127, 0, 0, 1], 6379).into();
        self.redis.as_ref().map_or_else(nowhere, |redis| redis.address)
    }

    pub fn start(&self, server: &Server, cell: &Cell) -> io::Result<Process> {
        Process::serve(server, &self.settings(cell), &self.directory, &self.server_cores)
    }

    pub fn plan(&self, process: &Process, cell: &Cell) -> Plan {
        Plan {
            server: process.address,
            protocol: cell.protocol(),
            connections: cell.connections,
            pace: cell.pace(self.per_second),
            warm_up: self.warm_up,
            duration: self.duration,
            requests: None,
            // One connection has one thread.
            cores: self.load_cores[..self.load_cores.len().min(cell.connections)].to_vec(),
        }
    }

    /// Runs a cell once against a fresh process of the server.
    pub fn measure(&self, server: &Server, cell: &Cell) -> io::Result<Round> {
        let process = self.start(server, cell)?;
        let at_first = sample::memory(process.pid())?;
        let ready = load::prepare(self.plan(&process, cell))?;
        if cell.task == Task::Idle {
            return self.measure_rest(&process, cell, at_first, ready);
        }
        let observe = || self.observe(process.pid());
        let (tally, [before, after], elapsed) = ready.run(observe)?;
        Ok(self.evaluate(&tally, &before?, &after?, elapsed))
    }

    fn measure_rest(
        &self,
        process: &Process,
        cell: &Cell,
        at_first: Memory,
        ready: load::Ready,
    ) -> io::Result<Round> {
        let before = self.observe(process.pid())?;
        thread::sleep(REST);
        let at_last = sample::memory(process.pid())?;
        let after = self.observe(process.pid())?;
        ready.release();
        let mut round = self.evaluate(&Tally::default(), &before, &after, REST);
        let share =
            |last: u64, first: u64| last.saturating_sub(first) as f64 / cell.connections as f64;
        round.rest = Some(Rest {
            resident_bytes: share(at_last.resident_bytes, at_first.resident_bytes),
            page_table_bytes: share(at_last.page_table_bytes, at_first.page_table_bytes),
        });
        // Memory does not mind who else computes.
        round.is_disturbed = false;
        Ok(round)
    }

    fn observe(&self, pid: u32) -> io::Result<Observation> {
        let mut others = sample::usage(std::process::id())?.cpu;
        if let Some(redis) = &self.redis {
            others += sample::usage(redis.pid())?.cpu;
        }
        let mut cores = [&self.server_cores[..], &self.load_cores[..]].concat();
        cores.sort_unstable();
        cores.dedup();
        let (server, busy) = (sample::usage(pid)?, machine::busy(&cores)?);
        Ok(Observation { server, others, busy })
    }

    fn evaluate(
        &self,
        tally: &Tally,
        before: &Observation,
        after: &Observation,
        elapsed: Duration,
    ) -> Round {
        let cpu = after.server.cpu - before.server.cpu;
        let ours = cpu + (after.others - before.others);
        let busy = after.busy - before.busy;
        let foreign_seconds = (busy.here + busy.stolen - ours.as_secs_f64()).max(0.0);
        let seconds = elapsed.as_secs_f64();
        let tolerated = (TOLERATED_SHARE * seconds).max(TOLERATED_SECONDS);
        let switches = |usage: &Usage| usage.voluntary_switches + usage.involuntary_switches;
        Round {
            replies: tally.replies,
            seconds,
            cpu_seconds: cpu.as_secs_f64(),
            switches: switches(&after.server).saturating_sub(switches(&before.server)),
            latency: PERCENTILES.map(|percentile| tally.latency.value_at_percentile(percentile)),
            unanswered: tally.unanswered,
            errors: tally.errors(),
            troubles: tally.troubles(),
            rest: None,
            foreign_seconds,
            is_disturbed: foreign_seconds > tolerated,
        }
    }

    /// System calls for each reply, in a run of its own.
    pub fn count_system_calls(&self, server: &Server, cell: &Cell) -> io::Result<f64> {
        let process = self.start(server, cell)?;
        let plan = self.plan(&process, cell);
        let duration = plan.duration.min(Duration::from_millis(200));
        let ready = load::prepare(Plan { duration, ..plan })?;
        let calls = SystemCalls::count(process.pid())?;
        let (tally, [before, after], _) = ready.run(|| calls.total())?;
        Ok((after? - before?) as f64 / tally.replies as f64)
    }
}
