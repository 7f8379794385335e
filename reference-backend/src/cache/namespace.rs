//! One namespace of the cache: bounded, with a jittered lifetime, one load per key at a time, and every look-up counted.
//! Knows nothing of what it holds, except whether it is a negative answer. Whoever asks, the first miss of an organisation makes
//! it be warmed, so no way to a value can forget to.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, gauge};
use moka::Expiry;
use moka::future::Cache;

use super::warming::Warming;
use crate::config::CacheNamespace;
use crate::domain::OrgId;

/// A value that may be the knowledge that there is nothing.
pub(crate) trait Cached: Clone + Send + Sync + 'static {
    /// Whether this is a negative answer.
    fn is_negative(&self) -> bool;
}

/// How a look-up was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// From memory.
    Hit,
    /// By loading.
    Miss,
    /// By waiting for somebody else's load.
    Wait,
}

/// Who looks something up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody who waits for the answer.
    Request,
    /// [`Warming`]. Nobody's question, so neither hit nor miss.
    Warming,
}

/// A cache with the organisation's number as its key.
#[derive(Debug)]
pub(crate) struct Namespace<V: Cached> {
    cache: Cache<OrgId, V>,
    hit: Counter,
    miss: Counter,
    wait: Counter,
    stale: Counter,
    entries: Gauge,
    warming: Arc<Warming>,
    lifetimes: Arc<Lifetimes>,
}

impl<V: Cached> Namespace<V> {
    /// Misses ask `warming` for the organisation's other namespaces.
    pub(crate) fn new(
        name: &'static str,
        settings: &CacheNamespace,
        warming: Arc<Warming>,
    ) -> Self {
        let outcome = |outcome: &'static str| counter!("backend_cache_requests_total", "cache" => name, "outcome" => outcome);
        let lifetimes = Arc::new(Lifetimes::default());
        lifetimes.set(settings);
        Self {
            cache: Cache::builder()
                .name(name)
                .max_capacity(settings.entries)
                .expire_after(Shared(Arc::clone(&lifetimes)))
                .build(),
            lifetimes,
            hit: outcome("hit"),
            miss: outcome("miss"),
            wait: outcome("wait"),
            stale: counter!("backend_cache_stale_total", "cache" => name),
            entries: gauge!("backend_cache_entries", "cache" => name),
            warming,
        }
    }

    /// Other lifetimes for what is loaded from now on.
    pub(crate) fn retune(&self, settings: &CacheNamespace) {
        self.lifetimes.set(settings);
    }

    /// How long "there is none" is remembered.
    pub(crate) fn negative_ttl(&self) -> Duration {
        Duration::from_millis(self.lifetimes.negative_ttl_ms.load(Ordering::Relaxed))
    }

    /// The value of an organisation, loaded when it is not held. Of several that ask at once, one loads; a failed load is
    /// reported to all who waited for it and not remembered.
    pub(crate) async fn get_or_load<E: Send + Sync + 'static>(
        &self,
        org: OrgId,
        asker: Asker,
        load: impl Future<Output = Result<V, E>> + Send,
    ) -> Result<(V, Lookup), Arc<E>> {
        let (value, lookup) = self.look_up(org, load).await;
        if asker == Asker::Warming {
            return value.map(|value| (value, lookup));
        }
        match lookup {
            Lookup::Hit => self.hit.increment(1),
            Lookup::Miss => self.miss.increment(1),
            Lookup::Wait => self.wait.increment(1),
        }
        let value = value?;
        // Not where nothing was found: there may be no such organisation.
        if lookup == Lookup::Miss && !value.is_negative() {
            self.warming.ask(org);
        }
        Ok((value, lookup))
    }

    async fn look_up<E: Send + Sync + 'static>(
        &self,
        org: OrgId,
        load: impl Future<Output = Result<V, E>> + Send,
    ) -> (Result<V, Arc<E>>, Lookup) {
        if let Some(value) = self.cache.get(&org).await {
            return (Ok(value), Lookup::Hit);
        }
        let loaded = AtomicBool::new(false);
        let value = self
            .cache
            .try_get_with(org, async {
                loaded.store(true, Ordering::Relaxed);
                load.await
            })
            .await;
        let lookup = if loaded.into_inner() { Lookup::Miss } else { Lookup::Wait };
        (value, lookup)
    }

    /// The value if it is held. Not counted: this is upkeep, not somebody's question.
    pub(crate) async fn peek(&self, org: OrgId) -> Option<V> {
        self.cache.get(&org).await
    }

    /// Those of the organisations whose value is not held. Not counted, as [`peek`](Self::peek) is not.
    pub(crate) async fn missing(&self, orgs: &[OrgId]) -> Vec<OrgId> {
        let mut missing = Vec::new();
        for org in orgs {
            if self.peek(*org).await.is_none() {
                missing.push(*org);
            }
        }
        missing
    }

    /// Forgets an organisation's value.
    pub(crate) async fn forget(&self, org: OrgId) {
        self.cache.invalidate(&org).await;
    }

    /// Forgets an organisation's value because it is not to be shown: a load that came too late, rows of an older epoch, or a
    /// record that was changed since. Counted, so that a cache that is right but useless shows.
    pub(crate) async fn outdated(&self, org: OrgId) {
        self.stale.increment(1);
        self.forget(org).await;
    }

    /// Forgets all that is held, because none of it is to be shown.
    pub(crate) fn forget_all(&self) {
        self.stale.increment(self.cache.entry_count());
        self.cache.invalidate_all();
    }

    /// Does the deferred upkeep and publishes the number of entries.
    pub(crate) async fn tend(&self) {
        self.cache.run_pending_tasks().await;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 entries")]
        self.entries.set(self.cache.entry_count() as f64);
    }
}

