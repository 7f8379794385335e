//! How far a projection is, for those who wait for it and for metrics.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use metrics::{Gauge, gauge};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Projection;
use crate::db::Lsn;
use crate::events::{ConsistencyToken, Feed, Positions, Shard};
use crate::pubsub::Lag;

/// Commits remembered. At 25 ms each this is six seconds, far longer than replicas lag.
const COMMITS_MAX: usize = 256;

/// A commit of the projection: it shows events up to `positions` on any server that has replayed up to `lsn`.
#[derive(Debug, Clone, Copy)]
struct Commit {
    positions: Positions,
    lsn: Lsn,
}

/// Shared between the projection's task and those who ask about it.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) projection: Projection,
    /// In order; never empty.
    commits: Mutex<VecDeque<Commit>>,
    changed: watch::Sender<()>,
    paused: AtomicBool,
    /// The last look that worked, where another process writes the projection.
    looked: Mutex<Option<Instant>>,
    lag_seconds: Gauge,
    behind_events: Gauge,
    paused_gauge: Gauge,
    lag: Lag,
}

impl Progress {
    pub(super) fn new(projection: Projection, positions: Positions, lsn: Lsn) -> Self {
        let name = projection.name();
        Self {
            projection,
            commits: Mutex::new(VecDeque::from([Commit { positions, lsn }])),
            changed: watch::Sender::new(()),
            paused: AtomicBool::new(false),
            looked: Mutex::default(),
            lag_seconds: gauge!("backend_projection_lag_seconds", "projection" => name),
            behind_events: gauge!("backend_projection_behind_events", "projection" => name),
            paused_gauge: gauge!("backend_projection_paused", "projection" => name),
            lag: Lag::of(name),
        }
    }

    pub(super) fn committed(&self, positions: Positions, lsn: Lsn) {
        {
            let mut commits = self.commits();
            if commits.len() >= COMMITS_MAX {
                commits.pop_front();
            }
            commits.push_back(Commit { positions, lsn });
        }
        self.changed.send_replace(());
    }

    /// The tables have lost what was in them: no commit from before shows an event any more.
    pub(super) fn went_back(&self, positions: Positions) {
        let mut commits = self.commits();
        let lsn = commits.back().map_or_else(Lsn::default, |commit| commit.lsn);
        *commits = VecDeque::from([Commit { positions, lsn }]);
    }

    /// Takes note that the projection was looked at just now, where another process writes it.
    pub(super) fn looked(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether nothing older than `limit` is known: always so where this process itself writes the projection.
    pub(super) fn is_current(&self, limit: Duration) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_none_or(|at| at.elapsed() <= limit)
    }

    pub(super) fn positions(&self) -> Positions {
        self.commits().back().map_or_else(Positions::default, |commit| commit.positions)
    }

    /// Where in the log the first remembered commit lies that shows a token's event.
    fn lsn_of(&self, token: ConsistencyToken) -> Option<Lsn> {
        let index = token.shard.index();
        let commits = self.commits();
        let first = commits.partition_point(|commit| commit.positions[index] < token.position);
        commits.get(first).map(|commit| commit.lsn)
    }

    pub(super) async fn wait(&self, token: ConsistencyToken, timeout: Duration) -> Option<Lsn> {
        // Subscribed before looking, or a commit between the two would be missed.
        let mut changed = self.changed.subscribe();
        let reached = async {
            loop {
                if let Some(lsn) = self.lsn_of(token) {
                    return Some(lsn);
                }
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(timeout, reached).await.ok().flatten()
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.paused_gauge.set(f64::from(u8::from(paused)));
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Sets the gauges: events committed but not projected, and the age of the oldest.
    pub(super) fn publish(&self, feed: &Feed) {
        let (positions, heads) = (self.positions(), feed.heads());
        let behind = heads.iter().zip(&positions).map(|(head, position)| (head - position).max(0));
        let behind: i64 = behind.sum();
        self.behind_events.set(behind as f64);
        let oldest = Shard::all()
            .filter(|shard| positions[shard.index()] < heads[shard.index()])
            .filter_map(|shard| {
                let position = positions[shard.index()];
                feed.oldest_after(ConsistencyToken { shard, position })
            })
            .min();
        let age = oldest.map_or(0.0, |at| (Utc::now() - at).as_seconds_f64());
        self.lag_seconds.set(age.max(0.0));
        self.lag.set(behind, age);
    }

    fn commits(&self) -> std::sync::MutexGuard<'_, VecDeque<Commit>> {
        // The list is whole at every step.
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_maps_to_the_first_commit_that_shows_it() {
        let progress = Progress::new(Projection::Finance, [5; 8], Lsn::from_bytes(50));
        progress.committed([9; 8], Lsn::from_bytes(90));
        progress.committed([12; 8], Lsn::from_bytes(120));
        let lsn = |position| {
            let token = ConsistencyToken { shard: Shard::from_number(3).unwrap(), position };
            progress.lsn_of(token).map(Lsn::bytes)
        };
        assert_eq!(
            [4, 5, 6, 9, 12, 13].map(lsn),
            [Some(50), Some(50), Some(90), Some(90), Some(120), None]
        );
    }
}
