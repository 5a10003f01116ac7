//! The command line.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::cells::{self, Cell};
use crate::machine;
use crate::servers::{self, Server, Service, Settings};

pub const HELP: &str = "\
Servers on cosocket and its rivals, under one load, side by side.

cargo run --release -p cosocket-bench -- [COMMAND] [OPTIONS]

  (none)              the quick matrix, in about two minutes
  full                every cell, 15 rounds of a second: about an hour and a half
  cell NAME...        these cells, with all servers
  micro [NAME...]     spawn, yield, channels, locks, timers: beside tokio, may, Go, corosensei
  scale [NAME...]     cost of a round trip, a hand-off, a timer as more of them rest
  list                the cells, servers and micro benchmarks
  serve SERVER        one server in the foreground, for a profiler
  load ADDRESS        the load generator alone, against a server that runs

A table goes to standard output, progress to standard error, report.html and report.json to
--output. Servers run as processes of their own, on cores of their own; runs are interleaved
(A B C, A B C); a run during which other processes had more than 5 % of a core is made again, and
thrown away if that does not help. What is not on this machine is skipped, with the reason.

Options, of the matrix and the cells:
  --servers A,B,...   only these; -n stands for those with several workers. Unless asked for,
                      those and std's threads are not in the quick matrix
  --baseline A,B,...  whom to compare with, round by round; the first is the main one [tokio]
  --rounds N          [3; full: 15]
  --seconds S         length of a run [0.25; full and cell: 1]
  --warm-up S         before it [0.1; full and cell: 0.3]
  --rate N            requests a second of the open loop, in all [50000]
  --server-cores 0,1  [the first half of the cores, one at most in the quick matrix]
  --load-cores 2,3    one thread each; Redis runs there, too [the last core]
  --keep-disturbed    on a machine that is never quiet: count all runs, and say how many were
  --output DIRECTORY  [target/cosocket-bench]

Options of serve: --service echo|http|redis, --buffer BYTES, --workers N, --redis ADDRESS
Options of load: --service, --bytes N, --connections N, --depth N, --rate N (open loop),
  --churn, --seconds S, --requests N (ends after so many replies), --load-cores
";

/// What to do.
pub enum Command {
    Help,
    List,
    Matrix(Options),
    Micro(Options),
    Scale(Options),
    Serve(&'static Server, Settings),
    Load(LoadOptions),
    /// Of our own processes: one micro benchmark, in a fresh one.
    MicroRun(String, String),
    ScaleRun(String, String, usize),
}

#[derive(Clone, Debug)]
pub struct Options {
    pub cells: Vec<String>,
    pub servers: Vec<String>,
    pub baselines: Vec<String>,
    pub rounds: usize,
    pub duration: Duration,
    pub warm_up: Duration,
    pub per_second: f64,
    pub server_cores: Vec<usize>,
    pub load_cores: Vec<usize>,
    pub keeps_disturbed: bool,
    pub output: PathBuf,
    pub is_quick: bool,
}

#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub server: SocketAddr,
    pub service: Service,
    pub bytes: usize,
    pub connections: usize,
    pub depth: usize,
    pub per_second: Option<f64>,
    pub is_churn: bool,
    pub duration: Duration,
    pub requests: Option<u64>,
    pub cores: Vec<usize>,
}

type Failure = Box<dyn Error>;

/// Options as they were given, before the command decides what they mean.
struct Given {
    words: Vec<String>,
    servers: Vec<String>,
    baselines: Vec<String>,
    rounds: Option<usize>,
    seconds: Option<f64>,
    warm_up: Option<f64>,
    rate: Option<f64>,
    server_cores: Option<Vec<usize>>,
    load_cores: Option<Vec<usize>>,
    keeps_disturbed: bool,
    output: PathBuf,
    service: Service,
    buffer: usize,
    workers: usize,
    redis: SocketAddr,
    bytes: usize,
    connections: usize,
    depth: usize,
    is_churn: bool,
    requests: Option<u64>,
    wants_help: bool,
}