/// How long entries live, in milliseconds.
#[derive(Debug, Default)]
struct Lifetimes {
    ttl_ms: AtomicU64,
    negative_ttl_ms: AtomicU64,
}

impl Lifetimes {
    fn set(&self, settings: &CacheNamespace) {
        self.ttl_ms.store(settings.ttl_ms.0, Ordering::Relaxed);
        self.negative_ttl_ms.store(settings.negative_ttl_ms.0, Ordering::Relaxed);
    }
}

/// Gives each entry its own end: between 0.9 and 1.1 of the namespace's lifetime, so that entries made together do not all
/// have to be loaded again together.
#[derive(Debug)]
struct Shared(Arc<Lifetimes>);

impl<V: Cached> Expiry<OrgId, V> for Shared {
    fn expire_after_create(&self, org: &OrgId, value: &V, _: Instant) -> Option<Duration> {
        let base = if value.is_negative() { &self.0.negative_ttl_ms } else { &self.0.ttl_ms };
        Some(
            Duration::from_millis(base.load(Ordering::Relaxed)).mul_f64(0.9 + 0.2 * fraction(*org)),
        )
    }

    fn expire_after_update(
        &self,
        org: &OrgId,
        value: &V,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(org, value, now)
    }
}

/// A number in [0, 1) that looks random over organisations: the Fibonacci hash of Knuth (TAOCP vol. 3, §6.4). Spreading over
/// keys is enough here, and needs no generator.
fn fraction(org: OrgId) -> f64 {
    let mixed = org.get().cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    f64::from(u32::try_from(mixed).expect("32 bits remain")) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    #[derive(Debug, Clone, PartialEq)]
    struct Value(Option<u32>);

    impl Cached for Value {
        fn is_negative(&self) -> bool {
            self.0.is_none()
        }
    }

    fn namespace() -> Namespace<Value> {
        namespace_with(&Warming::off())
    }

    fn namespace_with(warming: &Arc<Warming>) -> Namespace<Value> {
        let settings = CacheNamespace {
            entries: 100,
            ttl_ms: Millis(100_000),
            negative_ttl_ms: Millis(10_000),
        };
        Namespace::new("test", &settings, Arc::clone(warming))
    }

    fn org(number: i64) -> OrgId {
        OrgId::new(number).unwrap()
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_loads() {
        let cache = Arc::new(namespace());
        let (release, gate) = tokio::sync::watch::channel(false);
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (cache, mut gate) = (Arc::clone(&cache), gate.clone());
            askers.spawn(async move {
                let load = async {
                    gate.wait_for(|open| *open).await.unwrap();
                    Ok::<_, ()>(Value(Some(1)))
                };
                cache.get_or_load(org(7), Asker::Request, load).await.unwrap().1
            });
        }
        tokio::task::yield_now().await;
        release.send(true).unwrap();
        let lookups = askers.join_all().await;
        assert_eq!(lookups.iter().filter(|l| **l == Lookup::Miss).count(), 1);
        assert_eq!(
            cache.get_or_load(org(7), Asker::Request, async { Err(()) }).await.unwrap(),
            (Value(Some(1)), Lookup::Hit)
        );
    }

    #[test]
    fn warming_is_nobodys_question_and_makes_the_next_one_a_hit() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let cache = metrics::with_local_recorder(&recorder, namespace);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let look_up = |asker| {
            let load = async { Ok::<_, ()>(Value(Some(1))) };
            runtime.block_on(cache.get_or_load(org(7), asker, load)).unwrap().1
        };
        assert_eq!(look_up(Asker::Warming), Lookup::Miss);
        assert_eq!(look_up(Asker::Warming), Lookup::Hit);
        assert_eq!(look_up(Asker::Request), Lookup::Hit);
        let page = recorder.handle().render();
        for (outcome, count) in [("hit", 1), ("miss", 0), ("wait", 0)] {
            let series = format!(
                r#"backend_cache_requests_total{{cache="test",outcome="{outcome}"}} {count}"#
            );
            assert!(page.contains(&series), "{series} is missing in:\n{page}");
        }
    }

    #[test]
    fn what_is_found_too_old_is_counted_apart_from_how_it_was_looked_up() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let cache = metrics::with_local_recorder(&recorder, namespace);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let counted = |stale: u64| {
            let series = format!(r#"backend_cache_stale_total{{cache="test"}} {stale}"#);
            let page = recorder.handle().render();
            assert!(page.contains(&series), "{series} is missing in:\n{page}");
        };
        runtime.block_on(async {
            let load = async |number| {
                let load = async { Ok::<_, ()>(Value(Some(1))) };
                cache.get_or_load(org(number), Asker::Request, load).await.unwrap().1
            };
            for number in [7, 8, 9] {
                assert_eq!(load(number).await, Lookup::Miss);
            }
            cache.forget(org(9)).await;
            counted(0);
            cache.outdated(org(7)).await;
            counted(1);
            assert_eq!(load(7).await, Lookup::Miss);
            cache.tend().await;
            cache.forget_all();
            counted(3);
            assert_eq!(load(8).await, Lookup::Miss);
        });
    }

    #[tokio::test]
    async fn a_miss_that_found_something_asks_for_warming() {
        let warming = Arc::new(Warming::of_one_seat());
        let cache = namespace_with(&warming);
        let look_up = async |number, asker, value| {
            let load = async { value };
            cache.get_or_load(org(number), asker, load).await.map(|found| found.1)
        };
        let found = || Ok::<_, ()>(Value(Some(1)));
        assert_eq!(look_up(1, Asker::Request, Ok(Value(None))).await, Ok(Lookup::Miss));
        assert!(look_up(2, Asker::Request, Err(())).await.is_err());
        assert_eq!(look_up(3, Asker::Warming, found()).await, Ok(Lookup::Miss));
        assert_eq!(look_up(3, Asker::Request, found()).await, Ok(Lookup::Hit));
        assert!(!warming.wants(org(1)) && !warming.wants(org(2)) && !warming.wants(org(3)));
        assert_eq!(look_up(4, Asker::Request, found()).await, Ok(Lookup::Miss));
        assert!(warming.wants(org(4)));
    }

    #[tokio::test]
    async fn a_failed_load_is_not_remembered() {
        let cache = namespace();
        assert!(cache.get_or_load(org(7), Asker::Request, async { Err("down") }).await.is_err());
        let again = cache
            .get_or_load(org(7), Asker::Request, async { Ok::<_, &str>(Value(Some(2))) })
            .await
            .unwrap();
        assert_eq!(again, (Value(Some(2)), Lookup::Miss));
    }

    #[test]
    fn lifetimes_are_jittered_and_short_for_negatives() {
        let lifetime = |number, value| {
            let ttl = Duration::from_secs(100);
            let lifetimes = Lifetimes::default();
            let millis = |time: Duration| Millis(time.as_millis().try_into().unwrap());
            lifetimes.set(&CacheNamespace {
                entries: 1,
                ttl_ms: millis(ttl),
                negative_ttl_ms: millis(ttl / 10),
            });
            let lifetimes = Shared(Arc::new(lifetimes));
            lifetimes.expire_after_create(&org(number), &value, Instant::now()).unwrap()
        };
        let lives: Vec<_> = (1..1000).map(|number| lifetime(number, Value(Some(1)))).collect();
        let (shortest, longest) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
        assert!(*shortest >= Duration::from_secs(90) && *shortest < Duration::from_secs(91));
        assert!(*longest < Duration::from_secs(110) && *longest > Duration::from_secs(109));
        assert!(lifetime(1, Value(None)) < Duration::from_secs(12));
    }
}
