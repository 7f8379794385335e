//! Laws of the event store: the client's ledger, versions and positions.

use sqlx::postgres::PgConnection;

use super::error::AuditError;
use super::law::Law;
use super::ledger;
use super::server::{connect, execute};
use crate::archive::LedgerEntries;
use crate::postgres::database::EVENT_STORE;
use crate::scenario::PostgresEndpoint;

/// Once for all laws: how often each command is in the store.
const STORED: &str = "
    CREATE TEMP TABLE stored AS
        SELECT command_id, org_id, count(*) AS times FROM events GROUP BY command_id, org_id;
    ANALYZE pg_temp.stored";

/// The law that proves durability, given that anything was acknowledged.
pub(super) const NOTHING_LOST: &str = "acknowledged commands are in the store exactly once";
/// The one law that takes a whole ledger.
pub(super) const NOTHING_UNSENT: &str = "the store knows no command that the client did not send";

pub(super) const LAWS: &[Law] = &[
    Law {
        check: NOTHING_LOST,
        counted: "SELECT count(*) FROM pg_temp.ledger WHERE outcome = 1",
        holds: None,
        broken: "
            SELECT format('command %s of organisation %s is in %s events, and %s answer is kept for it',
                          command_id, org_id, coalesce(times, 0),
                          CASE WHEN d.command_id IS NULL THEN 'no' ELSE 'an' END) AS what
            FROM pg_temp.ledger
            LEFT JOIN pg_temp.stored USING (command_id, org_id)
            LEFT JOIN append_dedup d USING (command_id, org_id)
            WHERE outcome = 1 AND (times IS DISTINCT FROM 1 OR d.command_id IS NULL)",
    },
    Law {
        check: "refused commands are not in the store",
        counted: "SELECT count(*) FROM pg_temp.ledger WHERE outcome = 2",
        holds: None,
        broken: "
            SELECT format('command %s of organisation %s is in %s events', command_id, org_id, coalesce(times, 0)) AS what
            FROM pg_temp.ledger
            LEFT JOIN pg_temp.stored USING (command_id, org_id)
            LEFT JOIN append_dedup d USING (command_id, org_id)
            WHERE outcome = 2 AND (times > 0 OR d.command_id IS NOT NULL)",
    },
    Law {
        check: "commands without an answer are in the store at most once",
        counted: "SELECT count(*) FROM pg_temp.ledger WHERE outcome = 3",
        holds: None,
        broken: "
            SELECT format('command %s of organisation %s is in %s events', command_id, org_id, times) AS what
            FROM pg_temp.ledger JOIN pg_temp.stored USING (command_id, org_id)
            WHERE outcome = 3 AND times > 1",
    },
    Law {
        check: NOTHING_UNSENT,
        counted: "SELECT count(*) FROM pg_temp.stored",
        holds: None,
        broken: "
            SELECT format('command %s of organisation %s', command_id, org_id) AS what
            FROM (SELECT command_id, org_id FROM pg_temp.stored
                  UNION SELECT command_id, org_id FROM append_dedup) s
            WHERE NOT EXISTS (SELECT FROM pg_temp.ledger l
                              WHERE l.command_id = s.command_id AND l.org_id = s.org_id)",
    },
    Law {
        check: "the answer kept for each command names its event",
        counted: "SELECT count(*) FROM append_dedup",
        holds: None,
        broken: "
            SELECT format('command %s of organisation %s: shard %s, position %s',
                          coalesce(d.command_id, e.command_id), coalesce(d.org_id, e.org_id),
                          coalesce(d.shard, e.shard), coalesce(d.last_position, e.position)) AS what
            FROM append_dedup d FULL JOIN events e ON e.shard = d.shard AND e.position = d.last_position
            WHERE (d.command_id, d.org_id, d.aggregate_type, d.aggregate_id, d.first_version + d.event_count - 1)
                  IS DISTINCT FROM (e.command_id, e.org_id, e.aggregate_type, e.aggregate_id, e.version)",
    },
    Law {
        check: "versions of each account follow its snapshot without a gap",
        counted: "SELECT count(DISTINCT (org_id, aggregate_type, aggregate_id)) FROM events",
        holds: None,
        broken: "
            SELECT format('account %s of organisation %s: %s events with versions %s to %s, baseline at %s, snapshot at %s',
                          aggregate_id, org_id, n, low, high, coalesce(s.baseline_version, s.version, 0), coalesce(s.version, 0)) AS what
            FROM (SELECT org_id, aggregate_type, aggregate_id, count(*) AS n, min(version) AS low, max(version) AS high
                  FROM events GROUP BY org_id, aggregate_type, aggregate_id) a
            LEFT JOIN snapshots s USING (org_id, aggregate_type, aggregate_id)
            WHERE n <> high - low + 1 OR low <> coalesce(s.baseline_version, s.version, 0) + 1 OR high < s.version",
    },
    Law {
        check: "each snapshot that was taken is a replay up to its version",
        counted: "SELECT count(*) FROM snapshots WHERE baseline_version IS NOT NULL",
        holds: None,
        broken: "
            SELECT format('account %s of organisation %s at version %s: %s, and its events come to %s revenue, %s expense, %s entries',
                          aggregate_id, org_id, version, state, revenue, expense, entries) AS what
            FROM (SELECT s.org_id, s.aggregate_id, s.version, s.state,
                         coalesce((s.baseline_state->>'revenue_cents')::bigint, 0)
                             + coalesce(sum((e.data->>'amount_cents')::bigint) FILTER (WHERE e.event_type = 1), 0) AS revenue,
                         coalesce((s.baseline_state->>'expense_cents')::bigint, 0)
                             + coalesce(sum((e.data->>'amount_cents')::bigint) FILTER (WHERE e.event_type = 2), 0) AS expense,
                         coalesce((s.baseline_state->>'entries')::bigint, 0) + count(e.version) AS entries
                  FROM snapshots s
                  LEFT JOIN events e ON (e.org_id, e.aggregate_type, e.aggregate_id) = (s.org_id, s.aggregate_type, s.aggregate_id)
                                    AND e.version > s.baseline_version AND e.version <= s.version
                  WHERE s.baseline_version IS NOT NULL
                  GROUP BY s.org_id, s.aggregate_type, s.aggregate_id) r
            WHERE (revenue, expense, entries) IS DISTINCT FROM
                  ((state->>'revenue_cents')::bigint, (state->>'expense_cents')::bigint, (state->>'entries')::bigint)",
    },
    Law {
        check: "positions of each shard are 1, 2, 3 … without a gap",
        counted: "SELECT count(*) FROM events",
        holds: None,
        broken: "
            SELECT format('shard %s: %s events at positions %s to %s', shard, n, low, high) AS what
            FROM (SELECT shard, count(*) AS n, min(position) AS low, max(position) AS high
                  FROM events GROUP BY shard) s
            WHERE low <> 1 OR n <> high",
    },
];

