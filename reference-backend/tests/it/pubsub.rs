//! Topics and subscriptions on a real PostgreSQL: every message at least once, in order, whatever happens on the way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use reference_backend::config::Config;
use reference_backend::db::Databases;
use reference_backend::domain::RecordedEvent;
use reference_backend::pubsub::{
    HandleError, Message, Subscriber, Subscriptions, Topic, Which, dead_letters, publish, replay,
    skip, standings,
};
use serde_json::json;
use sqlx::Connection;
use tokio::time::Instant;

use crate::common::{Backend, Cluster, org, revenue};

/// What a probe does with a message, told how often it has seen it before.
type Script = fn(&Message, usize) -> Act;

enum Act {
    Take,
    Fail,
    Refuse,
    /// Never answers.
    Hang,
    Panic,
    /// Takes it after a while.
    Work(Duration),
}

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    org: i64,
    shard: i16,
    position: i64,
    at: Instant,
}

/// A subscriber that keeps a record, and insists on the order of each organisation.
#[derive(Debug)]
struct Probe {
    name: &'static str,
    topic: Topic,
    script: Script,
    cents_min: i64,
    begun: Mutex<Vec<Seen>>,
    taken: Mutex<Vec<Seen>>,
    running: Mutex<HashMap<i64, i64>>,
    most_at_once: Mutex<usize>,
}

impl Probe {
    fn new(name: &'static str, topic: Topic, script: Script) -> Arc<Self> {
        Arc::new(Self {
            name,
            topic,
            script,
            cents_min: 0,
            begun: Mutex::default(),
            taken: Mutex::default(),
            running: Mutex::default(),
            most_at_once: Mutex::default(),
        })
    }

    /// Waits until so many messages have been taken.
    async fn took(&self, count: usize) -> Vec<Seen> {
        let taken = || self.taken.lock().unwrap().clone();
        let enough = async {
            while taken().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let enough = tokio::time::timeout(Duration::from_secs(20), enough).await;
        assert!(enough.is_ok(), "took {} of {count}: {:?}", taken().len(), self.begun());
        taken()
    }

    fn begun(&self) -> Vec<Seen> {
        self.begun.lock().unwrap().clone()
    }

    fn positions(&self) -> Vec<i64> {
        self.taken.lock().unwrap().iter().map(|seen| seen.position).collect()
    }
}

/// Takes an organisation off the list of those being served, also when the handler is dropped.
struct Serving<'a>(&'a Probe, i64);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.running.lock().unwrap().remove(&self.1);
    }
}

impl Subscriber for Probe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn topic(&self) -> Topic {
        self.topic
    }

    fn wants(&self, event: &RecordedEvent) -> bool {
        event.event.entry().amount.cents() >= self.cents_min
    }

    fn handle<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), HandleError>> {
        let (org, shard, position) = (message.org.get(), message.shard, message.position);
        let seen = Seen { org, shard, position, at: Instant::now() };
        let before = {
            let mut running = self.running.lock().unwrap();
            let other = running.insert(org, position);
            assert_eq!(other, None, "organisation {org} has two messages in hand");
            let mut most = self.most_at_once.lock().unwrap();
            *most = running.len().max(*most);
            let mut begun = self.begun.lock().unwrap();
            begun.push(seen.clone());
            begun.iter().filter(|s| (s.shard, s.position) == (shard, position)).count() - 1
        };
        Box::pin(async move {
            let serving = Serving(self, org);
            match (self.script)(message, before) {
                Act::Take => {}
                Act::Fail => return Err(HandleError::Retry("not yet".to_owned())),
                Act::Refuse => return Err(HandleError::Reject("never".to_owned())),
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("a planted panic"),
                Act::Work(time) => tokio::time::sleep(time).await,
            }
            drop(serving);
            self.taken.lock().unwrap().push(seen);
            Ok(())
        })
    }
}

/// Waits and deadlines short enough for a test.
const FAST: &str = "[pubsub]\ncursor_interval_ms = 20\npoll_interval_ms = 10\nlease_retry_ms = 50\n\
    [pubsub.delivery]\nretry_first_ms = 20\nretry_max_ms = 40\nmax_attempts = 3\nack_deadline_ms = 20000\n";

struct Bench {
    cluster: Cluster,
    config: Config,
    db: Databases,
}

