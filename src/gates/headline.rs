//! The verdict in one sentence, naming what failed or what makes it inconclusive.

use super::show::show;
use super::steps::{Climb, StepOutcome};
use super::verdict::{Bias, CheckState, GateOutcome, Undermines, Unit, ValidityCheck, Verdict};
use crate::archive::{AuditCheck, AuditState, Record};
use crate::units::show::grouped;

/// One sentence that a reader who stops here can act on.
pub(super) fn headline(
    verdict: Verdict,
    record: &Record,
    gates: &[GateOutcome],
    validity: &[ValidityCheck],
    unaudited: Option<&AuditCheck>,
) -> String {
    match verdict {
        Verdict::Pass => passed(gates),
        Verdict::Fail => failed(record, gates),
        Verdict::Inconclusive => inconclusive(gates, validity, unaudited),
    }
}

/// The same for a load in steps: how far it held and what ended it, after what is wrong besides.
pub(super) fn headline_of_climb(
    verdict: Verdict,
    record: &Record,
    gates: &[GateOutcome],
    validity: &[ValidityCheck],
    unaudited: Option<&AuditCheck>,
    climb: &Climb,
) -> String {
    let sentence = climb_sentence(climb);
    let audit_red = record.audit.iter().any(|check| check.state == AuditState::Red);
    let open = gates.iter().find(|gate| gate.verdict == verdict && !audit_red);
    match (verdict, open) {
        (Verdict::Fail, Some(gate)) => format!("Failed: {}: {sentence}", gate.gate),
        (Verdict::Inconclusive, Some(gate)) => format!("Inconclusive: {}: {sentence}", gate.gate),
        (Verdict::Pass, _) => capitalised(&sentence),
        _ => {
            let first = headline(verdict, record, gates, validity, unaudited);
            format!("{first} {}", capitalised(&sentence))
        }
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn climb_sentence(climb: &Climb) -> String {
    let rate = |per_s: f64| show(per_s, Unit::PerSecond);
    let of = climb.of;
    let held = match (climb.held_events_per_s, climb.held_requests_per_s, climb.last_held()) {
        (Some(events), _, Some(step)) => {
            format!("held {} events, step {} of {of}", rate(events), step.number)
        }
        (None, Some(requests), Some(step)) => {
            format!("held {} requests, step {} of {of}", rate(requests), step.number)
        }
        _ => "no step held".to_owned(),
    };
    let offered =
        |step: &StepOutcome| match climb.held_events_per_s.is_some() || step.events_per_s > 0.0 {
            true => format!("{} events offered", rate(step.events_per_s)),
            false => format!("{} requests offered", rate(step.requests_per_s)),
        };
    let end = match climb.ended_by() {
        Some(step) if step.verdict == Verdict::Fail => {
            let mut broken = step.gates.iter().filter(|gate| gate.verdict == Verdict::Fail);
            let first = broken.next().map(observation).unwrap_or_default();
            let more = and_more(broken.count(), "broke");
            format!("step {} ({}) broke {first}{more}", step.number, offered(step))
        }
        Some(step) => {
            let why = place_and_reason(step);
            format!("step {} ({}) cannot be told: {why}", step.number, offered(step))
        }
        None if climb.steps.len() < of => "the load ended before a step broke".to_owned(),
        None => "no step broke".to_owned(),
    };
    format!("{held}; {end}.")
}

/// The first gate that keeps a step from holding, and why.
pub(super) fn place_and_reason(step: &StepOutcome) -> String {
    match step.not_held().next() {
        Some(gate) => {
            let reason = gate.reason.as_deref().unwrap_or("no reason recorded");
            format!("{}: {reason}", place(gate))
        }
        None => "no gate was judged on it".to_owned(),
    }
}

fn passed(gates: &[GateOutcome]) -> String {
    let held = match gates.len() {
        1 => "The gate holds".to_owned(),
        count => format!("All {count} gates hold"),
    };
    let tightest = gates
        .iter()
        .filter_map(|gate| gate.margin.map(|margin| (margin, gate)))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    match tightest {
        Some((_, gate)) => format!("{held}; closest is {}.", observation(gate)),
        None => format!("{held}."),
    }
}

fn failed(record: &Record, gates: &[GateOutcome]) -> String {
    if let Some(check) = record.audit.iter().find(|check| check.state == AuditState::Red) {
        return format!("The audit failed: {}: {}.", check.check, check.detail);
    }
    let mut failed = gates.iter().filter(|gate| gate.verdict == Verdict::Fail);
    let Some(first) = failed.next() else { return "A gate failed.".to_owned() };
    format!("Failed: {}{}.", observation(first), and_more(failed.count(), "failed"))
}

fn inconclusive(
    gates: &[GateOutcome],
    validity: &[ValidityCheck],
    unaudited: Option<&AuditCheck>,
) -> String {
    if gates.is_empty() {
        return "Inconclusive: the scenario has no gates.".to_owned();
    }
    let mut open = gates.iter().filter(|gate| gate.verdict == Verdict::Inconclusive);
    let Some(first) = open.next() else {
        let why = unaudited.map_or_else(String::new, |check| {
            format!(
                ": the gates hold, but the audit could not check: {}: {}",
                check.check, check.detail
            )
        });
        return format!("Inconclusive{why}.");
    };
    let rest = and_more(open.count(), "cannot be told");
    let neither_stands = |check: &&ValidityCheck| {
        check.state == CheckState::Red
            && check.bias == Some(Bias::Unknown)
            && check.undermines == Undermines::All
    };
    if let Some(check) = validity.iter().find(neither_stands) {
        return format!("Inconclusive: {}: {}.", check.check, check.detail);
    }
    let reason = first.reason.as_deref().unwrap_or("no reason recorded");
    format!("Inconclusive: {}: {reason}{rest}.", place(first))
}

fn observation(gate: &GateOutcome) -> String {
    match gate.observed {
        Some(observed) => {
            format!(
                "{}: observed {} over {} samples",
                place(gate),
                show(observed, gate.unit),
                grouped(gate.samples)
            )
        }
        None => place(gate),
    }
}

/// The rule, and on what.
fn place(gate: &GateOutcome) -> String {
    match (&gate.operation, &gate.service) {
        (Some(operation), _) => format!("{} on operation {operation:?}", gate.gate),
        (None, Some(service)) => format!("{} on service {service:?}", gate.gate),
        (None, None) => gate.gate.clone(),
    }
}

fn and_more(count: usize, what: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(" (1 more gate {what})"),
        many => format!(" ({many} more gates {what})"),
    }
}
