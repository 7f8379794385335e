//! The report on a terminal: one screen, at most [`LINES_MAX`] lines of [`COLUMNS_MAX`] columns.

use super::format::{self, or_not_measured};
use super::markdown::{audit_sentence, validity_counts};
use super::model::{Report, gate_place, state_word, verdict_word};
use super::steps::{ClimbFigures, not_held, step_word};
use crate::archive::AuditState;
use crate::gates::{CheckState, GateOutcome, Verdict};

/// Lines of one screen.
pub const LINES_MAX: usize = 40;
/// Columns of one screen.
pub const COLUMNS_MAX: usize = 100;

const HEADLINE_LINES_MAX: usize = 3;
const GATES_MAX: usize = 18;
const GATES_OF_STEPS_MAX: usize = 4;
const STEPS_MAX: usize = 10;
const CHECKS_MAX: usize = 5;
const AUDIT_MAX: usize = 2;

/// Whether words may be coloured as well. Colour never says what a word does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Text alone.
    Plain,
    /// ANSI escapes around the words of verdicts and states.
    Ansi,
}

/// The report as lines for a terminal. `location` says where the HTML report is.
pub fn render_console(report: &Report, location: &str, colour: Colour) -> String {
    let mut lines = Vec::new();
    headline(&mut lines, report, colour);
    lines.push(String::new());
    gates(&mut lines, report, colour);
    lines.push(String::new());
    if let Some(figures) = &report.climb {
        steps(&mut lines, figures, colour);
        lines.push(String::new());
    }
    load(&mut lines, report);
    if let Some(figures) = &report.yardstick {
        lines.push(labelled("Yardstick", &cut(&figures.sentence(), COLUMNS_MAX - 10)));
    }
    checks(&mut lines, report, colour);
    // The path is never cut: a reader must be able to open it.
    lines.push(labelled("Report", location));
    lines.join("\n") + "\n"
}

fn headline(lines: &mut Vec<String>, report: &Report, colour: Colour) {
    let word = verdict_word(report.verdict);
    let about =
        cut(&format!("{}  {}", report.run.title, report.run.id), COLUMNS_MAX - word.len() - 2);
    lines.push(format!("{}  {about}", painted(word, hue(report.verdict), colour)));
    let mut wrapped = wrap(&report.headline, COLUMNS_MAX);
    if wrapped.len() > HEADLINE_LINES_MAX {
        wrapped.truncate(HEADLINE_LINES_MAX);
        if let Some(last) = wrapped.last_mut() {
            *last = format!("{}…", cut(last, COLUMNS_MAX - 1).trim_end_matches('…'));
        }
    }
    lines.extend(wrapped);
}

fn gates(lines: &mut Vec<String>, report: &Report, colour: Colour) {
    if report.gates.is_empty() {
        lines.push("No gate was judged.".to_owned());
        return;
    }
    let count = report.gates.len();
    // Those of a load in steps are few, and the steps need the room.
    let most = if report.climb.is_some() { GATES_OF_STEPS_MAX } else { GATES_MAX };
    let shown = if count > most { most - 1 } else { count };
    lines.push(format!(
        "{:<12}  {:<32}  {:<20}  {:>9}  {:>9}  {:>8}",
        "verdict", "gate", "on", "observed", "limit", "margin"
    ));
    lines.extend(report.gates[..shown].iter().map(|gate| gate_line(gate, colour)));
    let left = &report.gates[shown..];
    if !left.is_empty() {
        let failed = left.iter().filter(|gate| gate.verdict == Verdict::Fail).count();
        let unclear = left.iter().filter(|gate| gate.verdict == Verdict::Inconclusive).count();
        let passed = left.len() - failed - unclear;
        lines.push(format!(
            "… and {} more: {failed} failed, {unclear} inconclusive, {passed} passed",
            left.len()
        ));
    }
}

fn gate_line(gate: &GateOutcome, colour: Colour) -> String {
    let word = format!("{:<12}", verdict_word(gate.verdict));
    let observed =
        gate.observed.map_or_else(|| "no data".to_owned(), |v| format::figure(v, gate.unit));
    let margin = gate.margin.map_or_else(|| "–".to_owned(), format::signed_percent);
    format!(
        "{}  {:<32}  {:<20}  {:>9}  {:>9}  {:>8}",
        painted(&word, hue(gate.verdict), colour),
        cut(&gate.gate, 32),
        cut(&gate_place(gate), 20),
        cut(&observed, 9),
        cut(&format::figure(gate.limit, gate.unit), 9),
        cut(&margin, 8),
    )
}

/// The last steps: those below them held.
fn steps(lines: &mut Vec<String>, figures: &ClimbFigures, colour: Colour) {
    lines.push(format!(
        "{:<14}  {:>4}  {:>11}  {:>11}  {:>11}  {:>9}  {}",
        "came out", "step", "offered", "achieved", "events", "p95", "gates"
    ));
    let rate = |per_s| or_not_measured(per_s, format::per_second);
    let hidden = figures.steps.len().saturating_sub(STEPS_MAX);
    for (step, of) in figures.rows().skip(hidden) {
        let word = format!("{:<14}", step_word(step.verdict));
        let p95 = or_not_measured(of.response, |times| format::duration_us(times.p95 as f64));
        let line = format!(
            "  {:>4}  {:>11}  {:>11}  {:>11}  {:>9}  {}",
            step.number,
            cut(&rate(of.offered_per_s), 11),
            cut(&rate(of.achieved_per_s), 11),
            cut(&rate(of.events_per_s), 11),
            cut(&p95, 9),
            not_held(step, 1),
        );
        let line = cut(line.trim_end(), COLUMNS_MAX - word.len());
        lines.push(painted(&word, hue(step.verdict), colour) + &line);
    }
}