impl Given {
    fn none() -> Given {
        Given {
            words: Vec::new(),
            servers: Vec::new(),
            baselines: vec!["tokio".into()],
            rounds: None,
            seconds: None,
            warm_up: None,
            rate: None,
            server_cores: None,
            load_cores: None,
            keeps_disturbed: false,
            output: "target/cosocket-bench".into(),
            service: Service::Echo,
            buffer: 4096,
            workers: 2,
            redis: (Ipv4Addr::LOCALHOST, 6379).into(),
            bytes: 64,
            connections: 64,
            depth: 1,
            is_churn: false,
            requests: None,
            wants_help: false,
        }
    }

    fn take(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), Failure> {
        match option {
            "help" => self.wants_help = true,
            "keep-disturbed" => self.keeps_disturbed = true,
            "churn" => self.is_churn = true,
            "servers" => self.servers = list(parser)?,
            "baseline" => self.baselines = list(parser)?,
            "rounds" => self.rounds = Some(parser.value()?.parse()?),
            "seconds" => self.seconds = Some(parser.value()?.parse()?),
            "warm-up" => self.warm_up = Some(parser.value()?.parse()?),
            "rate" => self.rate = Some(parser.value()?.parse()?),
            "server-cores" => self.server_cores = Some(cores(parser)?),
            "load-cores" => self.load_cores = Some(cores(parser)?),
            "output" => self.output = parser.value()?.into(),
            "service" => {
                let name: String = parser.value()?.parse()?;
                let service = Service::named(&name);
                self.service = service.ok_or_else(|| format!("no service {name:?}"))?;
            }
            "buffer" => self.buffer = parser.value()?.parse()?,
            "workers" => self.workers = parser.value()?.parse()?,
            "redis" => self.redis = parser.value()?.parse()?,
            "bytes" => self.bytes = parser.value()?.parse()?,
            "connections" => self.connections = parser.value()?.parse()?,
            "depth" => self.depth = parser.value()?.parse()?,
            "requests" => self.requests = Some(parser.value()?.parse()?),
            _ => return Err(format!("no option --{option}; see --help").into()),
        }
        Ok(())
    }
}

pub fn parse() -> Result<Command, Failure> {
    let mut given = Given::none();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') => given.wants_help = true,
            Long(option) => {
                let option = option.to_owned();
                given.take(&option, &mut parser)?;
            }
            Value(word) => given.words.push(word.string()?),
            Short(letter) => return Err(format!("no option -{letter}; see --help").into()),
        }
    }
    if given.wants_help {
        return Ok(Command::Help);
    }
    let words = std::mem::take(&mut given.words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => Ok(Command::Matrix(options(given, quick_cells(), true)?)),
        ["full"] => Ok(Command::Matrix(full(given)?)),
        ["cell", ref names @ ..] if !names.is_empty() => {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Ok(Command::Matrix(options(given, names, false)?))
        }
        ["micro", ref names @ ..] => {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Ok(Command::Micro(options(given, names, false)?))
        }
        ["scale", ref names @ ..] => {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Ok(Command::Scale(options(given, names, false)?))
        }
        ["list"] => Ok(Command::List),
        ["serve", name] => {
            let server = servers::find(name).ok_or_else(|| unknown("server", name))?;
            let Given { service, buffer: buffer_bytes, workers, redis, .. } = given;
            Ok(Command::Serve(server, Settings { service, buffer_bytes, workers, redis }))
        }
        ["load", address] => Ok(Command::Load(load(given, address.parse()?)?)),
        ["micro-run", runtime, name] => Ok(Command::MicroRun(runtime.into(), name.into())),
        ["scale-run", runtime, name, count] => {
            Ok(Command::ScaleRun(runtime.into(), name.into(), count.parse()?))
        }
        _ => Err(format!("no command {:?}; see --help", words.join(" ")).into()),
    }
}

fn quick_cells() -> Vec<String> {
    names(|cell| cell.is_quick)
}

fn names(is_wanted: impl Fn(&Cell) -> bool) -> Vec<String> {
    let wanted = cells::ALL.iter().filter(|cell| is_wanted(cell));
    wanted.map(|cell| cell.name.to_owned()).collect()
}

