//! Shapes that carry a state beside its word, so that colour is never alone.

use maud::{Markup, PreEscaped, html};

use crate::gates::{CheckState, Verdict};
use crate::report::model::{state_word, verdict_word};

/// Class of the tone of a verdict.
pub(super) fn verdict_tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "open",
    }
}

/// The shape of a verdict: a circle with a tick, an octagon with a cross, a diamond with a question mark.
pub(super) fn verdict_icon(verdict: Verdict) -> Markup {
    shape(match verdict {
        Verdict::Pass => CIRCLE_TICK,
        Verdict::Fail => OCTAGON_CROSS,
        Verdict::Inconclusive => DIAMOND_QUESTION,
    })
}

/// Shape and word of a verdict, for tables.
pub(super) fn verdict_sign(verdict: Verdict) -> Markup {
    let word = match verdict {
        Verdict::Inconclusive => "cannot tell",
        other => verdict_word(other),
    };
    html! { span.sign.(verdict_tone(verdict)) { (verdict_icon(verdict)) (word.to_lowercase()) } }
}

/// Shape and word of a check's state.
pub(super) fn state_sign(state: CheckState) -> Markup {
    let (tone, paths) = match state {
        CheckState::Green => ("pass", CIRCLE_TICK),
        CheckState::Amber => ("open", TRIANGLE),
        CheckState::Red => ("fail", OCTAGON_CROSS),
        CheckState::Grey => ("none", CIRCLE_DASH),
    };
    html! { span.sign.(tone) { (shape(paths)) (state_word(state)) } }
}

/// The load line mark on a ship's side.
pub(super) fn load_line() -> Markup {
    shape(r#"<circle cx="12" cy="12" r="7.5"/><path d="M1 12h22"/>"#)
}

const CIRCLE_TICK: &str = r#"<circle cx="12" cy="12" r="10"/><path d="m7.5 12.5 3 3 6-6.5"/>"#;
const CIRCLE_DASH: &str =
    r#"<circle cx="12" cy="12" r="10" stroke-dasharray="3 3"/><path d="M8 12h8"/>"#;
const OCTAGON_CROSS: &str =
    r#"<path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z"/><path d="m8.5 8.5 7 7m0-7-7 7"/>"#;
const DIAMOND_QUESTION: &str = r#"<path d="m12 1.5 10.5 10.5L12 22.5 1.5 12z"/><path d="M9.5 10a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.6v.3"/>"#;
const TRIANGLE: &str = r#"<path d="M12 3 22 20.5H2z"/><path d="M12 10v5m0 2.6v.2"/>"#;

fn shape(paths: &'static str) -> Markup {
    html! {
        svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"
            stroke-linejoin="round" aria-hidden="true" { (PreEscaped(paths)) }
    }
}
