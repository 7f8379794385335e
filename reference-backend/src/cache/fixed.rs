//! Values that no event changes, such as the organisation itself. Kept as the bytes that clients get.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;

use super::live::LiveError;
use super::namespace::{Asker, Cached, Lookup, Namespace};
use super::together::Together;
use super::warming::{Warmable, Warming};
use crate::config::CacheNamespace;
use crate::db::Freshness;
use crate::domain::{OrgId, Version};

/// An organisation's own record.
#[derive(Debug, Clone)]
pub(crate) struct OrgRecord {
    pub(crate) version: Version,
    pub(crate) body: Bytes,
}

/// A value and the server that it was loaded from.
#[derive(Debug, Clone)]
pub(crate) struct Fixed<T> {
    /// None: there is no such organisation.
    pub(crate) value: Option<T>,
    pub(crate) from: &'static str,
}

impl Cached for Arc<Fixed<OrgRecord>> {
    fn is_negative(&self) -> bool {
        self.value.is_none()
    }
}

/// Far longer than any load: after it, nobody can bring an older version.
pub(super) const FLOOR_TTL: Duration = Duration::from_secs(60);
pub(super) const FLOORS_MAX: u64 = 100_000;

/// Organisations. An update says which version is the least that may be shown from now on, so that a load that began
/// before it, or was answered by a replica behind it, cannot bring the old record back.
#[derive(Debug)]
pub(crate) struct OrgCache {
    namespace: Namespace<Arc<Fixed<OrgRecord>>>,
    floors: Cache<OrgId, Version>,
    together: Together<Fixed<OrgRecord>>,
}

impl OrgCache {
    pub(crate) fn new(
        name: &'static str,
        settings: &CacheNamespace,
        warming: Arc<Warming>,
    ) -> Self {
        let floors = Cache::builder().max_capacity(FLOORS_MAX).time_to_live(FLOOR_TTL).build();
        let namespace = Namespace::new(name, settings, warming);
        Self { namespace, floors, together: Together::default() }
    }

    /// The record, loaded with `load` when it is not held: from any server first, and from the primary when what is held or
    /// came is older than the last update.
    pub(crate) async fn read<E, F>(
        &self,
        org: OrgId,
        asker: Asker,
        load: impl Fn(Freshness) -> F,
    ) -> Result<(Arc<Fixed<OrgRecord>>, Lookup), Arc<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Fixed<OrgRecord>, E>> + Send,
    {
        let load = |freshness| {
            let load = load(freshness);
            async { load.await.map(Arc::new) }
        };
        for freshness in [Freshness::Any, Freshness::Newest] {
            let (found, lookup) = self.namespace.get_or_load(org, asker, load(freshness)).await?;
            let version = found.value.as_ref().map_or(Version::ZERO, |record| record.version);
            if self.floors.get(&org).await.is_none_or(|floor| version >= floor) {
                return Ok((found, lookup));
            }
            self.namespace.outdated(org).await;
        }
        // Each time someone else's load of an older record was joined.
        Ok((load(Freshness::Newest).await?, Lookup::Miss))
    }

    /// After an update of which nobody knows whether it was committed.
    pub(crate) async fn forget(&self, org: OrgId) {
        self.namespace.forget(org).await;
    }

    /// Takes note of a committed update, of this process or another; the same one may be told of again.
    pub(crate) async fn updated(&self, org: OrgId, version: Version) {
        let raise = async |held: Option<moka::Entry<OrgId, Version>>| {
            held.map_or(version, |held| held.into_value().max(version))
        };
        self.floors.entry(org).and_upsert_with(raise).await;
        // What is put in after this look is held against the floor when it is read.
        let held = self.namespace.peek(org).await;
        let older = |record: &OrgRecord| record.version < version;
        if held.is_some_and(|held| held.value.as_ref().is_none_or(older)) {
            self.namespace.outdated(org).await;
        }
    }

    /// Forgets all records: it is not known which were changed.
    pub(crate) fn forget_all(&self) {
        self.namespace.forget_all();
    }

    pub(crate) fn retune(&self, settings: &CacheNamespace) {
        self.namespace.retune(settings);
    }

    pub(crate) async fn tend(&self) {
        self.namespace.tend().await;
    }
}

impl Warmable for OrgCache {
    type Value = Fixed<OrgRecord>;

    fn together(&self) -> &Together<Self::Value> {
        &self.together
    }

    async fn missing(&self, orgs: &[OrgId]) -> Vec<OrgId> {
        self.namespace.missing(orgs).await
    }

    async fn warm<E, F>(
        &self,
        org: OrgId,
        load: impl Fn(Freshness) -> F + Send + Sync,
    ) -> Result<(), LiveError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Self::Value, E>> + Send,
    {
        self.read(org, Asker::Warming, load).await.map(drop).map_err(LiveError::Load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    #[tokio::test]
    async fn a_late_load_cannot_undo_an_update() {
        let settings =
            CacheNamespace { entries: 10, ttl_ms: Millis(60_000), negative_ttl_ms: Millis(60_000) };
        let cache = OrgCache::new("test", &settings, Warming::off());
        let org = OrgId::new(7).unwrap();
        let record = |version| Fixed {
            value: Some(OrgRecord { version: Version::new(version), body: Bytes::new() }),
            from: "replica-1",
        };
        // A load that began before the update and ends after it.
        let late = cache.read(org, Asker::Request, |freshness| {
            let (cache, record) = (&cache, &record);
            async move {
                if freshness == Freshness::Newest {
                    return Ok(record(2));
                }
                cache.updated(org, Version::new(2)).await;
                Ok::<_, ()>(record(1))
            }
        });
        let shown = |found: &Fixed<OrgRecord>| found.value.as_ref().unwrap().version;
        assert_eq!(shown(&late.await.unwrap().0), Version::new(2));
        let (held, lookup) = cache.read(org, Asker::Request, |_| async { Err(()) }).await.unwrap();
        assert_eq!((shown(&held), lookup), (Version::new(2), Lookup::Hit));

        // Told once more of what is held, it stays; of a newer one, it goes.
        cache.updated(org, Version::new(2)).await;
        let again = cache.read(org, Asker::Request, |_| async { Err(()) }).await.unwrap();
        assert_eq!((shown(&again.0), again.1), (Version::new(2), Lookup::Hit));
        cache.updated(org, Version::new(3)).await;
        let newer = cache.read(org, Asker::Request, |_| async { Ok::<_, ()>(record(3)) });
        let newer = newer.await.unwrap();
        assert_eq!((shown(&newer.0), newer.1), (Version::new(3), Lookup::Miss));
    }
}
