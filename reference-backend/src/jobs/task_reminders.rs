//! `task-reminders`: notifies of tasks that are due, once each.
//!
//! Tasks and notifications are in different databases: the notification comes first, under an id that follows from its cause, so
//! that a reminder that is given again after a crash is the same one.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::runs::Outcome;
use crate::db::Database;
use crate::gateway::App;

/// Tasks reminded of by one statement.
const BATCH: usize = 500;

/// Names reminders among all ids made of names.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c1d_9b52_4a0e_5f6b_9a0d_6d1f_2f3c_7e41);

const DUE: &str = "\
    SELECT org_id, id, title, due_at FROM tasks \
    WHERE status = 'open' AND due_at <= now() AND reminded_at IS NULL ORDER BY due_at, org_id, id LIMIT $1";

const NOTIFY: &str = "\
    INSERT INTO notifications (org_id, id, kind, title, body, created_at) \
    SELECT org_id, id, 'task-due', title, body, now() \
    FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[]) AS n (org_id, id, title, body) \
    ON CONFLICT DO NOTHING";

/// Unless the task has been put off meanwhile.
const REMINDED: &str = "\
    UPDATE tasks t SET reminded_at = now() \
    FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[]) AS r (org_id, id, due_at) \
    WHERE t.org_id = r.org_id AND t.id = r.id AND t.due_at = r.due_at";

#[derive(Debug, FromRow)]
struct Due {
    org_id: i64,
    id: Uuid,
    title: String,
    due_at: DateTime<Utc>,
}

impl Due {
    /// Of this task at this time: one that is put off is reminded of again.
    fn notification(&self) -> Uuid {
        let Self { org_id, id, due_at, .. } = self;
        Uuid::new_v5(&NAMESPACE, format!("{org_id}/{id}/{}", due_at.timestamp_micros()).as_bytes())
    }
}

/// Reminds of all tasks that are due.
pub(super) async fn remind(app: &App) -> Outcome {
    let mut reminded = 0;
    loop {
        let batch = remind_batch(app).await;
        let batch = batch.map_err(|error| format!("remind of tasks: {error}"))?;
        reminded += batch;
        if batch < BATCH {
            return Ok(format!("{reminded} tasks"));
        }
    }
}

async fn remind_batch(app: &App) -> sqlx::Result<usize> {
    let hospitality = app.databases.write(Database::Hospitality);
    let due: Vec<Due> = sqlx::query_as(DUE).bind(BATCH as i64).fetch_all(hospitality).await?;
    let orgs: Vec<i64> = due.iter().map(|task| task.org_id).collect();
    let tasks: Vec<Uuid> = due.iter().map(|task| task.id).collect();
    let due_at: Vec<DateTime<Utc>> = due.iter().map(|task| task.due_at).collect();
    let ids: Vec<Uuid> = due.iter().map(Due::notification).collect();
    let titles: Vec<String> = due.iter().map(|task| format!("Due: {}", task.title)).collect();
    let bodies: Vec<String> =
        due.iter().map(|task| format!("It was due at {}.", task.due_at.to_rfc3339())).collect();
    let notify = sqlx::query(NOTIFY).bind(&orgs).bind(ids).bind(titles).bind(bodies);
    notify.execute(app.databases.write(Database::Shared)).await?;
    let reminded = sqlx::query(REMINDED).bind(orgs).bind(tasks).bind(due_at);
    reminded.execute(hospitality).await?;
    Ok(due.len())
}
