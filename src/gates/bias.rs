//! The direction of a fault: what a red validity check leaves standing.
//!
//! | fault makes the system look | a pass | a fail |
//! |---|---|---|
//! | worse | stands | inconclusive |
//! | better | inconclusive | stands |
//! | cannot be told | inconclusive | inconclusive |
//!
//! And only where it reaches: what the client measured stands when the server could not be read.

use super::figure::FigureName;
use super::verdict::{Bias, CheckState, GateOutcome, Undermines, ValidityCheck, Verdict};

/// Whether a verdict survives a fault of the measurement.
pub(super) fn survives(verdict: Verdict, bias: Bias) -> bool {
    match verdict {
        Verdict::Pass => bias == Bias::LooksWorse,
        Verdict::Fail => bias == Bias::LooksBetter,
        Verdict::Inconclusive => true,
    }
}

/// Whether a figure is among those that lose their ground.
fn reaches(undermines: Undermines, figure: &FigureName) -> bool {
    match undermines {
        Undermines::All => true,
        Undermines::Signals => matches!(figure, FigureName::Signal(_)),
        Undermines::EventRate => *figure == FigureName::EventRate,
    }
}

/// Turns the verdict of a gate on `figure` into inconclusive when a red check takes its ground away, and says which.
pub(super) fn let_stand(gate: &mut GateOutcome, figure: &FigureName, validity: &[ValidityCheck]) {
    let undermines = |check: &&ValidityCheck| {
        check.state == CheckState::Red
            && reaches(check.undermines, figure)
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
    use crate::gates::{Rule, Unit};

    fn after(verdict: Verdict, state: CheckState, bias: Option<Bias>) -> Verdict {
        after_check_of("p95 < 500ms", verdict, state, bias, Undermines::All)
    }

    fn after_check_of(
        rule: &str,
        verdict: Verdict,
        state: CheckState,
        bias: Option<Bias>,
        undermines: Undermines,
    ) -> Verdict {
        let mut gate = GateOutcome {
            gate: rule.to_owned(),
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
        let (check, detail) = ("c".to_owned(), "d".to_owned());
        let check = ValidityCheck { check, state, bias, undermines, detail };
        let figure = rule.parse::<Rule>().unwrap().figure;
        let_stand(&mut gate, &figure, &[check]);
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
    fn a_fault_takes_away_only_what_rests_on_it() {
        use Undermines::{All, EventRate, Signals};
        for (rule, reached_by) in [
            ("p95 < 500ms", &[All][..]),
            ("error_rate < 1%", &[All]),
            ("event_rate >= 100/s", &[All, EventRate]),
            ("cache_hit_ratio > 85%", &[All, Signals]),
            ("projected_rate >= 100/s", &[All, Signals]),
        ] {
            for verdict in [Verdict::Pass, Verdict::Fail] {
                for undermines in [All, Signals, EventRate] {
                    let reached = reached_by.contains(&undermines);
                    let expected = if reached { Verdict::Inconclusive } else { verdict };
                    let (red, bias) = (CheckState::Red, Some(Bias::Unknown));
                    let after = after_check_of(rule, verdict, red, bias, undermines);
                    assert_eq!(after, expected, "{rule} under {undermines:?}");
                }
            }
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
