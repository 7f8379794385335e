//! Removes what no row names: objects of uploads that were cut off before their row was written, objects whose removal
//! failed after their row was, and halves of files that a killed process left. Never touches what is young enough to belong
//! to an upload in progress, nor what is not called as we call objects.

use std::future::ready;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use metrics::counter;
use object_store::ObjectMeta;
use uuid::Uuid;

use super::store::failed;
use super::{Bucket, Key, Objects, ObjectsError};
use crate::config::ObjectStoreKind;
use crate::db::{Database, Databases};
use crate::domain::OrgId;

/// Objects looked up by one statement.
const BATCH: usize = 1_000;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Whole objects that no row names.
    pub objects: u64,
    /// Files of uploads that never came to their end.
    pub halves: u64,
}

/// Why a sweep ended early. What it had removed by then stays removed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store failed.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// The rows could not be read.
    #[error("look up the rows of {bucket}: {source}")]
    Rows {
        /// The bucket.
        bucket: &'static str,
        /// What PostgreSQL said.
        #[source]
        source: sqlx::Error,
    },
    /// The directory could not be read.
    #[error("look for halves of files: {0}")]
    Files(#[from] std::io::Error),
}

/// Which of the objects ($1 and $2 in step) are named by no row. Served by the unique index on both.
macro_rules! unnamed {
    ($table:literal, $column:literal) => {
        concat!(
            "SELECT o.org_id, o.object FROM unnest($1::bigint[], $2::uuid[]) AS o (org_id, object) \
             WHERE NOT EXISTS (SELECT FROM ",
            $table,
            " AS t WHERE t.org_id = o.org_id AND t.",
            $column,
            " = o.object)"
        )
    };
}

const fn rows_of(bucket: Bucket) -> (Database, &'static str) {
    match bucket {
        Bucket::Receipts => (Database::Finance, unnamed!("receipts", "object")),
        Bucket::GuestDocuments => (Database::GuestCheckin, unnamed!("guest_documents", "object")),
        Bucket::TaskImages => (Database::Hospitality, unnamed!("task_images", "object")),
        Bucket::Logos => (Database::Shared, unnamed!("branding", "logo_object")),
    }
}

/// Sweeps at once, and then again and again; run it as a task for the life of the process. Several processes may do so at a
/// time: who comes second finds less.
pub async fn sweeping(objects: &Objects, databases: &Databases) {
    let mut turn = tokio::time::interval(objects.settings().sweep_interval_ms.duration());
    loop {
        turn.tick().await;
        match sweep(objects, databases, Utc::now()).await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(Swept { objects, halves }) => {
                tracing::info!(objects, halves, "leftovers of uploads were removed");
            }
            Err(error) => tracing::warn!(%error, "the leftovers of uploads could not be removed"),
        }
    }
}

/// Removes what was left over longer than `objects.leftovers_after_ms` before `now`.
pub async fn sweep(
    objects: &Objects,
    databases: &Databases,
    now: DateTime<Utc>,
) -> Result<Swept, SweepError> {
    let mut swept = Swept::default();
    let patience = objects.settings().leftovers_after_ms.duration();
    let before = now - TimeDelta::from_std(patience).unwrap_or(TimeDelta::MAX / 2);
    for bucket in Bucket::ALL.into_iter().filter(|bucket| objects.is_begun(*bucket)) {
        let listed = objects.list(bucket)?;
        let old = listed.try_filter_map(|meta| ready(Ok(old_key(bucket, &meta, before))));
        let mut batches = std::pin::pin!(old.try_chunks(BATCH));
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|chunk| failed("list", bucket, "")(chunk.1))?;
            for key in unnamed(databases, bucket, &batch).await? {
                objects.delete(bucket, key).await?;
                counter!("backend_objects_swept_total", "bucket" => bucket.name()).increment(1);
                swept.objects += 1;
            }
        }
        swept.halves += halves(objects, bucket, before.into()).await?;
    }
    Ok(swept)
}

/// The object's key, if it is old and ours.
fn old_key(bucket: Bucket, meta: &ObjectMeta, before: DateTime<Utc>) -> Option<Key> {
    if meta.last_modified >= before {
        return None;
    }
    let key = meta.location.as_ref().parse();
    if key.is_err() {
        tracing::warn!(bucket = bucket.name(), object = %meta.location, "not an object of ours; left alone");
    }
    key.ok()
}

/// Asks the primary: on a replica, the row of an object may not have arrived.
async fn unnamed(
    databases: &Databases,
    bucket: Bucket,
    keys: &[Key],
) -> Result<Vec<Key>, SweepError> {
    let (database, statement) = rows_of(bucket);
    let orgs: Vec<i64> = keys.iter().map(|key| key.org.get()).collect();
    let objects: Vec<Uuid> = keys.iter().map(|key| key.object).collect();
    let found: Vec<(i64, Uuid)> = sqlx::query_as(statement)
        .bind(orgs)
        .bind(objects)
        .fetch_all(databases.write(database))
        .await
        .map_err(|source| SweepError::Rows { bucket: bucket.name(), source })?;
    let key = |(org, object)| Some(Key { org: OrgId::new(org).ok()?, object });
    Ok(found.into_iter().filter_map(key).collect())
}

/// Removes old halves of files. A store over the network shows none: its own lifecycle rule removes them.
async fn halves(
    objects: &Objects,
    bucket: Bucket,
    before: SystemTime,
) -> Result<u64, std::io::Error> {
    let settings = objects.settings();
    if settings.store != ObjectStoreKind::Directory {
        return Ok(0);
    }
    let directory = settings.directory.join(bucket.name());
    let removed = tokio::task::spawn_blocking(move || remove_halves(&directory, before));
    removed.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}

fn remove_halves(directory: &Path, before: SystemTime) -> Result<u64, std::io::Error> {
    let mut removed = 0;
    for org in directory.read_dir()? {
        let org = org?;
        if !org.file_type()?.is_dir() {
            continue;
        }
        for file in org.path().read_dir()? {
            let file = file?;
            if is_half(&file.file_name().to_string_lossy())
                // One that is gone meanwhile has come to its end.
                && file.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at < before)
                && std::fs::remove_file(file.path()).is_ok()
            {
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Whether a file's name is that of an object on its way in: `<object>#<number>`, as the library calls them.
fn is_half(name: &str) -> bool {
    name.split_once('#').is_some_and(|(object, number)| {
        Uuid::try_parse(object).is_ok()
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_librarys_own_names_are_halves() {
        let object = Uuid::from_u128(7);
        assert!(is_half(&format!("{object}#1")));
        assert!(is_half(&format!("{object}#12")));
        for whole in
            [object.to_string(), format!("{object}#"), format!("{object}#1x"), "a#1".into()]
        {
            assert!(!is_half(&whole), "{whole}");
        }
    }
}
