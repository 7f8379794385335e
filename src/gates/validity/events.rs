//! The event rate, proven thrice: what the client was told, what the backend counts, what is in the store.

use std::ops::RangeInclusive;

use super::answer::{green, grey, red_for};
use super::proof::{is_telling, stretch, tolerance};
use crate::archive::{OperationSecond, Record};
use crate::gates::signals::increase;
use crate::gates::verdict::{Undermines, ValidityCheck};
use crate::scenario::{Scenario, Target};
use crate::units::show::grouped;

const APPENDED: &str = "backend_events_appended_total";
const STORED: &str = "pg_events_total";

/// Acknowledged by the ledger's side, appended by the backend's counter, present by the store's positions. A command
/// whose answer did not come may be in the store or not.
pub(super) fn events_proven(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "events proven by the store";
    if !scenario.operations.iter().any(|operation| operation.event) {
        return grey(CHECK, "no operation makes events");
    }
    if !matches!(scenario.target, Target::Reference(_)) {
        return grey(CHECK, "the target's event store is not ours to look into");
    }
    let Some(stretch) = stretch(record, [APPENDED, STORED]) else {
        return grey(CHECK, "the counts of the backend and of the store were not both read");
    };
    let rose = |of: &str| increase(&record.timeline, of, *stretch.start(), *stretch.end());
    let (Some(appended), Some(stored)) = (rose(APPENDED), rose(STORED)) else {
        return grey(CHECK, "the counts of the backend and of the store were not both read");
    };
    let seconds = stretch.end() - stretch.start();
    let acknowledged = record.load.seconds.iter().take(*stretch.end()).skip(*stretch.start());
    let told: u64 = acknowledged.map(|second| second.acknowledged).sum();
    let unknown = unknown(record, scenario, &stretch);
    let detail = format!(
        "{} acknowledged to the client and {} without a clear answer, {} appended by the backend's \
         count, {} in the store",
        grouped(told),
        grouped(unknown),
        grouped(appended as u64),
        grouped(stored as u64)
    );
    let (least, most) = (told as f64, (told + unknown) as f64);
    let possible = |count: f64| {
        let tolerance = tolerance(count.max(least), seconds);
        (least - tolerance..=most + tolerance).contains(&count)
    };
    if !possible(appended) || !possible(stored) {
        red_for(Undermines::EventRate, CHECK, detail)
    } else if !is_telling(least, seconds) {
        grey(CHECK, format!("{detail}: too few, or over too short a time, to prove anything"))
    } else {
        green(CHECK, detail)
    }
}

/// Commands that timed out or failed: those intended within the stretch, or before it and still open then.
fn unknown(record: &Record, scenario: &Scenario, stretch: &RangeInclusive<usize>) -> u64 {
    let open = usize::try_from(scenario.load.timeout.secs_ceil()).unwrap_or(usize::MAX);
    // An arrival may wait as long as its time-out before it is sent, and as long again for its answer.
    let first = stretch.start().saturating_sub(open.saturating_mul(2));
    let commands = record.load.operations.iter().filter(|operation| operation.event);
    let seconds = commands.flat_map(|o| o.seconds.iter().take(*stretch.end()).skip(first));
    seconds.map(|second: &OperationSecond| second.errors + second.timeouts).sum()
}