/// Every event of the store.
pub(super) const EVENTS: &str = "
    SELECT command_id, org_id, aggregate_id, event_type, (data->>'amount_cents')::bigint,
           (data->>'date')::date, data->>'category'
    FROM events";

/// Every account as its baseline and the events after it say: a snapshot that was taken on the way is no source, as it is
/// itself to be proven. One category more than a summary lists shows that it must say that there are more.
pub(super) const REPLAYED: &str = "
    SELECT org_id, aggregate_id,
           coalesce((s.state->>'revenue_cents')::bigint, 0) + coalesce(e.revenue_cents, 0),
           coalesce((s.state->>'expense_cents')::bigint, 0) + coalesce(e.expense_cents, 0),
           coalesce((s.state->>'entries')::bigint, 0) + coalesce(e.entries, 0),
           coalesce(e.version, s.version), e.last_date, e.revenue_categories, e.expense_categories
    FROM (SELECT org_id, aggregate_type, aggregate_id, coalesce(baseline_version, version) AS version,
                 coalesce(baseline_state, state) AS state FROM snapshots) s
    FULL JOIN (
        SELECT e.org_id, e.aggregate_type, e.aggregate_id,
               (sum((data->>'amount_cents')::bigint) FILTER (WHERE event_type = 1))::bigint AS revenue_cents,
               (sum((data->>'amount_cents')::bigint) FILTER (WHERE event_type = 2))::bigint AS expense_cents,
               count(*) AS entries, max(e.version) AS version, max((data->>'date')::date) AS last_date,
               (array_agg(DISTINCT (data->>'category') COLLATE \"C\" ORDER BY (data->>'category') COLLATE \"C\")
                   FILTER (WHERE event_type = 1))[1:201] AS revenue_categories,
               (array_agg(DISTINCT (data->>'category') COLLATE \"C\" ORDER BY (data->>'category') COLLATE \"C\")
                   FILTER (WHERE event_type = 2))[1:201] AS expense_categories
        FROM events e LEFT JOIN snapshots b USING (org_id, aggregate_type, aggregate_id)
        WHERE e.version > coalesce(b.baseline_version, b.version, 0)
        GROUP BY e.org_id, e.aggregate_type, e.aggregate_id
    ) e USING (org_id, aggregate_type, aggregate_id)
    WHERE aggregate_type = 1";

/// Takes what [`REPLAYED`] yields.
pub(super) const REPLAYED_TABLE: &str = "
    CREATE TEMP TABLE replayed (org_id bigint, property_id uuid, revenue_cents bigint, expense_cents bigint,
        entries bigint, version integer, last_date date, revenue_categories text[], expense_categories text[])";

/// Connects and brings the ledger.
pub(super) async fn prepare(
    primary: &PostgresEndpoint,
    entries: &LedgerEntries,
) -> Result<PgConnection, AuditError> {
    let mut connection = connect(primary, EVENT_STORE).await?;
    ledger::load(&mut connection, entries).await?;
    execute(&mut connection, "count the commands in the store", STORED).await?;
    Ok(connection)
}
