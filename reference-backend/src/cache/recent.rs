//! The last events of each shard that one projection has committed, in order. A value that was loaded as of an older position
//! (a replica lags, a load takes its time) is brought up to date from here.
//!
//! Bounded: what falls out at the far end is only in the databases. Whoever would need it loads again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{OrgId, RecordedEvent};
use crate::events::Shard;

/// What one projection has committed lately.
#[derive(Debug)]
pub(crate) struct RecentEvents {
    tails: [Mutex<Tail>; Shard::COUNT],
    kept_max: usize,
}

/// The end of one shard.
#[derive(Debug, Default)]
struct Tail {
    /// Everything up to here was committed before what `events` holds; `None` before anything is known.
    before: Option<i64>,
    /// Positions `before + 1`, `before + 2` … without gaps.
    events: VecDeque<RecordedEvent>,
}

/// The value is so old that events it lacks are no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outrun;

impl RecentEvents {
    /// Room for the last `kept_max` events of each shard.
    pub(crate) fn new(kept_max: usize) -> Self {
        Self { tails: Default::default(), kept_max }
    }

    fn tail(&self, shard: Shard) -> MutexGuard<'_, Tail> {
        self.tails[shard.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the projection stands before its first batch.
    pub(crate) fn begin(&self, shard: Shard, position: i64) {
        self.tail(shard).before.get_or_insert(position);
    }

    /// Adds committed events of one shard, in order. Those that are already held are passed over.
    pub(crate) fn extend(&self, shard: Shard, events: &[RecordedEvent]) {
        let mut tail = self.tail(shard);
        for event in events {
            let before = *tail.before.get_or_insert(event.position - 1);
            let next = tail.events.back().map_or(before, |last| last.position) + 1;
            if event.position < next {
                continue;
            }
            if event.position > next {
                // Never promise completeness over a hole: begin anew behind it.
                tail.events.clear();
                tail.before = Some(event.position - 1);
            }
            tail.events.push_back(event.clone());
            if tail.events.len() > self.kept_max {
                tail.before = tail.events.pop_front().map(|dropped| dropped.position);
            }
        }
    }

    /// An organisation's events after `position`, oldest first.
    pub(crate) fn since(&self, org: OrgId, position: i64) -> Result<Vec<RecordedEvent>, Outrun> {
        let tail = self.tail(Shard::of(org));
        let before = tail.before.ok_or(Outrun)?;
        let known = usize::try_from(position - before).map_err(|_| Outrun)?;
        Ok(tail.events.iter().skip(known).filter(|event| event.org == org).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::samples::event;

    /// Organisations of the same shard.
    fn neighbours() -> [i64; 2] {
        let shard = |n| Shard::of(OrgId::new(n).unwrap());
        [1, (2..).find(|n| shard(*n) == shard(1)).unwrap()]
    }

    fn recent(kept_max: usize) -> (RecentEvents, Shard) {
        (RecentEvents::new(kept_max), Shard::of(OrgId::new(1).unwrap()))
    }

    fn positions(recent: &RecentEvents, after: i64) -> Result<Vec<i64>, Outrun> {
        let org = OrgId::new(1).unwrap();
        Ok(recent.since(org, after)?.iter().map(|event| event.position).collect())
    }

    #[test]
    fn gives_what_came_after_of_that_organisation_only() {
        let (recent, shard) = recent(10);
        let [ours, theirs] = neighbours();
        recent.extend(shard, &[event(ours, 5), event(theirs, 6), event(ours, 7)]);
        recent.extend(shard, &[event(ours, 7), event(ours, 8)]); // 7 again
        assert_eq!(positions(&recent, 4), Ok(vec![5, 7, 8]));
        assert_eq!(positions(&recent, 7), Ok(vec![8]));
        assert_eq!(positions(&recent, 99), Ok(vec![]), "a load may be ahead of the feed");
    }

    #[test]
    fn what_fell_out_is_told_not_guessed() {
        let (recent, shard) = recent(3);
        assert_eq!(positions(&recent, 0), Err(Outrun), "nothing known yet");
        recent.begin(shard, 0);
        assert_eq!(positions(&recent, 0), Ok(vec![]));
        recent.extend(shard, &[event(1, 1), event(1, 2), event(1, 3), event(1, 4)]);
        assert_eq!(positions(&recent, 0), Err(Outrun));
        assert_eq!(positions(&recent, 1), Ok(vec![2, 3, 4]));
    }

    #[test]
    fn a_hole_begins_anew() {
        let (recent, shard) = recent(10);
        recent.extend(shard, &[event(1, 1), event(1, 5)]);
        assert_eq!(positions(&recent, 1), Err(Outrun));
        assert_eq!(positions(&recent, 4), Ok(vec![5]));
    }
}
