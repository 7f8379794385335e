//! The last events of each shard that one projection has committed, in order. A value that was loaded as of an older position
//! (a replica lags, a load takes its time) is brought up to date from here.
//!
//! Bounded: what falls out at the far end is only in the databases. Whoever would need it loads again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{OrgId, RecordedEvent};
use crate::events::Shard;

/// What one projection has committed lately.
#[derive(Debug)]
pub(crate) struct RecentEvents {
    tails: [Mutex<Tail>; Shard::COUNT],
    /// Of the rows that may be shown.
    epochs: [AtomicI64; Shard::COUNT],
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

impl Tail {
    /// Everything up to here was told.
    fn last(&self) -> Option<i64> {
        self.events.back().map(|event| event.position).or(self.before)
    }
}

/// The value is so old that events it lacks are no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outrun;

/// Events were not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap;

impl RecentEvents {
    /// Room for the last `kept_max` events of each shard.
    pub(crate) fn new(kept_max: usize) -> Self {
        Self { tails: Default::default(), epochs: Default::default(), kept_max }
    }

    fn tail(&self, shard: Shard) -> MutexGuard<'_, Tail> {
        self.tails[shard.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the projection stands before it tells the first event. Whether it went back: then values that were kept up to
    /// date show what is no more.
    pub(crate) fn begin(&self, shard: Shard, position: i64) -> bool {
        let mut tail = self.tail(shard);
        let last = tail.last();
        *tail = Tail { before: Some(position), events: VecDeque::new() };
        last.is_some_and(|last| position < last)
    }

    /// Says that rows of an older epoch may not be shown any more.
    pub(crate) fn raise_epoch(&self, shard: Shard, epoch: i64) {
        self.epochs[shard.index()].fetch_max(epoch, Ordering::AcqRel);
    }

    /// Whether what was loaded at an epoch of its rows may not be shown.
    pub(crate) fn is_outdated(&self, org: OrgId, epoch: i64) -> bool {
        epoch < self.epochs[Shard::of(org).index()].load(Ordering::Acquire)
    }

    /// Adds committed events of one shard, in order. Those that are already held are passed over. An error when events are
    /// missing in between: then only what came behind the gap is held, and values that were kept up to date are not any more.
    pub(crate) fn extend(&self, shard: Shard, events: &[RecordedEvent]) -> Result<(), Gap> {
        let mut tail = self.tail(shard);
        let mut result = Ok(());
        for event in events {
            let last = tail.last();
            if last.is_some_and(|last| event.position <= last) {
                continue;
            }
            if last != Some(event.position - 1) {
                *tail = Tail { before: Some(event.position - 1), events: VecDeque::new() };
                result = Err(Gap);
            }
            tail.events.push_back(event.clone());
            if tail.events.len() > self.kept_max {
                tail.before = tail.events.pop_front().map(|dropped| dropped.position);
            }
        }
        result
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

    /// Begun at 0.
    fn recent(kept_max: usize) -> (RecentEvents, Shard) {
        let recent = RecentEvents::new(kept_max);
        let shard = Shard::of(OrgId::new(1).unwrap());
        assert!(!recent.begin(shard, 0));
        (recent, shard)
    }

    fn positions(recent: &RecentEvents, after: i64) -> Result<Vec<i64>, Outrun> {
        let org = OrgId::new(1).unwrap();
        Ok(recent.since(org, after)?.iter().map(|event| event.position).collect())
    }

    #[test]
    fn gives_what_came_after_of_that_organisation_only() {
        let (recent, shard) = recent(10);
        let [ours, theirs] = neighbours();
        assert_eq!(
            recent.extend(shard, &[event(ours, 1), event(theirs, 2), event(ours, 3)]),
            Ok(())
        );
        assert_eq!(recent.extend(shard, &[event(ours, 3), event(ours, 4)]), Ok(()), "3 again");
        assert_eq!(positions(&recent, 0), Ok(vec![1, 3, 4]));
        assert_eq!(positions(&recent, 3), Ok(vec![4]));
        assert_eq!(positions(&recent, 99), Ok(vec![]), "a load may be ahead of the feed");
    }

    #[test]
    fn what_fell_out_is_told_not_guessed() {
        assert_eq!(positions(&RecentEvents::new(3), 0), Err(Outrun), "nothing known yet");
        let (recent, shard) = recent(3);
        assert_eq!(positions(&recent, 0), Ok(vec![]));
        let events = [event(1, 1), event(1, 2), event(1, 3), event(1, 4)];
        assert_eq!(recent.extend(shard, &events), Ok(()));
        assert_eq!(positions(&recent, 0), Err(Outrun));
        assert_eq!(positions(&recent, 1), Ok(vec![2, 3, 4]));
    }

    #[test]
    fn going_back_is_told_and_an_older_epoch_is_outdated_in_its_shard_only() {
        let (recent, shard) = recent(10);
        assert_eq!(recent.extend(shard, &[event(1, 1), event(1, 2)]), Ok(()));
        assert!(!recent.begin(shard, 3), "3 was set aside");
        assert!(recent.begin(shard, 2));
        let [ours, elsewhere] = [1, (2..).find(|n| !neighbours().contains(n)).unwrap()];
        let elsewhere =
            (elsewhere..).find(|n| Shard::of(OrgId::new(*n).unwrap()) != shard).unwrap();
        let org = |number| OrgId::new(number).unwrap();
        recent.raise_epoch(shard, 4);
        recent.raise_epoch(shard, 3); // told late
        assert!(recent.is_outdated(org(ours), 3) && !recent.is_outdated(org(ours), 4));
        assert!(!recent.is_outdated(org(elsewhere), 0));
    }

    #[test]
    fn a_gap_is_told_and_what_came_before_it_is_gone() {
        let (recent, shard) = recent(10);
        assert_eq!(recent.extend(shard, &[event(1, 1), event(1, 5)]), Err(Gap));
        assert_eq!(positions(&recent, 1), Err(Outrun));
        assert_eq!(positions(&recent, 4), Ok(vec![5]));
    }
}
