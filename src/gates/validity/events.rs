//! The event rate, proven thrice: what the client was told, what the backend counts, what is in the store.

use super::answer::{green, grey, red};
use super::reads::agree;
use crate::archive::Record;
use crate::gates::signals::increase;
use crate::gates::verdict::{Bias, ValidityCheck};
use crate::scenario::{Scenario, Target};
use crate::units::show::grouped;

/// Acknowledged by the ledger's side, appended by the backend's counter, present by the store's positions.
pub(super) fn events_proven(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "events proven by the store";
    if !scenario.operations.iter().any(|operation| operation.event) {
        return grey(CHECK, "no operation makes events");
    }
    if !matches!(scenario.target, Target::Reference(_)) {
        return grey(CHECK, "the target's event store is not ours to look into");
    }
    let window = record.window.measured();
    let seconds = record.load.seconds.iter().take(window.end).skip(window.start);
    let told: u64 = seconds.map(|second| second.acknowledged).sum();
    let rose = |of: &str| increase(&record.timeline, of, window.start, window.end);
    let (Some(appended), Some(stored)) =
        (rose("backend_events_appended_total"), rose("pg_events_total"))
    else {
        return grey(CHECK, format!("{told} acknowledged; the other sides were not read"));
    };
    let detail = format!(
        "{} acknowledged to the client, {} appended by the backend's count, {} in the store",
        grouped(told),
        grouped(appended as u64),
        grouped(stored as u64)
    );
    let same = |count: f64| agree(told as f64, count, window.len());
    if same(appended) && same(stored) {
        green(CHECK, detail)
    } else {
        red(CHECK, Bias::Unknown, detail)
    }
}
