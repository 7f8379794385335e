//! When a source's silence becomes an incident. Pure.
//!
//! A source that is gone is told at once; one that is slow only when it stays so, since a machine under load now and then
//! keeps anybody waiting, and the gap in the series shows it. Either way an outage is one incident, however long.

use crate::archive::Incident;

/// This many readings in a row without an answer are an outage.
const SLOW_MAX: usize = 3;

/// Why a reading, or part of it, gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection was refused or lost, or the answer makes no sense.
    Lost(String),
    /// No answer in time.
    Slow,
}

/// The outages of one source.
#[derive(Debug)]
pub(super) struct Outages {
    what: String,
    incidents: Vec<Incident>,
    current: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    first: usize,
    last: usize,
    readings: usize,
    lost: Option<String>,
}

impl Outages {
    /// `what` names the source in its incidents.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), incidents: Vec::new(), current: None }
    }

    /// Takes note of how the reading of a second went.
    pub(super) fn note(&mut self, second: usize, failure: Option<Failure>) {
        let Some(failure) = failure else { return self.close() };
        let fresh = Outage { first: second, last: second, readings: 0, lost: None };
        let outage = self.current.get_or_insert(fresh);
        outage.last = second;
        outage.readings += 1;
        if let Failure::Lost(detail) = failure {
            outage.lost.get_or_insert(detail);
        }
    }

    /// All incidents, an outage that lasts included.
    pub(super) fn finish(mut self) -> Vec<Incident> {
        self.close();
        self.incidents
    }

    fn close(&mut self) {
        let Some(outage) = self.current.take() else { return };
        let detail = match outage.lost {
            Some(detail) => detail,
            None if outage.readings >= SLOW_MAX => "no answer in time".to_owned(),
            None => return,
        };
        let seconds = match (outage.first, outage.last) {
            (first, last) if first == last => format!("second {first}"),
            (first, last) => format!("seconds {first} to {last}"),
        };
        self.incidents.push(Incident {
            second: Some(outage.first),
            what: self.what.clone(),
            detail: format!("could not be observed in {seconds}: {detail}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(readings: &[Option<Failure>]) -> Vec<String> {
        let mut outages = Outages::new("replica-1");
        for (second, failure) in readings.iter().enumerate() {
            outages.note(second, failure.clone());
        }
        let told = |incident: Incident| format!("{}: {}", incident.what, incident.detail);
        outages.finish().into_iter().map(told).collect()
    }

    fn lost(detail: &str) -> Option<Failure> {
        Some(Failure::Lost(detail.to_owned()))
    }

    #[test]
    fn an_outage_is_one_incident_with_its_first_cause() {
        let readings =
            [None, lost("refused"), Some(Failure::Slow), lost("still refused"), None, None];
        assert_eq!(
            told(&readings),
            ["replica-1: could not be observed in seconds 1 to 3: refused"]
        );
    }

    #[test]
    fn an_outage_that_lasts_is_told_at_the_end() {
        assert_eq!(
            told(&[None, lost("gone")]),
            ["replica-1: could not be observed in second 1: gone"]
        );
    }

    #[test]
    fn each_outage_is_told() {
        assert_eq!(told(&[lost("a"), None, lost("b")]).len(), 2);
    }

    #[test]
    fn a_slow_answer_now_and_then_is_no_incident() {
        let slow = || Some(Failure::Slow);
        assert!(told(&[slow(), slow(), None, slow(), None]).is_empty());
        assert_eq!(
            told(&[slow(), slow(), slow()]),
            ["replica-1: could not be observed in seconds 0 to 2: no answer in time"]
        );
    }
}
