//! `summary.md`: the report as a comment on a pull request. Forges refuse comments above 64 kB; this stays below
//! 60 kB whatever the run is called and however many gates it has.

use std::fmt::Write as _;

use super::format::{self, or_not_measured};
use super::model::{Report, gate_place, state_word, verdict_word};
use super::steps::{not_held, step_word};
use crate::archive::AuditState;
use crate::gates::{CheckState, GateOutcome, Verdict};

/// Rows of the gates together; the lines around them are few, and none is longer than a text may be.
const GATES_MAX_BYTES: usize = 34_000;
/// Reasons, validity checks and audit checks: at most this many of each.
const CHECKS_MAX: usize = 10;
/// The most frequent reasons for failures.
const FAILURES_MAX: usize = 5;
/// Gates named for a step that did not hold.
const GATES_OF_STEP_MAX: usize = 3;
const TEXT_MAX_BYTES: usize = 300;
const COMMAND_MAX_CHARS: usize = 500;

/// The report as Markdown.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let symbol = match report.verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Inconclusive => "⚠️",
    };
    let word = verdict_word(report.verdict);
    let headline = inline(&report.headline);
    line(&mut text, format_args!("### {symbol} {word}: {}\n", inline(&report.run.title)));
    line(&mut text, format_args!("{headline}\n"));
    gates(&mut text, report);
    steps(&mut text, report);
    load(&mut text, report);
    if let Some(figures) = &report.yardstick {
        line(&mut text, format_args!("\n**Yardstick**: {}.", inline(&figures.sentence())));
    }
    failures(&mut text, report);
    checks(&mut text, report);
    let run = &report.run;
    let command: String = run.command.replace("```", "").chars().take(COMMAND_MAX_CHARS).collect();
    line(
        &mut text,
        format_args!(
            "\nRun `{}`, plimsoll {}, seed {}. Everything else is in `report.html` beside this file.\n\nRepeat with:\n\n```sh\n{}\n```",
            run.id,
            inline(&run.release),
            run.seed,
            command
        ),
    );
    text
}

fn gates(text: &mut String, report: &Report) {
    if report.gates.is_empty() {
        line(text, format_args!("No gate was judged."));
        return;
    }
    line(text, format_args!("| verdict | gate | on | observed | limit | margin | samples |"));
    line(text, format_args!("|:--|:--|:--|--:|--:|--:|--:|"));
    let begin = text.len();
    for (shown, gate) in report.gates.iter().enumerate() {
        let row = gate_row(gate);
        if text.len() - begin + row.len() > GATES_MAX_BYTES {
            let left = report.gates.len() - shown;
            line(text, format_args!("\n… and {left} more gates, in `report.html`."));
            break;
        }
        text.push_str(&row);
    }
    reasons(text, report);
}

fn gate_row(gate: &GateOutcome) -> String {
    let word = verdict_word(gate.verdict);
    let word = if gate.verdict == Verdict::Pass { word.to_owned() } else { format!("**{word}**") };
    format!(
        "| {word} | `{}` | {} | {} | {} | {} | {} |\n",
        code(&gate.gate),
        inline(&gate_place(gate)),
        or_not_measured(gate.observed, |value| format::figure(value, gate.unit)),
        format::figure(gate.limit, gate.unit),
        or_not_measured(gate.margin, format::signed_percent),
        format::grouped(gate.samples),
    )
}

fn reasons(text: &mut String, report: &Report) {
    let told = report.gates.iter().filter_map(|gate| Some((gate, gate.reason.as_ref()?)));
    for (index, (gate, reason)) in told.take(CHECKS_MAX).enumerate() {
        if index == 0 {
            text.push('\n');
        }
        let rule = code(&gate.gate);
        line(text, format_args!("- `{rule}` on {}: {}", inline(&gate_place(gate)), inline(reason)));
    }
}

fn steps(text: &mut String, report: &Report) {
    let Some(figures) = &report.climb else { return };
    let rate = |per_s| or_not_measured(per_s, format::per_second);
    line(text, format_args!("\n| step | offered | achieved | events | p95 | came out |"));
    line(text, format_args!("|--:|--:|--:|--:|--:|:--|"));
    for (step, of) in figures.rows() {
        let word = step_word(step.verdict);
        let came_out = match step.verdict {
            Verdict::Pass => word.to_owned(),
            _ => format!("**{word}**: {}", inline(&not_held(step, GATES_OF_STEP_MAX))),
        };
        let (number, offered) = (step.number, rate(of.offered_per_s));
        let (achieved, events) = (rate(of.achieved_per_s), rate(of.events_per_s));
        let p95 = or_not_measured(of.response, |times| format::duration_us(times.p95 as f64));
        line(
            text,
            format_args!("| {number} | {offered} | {achieved} | {events} | {p95} | {came_out} |"),
        );
    }
    if let Some(step) = figures.climb.shown() {
        line(
            text,
            format_args!("\nFigures of load, validity and signals are of step {}.", step.number),
        );
    }
}

