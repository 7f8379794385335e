//! `junit.xml`: a test case per gate, validity check and audit check, for CI servers.
//!
//! A failed gate is a `failure`; one that cannot be judged is an `error`, and so is a red check of the run
//! itself. A check that was not made is `skipped`.

use quick_junit::{NonSuccessKind, Report as JUnit, TestCase, TestCaseStatus, TestSuite};

use super::format::{self, or_not_measured};
use super::model::{Report, gate_place, verdict_word};
use crate::archive::{AuditCheck, AuditState};
use crate::gates::{CheckState, GateOutcome, ValidityCheck, Verdict};

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
