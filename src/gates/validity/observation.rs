//! Was the run watched throughout? Figures of the servers rest on readings once a second.

use super::answer::{amber, green, grey, red};
use crate::archive::Record;
use crate::gates::verdict::{Bias, ValidityCheck};

/// Share of the window's readings that may be missing.
const MISSING_MAX: f64 = 0.1;

/// Every source is read at every boundary of the window. A source is known by the beginning of its series' names.
pub(super) fn complete(record: &Record) -> ValidityCheck {
    const CHECK: &str = "observation without gaps";
    let boundaries = record.window.warm_up_s..=record.window.end();
    let mut sources: Vec<&str> =
        record.timeline.series.iter().map(|series| source(&series.key.name)).collect();
    sources.sort_unstable();
    sources.dedup();
    if sources.is_empty() {
        return grey(CHECK, "nothing was observed");
    }
    let missing = |name: &str| {
        let own = || record.timeline.series.iter().filter(|s| source(&s.key.name) == name);
        let unread = |second: &usize| {
            !own().any(|series| series.values.get(*second).copied().flatten().is_some())
        };
        boundaries.clone().filter(unread).count()
    };
    let gaps: Vec<(usize, &str)> = sources.iter().map(|name| (missing(name), *name)).collect();
    let (most, worst) = gaps.iter().copied().max().unwrap_or_default();
    let total = boundaries.clone().count();
    let detail = format!("{worst} could not be read at {most} of {total} seconds");
    if most as f64 > MISSING_MAX * total as f64 {
        red(CHECK, Bias::Unknown, detail)
    } else if most > 0 {
        amber(CHECK, detail)
    } else {
        green(CHECK, format!("{} sources read at each of {total} seconds", sources.len()))
    }
}

/// `backend`, `pg`, `process`, `host` …
fn source(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}
