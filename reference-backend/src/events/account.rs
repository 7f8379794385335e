//! A cash account put together from its snapshot and the events after it.

use sqlx::types::Json;

use super::ReadError;
use super::read::read_events;
use crate::db::Reader;
use crate::domain::{CashAccount, OrgId, PropertyId, RecordedEvent, Version};

/// Events read at a time, so that a long way from a snapshot to a version needs little memory.
const PAGE: i64 = 1_000;

/// A cash account with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Number of the last event in it.
    pub version: Version,
    /// Its state.
    pub account: CashAccount,
}

impl Loaded {
    /// Takes in the account's next event; an error if it is another one than the next.
    pub(super) fn take(&mut self, event: &RecordedEvent) -> Result<(), ReadError> {
        let next = self.version.next();
        if event.version != next {
            let RecordedEvent { org, property, .. } = *event;
            return Err(ReadError::Hole { org, property, version: next });
        }
        self.account.apply(&event.event);
        self.version = next;
        Ok(())
    }
}

/// What is kept of an account besides its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The account when the snapshot was taken.
    pub latest: Loaded,
    /// The account before the store's first event of it. History up to there is not kept as events.
    pub baseline: Loaded,
}

type SnapshotRow = (i32, Json<CashAccount>, i32, Json<CashAccount>);

const SNAPSHOT: &str = "\
    SELECT version, state, coalesce(baseline_version, version), coalesce(baseline_state, state) \
    FROM snapshots WHERE org_id = $1 AND aggregate_type = 1 AND aggregate_id = $2";

/// The snapshot of an account: of an empty one at version 0 where none is kept.
pub async fn read_snapshot(
    reader: &mut Reader,
    org: OrgId,
    property: PropertyId,
) -> Result<Snapshot, ReadError> {
    let query = || sqlx::query_as(SNAPSHOT).bind(org.get()).bind(property.uuid());
    let row: Option<SnapshotRow> = reader.fetch_optional(query).await?;
    let loaded = |version, Json(account)| Loaded { version: Version::new(version), account };
    Ok(row.map_or_else(Snapshot::default, |(version, state, first_version, first_state)| {
        Snapshot { latest: loaded(version, state), baseline: loaded(first_version, first_state) }
    }))
}

/// A cash account as its snapshot and the events after it say.
pub async fn load_account(
    reader: &mut Reader,
    org: OrgId,
    property: PropertyId,
) -> Result<Loaded, ReadError> {
    let snapshot = read_snapshot(reader, org, property).await?;
    replay(reader, (org, property), snapshot.latest, Version::new(i32::MAX)).await
}

/// A cash account as it was at a version, from the nearest state before it that is kept. An earlier one than asked for when
/// the account has not got there yet; none when the version lies before its baseline.
pub async fn load_account_at(
    reader: &mut Reader,
    org: OrgId,
    property: PropertyId,
    version: Version,
) -> Result<Option<Loaded>, ReadError> {
    let Snapshot { latest, baseline } = read_snapshot(reader, org, property).await?;
    let kept = [latest, baseline].into_iter().find(|kept| kept.version <= version);
    let Some(start) = kept else { return Ok(None) };
    replay(reader, (org, property), start, version).await.map(Some)
}

/// Takes in events up to a version.
async fn replay(
    reader: &mut Reader,
    (org, property): (OrgId, PropertyId),
    mut loaded: Loaded,
    upto: Version,
) -> Result<Loaded, ReadError> {
    loop {
        let limit = PAGE.min(i64::from(upto.get()) - i64::from(loaded.version.get()));
        if limit <= 0 {
            return Ok(loaded);
        }
        let events = read_events(reader, org, property, loaded.version, limit).await?;
        for event in &events {
            loaded.take(event)?;
        }
        if (events.len() as i64) < limit {
            return Ok(loaded);
        }
    }
}
