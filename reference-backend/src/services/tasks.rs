//! `tasks`: what is to be done in a property, by whom, until when. An open task is done or cancelled once, and then stays.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::table::{self, After, Limit, Thing, Written};
use crate::db::Database;
use crate::domain::{PropertyId, Version};
use crate::gateway::{
    App, Body, Fresh, Id, IdPath, IdempotencyKey, KeyHeader, OrgPath, Params, Problem, Refusals,
    Reply, Tenant, TokenHeader, WriteRefusals,
};

const TITLE_CHARS_MAX: usize = 200;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(due))
        .routes(routes!(show, change))
        .merge(super::task_images::routes())
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
enum TaskStatus {
    Open,
    Done,
    Cancelled,
}

/// Something to be done.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct Task {
    id: Uuid,
    property_id: Uuid,
    title: String,
    status: TaskStatus,
    assignee_id: Option<Uuid>,
    due_at: Option<DateTime<Utc>>,
    /// When somebody was reminded of the present `due_at`.
    reminded_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "i32")]
    version: Version,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

macro_rules! columns {
    () => {
        "id, property_id, title, status, assignee_id, due_at, reminded_at, version, created_at, updated_at"
    };
}

impl Thing for Task {
    const DATABASE: Database = Database::Hospitality;
    const NOUN: &'static str = "task";
    const ONE: &'static str =
        concat!("SELECT ", columns!(), " FROM tasks WHERE org_id = $1 AND id = $2");

    fn version(&self) -> Version {
        self.version
    }

    fn state(&self) -> &'static str {
        match self.status {
            TaskStatus::Open => "is open",
            TaskStatus::Done => "is done",
            TaskStatus::Cancelled => "was cancelled",
        }
    }

    fn broken(constraint: &str) -> Option<Problem> {
        match constraint {
            "tasks_property" => Some(table::no_property()),
            "tasks_assignee" => Some(Problem::not_found("the organisation has no such employee")),
            _ => None,
        }
    }
}

impl table::Created for Task {
    const CREATION: &'static str = "SELECT creation FROM tasks WHERE org_id = $1 AND id = $2";

    fn id(&self) -> Uuid {
        self.id
    }
}

/// A task to be made; it is open.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTask {
    property: PropertyId,
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// One of the staff.
    assignee: Option<Uuid>,
    /// Between 1900 and 2199.
    due_at: Option<DateTime<Utc>>,
}

const INSERT: &str = "\
    INSERT INTO tasks (org_id, id, property_id, title, assignee_id, due_at, created_at, updated_at, creation) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8) ON CONFLICT (org_id, id) DO NOTHING";

/// Makes a task.
#[utoipa::path(post, path = "/v1/orgs/{org}/tasks", tag = "tasks", params(OrgPath, KeyHeader), request_body = NewTask,
    responses((status = 201, body = Task, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn create(
    Tenant(org): Tenant,
    IdempotencyKey(key): IdempotencyKey,
    State(app): State<Arc<App>>,
    Body(new): Body<NewTask>,
) -> Result<Written<Value>, Problem> {
    check(Some(&new.title), new.due_at)?;
    let now = table::now();
    let task = Task {
        id: key.uuid(),
        property_id: new.property.uuid(),
        title: new.title.clone(),
        status: TaskStatus::Open,
        assignee_id: new.assignee,
        due_at: new.due_at.map(|due| due.trunc_subsecs(6)),
        reminded_at: None,
        version: Version::FIRST,
        created_at: now,
        updated_at: now,
    };
    let insert = sqlx::query(INSERT)
        .bind(org.get())
        .bind(task.id)
        .bind(task.property_id)
        .bind(&task.title)
        .bind(task.assignee_id)
        .bind(task.due_at)
        .bind(now);
    table::create(&app, org, &new, &task, insert).await
}

fn check(title: Option<&str>, due_at: Option<DateTime<Utc>>) -> Result<(), Problem> {
    title.map_or(Ok(()), |title| table::text("title", title, TITLE_CHARS_MAX))?;
    due_at.map_or(Ok(()), |due_at| table::time("due_at", due_at))
}

/// What is to change of an open task; what is left out stays. Another time is reminded of again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "left out, null and a value are three different wishes")]
struct TaskChange {
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    /// Done or cancelled is for good.
    status: Option<TaskStatus>,
    /// One of the staff; null for nobody.
    #[serde(default, deserialize_with = "table::nullable")]
    #[schema(value_type = Option<Uuid>)]
    assignee: Option<Option<Uuid>>,
    /// Between 1900 and 2199; null for any time.
    #[serde(default, deserialize_with = "table::nullable")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    due_at: Option<Option<DateTime<Utc>>>,
    /// Refused with 409 if the task has another version by now.
    expected_version: Option<Version>,
}

const UPDATE: &str = concat!(
    "UPDATE tasks SET title = coalesce($4, title), status = coalesce($5, status), \
     assignee_id = CASE WHEN $6 THEN $7 ELSE assignee_id END, \
     due_at = CASE WHEN $8 THEN $9 ELSE due_at END, \
     reminded_at = CASE WHEN $8 AND due_at IS DISTINCT FROM $9 THEN NULL ELSE reminded_at END, \
     version = version + 1, updated_at = now() \
     WHERE org_id = $1 AND id = $2 AND version = coalesce($3, version) AND status = 'open' RETURNING ",
    columns!()
);

/// Assigns, moves, completes or cancels an open task.
#[utoipa::path(patch, path = "/v1/orgs/{org}/tasks/{id}", tag = "tasks", params(OrgPath, IdPath), request_body = TaskChange,
    responses((status = 200, body = Task, headers(("X-Consistency-Token" = String))), WriteRefusals))]
