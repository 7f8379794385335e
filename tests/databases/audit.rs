//! The audit must be green on what a correct backend leaves, and each planted fault must turn the right checks red.

use std::time::{Duration, Instant};

use plimsoll::archive::{AuditCheck, AuditState, Ledger, LedgerEntries, LedgerEntry, Outcome};
use plimsoll::audit::audit;
use plimsoll::ids::{CommandId, OrgId};
use plimsoll::scenario::{LiveTarget, PostgresEndpoint};
use uuid::Uuid;

use crate::backend::{Late, book};
use crate::cluster::{Cluster, connect, execute};
use crate::population::seed_all;

const ORGANISATIONS: u64 = 100;
const COMMANDS: u64 = 60;

const DRAINED: &str = "projections have read the whole store";
const ACKNOWLEDGED: &str = "acknowledged commands are in the store exactly once";
const REFUSED: &str = "refused commands are not in the store";
const FOREIGN: &str = "the store knows no command that the client did not send";
const ANSWERS: &str = "the answer kept for each command names its event";
const VERSIONS: &str = "versions of each account follow its snapshot without a gap";
const SNAPSHOTS: &str = "each snapshot that was taken is a replay up to its version";
const POSITIONS: &str = "positions of each shard are 1, 2, 3 … without a gap";
const BOOKED: &str = "every event is booked exactly once, as it says";
const ACCOUNTS: &str = "entries of each account come to its snapshot and events";
const BALANCES: &str = "each day's balance is the sum of its entries";
const CHAIN: &str = "each day opens as the one before it closed";
const SUMMARIES: &str = "each finance summary equals its snapshot and events";
const CATEGORIES: &str = "each finance summary shows the days and categories of its events";
const REPLICA: &str = "replica-1 holds what the primary holds";

fn target(postgres: Vec<PostgresEndpoint>) -> LiveTarget {
    LiveTarget {
        base_url: String::new(),
        metrics: Vec::new(),
        token_secret: None,
        postgres,
        processes: Vec::new(),
    }
}

async fn audited(servers: Vec<PostgresEndpoint>, ledger: &[LedgerEntry]) -> Vec<AuditCheck> {
    let ledger =
        Ledger { entries: LedgerEntries::of(ledger.iter().copied()).unwrap(), whole: true };
    audit(&target(servers), &ledger, Duration::from_millis(500)).await
}

fn named(checks: &[AuditCheck], state: AuditState) -> Vec<&str> {
    checks.iter().filter(|check| check.state == state).map(|check| check.check.as_str()).collect()
}

async fn booked() -> (Cluster, Vec<LedgerEntry>) {
    let cluster = Cluster::start_replicated(12).await;
    seed_all(&cluster, ORGANISATIONS).await.unwrap();
    let ledger = book(&cluster, ORGANISATIONS, COMMANDS).await;
    (cluster, ledger)
}

/// Has each summary list so many revenues, all with one beginning, and say whether there are more.
macro_rules! lists {
    ($names:literal, $beginning:literal, $more:literal) => {
        concat!(
            "CREATE SCHEMA saved; CREATE TABLE saved.d AS SELECT org_id, property_id, doc FROM finance_summaries;
             UPDATE finance_summaries SET doc = doc || jsonb_build_object('more_revenue_categories', ",
            $more,
            ", 'revenue_categories', (SELECT jsonb_agg('",
            $beginning,
            "' || n ORDER BY n) FROM generate_series(1001, 1000 + ",
            $names,
            ") n))"
        )
    };
}

macro_rules! restored {
    () => {
        "UPDATE finance_summaries s SET doc = d.doc FROM saved.d WHERE (s.org_id, s.property_id) = (d.org_id, d.property_id);
         DROP SCHEMA saved CASCADE"
    };
}

/// A fault, its repair, and the checks that it must turn red.
struct Fault {
    database: &'static str,
    plant: &'static str,
    repair: &'static str,
    red: &'static [&'static str],
}

