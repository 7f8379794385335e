//! `events`: what happened to a property's cash account, in order. History before its snapshot is not kept as events.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts;
use crate::db::Database;
use crate::domain::{CommandId, Entry, PropertyId, RecordedEvent, Version};
use crate::events::{read_events, read_snapshot};
use crate::gateway::{
    App, Consistency, OrgPath, Params, Problem, Refusals, Reply, Tenant, TokenHeader,
};
use crate::projections::Projection;

const LIMIT: i64 = 100;
const LIMIT_MAX: i64 = 1_000;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).merge(accounts::routes())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Stream {
    property: PropertyId,
    /// Only events after this version.
    after_version: Option<Version>,
    /// Most events; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Events<'a> {
    property: PropertyId,
    snapshot_version: Version,
    events: Vec<EventAnswer<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct EventAnswer<'a> {
    version: Version,
    position: i64,
    command: CommandId,
    recorded_at: DateTime<Utc>,
    #[serde(rename = "type")]
    kind: &'static str,
    entry: &'a Entry,
}

impl<'a> From<&'a RecordedEvent> for EventAnswer<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self {
            version: event.version,
            position: event.position,
            command: event.command,
            recorded_at: event.recorded_at,
            kind: event.event.type_name(),
            entry: event.event.entry(),
        }
    }
}

/// What happened to a property's cash account, in order.
#[utoipa::path(get, path = "/v1/orgs/{org}/events", tag = "events", params(OrgPath, TokenHeader, Stream),
    responses((status = 200, body = Events), Refusals))]
async fn list(
    Tenant(org): Tenant,
    consistency: Consistency,
    Params(Stream { property, after_version, limit }): Params<Stream>,
    State(app): State<Arc<App>>,
) -> Result<Reply, Problem> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::malformed(format!(
            "limit {limit}: expected a number from 1 to {LIMIT_MAX}"
        )));
    }
    let freshness = app.as_of(org, Projection::Finance, consistency).await?;
    let mut reader = app.databases.read(Database::EventStore, freshness);
    let snapshot_version = read_snapshot(&mut reader, org, property).await?.latest.version;
    let after = after_version.unwrap_or(Version::ZERO);
    let events = read_events(&mut reader, org, property, after, limit).await?;
    let events = events.iter().map(EventAnswer::from).collect();
    Ok(Reply::json(&Events { property, snapshot_version, events }, reader.source().server()))
}
