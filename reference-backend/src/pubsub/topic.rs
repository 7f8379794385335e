//! The topics, and how a message gets into one.

use sqlx::postgres::PgConnection;

use crate::domain::OrgId;

/// A stream of messages in an order that all its subscriptions share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What was booked. Its log is the event store itself: nobody publishes here but the appenders.
    FinanceEvents,
    /// What browsers should show at once, apart from entries.
    RealtimeUpdates,
    /// Balances and summaries that a check found wrong.
    BalanceCorrections,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::FinanceEvents, Self::RealtimeUpdates, Self::BalanceCorrections];

    /// Its name in tables, settings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FinanceEvents => "finance-events",
            Self::RealtimeUpdates => "realtime-updates",
            Self::BalanceCorrections => "balance-corrections",
        }
    }
}

const PUBLISH: &str = "\
    WITH head AS (UPDATE topics SET head = head + 1 WHERE topic = $1 RETURNING head) \
    INSERT INTO topic_messages (topic, position, org_id, data) SELECT $1, head, $2, $3 FROM head \
    RETURNING position";

/// Adds a message to a topic, in the caller's transaction on the event store: it is published if and when that commits. Returns
/// its position. Other publishers of the topic wait until then, so commit soon. An error for `finance-events`, whose only
/// messages are events.
pub async fn publish(
    connection: &mut PgConnection,
    topic: Topic,
    org: OrgId,
    data: &serde_json::Value,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(PUBLISH)
        .bind(topic.name())
        .bind(org.get())
        .bind(data)
        .fetch_one(connection)
        .await
}
