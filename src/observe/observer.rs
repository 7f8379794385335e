//! Follows all sources of a target at once, and lays their series on one timeline.

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::axis::Axis;
use super::filter::SeriesFilter;
use super::postgres::PostgresServer;
use super::process::Processes;
use super::prometheus::Scrape;
use super::source::{Track, follow};
use crate::archive::{Incident, Series, Timeline};
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
/// with the target's: groups sent later, such as the generator, are watched from then on.
pub async fn observe(
    target: &LiveTarget,
    axis: Axis,
    keep: SeriesFilter,
    stop: CancellationToken,
    processes: watch::Receiver<Vec<ProcessGroup>>,
) -> Observed {
    let mut sources = JoinSet::new();
    sources.spawn(follow(Processes::new(processes), axis, stop.clone()));
    let several = target.metrics.len() > 1;
    for endpoint in &target.metrics {
        let process = several.then(|| endpoint.process.clone());
        let scrape = Scrape::new(endpoint.url.clone(), process, keep.clone());
        sources.spawn(follow(scrape, axis, stop.clone()));
    }
    if let Some((primary, replicas)) = target.postgres.split_first() {
        let servers = replicas.iter().map(PostgresServer::replica);
        for server in servers.chain([PostgresServer::primary(primary, replicas)]) {
            sources.spawn(follow(server, axis, stop.clone()));
        }
    }
    let mut tracks = Vec::new();
    while let Some(track) = sources.join_next().await {
        tracks.push(track);
    }
    join(axis, tracks)
}

fn join(axis: Axis, tracks: Vec<Result<Track, tokio::task::JoinError>>) -> Observed {
    let (mut series, mut incidents) = (Vec::new(), Vec::new());
    for track in tracks {
        match track {
            Ok(track) => {
                let of_track = track.series.into_iter().map(|(key, values)| Series { key, values });
                series.extend(of_track);
                incidents.extend(track.incidents);
            }
            Err(error) => incidents.push(Incident {
                second: None,
                what: "observer".to_owned(),
                detail: format!("a source was lost with all its series: {error}"),
            }),
        }
    }
    series.sort_by(|a, b| a.key.cmp(&b.key));
    incidents.sort_by_key(|incident| incident.second);
    Observed { timeline: Timeline { seconds: axis.seconds, series }, incidents }
}
