//! The report as one page: no script, nothing from elsewhere.

use std::fmt::Write;

use super::plot::{self, Axis, Series, escape};
use super::table::{ratio_text, remarks};
use super::{Report, short};
use crate::cells::Task;
use crate::load::protocol::Protocol;
use crate::matrix::{CellResults, ServerResults};
use crate::measure::{PERCENTILES, Round};
use crate::statistics;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1340px;margin:2em auto;\
padding:0 1em;color:#222}table{border-collapse:collapse;margin:.6em 0 1.6em}\
td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child,td.note{text-align:left}td.note{color:#a00}svg{margin:.4em 0}\
svg text{font:11px system-ui,sans-serif;fill:#333}svg text.title{font-size:13px;font-weight:600}\
.grid{stroke:#e4e4e4;fill:none}.line{stroke-width:1.8;fill:none}.plots{display:flex;\
flex-wrap:wrap;gap:0 1em}";

const CONNECTIONS: Axis = Axis::logarithmic("connections");

pub fn page(report: &Report) -> String {
    let mut out = format!(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>cosocket-bench</title>\
         <style>{STYLE}</style><h1>cosocket-bench</h1>\n<p>{}. Servers on cores {:?}, load on {:?}; \
         {} rounds of {} s, interleaved. Medians; in brackets the 95 % interval of the ratio, round \
         by round, of replies per CPU-second of the server.</p>\n",
        escape(&report.machine),
        report.server_cores,
        report.load_cores,
        report.rounds,
        report.seconds,
    );
    if report.keeps_disturbed {
        out += "<p>Runs that were disturbed by other processes are counted here.</p>\n";
    }
    if !report.cells.is_empty() {
        out += &format!("<div class='plots'>{}</div>", matrix_plots(report));
        report.cells.iter().for_each(|cell| out += &cell_section(report, cell));
    }
    if let Some(micro) = &report.micro {
        out += "<h2>Micro benchmarks</h2><div class='plots'>";
        micro.bars().iter().for_each(|(title, unit, bars)| out += &plot::bars(title, unit, bars));
        let _ = write!(out, "</div><pre>{}</pre>", escape(&micro.text()));
    }
    if let Some(scale) = &report.scale {
        out += "<h2>Cost against scale</h2><div class='plots'>";
        for (title, axis, unit, curves) in scale.curves() {
            let (x, y) = (Axis::logarithmic(axis), Axis::linear(unit));
            let series = curves.into_iter().map(|(name, points)| Series { name, points });
            out += &plot::lines(title, x, y, &series.collect::<Vec<_>>());
        }
        let _ = write!(out, "</div><pre>{}</pre>", escape(&scale.text()));
    }
    if !report.missing.is_empty() {
        out += "<h2>Skipped</h2><ul>";
        for (name, reason) in &report.missing {
            let _ = write!(out, "<li>{}: {}</li>", escape(name), escape(reason));
        }
        out += "</ul>";
    }
    out + "</html>\n"
}

fn matrix_plots(report: &Report) -> String {
    let per_second = Axis::linear("round trips/s");
    let per_cpu = Axis::linear("round trips per CPU-second of the server");
    let mut out = plot::lines(
        "Throughput, echo of 64 bytes",
        CONNECTIONS,
        per_second,
        &by_connections(report, Round::per_second),
    );
    out += &plot::lines(
        "Throughput per CPU-second, echo of 64 bytes",
        CONNECTIONS,
        per_cpu,
        &by_connections(report, Round::per_cpu_second),
    );
    for cell in report.cells.iter().filter(|cell| cell.cell.task == Task::Idle) {
        let bars: Vec<(String, f64)> = cell
            .servers
            .iter()
            .filter_map(|server| {
                Some((server.server.to_owned(), server.median(Round::resident_bytes)?))
            })
            .collect();
        out += &plot::bars(cell.cell.about, "bytes per connection", &bars);
    }
    out
}

/// Of the cells that differ in nothing else, a line for each server.
fn by_connections(report: &Report, value: fn(&Round) -> f64) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    let is_alike = |cell: &&CellResults| {
        cell.cell.task == Task::Closed { bytes: 64, depth: 1 }
            && cell.cell.protocol() == Protocol::Echo { bytes: 64 }
    };
    for cell in report.cells.iter().filter(is_alike) {
        for server in &cell.servers {
            let Some(median) = server.median(value) else { continue };
            let point = (cell.cell.connections as f64, median);
            match all.iter_mut().find(|series| series.name == server.server) {
                Some(series) => series.points.push(point),
                None => {
                    all.push(Series { name: server.server.to_owned(), points: vec![point] });
                }
            }
        }
    }
    all
}

fn cell_section(report: &Report, cell: &CellResults) -> String {
    let mut out =
        format!("<h2 id='{0}'>{0}</h2><p>{1}</p>", escape(cell.cell.name), escape(cell.cell.about));
    if cell.cell.task != Task::Idle {
        out += &latency_plot(cell);
    }
    out += "<table><tr><th>server";
    if cell.cell.task == Task::Idle {
        out += "<th>resident bytes per connection<th>page tables";
    } else {
        out += "<th>per s<th>spread<th>per CPU-s<th>p50 µs<th>p99 µs<th>p99.9 µs\
                <th>system calls<th>context switches";
        for baseline in &report.baselines {
            let _ = write!(out, "<th>/ {}", escape(baseline));
        }
    }
    out += "<th></tr>\n";
    for server in &cell.servers {
        let _ = write!(out, "<tr><td>{}", escape(server.server));
        columns(report, cell, server).iter().for_each(|column| out += &format!("<td>{column}"));
        let _ = writeln!(out, "<td class='note'>{}</tr>", escape(&remarks(server)));
    }
    out + "</table>\n"
}

fn columns(report: &Report, cell: &CellResults, server: &ServerResults) -> Vec<String> {
    let or_dash = |value: Option<f64>| value.map_or("–".to_owned(), short);
    if cell.cell.task == Task::Idle {
        let values = [Round::resident_bytes, Round::page_table_bytes];
        return values.map(|bytes| or_dash(server.median(bytes))).to_vec();
    }
    let micros = |percentile| server.median(|round| round.percentile(percentile) as f64 / 1e3);
    let spread = statistics::spread(&server.values(Round::per_second));
    let mut columns = vec![
        or_dash(server.median(Round::per_second)),
        spread.map_or("–".to_owned(), |spread| format!("{:.0} %", spread * 100.0)),
        or_dash(server.median(Round::per_cpu_second)),
        or_dash(micros(50.0)),
        or_dash(micros(99.0)),
        or_dash(micros(99.9)),
        or_dash(server.system_calls_per_reply),
        or_dash(server.median(Round::switches_per_reply)),
    ];
    for baseline in &report.baselines {
        let ratio = cell.of(baseline).and_then(|other| server.ratio(other, Round::per_cpu_second));
        columns.push(ratio.map_or("–".to_owned(), ratio_text));
    }
    columns
}

/// Percentiles on an axis that widens towards the last: 50, 90, 99, 99.9, the slowest.
fn latency_plot(cell: &CellResults) -> String {
    let names = &["50", "90", "99", "99.9", "slowest"];
    let (x, y) = (Axis { names, ..Axis::linear("percentile") }, Axis::logarithmic("latency, µs"));
    let series = cell.servers.iter().map(|server| {
        let points = PERCENTILES.iter().enumerate().filter_map(|(index, &percentile)| {
            let micros = server.median(|round| round.percentile(percentile) as f64 / 1e3)?;
            Some((index as f64, micros))
        });
        Series { name: server.server.to_owned(), points: points.collect() }
    });
    plot::lines("Latency", x, y, &series.collect::<Vec<_>>())
}
