//! The tally: what the recorder collected, counted by operation and second. Made in the worker once a second, merged in
//! the session; both are additions only, so it does not matter in which second a late answer is reported.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::exchange::{Answer, Exchange};
use super::packed;
use super::recorder::{Fate, Sample};
use crate::archive::{
    Distribution, HIGHEST_US, LedgerEntry, LoadSecond, OperationSecond, Outcome, new_histogram,
};
use crate::ids::{CommandId, OrgId};

/// What was recorded since the last one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// By operation and second of the intended time. `intended` is zero: the schedule knows it, not the worker.
    pub operations: Vec<OperationTally>,
    /// By second of the clock.
    pub seconds: Vec<ClockTally>,
    /// What the client was told about each command.
    #[serde(with = "packed")]
    pub told: Vec<Told>,
}

impl Tally {
    /// How many arrivals it accounts for.
    pub fn arrivals(&self) -> u64 {
        let of_one = |counts: &OperationSecond| counts.sent + counts.dropped;
        self.operations.iter().map(|operation| of_one(&operation.counts)).sum()
    }
}

/// One operation's arrivals intended in one second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationTally {
    /// Index into the scenario's operations.
    pub operation: usize,
    /// Second of the axis.
    pub second: usize,
    /// What became of them, as far as known since the last tally.
    pub counts: OperationSecond,
    /// Why some failed, and how many for each reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
}

/// What the generator did in one second of the clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockTally {
    /// Second of the axis.
    pub second: usize,
    /// What it did, as far as known since the last tally.
    pub counts: LoadSecond,
}

/// What the client was told about the command of one arrival. The command's id is not sent: it derives from the run
/// and the arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Number of the arrival.
    pub arrival: u64,
    /// The organisation that the command was for.
    pub org: OrgId,
    /// What the client was told.
    pub outcome: Outcome,
}

impl Told {
    /// As a line of the ledger of the run with this namespace.
    pub fn entry(&self, namespace: uuid::Uuid) -> LedgerEntry {
        let command = CommandId::derive(namespace, self.arrival);
        LedgerEntry { command, org: self.org, outcome: self.outcome }
    }
}

/// Makes tallies; owns the one histogram that all of them are counted in.
#[derive(Debug)]
pub(crate) struct Tallier {
    histogram: Histogram<u64>,
}

impl Tallier {
    pub(crate) fn new() -> Self {
        Self { histogram: new_histogram() }
    }

    /// Counts samples; `peak` is the most requests in flight during the second of the clock that has just ended.
    pub(crate) fn tally(&mut self, mut samples: Vec<Sample>, second: usize, peak: u64) -> Tally {
        let group = |sample: &Sample| (sample.operation, second_of(sample.intended_us));
        samples.sort_unstable_by_key(group);
        let operations = samples
            .chunk_by(|a, b| group(a) == group(b))
            .map(|of_one| {
                let (operation, second) = group(&of_one[0]);
                let (counts, failures) = (self.operation_second(of_one), failures(of_one));
                OperationTally { operation, second, counts, failures }
            })
            .collect();
        let told = samples.iter().filter_map(|sample| {
            let (org, outcome) = sample.told?;
            Some(Told { arrival: sample.arrival, org, outcome })
        });
        Tally { operations, told: told.collect(), seconds: self.clock(&samples, second, peak) }
    }

    fn operation_second(&mut self, samples: &[Sample]) -> OperationSecond {
        let mut counts = OperationSecond::default();
        for sample in samples {
            match sample.fate {
                Fate::Dropped => counts.dropped += 1,
                Fate::Sent { exchange, .. } => match exchange.answer {
                    Answer::Ok => counts.ok += 1,
                    Answer::Error => counts.errors += 1,
                    Answer::Timeout => counts.timeouts += 1,
                },
            }
        }
        counts.sent = counts.ok + counts.errors + counts.timeouts;
        let sent = || samples.iter().filter_map(Times::of);
        counts.response = self.distribution(sent().map(|t| t.done_us - t.intended_us));
        counts.service = self.distribution(sent().map(|t| t.done_us - t.sent_us));
        counts
    }

    fn clock(&mut self, samples: &[Sample], second: usize, peak: u64) -> Vec<ClockTally> {
        let mut seconds = BTreeMap::<usize, (LoadSecond, Lags)>::new();
        seconds.entry(second).or_default().0.in_flight_max = peak;
        for sample in samples {
            let Some(times) = Times::of(sample) else { continue };
            let (sending, lags) = seconds.entry(second_of(times.sent_us)).or_default();
            sending.sent += 1;
            lags.all_us.push(times.sent_us - times.intended_us);
            lags.own_us.push(times.sent_us - times.intended_us.max(times.free_us));
            let (ending, _) = seconds.entry(second_of(times.done_us)).or_default();
            ending.done += 1;
            let acknowledged = matches!(sample.told, Some((_, Outcome::Acknowledged)));
            ending.acknowledged += u64::from(acknowledged);
        }
        let finish = |(second, (mut counts, lags)): (usize, (LoadSecond, Lags))| {
            counts.lag = self.distribution(lags.all_us.into_iter());
            counts.own_lag = self.distribution(lags.own_us.into_iter());
            ClockTally { second, counts }
        };
        seconds.into_iter().map(finish).collect()
    }

    fn distribution(&mut self, values_us: impl Iterator<Item = u64>) -> Distribution {
        self.histogram.reset();
        for value_us in values_us {
            self.histogram.saturating_record(value_us.min(HIGHEST_US));
        }
        Distribution::from_histogram(&self.histogram)
    }
}

