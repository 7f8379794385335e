//! Which message is delivered next: one lane per organisation, in order, one message of each at a time. Pure: told the time.
//!
//! ```text
//! org 7:  [12 in flight] 15 19          org 8:  [13 waits until 10:04:07] 20
//! ```
//! A message that failed stays at the front of its lane, so those behind it wait with it; other lanes do not.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::Message;
use crate::domain::OrgId;

/// A message on its way to the subscriber.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    /// Deliveries that have failed.
    pub(super) attempts: u32,
    /// The dead letter that this replays.
    pub(super) letter: Option<i64>,
}

#[derive(Debug)]
struct Queued {
    delivery: Delivery,
    due: Option<Instant>,
}

/// All that was read and is not settled.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Never empty: a lane goes with its last message.
    lanes: HashMap<OrgId, VecDeque<Queued>>,
    /// Lanes whose first message may be delivered.
    ready: VecDeque<OrgId>,
    /// Lanes whose first message waits.
    waiting: BinaryHeap<Reverse<(Instant, OrgId)>>,
    unsettled: usize,
}

impl Lanes {
    /// Adds a message behind those of its organisation; not before `due`, if given.
    pub(super) fn push(&mut self, delivery: Delivery, due: Option<Instant>) {
        let org = delivery.message.org;
        let lane = self.lanes.entry(org).or_default();
        lane.push_back(Queued { delivery, due });
        self.unsettled += 1;
        if lane.len() == 1 {
            self.front_is(org, due);
        }
    }

    fn front_is(&mut self, org: OrgId, due: Option<Instant>) {
        match due {
            Some(due) => self.waiting.push(Reverse((due, org))),
            None => self.ready.push_back(org),
        }
    }

    /// The next message to deliver. Its lane then stands still until [`Lanes::settled`] or [`Lanes::failed`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Delivery> {
        while let Some(Reverse((due, org))) = self.waiting.peek().copied()
            && due <= now
        {
            self.waiting.pop();
            self.ready.push_back(org);
        }
        let org = self.ready.pop_front()?;
        let front = self.lanes.get(&org).and_then(VecDeque::front);
        Some(front.expect("a ready lane has a message").delivery.clone())
    }

    /// When the first of the waiting messages is due, unless one is ready now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, _))| *due)
    }

    /// The message in flight of an organisation is done with; the next one of its lane may go.
    pub(super) fn settled(&mut self, org: OrgId) {
        let Some(lane) = self.lanes.get_mut(&org) else { return };
        lane.pop_front();
        self.unsettled -= 1;
        match lane.front().map(|next| next.due) {
            Some(due) => self.front_is(org, due),
            None => drop(self.lanes.remove(&org)),
        }
    }

    /// The message in flight of an organisation failed once more; it goes again when it is due.
    pub(super) fn failed(&mut self, org: OrgId, due: Instant) {
        let Some(front) = self.lanes.get_mut(&org).and_then(VecDeque::front_mut) else { return };
        front.delivery.attempts += 1;
        self.front_is(org, Some(due));
    }

    /// Messages read and not settled, those in flight included.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// When the oldest unsettled message was published.
    pub(super) fn oldest(&self) -> Option<DateTime<Utc>> {
        let fronts = self.lanes.values().filter_map(VecDeque::front);
        fronts.map(|front| front.delivery.message.published_at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pubsub::{Body, Topic};

    fn delivery(org: i64, position: i64) -> Delivery {
        let message = Message {
            topic: Topic::RealtimeUpdates,
            shard: 0,
            position,
            org: OrgId::new(org).unwrap(),
            published_at: DateTime::UNIX_EPOCH,
            body: Body::Data(serde_json::Value::Null),
        };
        Delivery { message: Arc::new(message), attempts: 0, letter: None }
    }

    fn next(lanes: &mut Lanes, now: Instant) -> Option<(i64, u32)> {
        lanes.next(now).map(|given| (given.message.position, given.attempts))
    }

    #[test]
    fn an_organisation_waits_for_its_failed_message_and_others_do_not() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        for (org, position) in [(1, 1), (1, 2), (2, 3)] {
            lanes.push(delivery(org, position), None);
        }
        assert_eq!(next(&mut lanes, now), Some((1, 0)));
        assert_eq!(next(&mut lanes, now), Some((3, 0)));
        assert_eq!(next(&mut lanes, now), None, "2 must wait for 1");
        let later = now + Duration::from_secs(9);
        lanes.failed(OrgId::new(1).unwrap(), later);
        lanes.settled(OrgId::new(2).unwrap());
        assert_eq!(next(&mut lanes, now), None);
        assert_eq!((lanes.next_due(), lanes.unsettled()), (Some(later), 2));
        assert_eq!(next(&mut lanes, later), Some((1, 1)), "the same message, second attempt");
        lanes.settled(OrgId::new(1).unwrap());
        assert_eq!(next(&mut lanes, later), Some((2, 0)));
        lanes.settled(OrgId::new(1).unwrap());
        assert_eq!((lanes.unsettled(), lanes.oldest()), (0, None));
    }

    #[test]
    fn a_message_that_is_not_yet_due_is_not_given() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let due = now + Duration::from_secs(1);
        lanes.push(delivery(1, 1), Some(due));
        assert_eq!(next(&mut lanes, now), None);
        assert_eq!(next(&mut lanes, due), Some((1, 0)));
    }
}
