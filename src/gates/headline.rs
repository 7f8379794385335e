//! The verdict in one sentence, naming what failed or what makes it inconclusive.

use super::show::show;
use super::verdict::{Bias, CheckState, GateOutcome, Undermines, ValidityCheck, Verdict};
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
