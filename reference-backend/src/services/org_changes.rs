//! Learns which organisations another process has changed, so that the cache does not show the old record for longer than the
//! other namespaces may: one look each `following.interval_ms`.
//!
//! A look asks for what was written in transactions that had not ended at the look before. Transactions end in another order than
//! they begin, so neither a time nor a number would do: what commits late would be passed over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::db::Database;
use crate::domain::{OrgId, Version};
use crate::gateway::App;

/// Every transaction before it had ended when the look was taken.
type Horizon = i64;

/// At the first look nothing is new: there is no such transaction.
const NOTHING: Horizon = i64::MAX;

const LOOK: &str = "\
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, c.org_id, c.version \
    FROM (SELECT 1) AS always LEFT JOIN organisation_changes AS c ON c.changed_in >= $1::text::xid8";

/// Follows the changes until it is dropped.
pub(crate) async fn follow_org_changes(app: Arc<App>, pause: Duration) {
    let mut tick = interval(pause);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    let mut failing = false;
    loop {
        tick.tick().await;
        match look(&app, seen).await {
            Ok(horizon) => (seen, failing) = (Some(horizon), false),
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "changes of organisations could not be followed");
                }
                failing = true;
            }
        }
    }
}

/// Tells the cache what is new. What was loaded before the first look, or from a server that was set back since, may be anything.
async fn look(app: &App, seen: Option<Horizon>) -> sqlx::Result<Horizon> {
    let query = sqlx::query_as(LOOK).bind(seen.unwrap_or(NOTHING).to_string());
    let found: Vec<(Horizon, Option<i64>, Option<i32>)> =
        query.fetch_all(app.databases.write(Database::Shared)).await?;
    let horizon = found.first().ok_or(sqlx::Error::RowNotFound)?.0;
    if seen.is_none_or(|seen| horizon < seen) {
        app.caches.orgs.forget_all();
    }
    for (_, org, version) in found {
        if let (Some(Ok(org)), Some(version)) = (org.map(OrgId::new), version) {
            app.caches.orgs.updated(org, Version::new(version)).await;
        }
    }
    Ok(horizon)
}
