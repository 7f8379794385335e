//! The properties of organisations. They change seldom and by any process, so each list says which place in the primary's log
//! it is sure to show, and a reader says which place it needs: that of the write whose token it holds, and at least that of the
//! last write of this process. A list that is older is loaded again.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use moka::future::Cache;

use super::fixed::{FLOOR_TTL, FLOORS_MAX, Fixed};
use super::live::LiveError;
use super::namespace::{Asker, Cached, Lookup, Namespace};
use super::together::Together;
use super::warming::{Warmable, Warming};
use crate::config::CacheNamespace;
use crate::db::{Freshness, Lsn};
use crate::domain::{OrgId, PropertyId};

/// The properties of an organisation, as the bytes that clients get.
#[derive(Debug, Clone)]
pub(crate) struct PropertyList {
    /// Sorted.
    pub(crate) ids: Vec<PropertyId>,
    pub(crate) body: Bytes,
    /// Every commit before this place is in it.
    pub(crate) as_of: Lsn,
    /// When its server was asked for it.
    pub(crate) asked_at: Instant,
}

impl Cached for Arc<Fixed<PropertyList>> {
    /// One entry says "no such property" for any number of wrong ids.
    fn is_negative(&self) -> bool {
        self.value.as_ref().is_none_or(|list| list.ids.is_empty())
    }
}

/// Floor of an organisation of which nobody knows how far its last write came.
const UNKNOWN: Lsn = Lsn::MAX;

/// A list, and how it was come by.
type Found<E> = Result<(Arc<Fixed<PropertyList>>, Lookup), Arc<E>>;

/// Lists of properties.
#[derive(Debug)]
pub(crate) struct PropertyCache {
    namespace: Namespace<Arc<Fixed<PropertyList>>>,
    /// The last write of this process, by organisation, for longer than any load takes.
    floors: Cache<OrgId, Lsn>,
    together: Together<Fixed<PropertyList>>,
}

impl PropertyCache {
    pub(crate) fn new(
        name: &'static str,
        settings: &CacheNamespace,
        warming: Arc<Warming>,
    ) -> Self {
        Self {
            namespace: Namespace::new(name, settings, warming),
            together: Together::default(),
            floors: Cache::builder().max_capacity(FLOORS_MAX).time_to_live(FLOOR_TTL).build(),
        }
    }

    /// The list, loaded with `load` when none is held that is as fresh as asked.
    pub(crate) async fn read<E, F>(
        &self,
        org: OrgId,
        asker: Asker,
        freshness: Freshness,
        load: impl Fn(Freshness) -> F,
    ) -> Found<E>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Fixed<PropertyList>, E>> + Send,
    {
        let asked = match freshness {
            Freshness::AtLeast(lsn) => lsn,
            Freshness::Any | Freshness::Newest => Lsn::default(),
        };
        let floor = self.floors.get(&org).await.unwrap_or_default().max(asked);
        if floor == UNKNOWN {
            return self.as_of_now(org, asker, load).await;
        }
        let needed =
            if floor == Lsn::default() { Freshness::Any } else { Freshness::AtLeast(floor) };
        // Twice, because the first load may be somebody else's, begun before the write.
        for _ in 0..2 {
            let (found, lookup) = self.get_or_load(org, asker, load(needed)).await?;
            if found.value.as_ref().is_none_or(|list| list.as_of >= floor) {
                return Ok((found, lookup));
            }
            self.namespace.outdated(org).await;
        }
        Ok((Arc::new(load(needed).await?), Lookup::Miss))
    }

    /// The list as the primary has it now. Those who ask at once share a load.
    async fn as_of_now<E, F>(
        &self,
        org: OrgId,
        asker: Asker,
        load: impl Fn(Freshness) -> F,
    ) -> Found<E>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Fixed<PropertyList>, E>> + Send,
    {
        let now = Instant::now();
        let load = || self.get_or_load(org, asker, load(Freshness::Newest));
        let (found, lookup) = load().await?;
        if found.value.as_ref().is_none_or(|list| list.asked_at >= now) {
            return Ok((found, lookup));
        }
        self.namespace.forget(org).await;
        load().await
    }

    /// For who did not find a property: the list as the primary has it, unless it was loaded only just now. Another process may
    /// have made the property.
    pub(crate) async fn read_again<E, F>(
        &self,
        org: OrgId,
        load: impl Fn(Freshness) -> F,
    ) -> Found<E>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Fixed<PropertyList>, E>> + Send,
    {
        let load = || self.get_or_load(org, Asker::Request, load(Freshness::Newest));
        let (found, lookup) = load().await?;
        let recent = |list: &PropertyList| list.asked_at.elapsed() < self.namespace.negative_ttl();
        if found.value.as_ref().is_some_and(recent) {
            return Ok((found, lookup));
        }
        self.namespace.forget(org).await;
        load().await
    }

    async fn get_or_load<E: Send + Sync + 'static>(
        &self,
        org: OrgId,
        asker: Asker,
        load: impl Future<Output = Result<Fixed<PropertyList>, E>> + Send,
    ) -> Found<E> {
        self.namespace.get_or_load(org, asker, async { load.await.map(Arc::new) }).await
    }

    /// Takes note of a write of this process: lists that do not show it are not shown from now on.
    pub(crate) async fn written(&self, org: OrgId, lsn: Lsn) {
        let raise = async |held: Option<moka::Entry<OrgId, Lsn>>| {
            // What was unknown before has come to its end by now, or is as another process's write.
            let known = held.map(moka::Entry::into_value).filter(|held| *held != UNKNOWN);
            known.map_or(lsn, |held| held.max(lsn))
        };
        self.floors.entry(org).and_upsert_with(raise).await;
        self.namespace.forget(org).await;
    }

    /// After a write of which nobody knows whether it was committed: for as long as its outcome may be missing on a replica,
    /// or until the next write, the primary is asked each time.
    pub(crate) async fn unknown(&self, org: OrgId) {
        self.written(org, UNKNOWN).await;
    }

    pub(crate) fn retune(&self, settings: &CacheNamespace) {
        self.namespace.retune(settings);
    }

    pub(crate) async fn tend(&self) {
        self.namespace.tend().await;
    }
}

