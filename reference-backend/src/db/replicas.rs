//! Watches the replicas: what each has replayed, how far behind it is, whether it answers.
//!
//! One look every few ten milliseconds at each server, over connections of its own (role `app_monitor`), so that neither a
//! saturated pool nor the counted reads of requests disturb it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use metrics::{Gauge, gauge};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Error};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::breaker::Breaker;
use super::lanes::Lanes;
use super::pools::{Inner, Role, connect_options};
use super::{Database, Lsn};
use crate::config::{ReplicaEndpoint, Replicas};

/// A replica as the monitor last saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) healthy: bool,
    pub(super) replayed: Lsn,
    pub(super) lag_bytes: u64,
    pub(super) lag_ms: u64,
}

#[derive(Debug)]
pub(super) struct Replica {
    /// Names come from the settings and live as long as the process.
    pub(super) name: &'static str,
    pub(super) lanes: Lanes,
    breaker: Breaker,
    /// Longest wait for its answer to a read.
    patience: Duration,
    endpoint: ReplicaEndpoint,
    healthy: AtomicBool,
    replayed: AtomicU64,
    lag_bytes: AtomicU64,
    lag_ms: AtomicU64,
}

impl Replica {
    pub(super) fn new(endpoint: &ReplicaEndpoint, lanes: Lanes, config: &Replicas) -> Self {
        let name = Box::leak(endpoint.name.clone().into_boxed_str());
        Self {
            name,
            lanes,
            breaker: Breaker::new(name, config),
            patience: config.read_timeout_ms.duration(),
            endpoint: endpoint.clone(),
            // Not trusted before the first good look.
            healthy: AtomicBool::new(false),
            replayed: AtomicU64::new(0),
            lag_bytes: AtomicU64::new(0),
            lag_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn observed(&self) -> Observed {
        // Each figure is useful alone; `replayed` only ever lags behind the truth, which is safe.
        Observed {
            healthy: self.healthy.load(Ordering::Relaxed),
            replayed: Lsn::from_raw(self.replayed.load(Ordering::Relaxed)),
            lag_bytes: self.lag_bytes.load(Ordering::Relaxed),
            lag_ms: self.lag_ms.load(Ordering::Relaxed),
        }
    }

    /// The answer to a read, in time; None where its breaker let the read not through.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        read: BoxFuture<'static, Result<R, Error>>,
    ) -> Option<Result<R, Error>> {
        let patience = self.patience;
        let in_time = async move {
            match tokio::time::timeout(patience, read).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::PoolTimedOut),
            }
        };
        self.breaker.ask(Box::pin(in_time)).await
    }

    fn publish(&self, gauges: &Gauges) {
        let seen = self.observed();
        gauges.healthy.set(f64::from(u8::from(seen.healthy)));
        gauges.lag_bytes.set(seen.lag_bytes as f64);
        gauges.lag_seconds.set(seen.lag_ms as f64 / 1e3);
        gauges.breaker.set(f64::from(self.breaker.state()));
    }
}

struct Gauges {
    healthy: Gauge,
    lag_bytes: Gauge,
    lag_seconds: Gauge,
    breaker: Gauge,
}

impl Gauges {
    fn of(replica: &'static str) -> Self {
        Self {
            healthy: gauge!("backend_replica_healthy", "replica" => replica),
            lag_bytes: gauge!("backend_replica_lag_bytes", "replica" => replica),
            lag_seconds: gauge!("backend_replica_lag_seconds", "replica" => replica),
            breaker: gauge!("backend_replica_breaker_state", "replica" => replica),
        }
    }
}

/// Looks at the primary and all replicas until told to stop.
pub(super) async fn watch(inner: Arc<Inner>, stop: CancellationToken) {
    let choice = &inner.config.replica_choice;
    let primary = &inner.config.primary;
    let mut primary_probe = Probe::new(&primary.host, primary.port, PRIMARY_LSN);
    let mut watched: Vec<Watched> = inner.replicas.iter().map(Watched::new).collect();
    let mut history = History::default();
    let mut tick = tokio::time::interval(choice.poll_interval_ms.duration());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let timeout = choice.poll_timeout_ms.duration();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if watched.is_empty() {
            return;
        }
        // The primary first: a replica may be ahead of what is seen here, never behind unseen.
        if let Ok(written) = primary_probe.look(timeout).await {
            inner.saw_written(written);
            history.record(Instant::now(), written);
        }
        let looks = watched.iter_mut().map(|watched| watched.probe.look(timeout));
        let found = futures::future::join_all(looks).await;
        for (watched, found) in watched.iter_mut().zip(found) {
            watched.update(found, &history, choice.failures_before_unhealthy);
        }
    }
}

