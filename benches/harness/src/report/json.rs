//! The report for programs: every round, not only medians.

use serde_json::{Value, json};

use super::Report;
use crate::matrix::{CellResults, ServerResults};
use crate::measure::{PERCENTILES, Round};
use crate::statistics::Ratio;

pub fn document(report: &Report) -> Value {
    let cells: Vec<Value> = report.cells.iter().map(|cell| cell_value(report, cell)).collect();
    let missing: Vec<Value> = report
        .missing
        .iter()
        .map(|(name, reason)| json!({ "name": name, "reason": reason }))
        .collect();
    json!({
        "machine": report.machine,
        "server_cores": report.server_cores,
        "load_cores": report.load_cores,
        "rounds": report.rounds,
        "seconds": report.seconds,
        "open_loop_per_second": report.per_second,
        "keeps_disturbed": report.keeps_disturbed,
        "cells": cells,
        "micro": report.micro.as_ref().map(|micro| micro.json()),
        "scale": report.scale.as_ref().map(|scale| scale.json()),
        "skipped": missing,
    })
}

fn cell_value(report: &Report, cell: &CellResults) -> Value {
    let servers: Vec<Value> =
        cell.servers.iter().map(|server| server_value(report, cell, server)).collect();
    json!({
        "name": cell.cell.name,
        "about": cell.cell.about,
        "connections": cell.cell.connections,
        "servers": servers,
    })
}

fn server_value(report: &Report, cell: &CellResults, server: &ServerResults) -> Value {
    let ratios: Vec<Value> = report
        .baselines
        .iter()
        .filter_map(|baseline| {
            let other = cell.of(baseline)?;
            Some(json!({
                "to": baseline,
                "per_second": ratio_value(server.ratio(other, Round::per_second)?),
                "per_cpu_second": ratio_value(server.ratio(other, Round::per_cpu_second)?),
            }))
        })
        .collect();
    json!({
        "name": server.server,
        "median_per_second": server.median(Round::per_second),
        "median_per_cpu_second": server.median(Round::per_cpu_second),
        "median_resident_bytes_per_connection": server.median(Round::resident_bytes),
        "median_page_table_bytes_per_connection": server.median(Round::page_table_bytes),
        "system_calls_per_reply": server.system_calls_per_reply,
        "thrown_away": server.thrown_away,
        "failure": server.failure,
        "ratios": ratios,
        "rounds": server.rounds.iter().map(|round| round.as_ref().map(round_value))
            .collect::<Vec<_>>(),
    })
}

fn ratio_value(ratio: Ratio) -> Value {
    json!({
        "mean": ratio.mean,
        "low_95": ratio.interval.map(|(low, _)| low),
        "high_95": ratio.interval.map(|(_, high)| high),
        "rounds": ratio.rounds,
    })
}

fn round_value(round: &Round) -> Value {
    let latency: serde_json::Map<String, Value> = PERCENTILES
        .iter()
        .zip(round.latency)
        .map(|(percentile, nanoseconds)| (format!("p{percentile}"), nanoseconds.into()))
        .collect();
    json!({
        "replies": round.replies,
        "seconds": round.seconds,
        "server_cpu_seconds": round.cpu_seconds,
        "server_context_switches": round.switches,
        "latency_ns": latency,
        "unanswered": round.unanswered,
        "errors": round.errors,
        "resident_bytes_per_connection": round.rest.map(|rest| rest.resident_bytes),
        "page_table_bytes_per_connection": round.rest.map(|rest| rest.page_table_bytes),
        "foreign_cpu_seconds": round.foreign_seconds,
        "is_disturbed": round.is_disturbed,
    })
}
