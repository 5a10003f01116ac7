//! The matrix: cells by servers by rounds, in the order A B C, A B C, so that what changes slowly
//! on the machine falls on all alike.

use std::collections::BTreeMap;

use crate::cells::{Cell, Task};
use crate::measure::{Round, Stage};
use crate::progress::Progress;
use crate::servers::{Server, Service};
use crate::statistics::{self, Ratio};

/// A disturbed run is made again so many times before its round is given up.
const REPEATS: usize = 2;

/// Rounds of a cell whose result hardly varies.
const IDLE_ROUNDS: usize = 3;

pub struct Results {
    pub cells: Vec<CellResults>,
    /// Servers that could not be had, and why.
    pub skipped: BTreeMap<&'static str, String>,
}

pub struct CellResults {
    pub cell: &'static Cell,
    pub servers: Vec<ServerResults>,
}

pub struct ServerResults {
    pub server: &'static str,
    /// By round; `None` where the machine was disturbed, or the run failed.
    pub rounds: Vec<Option<Round>>,
    /// Runs that were thrown away.
    pub thrown_away: usize,
    pub failure: Option<String>,
    pub system_calls_per_reply: Option<f64>,
}

/// What is asked for.
pub struct Wanted {
    pub cells: Vec<&'static Cell>,
    pub servers: Vec<&'static Server>,
    pub rounds: usize,
    /// Disturbed runs count, too.
    pub keeps_disturbed: bool,
}

pub fn run(stage: &Stage, wanted: &Wanted) -> Results {
    let skipped = find_missing(stage, &wanted.servers);
    let mut results = Results { cells: Vec::new(), skipped };
    let plan: Vec<(&'static Cell, Vec<&'static Server>)> = wanted
        .cells
        .iter()
        .map(|&cell| {
            let is_in = |server: &&'static Server| {
                cell.is_for(server) && !results.skipped.contains_key(server.name)
            };
            (cell, wanted.servers.iter().copied().filter(is_in).collect())
        })
        .collect();
    let runs = plan.iter().map(|(cell, servers)| servers.len() * (rounds_of(cell, wanted) + 1));
    let mut progress = Progress::new(runs.sum());
    for (cell, servers) in plan {
        if cell.service == Service::Redis && stage.redis.is_none() {
            progress.skip(servers.len() * (rounds_of(cell, wanted) + 1));
            continue;
        }
        results.cells.push(run_cell(stage, wanted, cell, &servers, &mut progress));
    }
    progress.finish();
    results
}

fn rounds_of(cell: &Cell, wanted: &Wanted) -> usize {
    if cell.task == Task::Idle { wanted.rounds.min(IDLE_ROUNDS) } else { wanted.rounds }
}

fn find_missing(stage: &Stage, servers: &[&'static Server]) -> BTreeMap<&'static str, String> {
    let any = &crate::cells::ALL[0];
    let missing = servers.iter().filter_map(|server| {
        let settings = stage.settings(any);
        Some((server.name, server.launch(&settings, &stage.directory).err()?))
    });
    missing.collect()
}

fn run_cell(
    stage: &Stage,
    wanted: &Wanted,
    cell: &'static Cell,
    servers: &[&'static Server],
    progress: &mut Progress,
) -> CellResults {
    let mut results: Vec<ServerResults> = servers
        .iter()
        .map(|server| ServerResults {
            server: server.name,
            rounds: Vec::new(),
            thrown_away: 0,
            failure: None,
            system_calls_per_reply: None,
        })
        .collect();
    for _ in 0..rounds_of(cell, wanted) {
        for (server, result) in servers.iter().zip(&mut results) {
            progress.begin(cell.name, server.name);
            result.run_round(stage, wanted, cell, server);
            progress.end(&result.summary());
        }
    }
    for (server, result) in servers.iter().zip(&mut results) {
        progress.begin(cell.name, server.name);
        if cell.task != Task::Idle {
            result.system_calls_per_reply = stage.count_system_calls(server, cell).ok();
        }
        progress.end("system calls");
    }
    CellResults { cell, servers: results }
}

impl ServerResults {
    fn run_round(&mut self, stage: &Stage, wanted: &Wanted, cell: &Cell, server: &Server) {
        for repeat in 0..=REPEATS {
            match stage.measure(server, cell) {
                Ok(round) if round.errors > 0 => {
                    self.failure = Some(round.troubles);
                    break;
                }
                Ok(round) if !round.is_disturbed || wanted.keeps_disturbed => {
                    self.rounds.push(Some(round));
                    return;
                }
                Ok(_) => self.thrown_away += 1,
                Err(error) if repeat == REPEATS => self.failure = Some(error.to_string()),
                Err(_) => {}
            }
        }
        self.rounds.push(None);
    }

    fn summary(&self) -> String {
        match self.rounds.last() {
            Some(Some(round)) => match round.rest {
                Some(rest) => format!("{:.0} bytes/connection", rest.resident_bytes),
                None => format!("{:.0} round trips/s", round.per_second()),
            },
            _ => self.failure.clone().unwrap_or_else(|| "disturbed, thrown away".to_owned()),
        }
    }

    /// The values of all rounds that count.
    pub fn values(&self, value: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().flatten().map(value).collect()
    }

    pub fn median(&self, value: impl Fn(&Round) -> f64) -> Option<f64> {
        statistics::median(&self.values(value))
    }

    /// Compared with another server, round by round.
    pub fn ratio(&self, other: &ServerResults, value: impl Fn(&Round) -> f64) -> Option<Ratio> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let pairs = pairs.filter_map(|(ours, theirs)| Some((ours.as_ref()?, theirs.as_ref()?)));
        statistics::ratio(pairs.map(|(ours, theirs)| (value(ours), value(theirs))))
    }
}

impl CellResults {
    pub fn of(&self, server: &str) -> Option<&ServerResults> {
        self.servers.iter().find(|results| results.server == server)
    }

    pub fn has_failed(&self) -> bool {
        self.servers.iter().any(|results| results.failure.is_some())
    }
}
