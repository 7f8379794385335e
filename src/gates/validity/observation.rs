//! Was the run watched throughout? Figures of the servers rest on readings once a second.

use super::answer::{amber, green, red_for};
use crate::archive::{Record, SeriesKey};
use crate::gates::signals::too_many_missing;
use crate::gates::verdict::{Undermines, ValidityCheck};
use crate::scenario::{Scenario, Target};

/// Something that is read once a second.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The machine and the processes on it.
    Proc,
    /// The target's own figures.
    Metrics,
    /// What a Postgres server knows of itself.
    Server(String),
}

/// Every source that the scenario promises is read at every boundary of the window.
pub(super) fn complete(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "observation without gaps";
    let boundaries = record.window.warm_up_s..=record.window.end();
    let missing = |source: &Source| {
        let of_source =
            |key: &SeriesKey| Source::of(key, &scenario.target).as_ref() == Some(source);
        let own: Vec<_> =
            record.timeline.series.iter().filter(|series| of_source(&series.key)).collect();
        let unread = |second: &usize| {
            !own.iter().any(|series| series.values.get(*second).copied().flatten().is_some())
        };
        boundaries.clone().filter(unread).count()
    };
    let total = boundaries.clone().count();
    let sources = expected(&scenario.target);
    let gaps = sources.iter().map(|source| (missing(source), source));
    let Some((most, worst)) = gaps.max_by_key(|(most, _)| *most).filter(|(most, _)| *most > 0)
    else {
        return green(CHECK, format!("{} sources read at each of {total} seconds", sources.len()));
    };
    let detail = match most == total {
        true => format!("{} never read", worst.were()),
        false => format!("{} not read at {most} of {total} seconds", worst.were()),
    };
    if too_many_missing(most, total) {
        red_for(Undermines::Signals, CHECK, detail)
    } else {
        amber(CHECK, detail)
    }
}

/// What a scenario promises to watch: what was never read has no series that could show a gap.
fn expected(target: &Target) -> Vec<Source> {
    let mut sources = vec![Source::Proc];
    match target {
        Target::Reference(reference) => {
            sources.extend([Source::Metrics, Source::Server("primary".to_owned())]);
            let replica = |number| Source::Server(format!("replica-{number}"));
            sources.extend((1..=reference.replicas).map(replica));
        }
        Target::Http(http) => sources.extend(http.metrics.as_ref().map(|_| Source::Metrics)),
    }
    sources
}

impl Source {
    /// Where a series comes from; nothing when it does not tell.
    fn of(key: &SeriesKey, target: &Target) -> Option<Self> {
        let name = key.name.as_str();
        // A foreign service may have series of these names, too, without the group that ours have.
        let is_process = name.starts_with("process_") && key.label("group").is_some();
        if is_process || name.starts_with("host_") {
            Some(Self::Proc)
        } else if name.starts_with("pg_") && matches!(target, Target::Reference(_)) {
            // The contents of the databases have no server: they are the primary's, which has others of its own.
            key.label("server").map(|server| Self::Server(server.to_owned()))
        } else {
            Some(Self::Metrics)
        }
    }

    fn were(&self) -> String {
        match self {
            Self::Proc => "/proc was".to_owned(),
            Self::Metrics => "the target's metrics were".to_owned(),
            Self::Server(name) => format!("the statistics of {name} were"),
        }
    }
}
