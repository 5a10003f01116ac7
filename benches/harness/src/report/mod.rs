//! What came out, for people and for programs.

pub mod html;
pub mod json;
mod plot;
pub mod table;

use crate::arguments::Options;
use crate::machine;
use crate::matrix::{CellResults, Results};
use crate::micro::MicroResults;
use crate::scale::ScaleResults;

pub struct Report {
    pub machine: String,
    pub server_cores: Vec<usize>,
    pub load_cores: Vec<usize>,
    pub rounds: usize,
    pub seconds: f64,
    pub per_second: f64,
    pub baselines: Vec<String>,
    pub keeps_disturbed: bool,
    pub cells: Vec<CellResults>,
    pub micro: Option<MicroResults>,
    pub scale: Option<ScaleResults>,
    /// What is not on this machine, and why it is not in the report.
    pub missing: Vec<(String, String)>,
}

impl Report {
    pub fn new(options: &Options) -> Report {
        Report {
            machine: machine::description(),
            server_cores: options.server_cores.clone(),
            load_cores: options.load_cores.clone(),
            rounds: options.rounds,
            seconds: options.duration.as_secs_f64(),
            per_second: options.per_second,
            baselines: options.baselines.clone(),
            keeps_disturbed: options.keeps_disturbed,
            cells: Vec::new(),
            micro: None,
            scale: None,
            missing: Vec::new(),
        }
    }

    pub fn set_matrix(&mut self, results: Results) {
        self.cells = results.cells;
        let skipped = results.skipped.into_iter();
        self.missing.extend(skipped.map(|(server, reason)| (server.to_owned(), reason)));
    }
}

/// So many digits as one can mean.
fn short(value: f64) -> String {
    match value.abs() {
        10_000.0.. => format!("{:.0}k", value / 1e3),
        1_000.0.. => format!("{:.1}k", value / 1e3),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
