//! Why requests failed, over the whole run: a worker's reasons do not stop at the edge of the window.

use super::format;
use crate::archive::{Failure, OperationRecord, RarerFailures, Record};
use crate::gates::Counts;

/// Why requests failed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failures {
    /// The most frequent first.
    pub rows: Vec<FailureRow>,
    /// What the rarer reasons come to.
    pub rarer: Option<RarerFailures>,
    /// Requests that failed, by the operations' own count; `None` when nothing was recorded.
    pub count: Option<u64>,
}

/// A reason, and how much of its operation it spoilt.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureRow {
    /// What failed, why, how often and when.
    pub failure: Failure,
    /// Share of the operation's requests, 0 to 1; `None` when the operation is not on record.
    pub share: Option<f64>,
}

impl Failures {
    pub(super) fn of(record: &Record) -> Self {
        let counts = |operation: &OperationRecord| {
            (!operation.seconds.is_empty())
                .then(|| Counts::of([operation], 0..operation.seconds.len()))
        };
        let operations = &record.load.operations;
        let row = |failure: &Failure| {
            let operation = operations.iter().find(|o| o.name == failure.operation);
            let sent = operation.and_then(counts).map(|counts| counts.sent).filter(|n| *n > 0);
            let share = sent.map(|sent| failure.count as f64 / sent as f64);
            FailureRow { failure: failure.clone(), share }
        };
        Self {
            rows: record.load.failures.iter().map(row).collect(),
            rarer: record.load.rarer_failures,
            count: operations.iter().filter_map(counts).map(|c| c.failed()).reduce(|a, b| a + b),
        }
    }

    /// What is to be said beside the rows: that there is nothing to say, or what they leave out.
    pub(super) fn remark(&self) -> Option<String> {
        let told: u64 = self.rows.iter().map(|row| row.failure.count).sum();
        match (self.count, self.rarer) {
            (_, Some(rarer)) => {
                let (rows, requests) =
                    (format::grouped(rarer.rows), format::grouped(rarer.requests));
                Some(format!("and {rows} more, of {requests} requests together"))
            }
            (None, None) if self.rows.is_empty() => Some(format::NOT_MEASURED.to_owned()),
            (Some(0), None) if self.rows.is_empty() => Some("none".to_owned()),
            // An archive from before reasons were kept, or a worker that was lost before it told them.
            (Some(failed), None) if failed > told => Some(format!(
                "of {} requests the reason is not on record",
                format::grouped(failed - told)
            )),
            _ => None,
        }
    }
}

impl FailureRow {
    /// The row in half a sentence.
    pub(super) fn sentence(&self) -> String {
        let Failure { operation, reason, count, first_s, last_s } = &self.failure;
        let when = if first_s == last_s {
            format!("second {first_s}")
        } else {
            format!("seconds {first_s} to {last_s}")
        };
        let share = self.share.map(|share| format!(" ({})", format::percent(share)));
        let requests = if *count == 1 { "request" } else { "requests" };
        let count = format::grouped(*count);
        format!("{operation}: {reason}, {count} {requests}{}, {when}", share.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, record};

    #[test]
    fn a_share_is_of_the_requests_of_the_whole_run() {
        let record = record(Variant::Fail);
        let failures = Failures::of(&record);
        for row in &failures.rows {
            let of = |o: &&OperationRecord| o.name == row.failure.operation;
            let operation = record.load.operations.iter().find(of).unwrap();
            let sent: u64 = operation.seconds.iter().map(|second| second.sent).sum();
            assert_eq!(row.share, Some(row.failure.count as f64 / sent as f64));
        }
        let told: u64 = failures.rows.iter().map(|row| row.failure.count).sum();
        assert!(told > 0 && failures.count == Some(told), "{failures:?}");
        assert_eq!(failures.remark(), None);
    }

    #[test]
    fn no_failure_and_no_reason_are_told_apart() {
        let mut silent = record(Variant::Fail);
        silent.load.failures.clear();
        let remark = Failures::of(&silent).remark().unwrap();
        assert!(remark.ends_with("requests the reason is not on record"), "{remark}");
        for second in silent.load.operations.iter_mut().flat_map(|o| &mut o.seconds) {
            (second.errors, second.timeouts) = (0, 0);
        }
        assert_eq!(Failures::of(&silent).remark().unwrap(), "none");
        let nothing = Failures::of(&record(Variant::Empty));
        assert_eq!(nothing.remark().unwrap(), format::NOT_MEASURED);
        let rarer = Some(RarerFailures { rows: 1_234, requests: 5_678 });
        let remark = Failures { rarer, ..Failures::of(&record(Variant::Fail)) }.remark();
        assert_eq!(remark.unwrap(), "and 1,234 more, of 5,678 requests together");
    }
}
