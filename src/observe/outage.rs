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
    /// Nobody is there: the connection was refused or lost.
    Gone(String),
    /// The answer is an error, or makes no sense.
    Failed(String),
    /// No answer in time.
    Slow,
}

/// The outages of one source.
#[derive(Debug)]
pub(super) struct Outages {
    reading: String,
    server: Option<String>,
    incidents: Vec<Incident>,
    current: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    first: usize,
    last: usize,
    readings: usize,
    gone: Option<String>,
    failed: Option<String>,
}

impl Outages {
    /// An incident bears the name of the server when that was gone, and of the reading when only that failed: the one
    /// is a fault of the system, the other of our sight.
    pub(super) fn new(reading: String, server: Option<String>) -> Self {
        Self { reading, server, incidents: Vec::new(), current: None }
    }

    /// Takes note of how the reading of a second went.
    pub(super) fn note(&mut self, second: usize, failure: Option<Failure>) {
        let Some(failure) = failure else { return self.close() };
        let fresh = Outage { first: second, last: second, readings: 0, gone: None, failed: None };
        let outage = self.current.get_or_insert(fresh);
        outage.last = second;
        outage.readings += 1;
        match failure {
            Failure::Gone(detail) => _ = outage.gone.get_or_insert(detail),
            Failure::Failed(detail) => _ = outage.failed.get_or_insert(detail),
            Failure::Slow => {}
        }
    }

    /// All incidents, an outage that lasts included.
    pub(super) fn finish(mut self) -> Vec<Incident> {
        self.close();
        self.incidents
    }

    fn close(&mut self) {
        let Some(outage) = self.current.take() else { return };
        let server = self.server.as_ref().filter(|_| outage.gone.is_some());
        let detail = match outage.gone.or(outage.failed) {
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
            what: server.unwrap_or(&self.reading).clone(),
            detail: format!("could not be observed in {seconds}: {detail}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(readings: &[Option<Failure>]) -> Vec<String> {
        let reading = "statistics of replica-1".to_owned();
        let mut outages = Outages::new(reading, Some("replica-1".to_owned()));
        for (second, failure) in readings.iter().enumerate() {
            outages.note(second, failure.clone());
        }
        let told = |incident: Incident| format!("{}: {}", incident.what, incident.detail);
        outages.finish().into_iter().map(told).collect()
    }

    fn gone(detail: &str) -> Option<Failure> {
        Some(Failure::Gone(detail.to_owned()))
    }

    #[test]
    fn an_outage_is_one_incident_with_its_first_cause() {
        let readings =
            [None, gone("refused"), Some(Failure::Slow), gone("still refused"), None, None];
        assert_eq!(
            told(&readings),
            ["replica-1: could not be observed in seconds 1 to 3: refused"]
        );
    }

    #[test]
    fn an_outage_that_lasts_is_told_at_the_end() {
        assert_eq!(
            told(&[None, gone("lost")]),
            ["replica-1: could not be observed in second 1: lost"]
        );
    }

    #[test]
    fn each_outage_is_told() {
        assert_eq!(told(&[gone("a"), None, gone("b")]).len(), 2);
    }

    #[test]
    fn a_server_that_answers_badly_is_not_gone() {
        let denied = Some(Failure::Failed("permission denied".to_owned()));
        assert_eq!(
            told(&[denied.clone(), None]),
            ["statistics of replica-1: could not be observed in second 0: permission denied"]
        );
        assert_eq!(
            told(&[denied, gone("refused")]),
            ["replica-1: could not be observed in seconds 0 to 1: refused"],
            "being gone is the graver cause"
        );
    }

    #[test]
    fn a_slow_answer_now_and_then_is_no_incident() {
        let slow = || Some(Failure::Slow);
        assert!(told(&[slow(), slow(), None, slow(), None]).is_empty());
        assert_eq!(
            told(&[slow(), slow(), slow()]),
            ["statistics of replica-1: could not be observed in seconds 0 to 2: no answer in time"]
        );
    }
}
