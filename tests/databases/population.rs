//! Seeding and verifying.

use std::num::NonZeroU64;

use plimsoll::population::{Population, PopulationError, Progress, Seeded, Stage, seed, verify};
use plimsoll::scenario::{PopulationSpec, Skew};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, anchor};

pub(crate) const SEED: u64 = 7;

pub(crate) fn spec(organisations: u64) -> PopulationSpec {
    PopulationSpec {
        organisations: NonZeroU64::new(organisations).unwrap(),
        history_months: 12,
        busy: Skew::Zipf { exponent: 1.05 },
    }
}

pub(crate) async fn seed_all(
    cluster: &Cluster,
    organisations: u64,
) -> Result<Seeded, PopulationError> {
    let (spec, cancel) = (spec(organisations), CancellationToken::new());
    seed(&spec, SEED, anchor(), &cluster.endpoint(), |_| (), &cancel).await
}

async fn verify_all(cluster: &Cluster, organisations: u64) -> Result<(), String> {
    let outcome = verify(&spec(organisations), SEED, anchor(), &cluster.endpoint()).await;
    outcome.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_population_is_copied_verified_and_never_added_to() {
    let cluster = Cluster::start(12).await;
    let indexes = "SELECT count(*) FROM pg_index WHERE indisvalid AND NOT indisunique AND indrelid::regclass::text ~ 'enues|pens'";
    let indexes_before = cluster.number("plimsoll_finance", indexes).await;
    let mut told = Vec::new();
    let (spec, cancel) = (spec(3000), CancellationToken::new());
    let seeded = seed(&spec, SEED, anchor(), &cluster.endpoint(), |p| told.push(p), &cancel).await;

    let seeded = seeded.unwrap();
    let stages = [Stage::Copy, Stage::Index, Stage::Analyse, Stage::Verify];
    assert!(told.is_sorted_by_key(|p: &Progress| (p.stage, p.rows_done)));
    assert!(stages.iter().all(|stage| told.iter().any(|p| p.stage == *stage)), "{told:?}");
    // At most 5000 organisations: the total is exact.
    assert!(told.iter().all(|p| p.rows_total == seeded.rows));
    assert_eq!(told.last().unwrap().rows_done, seeded.rows);

    assert!(indexes_before > 0);
    assert_eq!(cluster.number("plimsoll_finance", indexes).await, indexes_before);
    let chained = "SELECT count(*) FROM (SELECT opening_cents, coalesce(lag(closing_cents) OVER \
                   (PARTITION BY org_id, property_id ORDER BY date), 0) AS expected \
                   FROM daily_cash_balances_partitioned) d WHERE opening_cents <> expected";
    assert_eq!(cluster.number("plimsoll_finance", chained).await, 0);
    let names = "SELECT count(*) FROM organisations WHERE length(name) < 3";
    assert_eq!(cluster.number("plimsoll_shared", names).await, 0);

    assert_eq!(verify_all(&cluster, 3000).await, Ok(()));
    let again = seed_all(&cluster, 3000).await.unwrap_err();
    assert!(matches!(again, PopulationError::NotEmpty { .. }), "{again}");
    assert_eq!(verify_all(&cluster, 3000).await, Ok(()), "a refused seed must change nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_change_to_the_databases_fails_verification() {
    let cluster = Cluster::start(12).await;
    seed_all(&cluster, 200).await.unwrap();
    // Each fault, and its repair.
    let one = "(org_id, date, id) = (SELECT org_id, date, id FROM revenues_partitioned ORDER BY id LIMIT 1)";
    let cases = [
        (
            "plimsoll_finance",
            format!("UPDATE revenues_partitioned SET amount_cents = amount_cents + 1 WHERE {one}"),
            format!("UPDATE revenues_partitioned SET amount_cents = amount_cents - 1 WHERE {one}"),
            "verify revenues_partitioned: sum of amount_cents",
        ),
        (
            "plimsoll_read_models",
            "UPDATE finance_summaries SET last_entry_date = last_entry_date + 1 WHERE org_id = 5".into(),
            "UPDATE finance_summaries SET last_entry_date = last_entry_date - 1 WHERE org_id = 5".into(),
            "verify finance_summaries: checksum",
        ),
        (
            "plimsoll_shared",
            "UPDATE organisations SET name = name || ' ' WHERE org_id = 9".into(),
            "UPDATE organisations SET name = rtrim(name) WHERE org_id = 9".into(),
            "verify organisations: checksum",
        ),
        (
            "plimsoll_event_store",
            "UPDATE snapshots SET state = jsonb_set(state, '{entries}', '0') WHERE org_id = 2".into(),
            "UPDATE snapshots SET state = jsonb_set(state, '{entries}', to_jsonb(version)) WHERE org_id = 2".into(),
            "verify snapshots: checksum",
        ),
        (
            "plimsoll_hospitality",
            "DELETE FROM tasks WHERE id = (SELECT min(id::text)::uuid FROM tasks)".into(),
            String::new(),
            "verify tasks: rows",
        ),
    ];
    for (database, fault, repair, expected) in cases {
        assert_eq!(verify_all(&cluster, 200).await, Ok(()), "before {fault}");
        assert!(cluster.execute(database, &fault).await > 0, "no row for {fault}");
        let error = verify_all(&cluster, 200).await.unwrap_err();
        assert!(error.starts_with(expected), "{fault}: {error}");
        cluster.execute(database, &repair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_seed_leaves_nothing_behind() {
    let cluster = Cluster::start(12).await;
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let stop_early = move |progress: Progress| {
        if progress.rows_done > 1000 {
            stop.cancel();
        }
    };
    let outcome =
        seed(&spec(1_000_000), SEED, anchor(), &cluster.endpoint(), stop_early, &cancel).await;
    assert!(matches!(outcome, Err(PopulationError::Cancelled)), "{outcome:?}");
    seed_all(&cluster, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_months_are_refused_before_anything_is_written() {
    let cluster = Cluster::start(6).await;
    let error = seed_all(&cluster, 10).await.unwrap_err();
    assert!(matches!(error, PopulationError::NoPartition { .. }), "{error}");
}

/// `cargo test --test databases -- --ignored --nocapture how_fast`, with `ORGANISATIONS=1000000`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_fast() {
    let organisations = std::env::var("ORGANISATIONS").map_or(50_000, |n| n.parse().unwrap());
    let cluster = Cluster::start(12).await;
    let seeded = seed_all(&cluster, organisations).await.unwrap();
    let rate = seeded.rows as f64 / seeded.seconds;
    println!("{} rows, {rate:.0} rows/s, {:.1?}", seeded.rows, seeded.stages);
    println!("{:?}", seeded.per_table);
    let population = Population::new(&spec(organisations), SEED, anchor());
    assert!(population.pick(0.5).get() <= organisations);
}
