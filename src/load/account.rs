//! The account: what the schedule asked for, and of that, what the worker has told so far. Kept by the session, so that
//! a worker that dies takes nothing with it, and cannot make what it left undone look as if it had never been asked.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use uuid::Uuid;

use super::frame::WorkerPlan;
use super::schedule::Schedule;
use super::tally::{OperationTally, Tally, second_of};
use crate::archive::{
    FAILURES_MAX, Failure, GooseCount, LedgerEntries, LoadRecord, LoadSecond, OperationRecord,
    OperationSecond, RarerFailures, WorkerEnd,
};

/// How many seconds past axis and time-outs a worker may speak of, before its figures are nonsense.
const GRACE_S: usize = 60;

/// What is known when a worker has ended.
#[derive(Debug)]
pub struct Driven {
    /// What was offered, sent and answered.
    pub record: LoadRecord,
    /// What the client was told about each command.
    pub ledger: LedgerEntries,
}

impl Driven {
    /// Length of the axis, in seconds: shorter than the plan's when the load was stopped.
    pub fn axis(&self) -> usize {
        self.record.operations.first().map_or(0, |operation| operation.seconds.len())
    }
}

/// The record of a run in the making.
#[derive(Debug)]
pub(crate) struct Account {
    record: LoadRecord,
    ledger: LedgerEntries,
    /// By operation and reason.
    failures: BTreeMap<(usize, String), Failure>,
    namespace: Uuid,
    /// Arrivals of the worker's shard.
    intended: u64,
    /// Arrivals that the worker has accounted for.
    told: u64,
    /// No second of the clock may be this or later.
    horizon: usize,
}

impl Account {
    /// An account in which every arrival of the plan is still open.
    pub(crate) fn new(plan: &WorkerPlan) -> Self {
        let load = &plan.scenario.load;
        let axis = (load.warm_up.secs_ceil() + load.measure.secs_ceil()) as usize;
        let operations = plan.scenario.operations.iter().map(|operation| OperationRecord {
            name: operation.name.clone(),
            service: operation.service.clone(),
            event: operation.event,
            seconds: vec![OperationSecond::default(); axis],
        });
        let mut record = LoadRecord {
            operations: operations.collect(),
            seconds: vec![LoadSecond::default(); axis],
            ..LoadRecord::default()
        };
        let mut intended = 0;
        for arrival in Schedule::new(&plan.scenario).filter(|arrival| plan.shard.takes(arrival)) {
            let seconds = &mut record.operations[arrival.operation].seconds;
            seconds[second_of(arrival.intended_us)].intended += 1;
            intended += 1;
        }
        let horizon = axis + 2 * load.timeout.secs_ceil() as usize + GRACE_S;
        let namespace = plan.run.namespace();
        Self {
            record,
            ledger: LedgerEntries::default(),
            failures: BTreeMap::new(),
            namespace,
            intended,
            told: 0,
            horizon,
        }
    }

    /// Adds what the worker told; an error when it cannot be true, and then nothing is added, or when it cannot be kept.
    pub(crate) fn add(&mut self, tally: &Tally) -> Result<(), String> {
        self.check(tally)?;
        for part in &tally.operations {
            absorb(&mut self.record.operations[part.operation].seconds[part.second], &part.counts);
            self.add_failures(part);
        }
        for part in &tally.seconds {
            let seconds = &mut self.record.seconds;
            if seconds.len() <= part.second {
                seconds.resize(part.second + 1, LoadSecond::default());
            }
            absorb_clock(&mut seconds[part.second], &part.counts);
        }
        let told = tally.told.iter().map(|told| told.entry(self.namespace));
        let kept = self.ledger.add(told).and_then(|()| self.ledger.flush());
        kept.map_err(|error| format!("what could not be written down: {error}"))?;
        self.told += tally.arrivals();
        Ok(())
    }

    fn add_failures(&mut self, part: &OperationTally) {
        for (reason, count) in &part.failures {
            let first = || Failure {
                operation: self.record.operations[part.operation].name.clone(),
                reason: reason.clone(),
                count: 0,
                first_s: part.second,
                last_s: part.second,
            };
            let failure =
                self.failures.entry((part.operation, reason.clone())).or_insert_with(first);
            failure.count += count;
            failure.first_s = failure.first_s.min(part.second);
            failure.last_s = failure.last_s.max(part.second);
        }
    }