/// Why requests failed, and how many for each reason.
fn failures(samples: &[Sample]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::<(&str, Option<u16>), u64>::new();
    for sample in samples {
        if let Fate::Sent { exchange: Exchange { reason: Some(reason), status, .. }, .. } =
            sample.fate
        {
            *counts.entry((reason, status)).or_default() += 1;
        }
    }
    let named = |((reason, status), count): ((&str, Option<u16>), u64)| match status {
        Some(status) => (format!("{reason} (status {status})"), count),
        None => (reason.to_owned(), count),
    };
    counts.into_iter().map(named).collect()
}

/// Send lags of one second of the clock, in µs: with and without the wait for a free user.
#[derive(Default)]
struct Lags {
    all_us: Vec<u64>,
    own_us: Vec<u64>,
}

/// The times of a sample that was sent, in µs.
struct Times {
    intended_us: u64,
    free_us: u64,
    sent_us: u64,
    done_us: u64,
}

impl Times {
    fn of(sample: &Sample) -> Option<Self> {
        match sample.fate {
            Fate::Dropped => None,
            Fate::Sent { free_us, sent_us, done_us, .. } => {
                Some(Self { intended_us: sample.intended_us, free_us, sent_us, done_us })
            }
        }
    }
}

/// The second of the axis that holds a time in µs.
pub(crate) fn second_of(time_us: u64) -> usize {
    usize::try_from(time_us / 1_000_000).expect("a run is shorter than 2^32 seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(intended_us: u64, sent_us: u64, done_us: u64, answer: Answer) -> Sample {
        let reason = (answer != Answer::Ok).then_some("a reason");
        let exchange = Exchange { answer, status: None, reason };
        let fate = Fate::Sent { free_us: 0, sent_us, done_us, exchange };
        Sample { arrival: 0, operation: 0, intended_us, fate, told: None }
    }

    #[test]
    fn a_request_belongs_to_the_second_of_its_intent() {
        // Intended in second 0, sent in second 1, done in second 3.
        let late = sent(900_000, 1_100_000, 3_000_000, Answer::Ok);
        let tally = Tallier::new().tally(vec![late], 3, 5);
        let [operation] = &tally.operations[..] else { panic!("{tally:?}") };
        assert_eq!((operation.second, operation.counts.ok), (0, 1));
        assert!(operation.counts.response.counts()[0].0.abs_diff(2_100_000) < 2_100);
        assert!(operation.counts.service.counts()[0].0.abs_diff(1_900_000) < 1_900);
        let by_second: Vec<_> =
            tally.seconds.iter().map(|s| (s.second, s.counts.sent, s.counts.done)).collect();
        assert_eq!(by_second, [(1, 1, 0), (3, 0, 1)]);
        assert!(tally.seconds[0].counts.lag.counts()[0].0.abs_diff(200_000) < 200);
        assert_eq!(tally.seconds[1].counts.in_flight_max, 5);
    }

    #[test]
    fn waiting_for_a_free_user_is_not_the_generators_own_lag() {
        let by_user_free_since = |free_us: u64| {
            let late = sent(100_000, 900_000, 950_000, Answer::Ok);
            let Fate::Sent { sent_us, done_us, exchange, .. } = late.fate else { panic!() };
            let fate = Fate::Sent { free_us, sent_us, done_us, exchange };
            let tally = Tallier::new().tally(vec![Sample { fate, ..late }], 0, 1);
            let counts = &tally.seconds[0].counts;
            let us = |lag: &Distribution| lag.to_histogram().max();
            (us(&counts.lag), us(&counts.own_lag))
        };
        let near = |(lag, own): (u64, u64), expected: (u64, u64)| {
            lag.abs_diff(expected.0) <= expected.0 / 1000
                && own.abs_diff(expected.1) <= expected.1 / 1000
        };
        assert!(near(by_user_free_since(899_700), (800_000, 300)), "the users were taken");
        assert!(near(by_user_free_since(0), (800_000, 800_000)), "somebody was free all the time");
        assert!(near(by_user_free_since(100_001), (800_000, 799_999)));
    }

    #[test]
    fn every_fate_is_counted_and_only_what_was_sent_is_timed() {
        let dropped = Sample { fate: Fate::Dropped, ..sent(0, 0, 0, Answer::Ok) };
        let samples = [Answer::Ok, Answer::Error, Answer::Error, Answer::Timeout]
            .map(|answer| sent(0, 10, 20, answer));
        let tally = Tallier::new().tally([&samples[..], &[dropped]].concat(), 0, 0);
        let counts = &tally.operations[0].counts;
        let figures = [counts.sent, counts.ok, counts.errors, counts.timeouts, counts.dropped];
        assert_eq!(figures, [4, 1, 2, 1, 1]);
        assert_eq!((counts.response.count(), counts.service.count()), (4, 4));
        assert_eq!(tally.arrivals(), 5);
        assert_eq!(tally.operations[0].failures, [("a reason".to_owned(), 3)].into());
    }

    #[test]
    fn acknowledged_commands_are_counted_when_they_are_acknowledged() {
        let mut event = sent(0, 10, 1_500_000, Answer::Ok);
        event.told = Some((OrgId::from_index(6), Outcome::Acknowledged));
        let tally = Tallier::new().tally(vec![event], 1, 0);
        assert_eq!(
            tally.told,
            [Told { arrival: 0, org: OrgId::from_index(6), outcome: Outcome::Acknowledged }]
        );
        assert_eq!(tally.seconds.iter().map(|s| s.counts.acknowledged).collect::<Vec<_>>(), [0, 1]);
    }
}
