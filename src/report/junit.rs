//! `junit.xml`: a test case per gate, validity check and audit check, for CI servers.
//!
//! A failed gate is a `failure`; one that cannot be judged is an `error`, and so is a red check of the run
//! itself. A step that did not hold is `skipped`: whether the run fails for it is for its gates to say. A check that was not made is `skipped`.

use quick_junit::{NonSuccessKind, Report as JUnit, TestCase, TestCaseStatus, TestSuite};

use super::format::{self, or_not_measured};
use super::model::{Report, gate_place, verdict_word};
use super::steps::{StepFigures, not_held, step_word};
use crate::archive::{AuditCheck, AuditState};
use crate::gates::{CheckState, GateOutcome, StepOutcome, ValidityCheck, Verdict};

/// The report as JUnit XML.
pub(super) fn render(report: &Report) -> String {
    let mut junit = JUnit::new(format!("plimsoll {}", report.run.scenario));
    let suite = |name: &str, cases: Vec<TestCase>| {
        let mut suite = TestSuite::new(format!("{}.{name}", report.run.scenario));
        suite.add_property(("run", report.run.id.as_str()));
        suite.add_property(("verdict", verdict_word(report.verdict)));
        suite.add_test_cases(cases);
        suite
    };
    if let Some(figures) = &report.climb {
        junit.add_test_suite(suite("steps", figures.rows().map(|(s, of)| step(s, of)).collect()));
    }
    junit.add_test_suites([
        suite("gates", report.gates.iter().map(gate).collect()),
        suite("validity", report.validity.iter().map(check).collect()),
        suite("audit", report.audit.iter().map(audit).collect()),
    ]);
    junit.to_string().expect("writing XML to memory cannot fail")
}

fn gate(gate: &GateOutcome) -> TestCase {
    let observed = or_not_measured(gate.observed, |value| format::figure(value, gate.unit));
    let message = format!(
        "observed {observed}, limit {}, {} samples{}",
        format::figure(gate.limit, gate.unit),
        format::grouped(gate.samples),
        gate.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    );
    let status = match gate.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => non_success(NonSuccessKind::Failure, "gate failed", &message),
        Verdict::Inconclusive => non_success(NonSuccessKind::Error, "inconclusive", &message),
    };
    let mut case = TestCase::new(format!("{} ({})", gate.gate, gate_place(gate)), status);
    case.set_classname("gates").set_system_out(message);
    case
}

/// A step that did not hold is no failure of the run: that is for the gates to say. So it is `skipped`, with what it broke.
fn step(step: &StepOutcome, figures: &StepFigures) -> TestCase {
    let rate = |per_s| or_not_measured(per_s, format::per_second);
    let message = format!(
        "offered {}, achieved {}, events {}, p95 {}",
        rate(figures.offered_per_s),
        rate(figures.achieved_per_s),
        rate(figures.events_per_s),
        or_not_measured(figures.response, |times| format::duration_us(times.p95 as f64)),
    );
    let word = step_word(step.verdict);
    let status = match step.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        _ => skipped(&format!("{word}: {}; {message}", not_held(step, usize::MAX))),
    };
    let mut case = TestCase::new(format!("step {} ({} %)", step.number, step.percent), status);
    case.set_classname("steps").set_system_out(message);
    case
}

fn check(check: &ValidityCheck) -> TestCase {
    let status = match check.state {
        CheckState::Green | CheckState::Amber => TestCaseStatus::success(),
        CheckState::Red => non_success(NonSuccessKind::Error, "run not valid", &check.detail),
        CheckState::Grey => skipped(&check.detail),
    };
    let mut case = TestCase::new(check.check.as_str(), status);
    case.set_classname("validity").set_system_out(check.detail.as_str());
    case
}

fn audit(check: &AuditCheck) -> TestCase {
    let status = match check.state {
        AuditState::Green => TestCaseStatus::success(),
        AuditState::Red => non_success(NonSuccessKind::Failure, "audit failed", &check.detail),
        AuditState::Grey => skipped(&check.detail),
    };
    let mut case = TestCase::new(check.check.as_str(), status);
    case.set_classname("audit").set_system_out(format!(
        "{} checked: {}",
        format::grouped(check.count),
        check.detail
    ));
    case
}

fn non_success(kind: NonSuccessKind, category: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(category).set_message(message);
    status
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(message);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, report};

    #[test]
    fn the_test_cases_of_each_variant() {
        for variant in Variant::ALL {
            insta::assert_snapshot!(format!("junit_{}", variant.name()), render(&report(variant)));
        }
    }

    #[test]
    fn a_ci_server_fails_the_build_unless_the_run_passed() {
        let passes = |variant| {
            let xml = render(&report(variant));
            !xml.contains("<failure") && !xml.contains("<error")
        };
        assert_eq!(Variant::ALL.map(passes), [true, false, false, false]);
    }
}