async fn change(
    Tenant(org): Tenant,
    Id(id): Id,
    State(app): State<Arc<App>>,
    Body(change): Body<TaskChange>,
) -> Result<Written<Task>, Problem> {
    let due_at = change.due_at.map(|due| due.map(|due| due.trunc_subsecs(6)));
    check(change.title.as_deref(), due_at.flatten())?;
    let update = sqlx::query_as(UPDATE)
        .bind(org.get())
        .bind(id)
        .bind(change.expected_version.map(Version::get))
        .bind(change.title)
        .bind(change.status)
        .bind(change.assignee.is_some())
        .bind(change.assignee.flatten())
        .bind(due_at.is_some())
        .bind(due_at.flatten());
    table::change(&app, org, id, change.expected_version, update).await
}

/// A task.
#[utoipa::path(get, path = "/v1/orgs/{org}/tasks/{id}", tag = "tasks", params(OrgPath, IdPath, TokenHeader),
    responses((status = 200, body = Task), Refusals))]
async fn show(
    Tenant(org): Tenant,
    Id(id): Id,
    Fresh(freshness): Fresh,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    table::one::<Task>(&app, org, id, freshness).await
}

/// Which tasks to list: all, unless said otherwise.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listing {
    property: Option<Uuid>,
    assignee: Option<Uuid>,
    #[param(inline)]
    status: Option<TaskStatus>,
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<After>,
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
struct Tasks {
    tasks: Vec<Task>,
    #[schema(value_type = Option<String>)]
    next: Option<After>,
}

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM tasks WHERE org_id = $1 AND ($2 IS NULL OR property_id = $2) \
     AND ($3 IS NULL OR assignee_id = $3) AND ($4 IS NULL OR status = $4) \
     AND ($5 IS NULL OR id > $5) ORDER BY id LIMIT $6"
);

/// Tasks, in the order of their ids.
#[utoipa::path(get, path = "/v1/orgs/{org}/tasks", tag = "tasks", params(OrgPath, TokenHeader, Listing),
    responses((status = 200, body = Tasks), Refusals))]
async fn list(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(listing): Params<Listing>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        sqlx::query_as(LIST)
            .bind(org.get())
            .bind(listing.property)
            .bind(listing.assignee)
            .bind(listing.status)
            .bind(listing.after.map(|after| after.id))
            .bind(listing.limit.rows())
    };
    let (tasks, server) = table::list(&app, Task::DATABASE, freshness, query).await?;
    let (tasks, next) = listing.limit.page(tasks, |task: &Task| After::id(task.id));
    Ok(Reply::json(&Tasks { tasks, next }, server))
}

/// A place in the tasks by the time they are due.
type AfterDue = After<DateTime<Utc>>;

/// Which part of the tasks that are due to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Due {
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<AfterDue>,
}

/// A page of tasks by the time they are due.
#[derive(Debug, Serialize, ToSchema)]
struct DueTasks {
    tasks: Vec<Task>,
    #[schema(value_type = Option<String>)]
    next: Option<AfterDue>,
}

const DUE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM tasks WHERE org_id = $1 AND status = 'open' AND due_at IS NOT NULL \
     AND ($2 IS NULL OR (due_at, id) > ($2, $3)) ORDER BY due_at, id LIMIT $4"
);

/// Open tasks with a time, the most urgent first.
#[utoipa::path(get, path = "/v1/orgs/{org}/tasks/due", tag = "tasks", params(OrgPath, TokenHeader, Due),
    responses((status = 200, body = DueTasks), Refusals))]
async fn due(
    Tenant(org): Tenant,
    Fresh(freshness): Fresh,
    Params(due): Params<Due>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let query = || {
        sqlx::query_as(DUE)
            .bind(org.get())
            .bind(due.after.map(|after| after.key))
            .bind(due.after.map(|after| after.id))
            .bind(due.limit.rows())
    };
    let (tasks, server): (Vec<Task>, _) =
        table::list(&app, Task::DATABASE, freshness, query).await?;
    let place = |task: &Task| After { key: task.due_at.unwrap_or_default(), id: task.id };
    let (tasks, next) = due.limit.page(tasks, place);
    Ok(Reply::json(&DueTasks { tasks, next }, server))
}
