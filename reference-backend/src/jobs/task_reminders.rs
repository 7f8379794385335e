//! `task-reminders`: notifies of tasks that are due, once each, and tells the browsers that are open.
//!
//! Tasks and notifications are in different databases: the notification comes first, under an id that follows from its cause, so
//! that a reminder that is given again after a crash is the same one.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use super::runs::Outcome;
use crate::db::Database;
use crate::domain::OrgId;
use crate::gateway::App;
use crate::pubsub::{Notice, notify};

/// Tasks reminded of by one statement.
const BATCH: usize = 500;
/// Reminders published by one transaction: other publishers wait for it.
const PUBLISHED: usize = 50;

/// Names reminders among all ids made of names.
const NAMESPACE: Uuid = Uuid::from_u128(0x8c1d_9b52_4a0e_5f6b_9a0d_6d1f_2f3c_7e41);

const DUE: &str = "\
    SELECT org_id, id, title, due_at FROM tasks \
    WHERE status = 'open' AND due_at <= now() AND reminded_at IS NULL ORDER BY due_at, org_id, id LIMIT $1";

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
    fn notice(&self) -> Notice {
        let Self { org_id, id, title, due_at } = self;
        let cause = format!("{org_id}/{id}/{}", due_at.timestamp_micros());
        Notice {
            id: Uuid::new_v5(&NAMESPACE, cause.as_bytes()),
            kind: "task-due",
            title: format!("Due: {title}"),
            body: format!("It was due at {}.", due_at.to_rfc3339()),
        }
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

/// Keeps the notices, and publishes them to browsers: all of `some`, or none, which is then told again.
async fn tell(app: &App, some: &[Due]) -> sqlx::Result<()> {
    let mut event_store = app.databases.write(Database::EventStore).begin().await?;
    for task in some {
        let org = OrgId::new(task.org_id).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        notify(&app.databases, &mut event_store, org, &task.notice()).await?;
    }
    event_store.commit().await
}

async fn remind_batch(app: &App) -> sqlx::Result<usize> {
    let hospitality = app.databases.write(Database::Hospitality);
    let due: Vec<Due> = sqlx::query_as(DUE).bind(BATCH as i64).fetch_all(hospitality).await?;
    let orgs: Vec<i64> = due.iter().map(|task| task.org_id).collect();
    let tasks: Vec<Uuid> = due.iter().map(|task| task.id).collect();
    let due_at: Vec<DateTime<Utc>> = due.iter().map(|task| task.due_at).collect();
    for some in due.chunks(PUBLISHED) {
        tell(app, some).await?;
    }
    let reminded = sqlx::query(REMINDED).bind(orgs).bind(tasks).bind(due_at);
    reminded.execute(hospitality).await?;
    Ok(due.len())
}
