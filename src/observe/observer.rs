//! Follows all sources of a target at once, and lays their series on one timeline.

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::axis::Axis;
use super::filter::SeriesFilter;
use super::postgres::PostgresServer;
use super::process::Processes;
use super::prometheus::Scrape;
use super::sight::Sight;
use super::source::follow;
use crate::archive::{Incident, Timeline};
use crate::scenario::{LiveTarget, ProcessGroup};

/// What was seen of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Every series that was read at least once.
    pub timeline: Timeline,
    /// What went wrong, in the order of the axis.
    pub incidents: Vec<Incident>,
}

/// Observes a target from second 0 of the axis until its end, or until `stop`.
///
/// `keep` chooses among the series that the target's own endpoint offers. `processes` are the groups to watch, beginning
/// with the target's: groups sent later, such as the generator, are watched from then on. `sight` shows meanwhile what has
/// been read.
pub async fn observe(
    target: &LiveTarget,
    axis: Axis,
    keep: SeriesFilter,
    stop: CancellationToken,
    processes: watch::Receiver<Vec<ProcessGroup>>,
    sight: &Sight,
) -> Observed {
    let mut sources = JoinSet::new();
    sources.spawn(follow(Processes::new(processes), axis, sight.sheet(), stop.clone()));
    let several = target.metrics.len() > 1;
    for endpoint in &target.metrics {
        let process = several.then(|| endpoint.process.clone());
        let scrape = Scrape::new(endpoint.url.clone(), process, keep.clone());
        sources.spawn(follow(scrape, axis, sight.sheet(), stop.clone()));
    }
    if let Some((primary, replicas)) = target.postgres.split_first() {
        let servers = replicas.iter().map(PostgresServer::replica);
        for server in servers.chain([PostgresServer::primary(primary, replicas)]) {
            sources.spawn(follow(server, axis, sight.sheet(), stop.clone()));
        }
    }
    let mut incidents = Vec::new();
    while let Some(ended) = sources.join_next().await {
        incidents.extend(ended.unwrap_or_else(|error| vec![lost(&error)]));
    }
    incidents.sort_by_key(|incident| incident.second);
    Observed { timeline: sight.timeline(axis.seconds), incidents }
}

fn lost(error: &tokio::task::JoinError) -> Incident {
    Incident {
        second: None,
        what: "observer".to_owned(),
        detail: format!("a source was lost, and nothing was read from it any more: {error}"),
    }
}
