//! The audit of what the real event store and projections leave.

use std::sync::Arc;
use std::time::Duration;

use chrono::Days;
use futures::future::{BoxFuture, ready};
use plimsoll::archive::{AuditState, Ledger, LedgerEntries, LedgerEntry, Outcome};
use plimsoll::audit::audit;
use plimsoll::ids::{CommandId, RunId};
use plimsoll::population::Population;
use plimsoll::scenario::LiveTarget;
use reference_backend::db::Databases;
use reference_backend::domain::{Action, Amount, Category, Command, Entry, OrgId, RecordedEvent};
use reference_backend::events::{EventStore, Shard};
use reference_backend::projections::{Observer, Projection, Projections};

use crate::cluster::{Cluster, anchor};
use crate::population::{SEED, seed_all, spec};

const ORGANISATIONS: u64 = 200;
const COMMANDS: u64 = 1000;

/// Does not listen to the projections.
#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn begin(&self, _: Projection, _: Shard, _: i64) {}

    fn corrected(&self, _: Projection, _: Shard, _: i64) {}

    fn committed<'a>(
        &'a self,
        _: Projection,
        _: Shard,
        _: &'a [RecordedEvent],
    ) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }
}

/// The `n`th command of a run: all kinds, some of them dated back into the history.
fn command(population: &Population, n: u64) -> (LedgerEntry, Command) {
    let org = population.pick(n as f64 / COMMANDS as f64);
    let id = CommandId::derive("real".parse::<RunId>().unwrap().namespace(), n);
    let entry = Entry {
        amount: Amount::from_cents(100 + n.cast_signed()).unwrap(),
        category: Category::new(["rooms", "spa", "a \"quoted\" category"][n as usize % 3]).unwrap(),
        date: anchor() + Days::new(20) - Days::new(n % 60),
    };
    let command = Command {
        id: id.uuid().into(),
        org: OrgId::new(org.as_i64()).unwrap(),
        property: population.property(org, 0.5).into(),
        expected_version: None,
        action: match n % 2 {
            0 => Action::RecordRevenue(entry),
            _ => Action::RecordExpense(entry),
        },
        undated: false,
    };
    (LedgerEntry { command: id, org, outcome: Outcome::Acknowledged }, command)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_backend_passes_its_audit_while_it_runs() {
    let cluster = Cluster::start_replicated(12).await;
    seed_all(&cluster, ORGANISATIONS).await.unwrap();
    let config = cluster.config();
    let db = Databases::connect(&config.database).await.unwrap();
    let store = EventStore::start(&db, &config.event_store).await.unwrap();
    let projections = Projections::start(&db, &store, &config, Arc::new(Nobody)).await.unwrap();
    let population = Population::new(&spec(ORGANISATIONS), SEED, anchor());
    let (ledger, commands): (Vec<_>, Vec<_>) =
        (0..COMMANDS).map(|n| command(&population, n)).unzip();
    let answers = commands.into_iter().map(|command| store.append(command));
    futures::future::try_join_all(answers).await.unwrap();

    let target = LiveTarget {
        base_url: String::new(),
        metrics: Vec::new(),
        token_secret: None,
        postgres: vec![cluster.endpoint()],
        processes: Vec::new(),
    };
    let checks = audit(
        &target,
        &Ledger { entries: LedgerEntries::of(ledger).unwrap(), whole: true },
        Duration::from_secs(20),
    )
    .await;
    assert!(checks.iter().all(|check| check.state == AuditState::Green), "{checks:#?}");
    assert_eq!(checks[1].count, COMMANDS);
    store.stop().await;
    projections.stop().await;
}