fn full(mut given: Given) -> Result<Options, Failure> {
    given.rounds = given.rounds.or(Some(15));
    options(given, names(|_| true), false)
}

fn options(given: Given, cells: Vec<String>, is_quick: bool) -> Result<Options, Failure> {
    let (server_cores, load_cores) = place(given.server_cores, given.load_cores, is_quick)?;
    let seconds = given.seconds.unwrap_or(if is_quick { 0.25 } else { 1.0 });
    let warm_up = given.warm_up.unwrap_or(if is_quick { 0.1 } else { 0.3 });
    Ok(Options {
        cells,
        servers: given.servers,
        baselines: given.baselines,
        rounds: given.rounds.unwrap_or(3).max(1),
        duration: Duration::try_from_secs_f64(seconds)?,
        warm_up: Duration::try_from_secs_f64(warm_up)?,
        per_second: given.rate.unwrap_or(50_000.0),
        server_cores,
        load_cores,
        keeps_disturbed: given.keeps_disturbed,
        output: given.output,
        is_quick,
    })
}

/// Cores for the servers, and others for the load.
fn place(
    server: Option<Vec<usize>>,
    load: Option<Vec<usize>>,
    is_quick: bool,
) -> Result<(Vec<usize>, Vec<usize>), Failure> {
    let all = machine::cores()?;
    let last = all[all.len() - 1];
    let half = if is_quick { 1 } else { (all.len() / 2).max(1) };
    let server = server.unwrap_or_else(|| all[..half].to_vec());
    let load = load.unwrap_or_else(|| vec![last]);
    match server.iter().chain(&load).find(|core| !all.contains(core)) {
        Some(core) => Err(format!("core {core} is not one of {all:?}").into()),
        None => Ok((server, load)),
    }
}

fn load(given: Given, server: SocketAddr) -> Result<LoadOptions, Failure> {
    let last = *machine::cores()?.last().ok_or("no core")?;
    Ok(LoadOptions {
        server,
        service: given.service,
        bytes: given.bytes,
        connections: given.connections.max(1),
        depth: given.depth.max(1),
        per_second: given.rate,
        is_churn: given.is_churn,
        duration: Duration::try_from_secs_f64(given.seconds.unwrap_or(1.0))?,
        requests: given.requests,
        cores: given.load_cores.unwrap_or_else(|| vec![last]),
    })
}

fn list(parser: &mut lexopt::Parser) -> Result<Vec<String>, Failure> {
    let value: String = parser.value()?.parse()?;
    Ok(value.split(',').map(str::to_owned).collect())
}

fn cores(parser: &mut lexopt::Parser) -> Result<Vec<usize>, Failure> {
    let cores: Result<_, _> = list(parser)?.iter().map(|core| core.parse()).collect();
    Ok(cores?)
}

pub fn unknown(what: &str, name: &str) -> String {
    format!("no {what} {name:?}; see `list`")
}

impl Options {
    pub fn wanted_cells(&self) -> Result<Vec<&'static Cell>, String> {
        let find = |name: &String| cells::find(name).ok_or_else(|| unknown("cell", name));
        self.cells.iter().map(find).collect()
    }

    /// All but those with several workers, unless they are asked for or have several cores.
    pub fn wanted_servers(&self) -> Result<Vec<&'static Server>, String> {
        if self.servers.is_empty() {
            let several = self.server_cores.len() > 1;
            let is_wanted = |server: &&Server| {
                let has_several = server.name.ends_with("-n");
                !self.is_quick || server.name != "threads" && !has_several || several && has_several
            };
            return Ok(servers::ALL.iter().filter(is_wanted).collect());
        }
        let mut wanted = Vec::new();
        for name in &self.servers {
            if name == "-n" {
                wanted.extend(servers::ALL.iter().filter(|server| server.name.ends_with("-n")));
            } else {
                wanted.push(servers::find(name).ok_or_else(|| unknown("server", name))?);
            }
        }
        Ok(wanted)
    }
}