    fn check(&self, tally: &Tally) -> Result<(), String> {
        for part in &tally.operations {
            let Some(operation) = self.record.operations.get(part.operation) else {
                return Err(format!("figures of operation {}, which there is not", part.operation));
            };
            if part.second >= operation.seconds.len() {
                return Err(format!("figures of second {}, after the last", part.second));
            }
        }
        match tally.seconds.iter().find(|part| part.second >= self.horizon) {
            Some(part) => Err(format!("figures of second {}, long after the last", part.second)),
            None => Ok(()),
        }
    }

    /// What was told so far, warm-up included.
    pub(crate) fn record(&self) -> &LoadRecord {
        &self.record
    }

    /// Nothing intended in `second` or later is asked for any more.
    pub(crate) fn cut(&mut self, second: usize) {
        for operation in &mut self.record.operations {
            let end = second.min(operation.seconds.len());
            let gone = operation.seconds.drain(end..);
            self.intended -= gone.map(|second| second.intended).sum::<u64>();
        }
        self.record.seconds.truncate(second);
    }

    /// Arrivals that the worker has accounted for.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// Arrivals whose fate is not known, and how many there are in all.
    pub(crate) fn open(&self) -> (u64, u64) {
        (self.intended.saturating_sub(self.told), self.intended)
    }

    /// Closes the account.
    pub(crate) fn close(mut self, goose: Option<GooseCount>, worker: WorkerEnd) -> Driven {
        self.record.goose = goose;
        self.record.worker = worker;
        let failures = self.failures.into_values().collect();
        (self.record.failures, self.record.rarer_failures) = most_frequent(failures);
        Driven { record: self.record, ledger: self.ledger }
    }
}

/// The rows to keep, and what the others come to.
fn most_frequent(mut failures: Vec<Failure>) -> (Vec<Failure>, Option<RarerFailures>) {
    failures.sort_by_key(|failure| Reverse(failure.count));
    let rarer = failures.split_off(FAILURES_MAX.min(failures.len()));
    let requests = rarer.iter().map(|failure| failure.count).sum();
    let left_out = RarerFailures { rows: rarer.len() as u64, requests };
    (failures, (!rarer.is_empty()).then_some(left_out))
}

fn absorb(sum: &mut OperationSecond, part: &OperationSecond) {
    sum.sent += part.sent;
    sum.ok += part.ok;
    sum.errors += part.errors;
    sum.timeouts += part.timeouts;
    sum.dropped += part.dropped;
    sum.response.absorb(&part.response);
    sum.service.absorb(&part.service);
}