/// The first event of the busiest account; more follow it, in its account and its shard.
macro_rules! victim {
    () => {
        "(SELECT command_id FROM events e JOIN (SELECT aggregate_id FROM events GROUP BY 1 ORDER BY count(*) DESC, 1 \
         LIMIT 1) a USING (aggregate_id) ORDER BY version LIMIT 1)"
    };
}
/// A revenue of the run.
macro_rules! revenue {
    () => {
        "id = (SELECT min(id::text)::uuid FROM revenues_partitioned WHERE date >= '2026-03-01')"
    };
}

const FAULTS: &[Fault] = &[
    Fault {
        database: "plimsoll_event_store",
        plant: concat!(
            "CREATE SCHEMA saved; CREATE TABLE saved.e AS SELECT * FROM events WHERE command_id = ",
            victim!(),
            "; DELETE FROM events WHERE command_id = (SELECT command_id FROM saved.e)"
        ),
        repair: "INSERT INTO events SELECT * FROM saved.e; DROP SCHEMA saved CASCADE",
        red: &[ACKNOWLEDGED, ANSWERS, VERSIONS, POSITIONS, ACCOUNTS, SUMMARIES],
    },
    Fault {
        database: "plimsoll_event_store",
        plant: concat!("CREATE SCHEMA saved; CREATE TABLE saved.d AS SELECT * FROM append_dedup WHERE command_id = ",
            victim!(), "; DELETE FROM append_dedup WHERE command_id = ", victim!()),
        repair: "INSERT INTO append_dedup SELECT * FROM saved.d; DROP SCHEMA saved CASCADE",
        red: &[ACKNOWLEDGED, ANSWERS],
    },
    Fault {
        database: "plimsoll_event_store",
        plant: "WITH e AS (INSERT INTO events SELECT shard, (SELECT max(position) + 1 FROM events f WHERE f.shard = e.shard),
                    org_id, aggregate_type, aggregate_id, version + 1000, event_type, schema_version,
                    'f0f0f0f0-0000-4000-8000-000000000000', recorded_at, data FROM events e LIMIT 1 RETURNING *)
                INSERT INTO append_dedup SELECT org_id, command_id, shard, aggregate_type, aggregate_id, version, position, 1 FROM e",
        repair: "DELETE FROM events WHERE command_id::text LIKE 'f0f0%'; DELETE FROM append_dedup WHERE command_id::text LIKE 'f0f0%'",
        red: &[DRAINED, FOREIGN, VERSIONS, BOOKED, ACCOUNTS, SUMMARIES],
    },
    Fault {
        database: "plimsoll_event_store",
        // As if one had been taken of an account with events, and gone wrong by a cent.
        plant: "CREATE SCHEMA saved; CREATE TABLE saved.s AS SELECT * FROM snapshots;
                WITH one AS (SELECT s.org_id, s.aggregate_id, max(e.version) AS version, count(*) AS entries,
                                    sum((e.data->>'amount_cents')::bigint) FILTER (WHERE e.event_type = 1) AS revenue,
                                    sum((e.data->>'amount_cents')::bigint) FILTER (WHERE e.event_type = 2) AS expense
                             FROM snapshots s JOIN events e USING (org_id, aggregate_type, aggregate_id)
                             GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 1)
                UPDATE snapshots s SET baseline_version = s.version, baseline_state = s.state, version = one.version,
                    state = jsonb_build_object(
                        'entries', (s.state->>'entries')::bigint + entries,
                        'revenue_cents', (s.state->>'revenue_cents')::bigint + coalesce(revenue, 0) + 1,
                        'expense_cents', (s.state->>'expense_cents')::bigint + coalesce(expense, 0))
                FROM one WHERE (s.org_id, s.aggregate_id) = (one.org_id, one.aggregate_id)",
        repair: "UPDATE snapshots s SET version = o.version, state = o.state, baseline_version = NULL, baseline_state = NULL
                 FROM saved.s o WHERE (s.org_id, s.aggregate_type, s.aggregate_id) = (o.org_id, o.aggregate_type, o.aggregate_id);
                 DROP SCHEMA saved CASCADE",
        red: &[SNAPSHOTS],
    },
    Fault {
        database: "plimsoll_event_store",
        plant: concat!("UPDATE events SET data = jsonb_set(data, '{category}', '\"forged\"') WHERE command_id = ", victim!()),
        repair: "UPDATE events SET data = jsonb_set(data, '{category}', CASE event_type WHEN 1 THEN '\"rooms\"'::jsonb ELSE '\"supplies\"' END)",
        red: &[BOOKED, CATEGORIES],
    },
    Fault {
        database: "plimsoll_finance",
        plant: concat!(
            "INSERT INTO revenues_partitioned SELECT org_id, '2026-01-31', id, property_id, category, amount_cents, \
             recorded_at FROM revenues_partitioned WHERE ", revenue!()),
        repair: "DELETE FROM revenues_partitioned WHERE date = '2026-01-31' AND (get_byte(uuid_send(id), 6) >> 4) = 5",
        red: &[BOOKED, ACCOUNTS, BALANCES],
    },
    Fault {
        database: "plimsoll_finance",
        plant: concat!("UPDATE revenues_partitioned SET amount_cents = amount_cents + 1 WHERE ", revenue!()),
        repair: concat!("UPDATE revenues_partitioned SET amount_cents = amount_cents - 1 WHERE ", revenue!()),
        red: &[BOOKED, ACCOUNTS, BALANCES],
    },
    Fault {
        database: "plimsoll_finance",
        plant: concat!("CREATE SCHEMA saved; CREATE TABLE saved.r AS SELECT * FROM revenues_partitioned WHERE ",
            revenue!(), "; DELETE FROM revenues_partitioned WHERE ", revenue!()),
        repair: "INSERT INTO revenues_partitioned SELECT * FROM saved.r; DROP SCHEMA saved CASCADE",
        red: &[BOOKED, ACCOUNTS, BALANCES],
    },
    Fault {
        database: "plimsoll_finance",
        plant: "UPDATE daily_cash_balances_partitioned SET opening_cents = opening_cents + 1, closing_cents = closing_cents + 1
                WHERE (org_id, property_id, date) = (SELECT org_id, property_id, date FROM daily_cash_balances_partitioned
                                                      ORDER BY org_id, property_id, date LIMIT 1)",
        repair: "UPDATE daily_cash_balances_partitioned SET opening_cents = opening_cents - 1, closing_cents = closing_cents - 1
                 WHERE (org_id, property_id, date) = (SELECT org_id, property_id, date FROM daily_cash_balances_partitioned
                                                      ORDER BY org_id, property_id, date LIMIT 1)",
        red: &[CHAIN],
    },
    Fault {
        database: "plimsoll_finance",
        plant: "UPDATE projection_checkpoints SET position = position - 1 WHERE shard = 1",
        repair: "UPDATE projection_checkpoints SET position = position + 1 WHERE shard = 1",
        red: &[DRAINED],
    },
    Fault {
        database: "plimsoll_read_models",
        plant: "CREATE SCHEMA saved; CREATE TABLE saved.s AS SELECT * FROM finance_summaries WHERE org_id = 7;
                DELETE FROM finance_summaries WHERE org_id = 7",
        repair: "INSERT INTO finance_summaries SELECT * FROM saved.s; DROP SCHEMA saved CASCADE",
        red: &[SUMMARIES],
    },
    Fault {
        database: "plimsoll_read_models",
        plant: "UPDATE finance_summaries SET expense_cents = expense_cents + 1 WHERE org_id = 7",
        repair: "UPDATE finance_summaries SET expense_cents = expense_cents - 1 WHERE org_id = 7",
        red: &[SUMMARIES],
    },
    Fault {
        database: "plimsoll_read_models",
        plant: lists!(200, "a", false),
        repair: restored!(),
        red: &[CATEGORIES],
    },
    Fault {
        database: "plimsoll_read_models",
        plant: lists!(199, "a", true),
        repair: restored!(),
        red: &[CATEGORIES],
    },
    Fault {
        database: "plimsoll_read_models",
        plant: lists!(200, "z", true),
        repair: restored!(),
        red: &[CATEGORIES],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_need_not_list_what_comes_behind_two_hundred() {
    let (cluster, ledger) = booked().await;
    cluster.execute("plimsoll_read_models", lists!(200, "a", true)).await;
    let checks = audited(vec![cluster.endpoint()], &ledger).await;
    assert!(checks.iter().all(|check| check.state == AuditState::Green), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_fault_turns_its_own_checks_red() {
    let (cluster, ledger) = booked().await;
    let servers = || vec![cluster.endpoint()];
    for fault in FAULTS {
        let before = audited(servers(), &ledger).await;
        assert!(before.iter().all(|check| check.state == AuditState::Green), "{before:#?}");
        cluster.execute(fault.database, fault.plant).await;
        let checks = audited(servers(), &ledger).await;
        assert_eq!(named(&checks, AuditState::Red), fault.red, "{}\n{checks:#?}", fault.plant);
        cluster.execute(fault.database, fault.repair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_decides_what_may_be_in_the_store() {
    let (cluster, mut ledger) = booked().await;
    let servers = || vec![cluster.endpoint()];
    let checks = audited(servers(), &ledger).await;
    assert_eq!(checks[1].count, COMMANDS, "{checks:#?}");

    ledger[0].outcome = Outcome::Unknown;
    let lost = LedgerEntry {
        command: CommandId::from_bytes(*Uuid::max().as_bytes()),
        org: OrgId::from_index(0),
        outcome: Outcome::Unknown,
    };
    ledger.push(lost);
    let checks = audited(servers(), &ledger).await;
    assert!(named(&checks, AuditState::Red).is_empty(), "unknown may be there or not: {checks:#?}");

    ledger[0].outcome = Outcome::Refused;
    ledger[COMMANDS as usize].outcome = Outcome::Acknowledged;
    let checks = audited(servers(), &ledger).await;
    assert_eq!(named(&checks, AuditState::Red), [ACKNOWLEDGED, REFUSED]);
    let detail = &checks[1].detail;
    assert!(detail.contains("1 wrong of 60") && detail.contains("ffffffff-"), "{detail}");

    ledger.remove(0);
    let checks = audited(servers(), &ledger).await;
    assert_eq!(named(&checks, AuditState::Red), [ACKNOWLEDGED, FOREIGN]);

    // What a lost worker had sent nobody knows; what it had been told still counts.
    let torn = Ledger { entries: LedgerEntries::of(ledger).unwrap(), whole: false };
    let checks = audit(&target(servers()), &torn, Duration::from_millis(500)).await;
    assert_eq!(named(&checks, AuditState::Red), [ACKNOWLEDGED]);
    assert_eq!(named(&checks, AuditState::Grey), [FOREIGN]);

    let checks = audited(servers(), &[]).await;
    assert_eq!(named(&checks, AuditState::Grey), [ACKNOWLEDGED], "nothing to look for is no proof");
    assert_eq!(named(&checks, AuditState::Red), [FOREIGN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_committed_during_the_audit_is_not_an_offence() {
    let (cluster, mut ledger) = booked().await;
    let late = Late::after(ORGANISATIONS, COMMANDS);
    ledger.push(late.told());
    // The laws of finance wait here, with the events already brought.
    let mut gate = connect(&cluster.endpoint(), "plimsoll_finance").await.unwrap();
    let lock = "BEGIN; LOCK TABLE expenses_partitioned";
    sqlx::raw_sql(lock).execute(&mut gate).await.unwrap();
    let between = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'plimsoll audit' AND wait_event_type = 'Lock'";
        while cluster.number("postgres", waiting).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        late.book(&cluster).await;
        sqlx::raw_sql("COMMIT").execute(&mut gate).await.unwrap();
    };
    let (checks, ()) = tokio::join!(audited(vec![cluster.endpoint()], &ledger), between);
    assert!(checks.iter().all(|check| check.state == AuditState::Green), "{checks:#?}");
    let events = checks.iter().find(|check| check.check == BOOKED).unwrap().count;
    assert_eq!(events, COMMANDS, "its first look was before the late command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_must_hold_what_the_primary_holds() {
    let (mut cluster, ledger) = booked().await;
    let replica = cluster.add_replica().await;
    let servers = || vec![cluster.endpoint(), replica.clone()];
    let checks = audited(servers(), &ledger).await;
    assert!(checks.iter().all(|check| check.state == AuditState::Green), "{checks:#?}");
    assert_eq!(checks.last().unwrap().check, REPLICA);

    // A promoted replica no longer follows: behind, and so nothing can be said.
    execute(&replica, "postgres", "SELECT pg_promote()").await;
    let checks = audited(servers(), &ledger).await;
    assert_eq!(named(&checks, AuditState::Grey), [REPLICA], "{checks:#?}");

    // One that pretends to have replayed everything, and differs by one cent.
    for database in [
        "plimsoll_shared",
        "plimsoll_hospitality",
        "plimsoll_finance",
        "plimsoll_event_store",
        "plimsoll_read_models",
        "plimsoll_guest_checkin",
        "plimsoll_health_check",
    ] {
        let lie = "CREATE SCHEMA lie; CREATE FUNCTION lie.pg_last_wal_replay_lsn() RETURNS pg_lsn LANGUAGE sql \
                   AS $$ SELECT 'FFFFFFFF/0'::pg_lsn $$; ALTER ROLE postgres SET search_path = lie, pg_catalog, public";
        execute(&replica, database, lie).await;
    }
    let checks = audited(servers(), &ledger).await;
    assert!(checks.iter().all(|check| check.state == AuditState::Green), "{checks:#?}");
    let cent =
        "UPDATE public.finance_summaries SET revenue_cents = revenue_cents + 1 WHERE org_id = 3";
    execute(&replica, "plimsoll_read_models", cent).await;
    let checks = audited(servers(), &ledger).await;
    assert_eq!(named(&checks, AuditState::Red), [REPLICA], "{checks:#?}");
    assert!(checks.last().unwrap().detail.contains("finance_summaries"), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_leaves_grey_not_green() {
    let (mut cluster, ledger) = booked().await;
    let servers = vec![cluster.endpoint()];
    cluster.kill_primary();
    let checks = audited(servers, &ledger).await;
    assert!(checks.len() > 10 && checks.iter().all(|check| check.state == AuditState::Grey));
    assert!(checks.iter().all(|check| check.detail.contains("connect to primary")), "{checks:#?}");
}

#[tokio::test]
async fn a_foreign_target_is_grey() {
    let checks = audited(Vec::new(), &[]).await;
    assert_eq!(named(&checks, AuditState::Grey).len(), 1);
}

/// `cargo test --test databases -- --ignored --nocapture how_long`, with `ORGANISATIONS=1000000`. Its events are in the
/// store alone, so the laws of the projections are red; they take no less time for it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_long_an_audit_takes() {
    let organisations = std::env::var("ORGANISATIONS").map_or(50_000, |n| n.parse().unwrap());
    let cluster = Cluster::start_replicated(12).await;
    let seeded = seed_all(&cluster, organisations).await.unwrap();
    println!("{} rows, {:.1?}", seeded.rows, seeded.stages);
    let events = "
        WITH e AS (
            INSERT INTO events
            SELECT org_id % 8, row_number() OVER (PARTITION BY org_id % 8), org_id, 1, aggregate_id, version + n, 1, 1,
                   gen_random_uuid(), now(), '{\"amount_cents\": 100, \"category\": \"rooms\", \"date\": \"2026-03-02\"}'
            FROM (SELECT * FROM snapshots LIMIT 100000) s, generate_series(1, 3) n RETURNING *)
        INSERT INTO append_dedup
        SELECT org_id, command_id, shard, aggregate_type, aggregate_id, version, position, 1 FROM e";
    let written = cluster.execute("plimsoll_event_store", events).await;
    let started = Instant::now();
    let checks = audited(vec![cluster.endpoint()], &[]).await;
    println!("{written} events, {} checks in {:.1?}", checks.len(), started.elapsed());
    for AuditCheck { check, state, count, .. } in checks {
        println!("{state:?} {check}: {count}");
    }
}
