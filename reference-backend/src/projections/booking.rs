//! Who books a category: the question of whoever wants to rename one, or to merge two. Over all organisations, so it is no
//! tenant's question and has no route.

use serde_json::json;
use sqlx::postgres::PgPool;
use uuid::Uuid;

/// A property that has booked a category, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Booking {
    /// Its organisation.
    pub org_id: i64,
    /// The property.
    pub property_id: Uuid,
    /// Whether revenues were booked under it.
    pub revenues: bool,
    /// Whether expenses were.
    pub expenses: bool,
    /// Whether a side has more categories than its summary lists, and the name is beyond the last of them: only its entries know.
    pub unlisted: bool,
}

/// Each side, and each kind of list that was cut, is one look into the GIN index on `doc`.
const BOOKING: &str = "\
    SELECT * FROM ( \
        SELECT org_id, property_id, doc @> $1 AS revenues, doc @> $2 AS expenses, \
            doc @> '{\"more_revenue_categories\": true}' AND $4 COLLATE \"C\" > doc -> 'revenue_categories' ->> -1 \
            OR doc @> '{\"more_expense_categories\": true}' AND $4 COLLATE \"C\" > doc -> 'expense_categories' ->> -1 AS unlisted \
        FROM finance_summaries WHERE doc @> $1 OR doc @> $2 \
            OR doc @> '{\"more_revenue_categories\": true}' OR doc @> '{\"more_expense_categories\": true}') AS found \
    WHERE revenues OR expenses OR unlisted ORDER BY org_id, property_id LIMIT $3";

/// The properties that have booked a category, or may have, in order, at most `limit`. `read_models` is a pool of that database.
pub async fn booking(
    read_models: &PgPool,
    category: &str,
    limit: u32,
) -> sqlx::Result<Vec<Booking>> {
    sqlx::query_as(BOOKING)
        .bind(json!({"revenue_categories": [category]}))
        .bind(json!({"expense_categories": [category]}))
        .bind(i64::from(limit))
        .bind(category)
        .fetch_all(read_models)
        .await
}
