//! What the servers said of themselves.

use std::collections::BTreeMap;

use maud::html;

use super::page::{Section, absent, scroll};
use crate::gates::Figure;
use crate::report::format;
use crate::report::json::statistic;
use crate::report::model::Report;

/// The signals, the statistics of one signal in one row.
pub(super) fn signals(report: &Report) -> Section {
    let mut rows: BTreeMap<&str, Vec<(&str, &Figure)>> = BTreeMap::new();
    for (name, figure) in &report.signals {
        let (base, part) = statistic(name).unwrap_or((name, ""));
        rows.entry(base).or_default().push((part, figure));
    }
    for name in &report.signals_missing {
        rows.entry(name).or_default();
    }
    for figures in rows.values_mut() {
        // `max` after the percentiles.
        figures.sort_by_key(|(part, _)| *part == "max");
    }
    Section {
        id: "signals",
        title: "Signals",
        says: "Figures about the servers over the measured window, from the backend's own counters and from Postgres. Where both tell \
               the same thing, validity says whether they agree."
            .to_owned(),
        body: scroll("Signals", html! {
            @if rows.is_empty() { p.plain { (absent()) } } @else {
                table {
                    thead { tr { th { "Signal" } th { "Figure" } th.num { "Samples" } } }
                    tbody {
                        @for (name, figures) in &rows {
                            tr {
                                th.word scope="row" { (name) }
                                @if figures.is_empty() { td { (absent()) } td.num { "0" } } @else {
                                    td {
                                        @for (index, (part, figure)) in figures.iter().enumerate() {
                                            @if index > 0 { " · " }
                                            @if !part.is_empty() { (part) " " }
                                            span.strong.word { (format::figure(figure.value, figure.unit)) }
                                        }
                                    }
                                    td.num {
                                        (format::grouped(figures.iter().map(|(_, f)| f.samples).max().unwrap_or(0)))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }),
    }
}
