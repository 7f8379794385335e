//! How far up the steps of a load held.

use maud::{Markup, PreEscaped, html};

use super::icon;
use super::page::{Section, absent, scroll};
use crate::gates::StepOutcome;
use crate::report::charts::{self, Drawn};
use crate::report::format;
use crate::report::model::Report;
use crate::report::steps::{ClimbFigures, StepFigures, not_held, step_word};

/// More gates of one step than these are left to `result.json`.
const NAMED_MAX: usize = 6;

/// The steps, if the load has them.
pub(super) fn section(report: &Report) -> Option<Section> {
    let figures = report.climb.as_ref()?;
    let [rates, p95] = charts::steps(figures);
    Some(Section {
        id: "steps",
        title: "Steps",
        says: says(figures),
        body: html! {
            (table(figures))
            (scroll("Steps, drawn", html! {
                (chart("Rates", "by step: what was asked for, and what came of it", rates))
                (chart("Response time p95", "by step, from the intended send", p95))
            }))
        },
    })
}

fn says(figures: &ClimbFigures) -> String {
    let climb = &figures.climb;
    let shown = match (climb.last_held(), climb.shown()) {
        (Some(step), _) => format!(
            "Figures below, but for charts over time and failures, are of step {}, the last that held.",
            step.number
        ),
        (None, Some(_)) => {
            "Figures below, but for charts over time and failures, are of step 1.".to_owned()
        }
        (None, None) => "No step was offered to its end.".to_owned(),
    };
    format!(
        "The load rises step by step; each is judged by every gate, as if it were a run of its own, and the first that \
         does not hold ends the load. {} of {} held. {shown}",
        climb.held, climb.of
    )
}

fn table(figures: &ClimbFigures) -> Markup {
    scroll(
        "Steps",
        html! {
            table {
                thead {
                    tr {
                        th.num { "Step" } th { "Came out" } th.num { "Offered" } th.num { "Achieved" }
                        th.num { "Events offered" } th.num { "Events" } th.num { "p50" } th.num { "p95" }
                        th.num { "p99" } th { "Gates that did not hold" }
                    }
                }
                tbody { @for (step, of_step) in figures.rows() { (row(step, of_step)) } }
            }
        },
    )
}

fn row(step: &StepOutcome, figures: &StepFigures) -> Markup {
    let rate = |per_s: Option<f64>| match per_s {
        Some(per_s) => html! { (format::per_second(per_s)) },
        None => absent(),
    };
    let time = |us: Option<u64>| match us {
        Some(us) => html! { (format::duration_us(us as f64)) },
        None => absent(),
    };
    html! {
        tr {
            th.num scope="row" { (step.number) }
            td.word { span.(icon::verdict_tone(step.verdict)) { (step_word(step.verdict)) } }
            td.num { (rate(figures.offered_per_s)) }
            td.num { (rate(figures.achieved_per_s)) }
            td.num { (rate(figures.events_offered_per_s)) }
            td.num.strong { (rate(figures.events_per_s)) }
            td.num { (time(figures.response.map(|p| p.p50))) }
            td.num { (time(figures.response.map(|p| p.p95))) }
            td.num { (time(figures.response.map(|p| p.p99))) }
            td { (not_held(step, NAMED_MAX)) }
        }
        @if let Some(gate) = step.not_held().next() {
            @if let Some(reason) = &gate.reason {
                tr.reason { td {} td colspan="9" { (reason) } }
            }
        }
    }
}

fn chart(title: &str, of: &str, drawn: Drawn) -> Markup {
    html! {
        figure {
            figcaption { (title) " " span { (of) } }
            @match drawn.svg {
                Some(svg) => (PreEscaped(svg)),
                None => p.plain { (absent()) },
            }
        }
    }
}
