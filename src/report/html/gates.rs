//! Which lines hold, which do not, and by how much.

use maud::{Markup, html};

use super::icon;
use super::page::{Section, absent, scroll};
use crate::gates::{GateOutcome, Verdict};
use crate::report::format;
use crate::report::model::{Report, gate_place};

/// The gates, failing first.
pub(super) fn section(report: &Report) -> Section {
    let counts = [
        (Verdict::Fail, "failed"),
        (Verdict::Inconclusive, "cannot be told"),
        (Verdict::Pass, "passed"),
    ];
    let counts = counts.map(|(verdict, word)| (report.gates_with(verdict), word));
    let told: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    Section {
        id: "gates",
        title: "Gates",
        says: format!(
            "{}. {}; a \
             rule without data never passes. The bar shows the margin: right of the mark is inside the limit.",
            told.join(", "),
            match &report.climb {
                None => format!(
                    "Each rule is held against the measured {} s alone",
                    report.window.measure_s
                ),
                Some(_) =>
                    "Each rule here is on all steps together; those on each step are with it"
                        .to_owned(),
            }
        ),
        body: if report.gates.is_empty() {
            html! { div.box { p.plain.absent { "The scenario has no gates: nothing was judged." } } }
        } else {
            table(&report.gates)
        },
    }
}

fn table(gates: &[GateOutcome]) -> Markup {
    scroll(
        "Gates",
        html! {
            table {
                thead {
                    tr {
                        th { "Verdict" } th { "Rule" } th { "On" } th.num { "Observed" } th.num { "Limit" }
                        th.num { "Margin" } th.num { "Samples" }
                    }
                }
                tbody { @for gate in gates { (row(gate)) } }
            }
        },
    )
}

fn row(gate: &GateOutcome) -> Markup {
    html! {
        tr {
            td.word { (icon::verdict_sign(gate.verdict)) }
            th.word scope="row" { (gate.gate) }
            td.word { (gate_place(gate)) }
            td.num.strong {
                @match gate.observed { Some(v) => (format::figure(v, gate.unit)), None => (absent()) }
            }
            td.num { (format::figure(gate.limit, gate.unit)) }
            td.num { (margin(gate)) }
            td.num { (format::grouped(gate.samples)) }
        }
        @if let Some(reason) = &gate.reason {
            tr.reason { td {} td colspan="6" { (reason) } }
        }
    }
}

fn margin(gate: &GateOutcome) -> Markup {
    let Some(margin) = gate.margin else { return absent() };
    let side = if margin < 0.0 { "out" } else { "in" };
    let size = (margin.abs().min(1.0) * 100.0).round();
    html! {
        span.margin.(icon::verdict_tone(gate.verdict)) {
            (format::signed_percent(margin))
            span.bar aria-hidden="true" { i.(side).beyond[margin < -1.0] style={ "--size:" (size) "%" } {} }
        }
    }
}
