//! Laws of the read models.

use sqlx::postgres::PgConnection;

use super::error::AuditError;
use super::law::Law;
use super::server::{bring, connect, execute};
use super::store::{REPLAYED, REPLAYED_TABLE};
use crate::postgres::database::{EVENT_STORE, READ_MODELS};
use crate::scenario::PostgresEndpoint;

/// Whether a side's list lacks a category of the events. It may lack those behind its last one, if it has 200 and says that
/// there are more.
macro_rules! lacks {
    ($side:literal) => {
        concat!(
            "EXISTS (SELECT FROM unnest(r.",
            $side,
            ") AS c
                     WHERE NOT coalesce(s.doc->'",
            $side,
            "' ? c, false)
                       AND NOT coalesce(s.doc->'more_",
            $side,
            "' = 'true' AND jsonb_array_length(s.doc->'",
            $side,
            "') = 200
                                        AND c COLLATE \"C\" > (s.doc->'",
            $side,
            "'->>-1), false))"
        )
    };
}

pub(super) const LAWS: &[Law] = &[
    Law {
        check: "each finance summary equals its snapshot and events",
        counted: "SELECT count(*) FROM finance_summaries",
        holds: None,
        broken: "
            SELECT format('account %s of organisation %s: version %s, %s entries of %s and %s cents; expected version %s, %s of %s and %s',
                          property_id, org_id, s.version, s.entry_count, s.revenue_cents, s.expense_cents,
                          r.version, r.entries, r.revenue_cents, r.expense_cents) AS what
            FROM finance_summaries s FULL JOIN pg_temp.replayed r USING (org_id, property_id)
            WHERE (s.revenue_cents, s.expense_cents, s.entry_count, s.version)
                  IS DISTINCT FROM (r.revenue_cents, r.expense_cents, r.entries, r.version)",
    },
    Law {
        check: "each finance summary shows the days and categories of its events",
        counted: "SELECT count(*) FROM pg_temp.replayed WHERE last_date IS NOT NULL",
        holds: None,
        broken: concat!(
            "
            SELECT format('account %s of organisation %s: last entry %s, %s; its events are up to %s, %s and %s',
                          property_id, org_id, s.last_entry_date, s.doc, r.last_date, r.revenue_categories,
                          r.expense_categories) AS what
            FROM finance_summaries s JOIN pg_temp.replayed r USING (org_id, property_id)
            WHERE r.last_date > coalesce(s.last_entry_date, '-infinity') OR ",
            lacks!("revenue_categories"),
            " OR ",
            lacks!("expense_categories")
        ),
    },
];

/// Connects and brings the replayed accounts.
pub(super) async fn prepare(primary: &PostgresEndpoint) -> Result<PgConnection, AuditError> {
    let mut store = connect(primary, EVENT_STORE).await?;
    let mut connection = connect(primary, READ_MODELS).await?;
    execute(&mut connection, "replay the accounts", REPLAYED_TABLE).await?;
    bring("replay the accounts", REPLAYED, &mut store, "pg_temp.replayed", &mut connection).await?;
    Ok(connection)
}
