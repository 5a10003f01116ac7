//! The report as text.

use std::fmt::Write;

use super::{Report, short};
use crate::cells::Task;
use crate::matrix::{CellResults, ServerResults};
use crate::measure::Round;
use crate::statistics::{self, Ratio};

pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", report.machine);
    for cell in &report.cells {
        out.push_str(&cell_text(report, cell));
    }
    if let Some(micro) = &report.micro {
        out.push_str(&micro.text());
    }
    if let Some(scale) = &report.scale {
        out.push_str(&scale.text());
    }
    for (name, reason) in &report.missing {
        let _ = writeln!(out, "\nskipped {name}: {reason}");
    }
    out
}

fn cell_text(report: &Report, results: &CellResults) -> String {
    let mut out = format!("\n{}: {}\n", results.cell.name, results.cell.about);
    let is_idle = results.cell.task == Task::Idle;
    let mut header = format!("  {:<22}", "");
    if is_idle {
        let _ = write!(header, "{:>14}{:>14}", "bytes/conn", "page tables");
    } else {
        for title in ["per s", "spread", "per CPU-s", "p50 µs", "p99 µs", "p99.9 µs"] {
            let _ = write!(header, "{title:>10}");
        }
        let _ = write!(header, "{:>9}{:>9}", "calls", "switches");
        for baseline in &report.baselines {
            let _ = write!(header, "  {:<24}", format!("per CPU-s / {baseline}"));
        }
    }
    let _ = writeln!(out, "{header}");
    for server in &results.servers {
        let _ = writeln!(out, "  {:<22}{}", server.server, server_text(report, results, server));
    }
    out
}

fn server_text(report: &Report, cell: &CellResults, server: &ServerResults) -> String {
    let mut out = String::new();
    if cell.cell.task == Task::Idle {
        for bytes in [Round::resident_bytes, Round::page_table_bytes] {
            let bytes = server.median(bytes).map_or("-".into(), |bytes| format!("{bytes:.0}"));
            let _ = write!(out, "{bytes:>14}");
        }
    } else if server.values(Round::per_second).is_empty() {
        let _ = write!(out, "{:>10}", "-");
    } else {
        let micros = |percentile| {
            let micros = server.median(|round| round.percentile(percentile) as f64 / 1e3);
            micros.map_or("-".into(), |micros| format!("{micros:.1}"))
        };
        let spread = statistics::spread(&server.values(Round::per_second));
        let columns = [
            server.median(Round::per_second).map_or("-".into(), short),
            spread.map_or("-".into(), |spread| format!("{:.0} %", spread * 100.0)),
            server.median(Round::per_cpu_second).map_or("-".into(), short),
            micros(50.0),
            micros(99.0),
            micros(99.9),
        ];
        columns.iter().for_each(|column| out += &format!("{column:>10}"));
        let calls = server.system_calls_per_reply;
        let _ = write!(out, "{:>9}", calls.map_or("-".into(), |calls| format!("{calls:.2}")));
        let switches = server.median(Round::switches_per_reply);
        let _ = write!(out, "{:>9}", switches.map_or("-".into(), |count| format!("{count:.2}")));
        for baseline in &report.baselines {
            let ratio =
                cell.of(baseline).and_then(|other| server.ratio(other, Round::per_cpu_second));
            let _ = write!(out, "  {:<24}", ratio.map_or("-".into(), ratio_text));
        }
    }
    out + &remarks(server)
}

pub fn ratio_text(ratio: Ratio) -> String {
    match ratio.interval {
        Some((low, high)) => format!("{:.2} [{low:.2}, {high:.2}]", ratio.mean),
        None => format!("{:.2}", ratio.mean),
    }
}

/// What must not be hidden.
pub fn remarks(server: &ServerResults) -> String {
    let mut out = String::new();
    if server.thrown_away > 0 {
        let _ = write!(out, "  {} disturbed runs thrown away", server.thrown_away);
    }
    let kept = server.rounds.iter().flatten().filter(|round| round.is_disturbed).count();
    if kept > 0 {
        let _ = write!(out, "  {kept} of {} runs disturbed", server.rounds.len());
    }
    let total = |count: fn(&Round) -> u64| server.rounds.iter().flatten().map(count).sum::<u64>();
    let unanswered = total(|round| round.unanswered);
    // Some are always under way.
    if unanswered * 100 > total(|round| round.replies) {
        let _ = write!(out, "  {unanswered} requests unanswered at the end");
    }
    if let Some(failure) = &server.failure {
        let _ = write!(out, "  FAILED: {failure}");
    }
    out
}
