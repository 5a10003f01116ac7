//! Servers on cosocket and its rivals under one load, side by side: see `--help`, and the README's
//! section on benchmarks.
//!
//! ```text
//!   arguments --> matrix --> measure --> process (a server, one of `servers`)
//!                    |          |------> load    (clients, on other cores)
//!                    |          `------> sample  (what the server used), machine (who else did)
//!                    |--> micro, scale           (each benchmark in a process of its own)
//!                    `--> report: table, html, json
//! ```

mod arguments;
mod cells;
mod load;
mod machine;
mod matrix;
mod measure;
mod micro;
mod process;
mod progress;
mod report;
mod sample;
mod scale;
mod servers;
mod statistics;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Command, LoadOptions, Options};
use load::protocol::Protocol;
use load::{Pace, Plan};
use matrix::Wanted;
use measure::Stage;
use report::Report;
use servers::Service;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    match arguments::parse().and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cosocket-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Outcome {
    machine::descriptor_limit()?;
    match command {
        Command::Help => print!("{}", arguments::HELP),
        Command::List => list(),
        Command::Matrix(options) => run_matrix(&options)?,
        Command::Micro(options) => {
            let mut report = new_report(&options)?;
            report.micro = Some(micro::run(&options)?);
            publish(&report, &options.output)?;
        }
        Command::Scale(options) => {
            let mut report = new_report(&options)?;
            report.scale = Some(scale::run(&options, &stage(&options)?)?);
            publish(&report, &options.output)?;
        }
        Command::Serve(server, settings) => server.serve(&settings)?,
        Command::Load(options) => run_load(&options)?,
        Command::MicroRun(runtime, name) => micro::run_here(&runtime, &name)?,
        Command::ScaleRun(runtime, name, count) => scale::run_here(&runtime, &name, count)?,
    }
    Ok(())
}

fn list() {
    println!("cells:");
    cells::ALL.iter().for_each(|cell| println!("  {:<22}{}", cell.name, cell.about));
    println!("servers:");
    servers::ALL.iter().for_each(|server| println!("  {:<22}{}", server.name, server.about));
    println!("micro benchmarks:");
    micro::ALL.iter().for_each(|bench| println!("  {:<22}{}", bench.name, bench.about));
    println!("scales:");
    scale::ALL.iter().for_each(|scale| println!("  {:<22}{}", scale.name, scale.about));
}

fn new_report(options: &Options) -> Result<Report, Box<dyn Error>> {
    fs::create_dir_all(&options.output)?;
    Ok(Report::new(options))
}

fn run_matrix(options: &Options) -> Outcome {
    let mut report = new_report(options)?;
    let (cells, servers) = (options.wanted_cells()?, options.wanted_servers()?);
    let needs_redis = cells.iter().any(|cell| cell.service == Service::Redis);
    let wanted =
        Wanted { cells, servers, rounds: options.rounds, keeps_disturbed: options.keeps_disturbed };
    let mut stage = stage(options)?;
    if needs_redis {
        match process::start_redis(&stage.directory, &stage.load_cores) {
            Ok(redis) => stage.redis = Some(redis),
            Err(reason) => report.missing.push(("redis".to_owned(), reason)),
        }
    }
    let results = matrix::run(&stage, &wanted);
    let failed = results.cells.iter().any(matrix::CellResults::has_failed);
    report.set_matrix(results);
    publish(&report, &options.output)?;
    if failed { Err("a server failed: see the table".into()) } else { Ok(()) }
}

fn stage(options: &Options) -> Result<Stage, Box<dyn Error>> {
    let directory = std::path::absolute(&options.output)?.join("programs");
    fs::create_dir_all(&directory)?;
    Ok(Stage {
        server_cores: options.server_cores.clone(),
        load_cores: options.load_cores.clone(),
        directory,
        warm_up: options.warm_up,
        duration: options.duration,
        per_second: options.per_second,
        redis: None,
    })
}

fn publish(report: &Report, output: &Path) -> Outcome {
    print!("{}", report::table::text(report));
    let (html, json) = (output.join("report.html"), output.join("report.json"));
    fs::write(&html, report::html::page(report))?;
    fs::write(&json, format!("{:#}\n", report::json::document(report)))?;
    println!("\n{}\n{}", html.display(), json.display());
    Ok(())
}

fn run_load(options: &LoadOptions) -> Outcome {
    let protocol = match options.service {
        Service::Echo => Protocol::Echo { bytes: options.bytes },
        Service::Http => Protocol::Http,
        Service::Redis => Protocol::Redis,
    };
    let pace = match options.per_second {
        Some(per_second) => Pace::Open { per_second },
        None if options.is_churn => Pace::Churn,
        None => Pace::Closed { depth: options.depth },
    };
    let plan = Plan {
        server: options.server,
        protocol,
        connections: options.connections,
        pace,
        warm_up: std::time::Duration::ZERO,
        duration: options.duration,
        requests: options.requests,
        cores: options.cores.clone(),
    };
    let (tally, _, elapsed) = load::prepare(plan)?.run(|| ())?;
    println!("{} replies in {elapsed:?}", tally.replies);
    for percentile in measure::PERCENTILES {
        let nanoseconds = tally.latency.value_at_percentile(percentile);
        println!("p{percentile:<5} {:>10.1} µs", nanoseconds as f64 / 1e3);
    }
    println!("unanswered {}; {}", tally.unanswered, tally.troubles());
    Ok(())
}