fn load(lines: &mut Vec<String>, report: &Report) {
    let load = &report.load;
    let share = load.achieved_share().map(|share| format!(" ({})", format::percent(share)));
    lines.push(labelled(
        "Load",
        &format!(
            "offered {}, achieved {}{}, events {}",
            or_not_measured(load.offered_per_s, format::per_second),
            or_not_measured(load.achieved_per_s, format::per_second),
            share.unwrap_or_default(),
            or_not_measured(load.events_per_s, format::per_second),
        ),
    ));
    let failures = or_not_measured(load.counts, format::failures);
    let lag = or_not_measured(load.send_lag, |lag| {
        let time = |us| format::duration_us(us as f64);
        format!("p50 {}, p99 {}, max {}", time(lag.p50), time(lag.p99), time(lag.max))
    });
    lines.push(labelled("", &format!("not OK: {failures}; send lag: {lag}")));
    if let Some(row) = report.failures.rows.first() {
        lines.push(labelled("Failures", &cut(&row.sentence(), COLUMNS_MAX - 10)));
    }
}

fn checks(lines: &mut Vec<String>, report: &Report, colour: Colour) {
    lines.push(labelled("Validity", &validity_counts(report)));
    let problems =
        report.validity.iter().filter(|c| matches!(c.state, CheckState::Red | CheckState::Amber));
    let problems: Vec<_> = problems.collect();
    let shown = if problems.len() > CHECKS_MAX { CHECKS_MAX - 1 } else { problems.len() };
    for check in &problems[..shown] {
        let state =
            painted(&format!("  {:<8}", state_word(check.state)), state_hue(check.state), colour);
        lines.push(state + &cut(&format!("{}: {}", check.check, check.detail), COLUMNS_MAX - 10));
    }
    if problems.len() > shown {
        lines.push(format!("  … and {} more", problems.len() - shown));
    }
    lines.push(labelled("Audit", &audit_sentence(report)));
    for check in report.audit.iter().filter(|c| c.state == AuditState::Red).take(AUDIT_MAX) {
        let state = painted("  red     ", state_hue(CheckState::Red), colour);
        lines.push(state + &cut(&format!("{}: {}", check.check, check.detail), COLUMNS_MAX - 10));
    }
}

fn labelled(label: &str, text: &str) -> String {
    format!("{label:<10}{text}")
}

/// ANSI colours that stay readable on light and dark terminals.
#[derive(Clone, Copy)]
enum Hue {
    Green = 32,
    Yellow = 33,
    Red = 31,
}

fn hue(verdict: Verdict) -> Hue {
    match verdict {
        Verdict::Pass => Hue::Green,
        Verdict::Fail => Hue::Red,
        Verdict::Inconclusive => Hue::Yellow,
    }
}

fn state_hue(state: CheckState) -> Hue {
    match state {
        CheckState::Green => Hue::Green,
        CheckState::Red => Hue::Red,
        CheckState::Amber | CheckState::Grey => Hue::Yellow,
    }
}

fn painted(text: &str, hue: Hue, colour: Colour) -> String {
    match colour {
        Colour::Plain => text.to_owned(),
        Colour::Ansi => format!("\u{1b}[1;{}m{text}\u{1b}[0m", hue as u8),
    }
}

/// At most `columns` characters on one line; what is cut off leaves an ellipsis.
fn cut(text: &str, columns: usize) -> String {
    let flat = text.replace(['\n', '\r', '\t', '\u{1b}'], " ");
    if flat.chars().count() <= columns {
        return flat;
    }
    flat.chars().take(columns - 1).collect::<String>() + "…"
}

fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace().map(|word| cut(word, columns)) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, report};

    const LOCATION: &str = "reports/phase3-20260131T093000-k4t7/report.html";

    #[test]
    fn the_screen_of_each_variant() {
        for variant in Variant::ALL {
            let screen = render_console(&report(variant), LOCATION, Colour::Plain);
            insta::assert_snapshot!(format!("console_{}", variant.name()), screen);
        }
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        for variant in Variant::ALL {
            let mut screen = render_console(&report(variant), LOCATION, Colour::Ansi);
            assert!(screen.contains('\u{1b}'));
            for code in ["\u{1b}[1;31m", "\u{1b}[1;32m", "\u{1b}[1;33m", "\u{1b}[0m"] {
                screen = screen.replace(code, "");
            }
            assert_eq!(screen, render_console(&report(variant), LOCATION, Colour::Plain));
        }
    }

    #[test]
    fn however_much_there_is_to_say_it_fits_a_screen() {
        let mut long = report(Variant::Fail);
        let endless = "many words \u{1b}[2J ".repeat(500);
        long.headline.clone_from(&endless);
        long.run.title.clone_from(&endless);
        for gate in &mut long.gates {
            gate.gate.clone_from(&endless);
            gate.operation = Some(endless.clone());
            gate.observed = Some(1e15);
        }
        long.gates = long.gates.iter().cycle().take(500).cloned().collect();
        for check in &mut long.validity {
            check.check.clone_from(&endless);
            check.state = CheckState::Red;
        }
        long.failures.rows[0].failure.reason.clone_from(&endless);
        for check in &mut long.audit {
            check.detail.clone_from(&endless);
            check.state = AuditState::Red;
        }
        let screen = render_console(&long, LOCATION, Colour::Plain);
        assert!(screen.lines().count() <= LINES_MAX, "{screen}");
        for line in screen.lines() {
            assert!(line.chars().count() <= COLUMNS_MAX, "{line}");
            assert!(!line.contains('\u{1b}'), "text from elsewhere may not steer the terminal");
        }
        assert!(screen.contains("and 483 more: "), "what is left out is said\n{screen}");
    }
}