fn load(text: &mut String, report: &Report) {
    let load = &report.load;
    line(
        text,
        format_args!(
            "\n**Load**: offered {}, achieved {}, events {}; not OK: {}; send lag p99 {}.",
            or_not_measured(load.offered_per_s, format::per_second),
            or_not_measured(load.achieved_per_s, format::per_second),
            or_not_measured(load.events_per_s, format::per_second),
            or_not_measured(load.counts, format::failures),
            or_not_measured(load.send_lag, |lag| format::duration_us(lag.p99 as f64)),
        ),
    );
}

fn failures(text: &mut String, report: &Report) {
    let rows = &report.failures.rows;
    if rows.is_empty() {
        let remark = report.failures.remark().unwrap_or_default();
        line(text, format_args!("\n**Failures** (whole run): {remark}."));
        return;
    }
    line(text, format_args!("\n**Failures** (whole run), the most frequent first:"));
    for row in rows.iter().take(FAILURES_MAX) {
        line(text, format_args!("- {}", inline(&row.sentence())));
    }
    let rarer = report.failures.rarer.map_or(0, |rarer| rarer.rows);
    let left = rows.len().saturating_sub(FAILURES_MAX) as u64 + rarer;
    if left > 0 {
        line(text, format_args!("- and {} more", format::grouped(left)));
    }
}

fn checks(text: &mut String, report: &Report) {
    line(text, format_args!("\n**Validity**: {}.", validity_counts(report)));
    let worth_saying = |state| matches!(state, CheckState::Red | CheckState::Amber);
    for check in report.validity.iter().filter(|c| worth_saying(c.state)).take(CHECKS_MAX) {
        let (name, state) = (inline(&check.check), state_word(check.state));
        line(text, format_args!("- **{state}** {name}: {}", inline(&check.detail)));
    }
    line(text, format_args!("\n**Audit**: {}.", audit_sentence(report)));
    for check in report.audit.iter().filter(|c| c.state == AuditState::Red).take(CHECKS_MAX) {
        line(text, format_args!("- **red** {}: {}", inline(&check.check), inline(&check.detail)));
    }
}

/// `11 green, 1 amber`, leaving out states that no check is in.
pub(super) fn validity_counts(report: &Report) -> String {
    let states = [CheckState::Red, CheckState::Amber, CheckState::Grey, CheckState::Green];
    let counted = states.into_iter().map(|state| (report.checks_in(state), state_word(state)));
    let told: Vec<String> =
        counted.filter(|(count, _)| *count > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if told.is_empty() { format::NOT_MEASURED.to_owned() } else { told.join(", ") }
}

/// The audit in half a sentence.
pub(super) fn audit_sentence(report: &Report) -> String {
    let in_state = |state| report.audit.iter().filter(|check| check.state == state).count();
    let (red, grey) = (in_state(AuditState::Red), in_state(AuditState::Grey));
    match (report.audit.len(), red, grey) {
        (0, ..) => "not made".to_owned(),
        (all, 0, 0) => format!("all {all} checks hold"),
        (all, 0, grey) => format!("{} of {all} checks hold, {grey} not made", all - grey),
        (all, red, _) => format!("{red} of {all} checks FAILED"),
    }
}

/// Text from elsewhere on one line of a table: no markup of its own, and not without end.
fn inline(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() > TEXT_MAX_BYTES {
            line.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            '|' | '<' | '*' | '[' => line.extend(['\\', c]),
            other => line.push(other),
        }
    }
    line
}

/// Text from elsewhere between backticks, where nothing but the end of a cell needs an escape.
fn code(text: &str) -> String {
    inline(&text.replace('`', "")).replace("\\<", "<").replace("\\*", "*").replace("\\[", "[")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, report};

    #[test]
    fn the_summary_of_each_variant() {
        for variant in Variant::ALL {
            insta::assert_snapshot!(
                format!("markdown_{}", variant.name()),
                render(&report(variant))
            );
        }
    }

    #[test]
    fn however_much_there_is_to_say_a_forge_takes_it() {
        let mut long = report(Variant::Fail);
        let endless = "|ü*[".repeat(10_000);
        long.headline.clone_from(&endless);
        long.run.title.clone_from(&endless);
        long.run.command.clone_from(&endless);
        for gate in &mut long.gates {
            gate.gate.clone_from(&endless);
            gate.operation = Some(endless.clone());
            gate.reason = Some(endless.clone());
        }
        long.gates = long.gates.iter().cycle().take(5_000).cloned().collect();
        for check in &mut long.validity {
            check.check.clone_from(&endless);
            check.detail.clone_from(&endless);
            check.state = CheckState::Red;
        }
        long.validity = long.validity.iter().cycle().take(500).cloned().collect();
        for row in &mut long.failures.rows {
            row.failure.reason.clone_from(&endless);
        }
        for check in &mut long.audit {
            check.check.clone_from(&endless);
            check.detail.clone_from(&endless);
            check.state = AuditState::Red;
        }
        long.audit = long.audit.iter().cycle().take(500).cloned().collect();
        let text = render(&long);
        assert!(text.len() < 60_000, "{} bytes", text.len());
        assert!(text.contains("more gates"), "what is left out is said");
        assert!(text.contains("report.html"), "the end is still there");
    }
}
