//! What was asked of the system and how it answered.

use maud::{Markup, PreEscaped, html};

use super::page::{Section, absent, scroll};
use crate::gates::Counts;
use crate::report::charts::{self, Drawn};
use crate::report::figures::{OperationFigures, Percentiles, not_ok};
use crate::report::format;
use crate::report::model::Report;

/// Whether the load was real.
pub(super) fn strip(report: &Report) -> Section {
    let load = &report.load;
    let counted = |pick: fn(Counts) -> u64| load.counts.map(|counts| format::grouped(pick(counts)));
    let time = |us: u64| format::duration_us(us as f64);
    let achieved = load.achieved_share().zip(load.in_flight_max).map(|(share, most)| {
        format!(
            "{} of offered; at most {} in flight",
            format::percent(share),
            format::grouped(most)
        )
    });
    let lag = load.send_lag.map(|lag| format!("p50 {}, max {}", time(lag.p50), time(lag.max)));
    let tiles = [
        (
            "Offered",
            load.offered_per_s.map(format::per_second),
            counted(|c| c.intended),
            "arrivals",
        ),
        ("Achieved", load.achieved_per_s.map(format::per_second), achieved, ""),
        ("Events acknowledged", load.events_per_s.map(format::per_second), None, ""),
        ("OK", counted(|c| c.ok), counted(|c| c.sent), "sent"),
        ("Not OK", counted(not_ok), load.counts.map(format::failures), ""),
        ("Send lag p99", load.send_lag.map(|lag| time(lag.p99)), lag, ""),
    ];
    Section {
        id: "load",
        title: "Load honesty",
        says: "Was the load real? Arrivals follow a schedule and never wait for answers; a request that leaves late is timed \
               from when it should have left, and one that could not leave is counted."
            .to_owned(),
        body: html! {
            dl.box.strip {
                @for (name, value, detail, of) in tiles { (tile(name, value, detail, of)) }
            }
            @if let Some(figures) = &report.yardstick {
                p.says { "Yardstick: " (figures.sentence()) "." }
            }
        },
    }
}

fn tile(name: &str, value: Option<String>, detail: Option<String>, of: &str) -> Markup {
    html! {
        div {
            dt { (name) }
            @match value {
                Some(value) => dd.value { (value) },
                None => dd.value.absent { (format::NOT_MEASURED) },
            }
            @if let Some(detail) = detail { dd.small { (detail) " " (of) } }
        }
    }
}

/// The time charts, aligned.
pub(super) fn over_time(report: &Report) -> Section {
    let charts = [
        ("Rates", "arrivals per second", charts::rates(report)),
        (
            "Response time",
            "of the arrivals of each second, from their intended send",
            charts::response(report),
        ),
        (
            "Cache and replicas",
            "share of cache requests that hit; share of reads that replicas answered",
            charts::shares(report),
        ),
        (
            "Lags",
            "how far the worst projection and the worst replica are behind",
            charts::lags(report),
        ),
        (
            "Processors",
            "cores in use, stacked; means of the measured seconds beside",
            charts::cpu(report),
        ),
    ];
    let incidents = if report.incidents.iter().any(|incident| incident.second.is_some()) {
        " Numbered dashed lines are the incidents below."
    } else {
        ""
    };
    Section {
        id: "time",
        title: "Over time",
        says: format!(
            "One time axis for all, in seconds from the first intended arrival. The shaded warm-up is not judged; a gap in a \
             line is a second that could not be read.{incidents}"
        ),
        body: scroll(
            "Charts over time",
            html! { @for (name, unit, drawn) in &charts { (figure(name, unit, drawn)) } },
        ),
    }
}

/// Latency by percentile.
pub(super) fn by_percentile(report: &Report) -> Section {
    let drawn = charts::percentile(report);
    Section {
        id: "percentiles",
        title: "Latency by percentile",
        says: "Every further nine gets the same room, so the slowest requests cannot hide. Response time counts from the intended \
               send, service time from the real one: where they part, requests waited before they were sent."
            .to_owned(),
        body: scroll("Latency by percentile", html! { (figure("All operations", "measured window", &drawn)) }),
    }
}

fn figure(name: &str, unit: &str, drawn: &Drawn) -> Markup {
    html! {
        figure {
            figcaption { (name) " " span { (unit) } }
            @match &drawn.svg {
                Some(svg) => (PreEscaped(svg)),
                None => p.plain { (absent()) },
            }
            @if drawn.svg.is_some() && !drawn.missing.is_empty() {
                p.plain { (drawn.missing.join(", ")) ": " (absent()) }
            }
        }
    }
}

/// Each operation in figures.
pub(super) fn operations(report: &Report) -> Section {
    Section {
        id: "operations",
        title: "Operations",
        says: "Times in ms over the measured window, read from merged histograms, failed requests included. Response time is what a \
               user waits; service time is what most tools report."
            .to_owned(),
        body: if report.operations.is_empty() {
            html! { div.box { p.plain { (absent()) } } }
        } else {
            operation_table(&report.operations)
        },
    }
}

fn operation_table(operations: &[OperationFigures]) -> Markup {
    const COLUMNS: [&str; 6] = ["p50", "p90", "p95", "p99", "p99.9", "max"];
    scroll(
        "Operations",
        html! {
            table.dense {
                thead {
                    tr {
                        th {} th colspan="3" {}
                        th.first colspan="6" { "Response time, ms" }
                        th.first colspan="6" { "Service time, ms" }
                    }
                    tr {
                        th { "Operation" } th.num { "Arrivals" } th.num { "OK" } th.num { "Not OK" }
                        @for _ in 0..2 {
                            @for (index, name) in COLUMNS.iter().enumerate() {
                                th.num.first[index == 0] { (name) }
                            }
                        }
                    }
                }
                tbody { @for operation in operations { (operation_row(operation)) } }
            }
        },
    )
}

fn operation_row(operation: &OperationFigures) -> Markup {
    html! {
        tr {
            th scope="row" {
                (operation.name)
                @if let Some(service) = &operation.service { span.small { (service) } }
            }
            @match operation.counts {
                Some(counts) => {
                    td.num { (format::grouped(counts.intended)) }
                    td.num { (format::grouped(counts.ok)) }
                    td.num.bad[not_ok(counts) > 0] title=(format::failures(counts)) { (format::grouped(not_ok(counts))) }
                },
                None => td colspan="3" { (absent()) },
            }
            (times(operation.response)) (times(operation.service_time))
        }
    }
}

fn times(percentiles: Option<Percentiles>) -> Markup {
    let Some(p) = percentiles else {
        return html! { td.first colspan="6" { (absent()) } };
    };
    html! {
        @for (index, us) in [p.p50, p.p90, p.p95, p.p99, p.p999, p.max].into_iter().enumerate() {
            td.num.first[index == 0].strong[index == 2] { (format::millis(us)) }
        }
    }
}
