//! The direction of a fault: what a red validity check leaves standing.
//!
//! | fault makes the system look | a pass | a fail |
//! |---|---|---|
//! | worse | stands | inconclusive |
//! | better | inconclusive | stands |
//! | cannot be told | inconclusive | inconclusive |

use super::verdict::{Bias, CheckState, GateOutcome, ValidityCheck, Verdict};

/// Whether a verdict survives a fault of the measurement.
pub(super) fn survives(verdict: Verdict, bias: Bias) -> bool {
    match verdict {
        Verdict::Pass => bias == Bias::LooksWorse,
        Verdict::Fail => bias == Bias::LooksBetter,
        Verdict::Inconclusive => true,
    }
}

/// Turns a gate's verdict into inconclusive when a red check takes its ground away, and says which.
pub(super) fn let_stand(gate: &mut GateOutcome, validity: &[ValidityCheck]) {
    let undermines = |check: &&ValidityCheck| {
        check.state == CheckState::Red
            && check.bias.is_some_and(|bias| !survives(gate.verdict, bias))
    };
    let Some(check) = validity.iter().find(undermines) else { return };
    let would = if gate.verdict == Verdict::Pass { "pass" } else { "fail" };
    let so = match check.bias {
        Some(Bias::LooksWorse) => "makes the system look worse than it is",
        Some(Bias::LooksBetter) => "makes the system look better than it is",
        Some(Bias::Unknown) | None => "may push either way",
    };
    let doubt =
        format!("would {would}, but {:?} is red, which {so}: {}", check.check, check.detail);
    gate.reason = Some(match gate.reason.take() {
        Some(reason) => format!("{reason}; {doubt}"),
        None => doubt,
    });
    gate.verdict = Verdict::Inconclusive;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::Unit;

    fn after(verdict: Verdict, state: CheckState, bias: Option<Bias>) -> Verdict {
        let mut gate = GateOutcome {
            gate: "p95 < 500ms".to_owned(),
            operation: None,
            service: None,
            observed: Some(1.0),
            limit: 2.0,
            unit: Unit::Us,
            samples: 1000,
            margin: Some(0.5),
            verdict,
            reason: None,
        };
        let check = ValidityCheck { check: "c".to_owned(), state, bias, detail: "d".to_owned() };
        let_stand(&mut gate, &[check]);
        gate.verdict
    }

    #[test]
    fn each_direction_takes_its_half_of_the_evidence() {
        use Bias::{LooksBetter, LooksWorse, Unknown};
        use Verdict::{Fail, Inconclusive, Pass};
        for (bias, pass, fail) in [
            (LooksWorse, Pass, Inconclusive),
            (LooksBetter, Inconclusive, Fail),
            (Unknown, Inconclusive, Inconclusive),
        ] {
            assert_eq!(after(Pass, CheckState::Red, Some(bias)), pass, "pass under {bias:?}");
            assert_eq!(after(Fail, CheckState::Red, Some(bias)), fail, "fail under {bias:?}");
            assert_eq!(after(Inconclusive, CheckState::Red, Some(bias)), Inconclusive);
        }
    }

    #[test]
    fn only_red_takes_anything_away() {
        for state in [CheckState::Green, CheckState::Amber, CheckState::Grey] {
            for verdict in [Verdict::Pass, Verdict::Fail] {
                assert_eq!(after(verdict, state, Some(Bias::Unknown)), verdict, "{state:?}");
            }
        }
    }
}
