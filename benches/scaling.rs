//! What an event and a read cost as the number of organisations grows, and how long a population takes: a table, and a chart of it.
//!
//! `cargo bench --bench scaling [-- ORGANISATIONS…]`: 50,000 to 1,000,000 unless told otherwise; needs the disk of a run of the
//! largest. The chart is `target/scaling/scaling.svg`, the runs' own results lie beside it.
//!
//! For each size, two runs of the built-in scenario `phase2`, one with its events alone and one with its reads alone, at its rates; so
//! that what an event costs is told apart from what a read costs. Processor time is that of the measured window, from the
//! runs' own timelines. Populations are made anew: the time of making one is part of the answer.

#![expect(clippy::print_stdout, reason = "its results go to stdout")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use plotters::prelude::*;
use serde_json::Value;

const SIZES: [u64; 5] = [50_000, 100_000, 250_000, 500_000, 1_000_000];
const SCENARIO: &str = include_str!("../scenarios/phase2.toml");
const WARM_UP: &str = "60s";
const MEASURE: &str = "30s";
/// Processes of a run, as its timeline names them.
const PROCESSES: [&str; 5] = ["generator", "backend", "primary", "replica-1", "replica-2"];

/// Which operations are kept.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Events,
    Reads,
}

/// What was seen of one size.
struct Row {
    organisations: u64,
    /// Seconds, from nothing to a verified primary.
    seed_s: f64,
    /// Seconds, from there to two replicas in sync.
    replicate_s: f64,
    event: Cost,
    read: Cost,
}

/// What one request costs.
struct Cost {
    /// µs of processor time, by process.
    by_process_us: Vec<f64>,
    p99_ms: f64,
    rate: f64,
    verdict: String,
}

impl Cost {
    fn sum_us(&self) -> f64 {
        self.by_process_us.iter().sum()
    }
}

fn main() {
    let told: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if told.is_empty() { SIZES.to_vec() } else { told };
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/scaling");
    fs::create_dir_all(&place).expect("make the place of the results");
    let heads = PROCESSES.join(" | ");
    println!(
        "| organisations | seed s | replicate s | what | {heads} | µs each | p99 ms | rate | verdict |"
    );
    let mut rows = Vec::new();
    for organisations in sizes {
        let row = row(organisations, &place);
        print(&row);
        rows.push(row);
    }
    draw(&rows, &place.join("scaling.svg"));
}

fn row(organisations: u64, place: &Path) -> Row {
    // A state of its own, so that the first run makes the population, and the second finds it.
    let state = tempfile::Builder::new().prefix("scaling").tempdir_in("/var/tmp").expect("a place");
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(state.path(), readable).expect("let the servers' user in");
    let (events, event) = run(organisations, Kept::Events, state.path(), place);
    let (_, read) = run(organisations, Kept::Reads, state.path(), place);
    let record = json(&events.join("record.json"));
    let stages = record["stages"].as_array().expect("stages");
    let seconds = |name| {
        let of_name = stages.iter().filter(|stage| stage["name"] == name);
        of_name.map(|stage| stage["seconds"].as_f64().expect("seconds")).sum()
    };
    Row { organisations, seed_s: seconds("seed"), replicate_s: seconds("replicate"), event, read }
}

/// A run, and where it left its results.
fn run(organisations: u64, kept: Kept, state: &Path, place: &Path) -> (PathBuf, Cost) {
    let what = if kept == Kept::Events { "events" } else { "reads" };
    let scenario = place.join(format!("{what}.toml"));
    fs::write(&scenario, variant(kept)).expect("write the scenario");
    let out = place.join(format!("{organisations}-{what}"));
    let _ = fs::remove_dir_all(&out);
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.arg("run").arg(&scenario).arg("--no-audit").arg("--out").arg(&out);
    command.args(["--organisations", &organisations.to_string()]);
    command.env("PLIMSOLL_STATE_DIR", state);
    let ended = command.output().expect("start plimsoll");
    assert!(out.join("result.json").exists(), "{}", String::from_utf8_lossy(&ended.stderr));
    let cost = cost(&json(&out.join("result.json")), &json(&out.join("timeline.json")));
    (out, cost)
}