impl Warmable for PropertyCache {
    type Value = Fixed<PropertyList>;

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
        self.read(org, Asker::Warming, Freshness::Any, load)
            .await
            .map(drop)
            .map_err(LiveError::Load)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Millis;

    fn cache(negative_ttl_ms: u64) -> (PropertyCache, OrgId) {
        let settings = CacheNamespace {
            entries: 10,
            ttl_ms: Millis(60_000),
            negative_ttl_ms: Millis(negative_ttl_ms),
        };
        (PropertyCache::new("test", &settings, Warming::off()), OrgId::new(7).unwrap())
    }

    fn list(as_of: i64) -> Fixed<PropertyList> {
        let ids = vec![PropertyId::from(uuid::Uuid::nil())];
        let as_of = Lsn::from_bytes(as_of);
        let value = PropertyList { ids, body: Bytes::new(), as_of, asked_at: Instant::now() };
        Fixed { value: Some(value), from: "replica-1" }
    }

    fn at_least(bytes: i64) -> Freshness {
        Freshness::AtLeast(Lsn::from_bytes(bytes))
    }

    fn shown(found: Found<Infallible>) -> (u64, Lookup) {
        let (found, lookup) = found.unwrap();
        (found.value.as_ref().unwrap().as_of.bytes(), lookup)
    }

    #[tokio::test]
    async fn a_list_is_loaded_again_for_a_later_write_and_kept_for_earlier_ones() {
        let (cache, org) = cache(2_000);
        let read = async |freshness, as_of: i64| {
            let load = |_| async move { Ok::<_, Infallible>(list(as_of)) };
            shown(cache.read(org, Asker::Request, freshness, load).await)
        };
        assert_eq!(read(Freshness::Any, 100).await, (100, Lookup::Miss));
        assert_eq!(read(at_least(100), 200).await, (100, Lookup::Hit));
        assert_eq!(read(at_least(101), 200).await, (200, Lookup::Miss));
        assert_eq!(read(Freshness::Any, 300).await, (200, Lookup::Hit));
        cache.written(org, Lsn::from_bytes(250)).await;
        assert_eq!(read(Freshness::Any, 300).await, (300, Lookup::Miss));
    }

    #[tokio::test]
    async fn a_late_load_cannot_undo_a_write() {
        let (cache, org) = cache(2_000);
        // A load that began before the write and ends after it.
        let late = cache.read(org, Asker::Request, Freshness::Any, |_| async {
            cache.written(org, Lsn::from_bytes(200)).await;
            Ok::<_, Infallible>(list(100))
        });
        late.await.unwrap();
        let load = |needed| async move {
            assert_eq!(needed, at_least(200));
            Ok::<_, Infallible>(list(200))
        };
        let found = cache.read(org, Asker::Request, Freshness::Any, load).await;
        assert_eq!(shown(found), (200, Lookup::Miss));
    }

    #[tokio::test]
    async fn after_a_write_of_unknown_outcome_only_the_primary_is_believed() {
        let (cache, org) = cache(2_000);
        let old = |_| async { Ok::<_, Infallible>(list(100)) };
        cache.read(org, Asker::Request, Freshness::Any, old).await.unwrap();
        cache.unknown(org).await;
        let load = |needed| async move {
            assert_eq!(needed, Freshness::Newest);
            Ok::<_, Infallible>(list(200))
        };
        for freshness in [Freshness::Any, at_least(50)] {
            let found = cache.read(org, Asker::Request, freshness, load).await;
            assert_eq!(shown(found), (200, Lookup::Miss));
        }
    }

    #[tokio::test]
    async fn after_a_write_of_unknown_outcome_those_who_ask_at_once_share_a_load() {
        let (cache, org) = cache(2_000);
        cache.unknown(org).await;
        let loads = AtomicUsize::new(0);
        let load = |_| async {
            loads.fetch_add(1, Ordering::Relaxed);
            let found = list(200);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(found)
        };
        let ask = || cache.read(org, Asker::Request, Freshness::Any, load);
        for found in futures::future::join_all((0..10).map(|_| ask())).await {
            assert_eq!(shown(found).0, 200);
        }
        // That of the first, and one begun after all others had asked.
        assert_eq!(loads.swap(0, Ordering::Relaxed), 2);
        ask().await.unwrap();
        assert_eq!(loads.load(Ordering::Relaxed), 1, "what was loaded before may lack the write");

        cache.written(org, Lsn::from_bytes(150)).await;
        assert_eq!(shown(ask().await).1, Lookup::Miss);
        assert_eq!(shown(ask().await).1, Lookup::Hit, "the next write ends it");
        assert_eq!(loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn who_misses_a_property_has_an_old_list_loaded_again_but_not_a_new_one() {
        let load = |needed| async move {
            assert_eq!(needed, Freshness::Newest);
            Ok::<_, Infallible>(list(200))
        };
        for (negative_ttl_ms, expected) in [(0, 200), (60_000, 100)] {
            let (cache, org) = cache(negative_ttl_ms);
            let first = |_| async { Ok::<_, Infallible>(list(100)) };
            cache.read(org, Asker::Request, Freshness::Any, first).await.unwrap();
            assert_eq!(shown(cache.read_again(org, load).await).0, expected);
        }
    }
}