impl Bench {
    async fn new(more: &str) -> Self {
        let cluster = Cluster::start().await;
        let config = cluster.config(&format!("{FAST}{more}"));
        let db = Databases::connect(&config.database).await.unwrap();
        Self { cluster, config, db }
    }

    fn start(&self, probe: &Arc<Probe>) -> Subscriptions {
        Subscriptions::start(&self.db, None, &self.config.pubsub, vec![Arc::clone(probe) as _])
    }

    async fn publish(&self, orgs: impl IntoIterator<Item = i64>) {
        let mut connection = self.cluster.admin("plimsoll_event_store").await;
        for (n, number) in orgs.into_iter().enumerate() {
            let data = json!({ "n": n });
            publish(&mut connection, CORRECTIONS, org(number), &data).await.unwrap();
        }
    }

    async fn letters(&self, count: usize) {
        let letters = async {
            while dead_letters(&self.db, REPAIR).await.unwrap().len() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), letters).await;
        assert!(found.is_ok(), "{:?}", dead_letters(&self.db, REPAIR).await);
    }
}

const REPAIR: &str = "balance-repair";
const CORRECTIONS: Topic = Topic::BalanceCorrections;

#[tokio::test]
async fn a_message_exists_once_its_transaction_is_committed_and_never_leaves_a_hole() {
    let cluster = Cluster::start().await;
    let mut one = cluster.admin("plimsoll_event_store").await;
    let data = json!({"n": 1});
    let mut given_up = one.begin().await.unwrap();
    let topic = Topic::RealtimeUpdates;
    assert_eq!(publish(&mut given_up, topic, org(1), &data).await.unwrap(), 1);
    given_up.rollback().await.unwrap();

    // Two at once: the second waits for the first to commit.
    let mut first = one.begin().await.unwrap();
    assert_eq!(publish(&mut first, topic, org(1), &data).await.unwrap(), 1);
    let mut other = cluster.admin("plimsoll_event_store").await;
    let second =
        tokio::spawn(async move { publish(&mut other, topic, org(2), &json!({"n": 2})).await });
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap(), 2);

    assert_eq!(publish(&mut one, CORRECTIONS, org(1), &data).await.unwrap(), 1);
    assert!(publish(&mut one, Topic::FinanceEvents, org(1), &data).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_comes_once_and_those_not_wanted_are_passed_over() {
    let bench = Bench::new("").await;
    let backend = Backend::start(&bench.config).await;
    let probe = Probe::new("notifications", Topic::FinanceEvents, |_, _| Act::Take);
    let mut probe = Arc::into_inner(probe).unwrap();
    probe.cents_min = 50;
    let probe = Arc::new(probe);
    let start = || {
        let events = Some(&backend.events);
        Subscriptions::start(&bench.db, events, &bench.config.pubsub, vec![Arc::clone(&probe) as _])
    };
    for n in 1..=100 {
        backend.events.append(revenue(n % 7 + 1, 5, n)).await.unwrap();
    }
    let first = start();
    probe.took(51).await;
    first.stop().await;
    let standing = |name: &'static str, all: Vec<_>| {
        all.into_iter().find(|s: &reference_backend::pubsub::Standing| s.name == name).unwrap()
    };
    let stands = standing("notifications", standings(&bench.db).await.unwrap());
    assert_eq!((stands.behind, stands.owner_pid), (Some(0), None), "all settled, nobody's now");

    // The cursor is where it was left: only what is new comes.
    let second = start();
    backend.events.append(revenue(3, 5, 1_000)).await.unwrap();
    let taken = probe.took(52).await;
    assert!(standing("notifications", standings(&bench.db).await.unwrap()).owner_pid.is_some());
    second.stop().await;
    assert_eq!(taken.len(), 52);
    let mut by_org: HashMap<i64, Vec<i64>> = HashMap::new();
    for seen in taken {
        by_org.entry(seen.org).or_default().push(seen.position);
    }
    for positions in by_org.values() {
        assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    }
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_at_once_than_agreed_and_one_of_an_organisation() {
    let bench = Bench::new("max_concurrency = 3\n").await;
    let script: Script = |_, _| Act::Work(Duration::from_millis(5));
    let probe = Probe::new(REPAIR, CORRECTIONS, script);
    bench.publish((0..60).map(|n| n % 10 + 1)).await;
    let running = bench.start(&probe);
    probe.took(60).await;
    running.stop().await;
    assert_eq!(*probe.most_at_once.lock().unwrap(), 3, "all the room is used, and no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_handler_is_redelivered_at_its_deadline_and_not_before() {
    let bench = Bench::new("").await;
    let mut config = bench.config.clone();
    let deadline = Duration::from_millis(400);
    config.pubsub.delivery.ack_deadline_ms = reference_backend::config::Millis(400);
    let script: Script = |_, before| if before == 0 { Act::Hang } else { Act::Take };
    let probe = Probe::new(REPAIR, CORRECTIONS, script);
    bench.publish([1]).await;
    let subscribers = vec![Arc::clone(&probe) as _];
    let running = Subscriptions::start(&bench.db, None, &config.pubsub, subscribers);
    probe.took(1).await;
    running.stop().await;
    let begun = probe.begun();
    assert_eq!(begun.len(), 2);
    assert!(begun[1].at - begun[0].at >= deadline, "{begun:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_now_is_taken_later_in_order() {
    let bench = Bench::new("").await;
    let script: Script = |message, before| match (message.position, before) {
        (1, 0) => Act::Fail,
        (1, 1) => Act::Panic,
        _ => Act::Take,
    };
    let probe = Probe::new(REPAIR, CORRECTIONS, script);
    bench.publish([1, 1, 2]).await;
    let running = bench.start(&probe);
    probe.took(3).await;
    running.stop().await;
    assert_eq!(probe.positions(), [3, 1, 2], "2 waited for 1, 3 did not");
    let mut store = bench.cluster.admin("plimsoll_event_store").await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM subscription_retries")
        .fetch_one(&mut store)
        .await
        .unwrap();
    assert_eq!(left, 0, "what was handled leaves no row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_set_aside_after_its_last_attempt_and_replays() {
    let bench = Bench::new("").await;
    let script: Script = |message, before| match (message.position, before) {
        // The fourth delivery of 1 is its first replay, the fifth its second.
        (1, 0..4) => Act::Fail,
        (3, _) => Act::Refuse,
        _ => Act::Take,
    };
    let probe = Probe::new(REPAIR, CORRECTIONS, script);
    bench.publish([1, 1, 2, 2]).await;
    let running = bench.start(&probe);
    probe.took(2).await;
    bench.letters(2).await;
    assert_eq!(probe.positions().len(), 2, "2 and 4 were not held up for ever");
    let letters = dead_letters(&bench.db, REPAIR).await.unwrap();
    let told = |letter: &reference_backend::pubsub::DeadLetter| {
        (letter.position, letter.attempts, letter.reason.clone())
    };
    let mut known: Vec<_> = letters.iter().map(told).collect();
    known.sort();
    assert_eq!(known, [(1, 3, "not yet".to_owned()), (3, 1, "never".to_owned())]);
    assert_eq!(letters.iter().find(|l| l.position == 1).unwrap().data, Some(json!({"n": 0})));

    let id = letters.iter().find(|letter| letter.position == 1).unwrap().id;
    let one = Which::Ids(vec![id]);
    assert_eq!(replay(&bench.db, REPAIR, &one).await.unwrap(), 1);
    let tried_again = async {
        loop {
            let letters = dead_letters(&bench.db, REPAIR).await.unwrap();
            if letters.iter().any(|l| l.position == 1 && l.attempts == 4 && !l.replay_asked) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), tried_again).await.unwrap();
    assert_eq!(replay(&bench.db, REPAIR, &one).await.unwrap(), 1);
    bench.letters(1).await;
    assert!(probe.positions().contains(&1), "handled at last");
    assert_eq!(skip(&bench.db, REPAIR, &Which::All).await.unwrap(), 1);
    bench.letters(0).await;
    running.stop().await;
    assert!(replay(&bench.db, "finance", &Which::All).await.is_err());
    assert!(replay(&bench.db, "nobody", &Which::All).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_delivers_again_what_was_in_hand_and_loses_nothing() {
    let bench = Bench::new("max_concurrency = 2\n").await;
    // The first of two organisations hangs at its first delivery: it is in hand when the connection goes.
    let script: Script = |message, before| match (message.position, before) {
        (1, 0) => Act::Hang,
        _ => Act::Take,
    };
    let probe = Probe::new(REPAIR, CORRECTIONS, script);
    bench.publish([1, 2, 2, 2]).await;
    let running = bench.start(&probe);
    probe.took(3).await;
    // Until the cursor says so, the others may come again too.
    let settled = async {
        let mut store = bench.cluster.admin("plimsoll_event_store").await;
        loop {
            let text: Option<String> =
                sqlx::query_scalar("SELECT settled::text FROM subscription_cursors")
                    .fetch_optional(&mut store)
                    .await
                    .unwrap();
            if text.as_deref() == Some("{[2,5)}") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap();
    assert_eq!(bench.cluster.terminate("subscription %").await, 1);
    probe.took(4).await;
    running.stop().await;
    let mut begun: Vec<_> = probe.begun().iter().map(|seen| seen.position).collect();
    begun.sort_unstable();
    assert_eq!(begun, [1, 1, 2, 3, 4], "only what was not settled came again");
}

/// The cursor's floor, and its owner's number.
async fn cursor(store: &mut sqlx::PgConnection, wanted: (i64, i64)) {
    let look = "SELECT floor, epoch FROM subscription_cursors JOIN subscription_owners USING (subscription)";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found: Option<(i64, i64)> =
            sqlx::query_as(look).fetch_optional(&mut *store).await.unwrap();
        if found == Some(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_followed_by_another_moves_nothing() {
    let bench = Bench::new("").await;
    let mut store = bench.cluster.admin("plimsoll_event_store").await;
    let probe = Probe::new(REPAIR, CORRECTIONS, |_, _| Act::Take);
    bench.publish([1]).await;
    let running = bench.start(&probe);
    probe.took(1).await;
    cursor(&mut store, (1, 1)).await;

    // Another has begun, which the owner does not know: its session, and so its lease, are as they were.
    let next = "UPDATE subscription_owners SET epoch = epoch + 1";
    assert_eq!(sqlx::query(next).execute(&mut store).await.unwrap().rows_affected(), 1);
    bench.publish([2]).await;
    probe.took(3).await;
    running.stop().await;
    let begun: Vec<_> = probe.begun().iter().map(|seen| seen.position).collect();
    assert_eq!(begun, [1, 2, 2], "what it wrote of 2 was refused, so 2 came again");
    // By an owner with a number of its own.
    cursor(&mut store, (2, 3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_survive_the_end_of_an_owner() {
    let bench = Bench::new("").await;
    let mut patient = bench.config.clone();
    patient.pubsub.delivery.retry_first_ms = reference_backend::config::Millis(60_000);
    patient.pubsub.delivery.retry_max_ms = reference_backend::config::Millis(60_000);
    let probe = Probe::new(REPAIR, CORRECTIONS, |_, _| Act::Fail);
    bench.publish([1]).await;
    let subscribers = vec![Arc::clone(&probe) as _];
    let first = Subscriptions::start(&bench.db, None, &patient.pubsub, subscribers);
    while probe.begun().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.stop().await;
    let mut store = bench.cluster.admin("plimsoll_event_store").await;
    let attempts: i32 =
        sqlx::query_scalar("UPDATE subscription_retries SET due_at = now() RETURNING attempts")
            .fetch_one(&mut store)
            .await
            .unwrap();
    assert_eq!(attempts, 1);
    let second = bench.start(&probe);
    bench.letters(1).await;
    second.stop().await;
    assert_eq!(probe.begun().len(), 3, "two more, not three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_have_one_owner_and_the_other_takes_over() {
    let bench = Bench::new("").await;
    let other_db = Databases::connect(&bench.config.database).await.unwrap();
    let probes = [0, 1].map(|_| Probe::new(REPAIR, CORRECTIONS, |_, _| Act::Take));
    let first = bench.start(&probes[0]);
    bench.publish([1, 2, 3]).await;
    probes[0].took(3).await;
    let subscribers = vec![Arc::clone(&probes[1]) as _];
    let second = Subscriptions::start(&other_db, None, &bench.config.pubsub, subscribers);
    bench.publish([1, 2, 3]).await;
    probes[0].took(6).await;
    assert!(probes[1].begun().is_empty(), "it has no lease");
    first.stop().await;
    bench.publish([1, 2, 3]).await;
    probes[1].took(3).await;
    second.stop().await;
    assert_eq!(probes[1].positions().len(), 3);
    let mut all = [probes[0].positions(), probes[1].positions()].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=9).collect::<Vec<_>>(), "nothing twice, nothing lost");
}