/// The scenario with some of its operations, and a gate that is there to have one.
fn variant(kept: Kept) -> String {
    let mut scenario: toml::Table = SCENARIO.parse().expect("a scenario");
    let operations = scenario["operation"].as_array_mut().expect("operations");
    let is_event = |operation: &toml::Value| operation.get("event").is_some();
    operations.retain(|operation| is_event(operation) == (kept == Kept::Events));
    let load = scenario["load"].as_table_mut().expect("load");
    load.insert("warm_up".into(), WARM_UP.into());
    load.insert("measure".into(), MEASURE.into());
    let gates = toml::Table::from_iter([("all".into(), vec!["error_rate < 0.5%"].into())]);
    scenario.insert("gates".into(), gates.into());
    toml::to_string(&scenario).expect("a scenario as text")
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("read a result");
    serde_json::from_str(&text).expect("a result is JSON")
}

fn cost(result: &Value, timeline: &Value) -> Cost {
    let number = |value: &Value| value.as_f64().expect("a number");
    let rate = number(&result["load"]["achieved_per_s"]);
    let series = timeline["series"].as_array().expect("series");
    let end = timeline["seconds"].as_u64().expect("seconds") as usize;
    let begin = end - 30;
    let per_request_us = |process: &&str| {
        let of_process = |one: &&Value| {
            one["name"] == "process_cpu_seconds_total" && one["labels"]["group"] == **process
        };
        let values = &series.iter().find(of_process).expect("processor time")["values"];
        (number(&values[end]) - number(&values[begin])) / 30.0 / rate * 1e6
    };
    let operations = result["operations"].as_array().expect("operations");
    let p99_us = operations.iter().map(|operation| number(&operation["response_us"]["p99"]));
    Cost {
        by_process_us: PROCESSES.iter().map(per_request_us).collect(),
        p99_ms: p99_us.fold(0.0, f64::max) / 1e3,
        rate,
        verdict: result["verdict"].as_str().unwrap_or_default().to_owned(),
    }
}

fn print(row: &Row) {
    for (what, cost) in [("event", &row.event), ("read", &row.read)] {
        let mut by_process = String::new();
        for us in &cost.by_process_us {
            write!(by_process, " {us:.0} |").expect("a String takes it");
        }
        println!(
            "| {} | {:.0} | {:.0} | {what} |{by_process} {:.0} | {:.1} | {:.0}/s | {} |",
            row.organisations,
            row.seed_s,
            row.replicate_s,
            cost.sum_us(),
            cost.p99_ms,
            cost.rate,
            cost.verdict,
        );
    }
}

/// Cost of an event and of a read over the organisations, both axes from zero.
fn draw(rows: &[Row], path: &Path) {
    let most = rows.iter().map(|row| row.event.sum_us().max(row.read.sum_us())).fold(0.0, f64::max);
    let last = rows.iter().map(|row| row.organisations).max().unwrap_or(1) as f64;
    let area = SVGBackend::new(path, (720, 360)).into_drawing_area();
    area.fill(&WHITE).expect("draw");
    let mut chart = ChartBuilder::on(&area)
        .caption("µs of processor time each", ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last * 1.02, 0.0..most * 1.1)
        .expect("draw");
    let thousands = |organisations: &f64| format!("{:.0}K", organisations / 1e3);
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("organisations").x_label_formatter(&thousands).draw().expect("draw");
    let points = |us: fn(&Row) -> f64| -> Vec<(f64, f64)> {
        rows.iter().map(|row| (row.organisations as f64, us(row))).collect()
    };
    for (name, colour, points) in [
        ("an event", RGBColor(178, 58, 44), points(|row| row.event.sum_us())),
        ("a read", RGBColor(33, 98, 160), points(|row| row.read.sum_us())),
    ] {
        let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots).expect("draw");
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .expect("draw")
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart.configure_series_labels().border_style(BLACK).draw().expect("draw");
    area.present().expect("write the chart");
}