fn absorb_clock(sum: &mut LoadSecond, part: &LoadSecond) {
    sum.sent += part.sent;
    sum.done += part.done;
    sum.acknowledged += part.acknowledged;
    sum.in_flight_max = sum.in_flight_max.max(part.in_flight_max);
    sum.lag.absorb(&part.lag);
    sum.own_lag.absorb(&part.own_lag);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::exchange::{Answer, Exchange};
    use crate::load::recorder::{Fate, Sample};
    use crate::load::tally::Tallier;
    use crate::load::testing;

    const OK: Exchange = Exchange { answer: Answer::Ok, status: Some(200), reason: None };

    fn account(seconds: u64) -> Account {
        Account::new(&testing::plan(testing::scenario(&[30.0, 10.0], seconds), "http://x"))
    }

    #[test]
    fn the_schedule_says_what_was_intended_not_the_worker() {
        let account = account(2);
        assert_eq!(account.open(), (80, 80));
        let Driven { record, .. } = account.close(None, WorkerEnd::Finished);
        let intended: Vec<Vec<u64>> = record
            .operations
            .iter()
            .map(|o| o.seconds.iter().map(|s| s.intended).collect())
            .collect();
        assert_eq!(intended, [[30, 30], [10, 10]]);
        assert_eq!(record.seconds.len(), 2);
    }

    #[test]
    fn figures_of_one_second_may_come_in_parts_and_late() {
        let mut account = account(2);
        let sample = |done_us| Sample {
            arrival: 0,
            operation: 1,
            intended_us: 500_000,
            fate: Fate::Sent { free_us: 0, sent_us: 500_100, done_us, exchange: OK },
            told: None,
        };
        let mut tallier = Tallier::new();
        account.add(&tallier.tally(vec![sample(600_000)], 0, 3)).unwrap();
        account.add(&tallier.tally(vec![sample(600_000), sample(3_100_000)], 3, 2)).unwrap();
        assert_eq!((account.told(), account.open()), (3, (77, 80)));
        let Driven { record, .. } = account.close(None, WorkerEnd::Finished);
        let own: Vec<u64> = record.seconds.iter().map(|s| s.own_lag.count()).collect();
        assert_eq!(own, [3, 0, 0, 0]);
        let second = &record.operations[1].seconds[0];
        assert_eq!((second.ok, second.response.count(), second.response.counts().len()), (3, 3, 2));
        let clock: Vec<_> =
            record.seconds.iter().map(|s| (s.sent, s.done, s.in_flight_max)).collect();
        assert_eq!(
            clock,
            [(3, 2, 3), (0, 0, 0), (0, 0, 0), (0, 1, 2)],
            "draining comes after the axis"
        );
    }

    #[test]
    fn what_is_cut_off_was_never_asked_for() {
        let mut account = account(3);
        account.cut(2);
        assert_eq!(account.open(), (80, 80));
        let late = OperationTally {
            operation: 0,
            second: 2,
            counts: OperationSecond { sent: 1, ok: 1, ..OperationSecond::default() },
            failures: BTreeMap::new(),
        };
        let tally = Tally { operations: vec![late], ..Tally::default() };
        account.add(&tally).expect_err("nothing of what was cut off may have been sent");
        account.cut(9);
        assert_eq!(account.open(), (80, 80), "a cut after the end takes nothing");
        let record = account.close(None, WorkerEnd::Finished).record;
        assert_eq!((record.seconds.len(), record.operations[1].seconds.len()), (2, 2));
    }

    #[test]
    fn a_reason_is_kept_once_with_its_first_and_last_second() {
        let mut account = account(3);
        for second in [2, 0, 1] {
            let failures = [("connection lost".to_owned(), 4)].into();
            let counts = OperationSecond { sent: 4, errors: 4, ..OperationSecond::default() };
            let part = OperationTally { operation: 1, second, counts, failures };
            account.add(&Tally { operations: vec![part], ..Tally::default() }).unwrap();
        }
        let failures = account.close(None, WorkerEnd::Finished).record.failures;
        let expected = Failure {
            operation: "operation 1".into(),
            reason: "connection lost".into(),
            count: 12,
            first_s: 0,
            last_s: 2,
        };
        assert_eq!(failures, [expected]);
    }

    #[test]
    fn the_most_frequent_reasons_are_kept_and_the_others_are_counted() {
        let mut account = account(1);
        let failures = (1..=60).map(|count| (format!("unexpected status (status {count})"), count));
        let failures = failures.collect();
        let part = OperationTally {
            operation: 0,
            second: 0,
            counts: OperationSecond::default(),
            failures,
        };
        account.add(&Tally { operations: vec![part], ..Tally::default() }).unwrap();
        let record = account.close(None, WorkerEnd::Finished).record;
        let counts: Vec<u64> = record.failures.iter().map(|failure| failure.count).collect();
        assert_eq!(counts, (11..=60).rev().collect::<Vec<_>>());
        assert_eq!(record.rarer_failures, Some(RarerFailures { rows: 10, requests: 55 }));
    }

    #[test]
    fn impossible_figures_are_refused_whole() {
        let mut account = account(2);
        for (operation, second) in [(2, 0), (0, 2)] {
            let counts = OperationSecond { sent: 5, ok: 5, ..OperationSecond::default() };
            let part = OperationTally { operation, second, counts, failures: BTreeMap::new() };
            let tally = Tally { operations: vec![part], ..Tally::default() };
            account.add(&tally).unwrap_err();
        }
        assert_eq!(account.told(), 0);
    }
}