/// One replica under watch.
struct Watched<'a> {
    replica: &'a Replica,
    probe: Probe,
    failures: u32,
    /// Whether it is known, and was said, to answer no reads.
    missing: bool,
    gauges: Gauges,
}

impl<'a> Watched<'a> {
    fn new(replica: &'a Replica) -> Self {
        let endpoint = &replica.endpoint;
        let probe = Probe::new(&endpoint.host, endpoint.port, REPLICA_LSN);
        Self { replica, probe, failures: 0, missing: false, gauges: Gauges::of(replica.name) }
    }

    fn update(&mut self, found: Result<Lsn, ProbeError>, history: &History, failures_max: u32) {
        let (replica, name) = (self.replica, self.replica.name);
        match found {
            Ok(replayed) => {
                (self.failures, self.missing) = (0, false);
                let (lag_bytes, lag) = history.lag(replayed, Instant::now());
                replica.replayed.store(replayed.bytes(), Ordering::Relaxed);
                replica.lag_bytes.store(lag_bytes, Ordering::Relaxed);
                let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
                replica.lag_ms.store(lag_ms, Ordering::Relaxed);
                if !replica.healthy.swap(true, Ordering::Relaxed) {
                    info!(lag_bytes, "{name} answers reads");
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                // It may be restarting, and then comes back with less replayed than it had: no promise until seen again.
                replica.replayed.store(0, Ordering::Relaxed);
                if self.failures >= failures_max && !self.missing {
                    self.missing = true;
                    replica.healthy.store(false, Ordering::Relaxed);
                    replica.lanes.forget();
                    warn!(%error, failures = self.failures, "{name} answers no reads until it is back");
                }
            }
        }
        replica.publish(&self.gauges);
    }
}

/// When the primary had written how much: turns a replica's place in the log into a lag in time.
#[derive(Debug, Default)]
struct History(VecDeque<(Instant, Lsn)>);

impl History {
    /// At 50 ms a look, ten minutes.
    const LOOKS_MAX: usize = 12_000;

    /// Keeps only looks at which something new had been written.
    fn record(&mut self, at: Instant, written: Lsn) {
        if self.0.back().is_none_or(|(_, last)| *last < written) {
            self.0.push_back((at, written));
        }
        if self.0.len() > Self::LOOKS_MAX {
            self.0.pop_front();
        }
    }

    /// Bytes not yet replayed, and the age of the oldest look that saw one of them.
    fn lag(&self, replayed: Lsn, now: Instant) -> (u64, Duration) {
        let Some((_, written)) = self.0.back() else { return (0, Duration::ZERO) };
        let bytes = written.bytes().saturating_sub(replayed.bytes());
        let first_missing = self.0.partition_point(|(_, lsn)| *lsn <= replayed);
        let age = self.0.get(first_missing).map(|(at, _)| now.saturating_duration_since(*at));
        (bytes, age.unwrap_or_default())
    }
}

const PRIMARY_LSN: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint";
/// NULL on a server that is no replica.
const REPLICA_LSN: &str = "SELECT CASE WHEN pg_is_in_recovery() \
     THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint END";

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("it is not a replica")]
    NoReplica,
}

/// A connection that is opened again after a failure.
struct Probe {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    query: &'static str,
}

impl Probe {
    fn new(host: &str, port: u16, query: &'static str) -> Self {
        let options = connect_options(host, port, Role::Monitor, Database::Shared.name());
        Self { options, connection: None, query }
    }

    async fn look(&mut self, timeout: Duration) -> Result<Lsn, ProbeError> {
        // Taken out, so that a connection that failed or timed out in the middle of an answer is never used again.
        let connection = self.connection.take();
        let look = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            let lsn: Option<i64> =
                sqlx::query_scalar(self.query).fetch_one(&mut connection).await?;
            Ok::<_, sqlx::Error>((connection, lsn))
        };
        let (connection, lsn) =
            tokio::time::timeout(timeout, look).await.map_err(|_| ProbeError::Timeout)??;
        match lsn {
            Some(bytes) => {
                self.connection = Some(connection);
                Ok(Lsn::from_bytes(bytes))
            }
            None => {
                let _ = connection.close().await;
                Err(ProbeError::NoReplica)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_in_time_is_the_age_of_the_oldest_missing_byte() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut history = History::default();
        for (at, written) in [(0, 100), (50, 200), (100, 200), (150, 300)] {
            history.record(start + ms(at), Lsn::from_bytes(written));
        }
        let lag = |replayed| history.lag(Lsn::from_bytes(replayed), start + ms(160));
        assert_eq!(lag(300), (0, ms(0)));
        assert_eq!(lag(350), (0, ms(0)), "a replica may be ahead of the last look");
        assert_eq!(lag(250), (50, ms(10)));
        assert_eq!(lag(150), (150, ms(110)), "seen first at 50 ms, not again at 100 ms");
    }
}
