//! The regular exchange: pushes and pulls for every connection of every organisation.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use sqlx::FromRow;
use uuid::Uuid;

use super::channel_manager::{CallError, ChannelManager};
use super::exchange::{ExchangeError, Kind, Outcome, Wanted, exchange};
use crate::config;
use crate::db::{Database, Databases, Freshness};
use crate::domain::OrgId;

/// Connections looked up at once.
const PAGE: i64 = 500;

/// How the exchanges of a run ended.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
    /// Not even tried.
    shed: AtomicUsize,
}

/// Pushes and pulls for every enabled connection, then ends what is kept too long; what it did. Ends early when the channel
/// manager is not to be called: the next run goes on where the hotels' lists of bookings were left.
///
/// # Errors
/// When an exchange failed, or none could be made.
pub async fn sync_all(
    databases: &Databases,
    manager: Option<&ChannelManager>,
    settings: &config::Ota,
) -> Result<String, String> {
    let Some(manager) = manager else {
        return Ok("no channel manager is configured".to_owned());
    };
    let tally = Tally::default();
    let mut after = (0_i64, Uuid::nil());
    while tally.shed.load(Ordering::Relaxed) == 0 {
        let page = connections(databases, after).await.map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { break };
        after = (last.org_id, last.property_id);
        stream::iter(page)
            .for_each_concurrent(settings.sync_at_once, |each| {
                sync(databases, manager, &tally, each)
            })
            .await;
    }
    let ended = forget_old(databases, settings.exchanges_kept_days).await;
    let ended = ended.map_err(|error| error.to_string())?;
    tally.summary(ended)
}

#[derive(Debug, FromRow)]
struct Place {
    org_id: i64,
    property_id: Uuid,
}

/// Of all organisations: this is the program's own round, not a tenant's request.
const CONNECTIONS: &str = "\
    SELECT org_id, property_id FROM ota_connections WHERE enabled AND (org_id, property_id) > ($1, $2) \
    ORDER BY org_id, property_id LIMIT $3";

async fn connections(databases: &Databases, after: (i64, Uuid)) -> sqlx::Result<Vec<Place>> {
    let mut reader = databases.read(Database::Hospitality, Freshness::Any);
    let query = || sqlx::query_as(CONNECTIONS).bind(after.0).bind(after.1).bind(PAGE);
    reader.fetch_all(query).await
}

async fn sync(databases: &Databases, manager: &ChannelManager, tally: &Tally, place: Place) {
    let Ok(org) = OrgId::new(place.org_id) else { return };
    for kind in [Kind::Push, Kind::Pull] {
        if tally.shed.load(Ordering::Relaxed) > 0 {
            return;
        }
        let wanted = Wanted { org, id: Uuid::now_v7(), property: place.property_id, kind };
        let counter = match exchange(databases, manager, wanted).await {
            Ok((exchange, _)) if exchange.outcome == Outcome::Done => &tally.done,
            Ok(_) => &tally.refused,
            Err(ExchangeError::Call(CallError::Open { .. })) => &tally.shed,
            Err(error) => {
                tracing::warn!(%error, org = org.get(), property = %place.property_id, "exchange failed");
                &tally.failed
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

const FORGET: &str = "DELETE FROM ota_exchanges WHERE began_at < now() - make_interval(days => $1)";

async fn forget_old(databases: &Databases, days: u32) -> sqlx::Result<u64> {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    let forget = sqlx::query(FORGET).bind(days).execute(databases.write(Database::Hospitality));
    Ok(forget.await?.rows_affected())
}

impl Tally {
    fn summary(&self, forgotten: u64) -> Result<String, String> {
        let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (failed, shed) = (of(&self.failed), of(&self.shed));
        let mut text = format!(
            "{} exchanges done, {} refused, {failed} failed; {forgotten} old ones forgotten",
            of(&self.done),
            of(&self.refused)
        );
        if shed > 0 {
            text += "; ended early, because the channel manager fails too often";
        }
        if failed + shed == 0 { Ok(text) } else { Err(text) }
    }
}
