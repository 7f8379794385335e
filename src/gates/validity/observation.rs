//! Was the run watched throughout? Figures of the servers rest on readings once a second.

use super::answer::{amber, green, red_for};
use crate::archive::{Record, SeriesKey};
use crate::gates::signals::too_many_missing;
use crate::gates::verdict::{Undermines, ValidityCheck};
use crate::scenario::{Scenario, Target, backend_processes};

/// Something that is read once a second.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The machine and the processes on it.
    Proc,
    /// The target's own figures: those of one process, where several are read.
    Metrics(Option<String>),
    /// What a Postgres server knows of itself.
    Server(String),
    /// What a database holds, which is asked apart from what its server knows: name and label of a series, and what it tells.
    Contents { name: &'static str, projection: Option<&'static str>, told: &'static str },
}

/// What signals and proofs count in the databases.
const CONTENTS: [(&str, Option<&str>, &str); 2] = [
    ("pg_events_total", None, "the events in the store"),
    ("pg_projected_total", Some("finance"), "how far projections have come"),
];

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
            let processes = backend_processes(reference.split.len());
            let several = processes.len() > 1;
            sources.extend(processes.into_iter().map(|p| Source::Metrics(several.then_some(p))));
            sources.push(Source::Server("primary".to_owned()));
            let contents = |(name, projection, told)| Source::Contents { name, projection, told };
            sources.extend(CONTENTS.map(contents));
            let replica = |number| Source::Server(format!("replica-{number}"));
            sources.extend((1..=reference.replicas).map(replica));
        }
        Target::Http(http) => sources.extend(http.metrics.as_ref().map(|_| Source::Metrics(None))),
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
            let server = key.label("server").map(|server| Self::Server(server.to_owned()));
            server.or_else(|| Self::contents(key))
        } else {
            // A foreign service may have a label of this name, too, and is read at one address.
            let split =
                matches!(target, Target::Reference(reference) if !reference.split.is_empty());
            let process = key.label("process").filter(|_| split);
            Some(Self::Metrics(process.map(str::to_owned)))
        }
    }

    /// The contents of the databases have no server: they are the primary's, which has others of its own.
    fn contents(key: &SeriesKey) -> Option<Self> {
        let is_it = |(name, projection, _): &(&str, Option<&str>, &str)| {
            key.name == *name && key.label("projection") == *projection
        };
        let (name, projection, told) = CONTENTS.into_iter().find(is_it)?;
        Some(Self::Contents { name, projection, told })
    }

    fn were(&self) -> String {
        match self {
            Self::Proc => "/proc was".to_owned(),
            Self::Metrics(None) => "the target's metrics were".to_owned(),
            Self::Metrics(Some(process)) => format!("the metrics of {process} were"),
            Self::Contents { told, .. } => format!("{told}: counts were"),
            Self::Server(name) => format!("the statistics of {name} were"),
        }
    }
}
