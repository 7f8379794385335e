//! A namespace whose values follow the event feed: each event is applied in place, so a busy organisation's entry stays a hit.
//!
//! Every value knows the position up to which it is complete. The rules that make "each event exactly once" true:
//! 1. A load reads rows and checkpoint in one statement, so it knows its position exactly, on whichever server.
//! 2. The feed first extends [`RecentEvents`], then applies the batch to the entries that are held.
//! 3. An entry, once it is in the cache, is *settled* on first use: under its lock it takes from `RecentEvents` what came after its
//!    position. An event of a batch that is being applied meanwhile is seen by one of the two, or by both, and then the
//!    second passes it over by its position.
//! 4. Rows may also be written otherwise than by events: built anew, or repaired. Each time their epoch rises, which a load reads with
//!    the rows. An entry of an older epoch than is known of is not shown, but loaded again.
//!
//! So a late load cannot undo an event: it is stale only until somebody looks.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::namespace::{Asker, Cached, Lookup, Namespace};
use super::recent::{Outrun, RecentEvents};
use super::together::Together;
use super::warming::{Warmable, Warming};
use crate::config::CacheNamespace;
use crate::db::Freshness;
use crate::domain::{OrgId, RecordedEvent};
use crate::projections::Projection;

/// A value that an event changes by arithmetic, and the answers that are made of it.
pub(crate) trait Live: Debug + Send + 'static {
    /// One of the answers.
    type View: Copy + Debug + Eq + Send;

    /// Takes in one event of this organisation. Called once per event, in order. Returns whether an answer may have changed.
    fn apply(&mut self, event: &RecordedEvent) -> bool;

    /// The JSON of an answer; none when there is no such thing.
    fn render(&self, view: Self::View) -> Option<Bytes>;

    /// Whether the organisation has nothing here.
    fn is_empty(&self) -> bool;
}

/// What a load found.
#[derive(Debug)]
pub(crate) struct Loaded<L> {
    pub(crate) value: L,
    /// The projection's position in the same snapshot as the rows.
    pub(crate) position: i64,
    /// Of the rows, in that snapshot.
    pub(crate) epoch: i64,
    pub(crate) from: &'static str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum LiveError<E> {
    /// The load failed, for this request or the one it waited for.
    Load(Arc<E>),
    /// The feed went past the loaded value faster than it could be loaded.
    Outrun,
}

/// An answer, and how it was found.
#[derive(Debug)]
pub(crate) struct Answer {
    /// None when there is no such thing.
    pub(crate) body: Option<Bytes>,
    pub(crate) lookup: Lookup,
    /// Who was asked when the value was loaded.
    pub(crate) from: &'static str,
}

/// A cache of live values.
#[derive(Debug)]
pub(crate) struct LiveCache<L: Live> {
    namespace: Namespace<Arc<Held<L>>>,
    projection: Projection,
    recent: Arc<RecentEvents>,
    together: Together<Loaded<L>>,
}

impl<L: Live> LiveCache<L> {
    /// A cache that follows a projection, of which `recent` holds the last events.
    pub(crate) fn new(
        name: &'static str,
        settings: &CacheNamespace,
        (projection, recent): (Projection, Arc<RecentEvents>),
        warming: Arc<Warming>,
    ) -> Self {
        let namespace = Namespace::new(name, settings, warming);
        Self { namespace, projection, recent, together: Together::default() }
    }

    /// The projection that it follows.
    pub(crate) fn projection(&self) -> Projection {
        self.projection
    }

    /// The answer `view` for an organisation, loaded with `load` when it is not held.
    pub(crate) async fn read<E, F>(
        &self,
        org: OrgId,
        view: L::View,
        load: impl Fn(Freshness) -> F,
    ) -> Result<Answer, LiveError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<L>, E>> + Send,
    {
        let (held, lookup) = self.settled(org, Asker::Request, load).await?;
        Ok(Answer { body: held.view(view), lookup, from: held.from })
    }

    /// The settled entry, loaded from any server first, and from the primary when what came is too old to be brought up to date.
    async fn settled<E, F>(
        &self,
        org: OrgId,
        asker: Asker,
        load: impl Fn(Freshness) -> F,
    ) -> Result<(Arc<Held<L>>, Lookup), LiveError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<L>, E>> + Send,
    {
        // Twice from the primary: the first time, someone else's load of older rows may have been joined.
        for freshness in [Freshness::Any, Freshness::Newest, Freshness::Newest] {
            let loading = load(freshness);
            let held = async { loading.await.map(|loaded| Arc::new(Held::new(loaded))) };
            let (held, lookup) =
                self.namespace.get_or_load(org, asker, held).await.map_err(LiveError::Load)?;
            match held.settle(org, &self.recent) {
                Ok(()) => return Ok((held, lookup)),
                Err(Outrun) => self.namespace.outdated(org).await,
            }
        }
        Err(LiveError::Outrun)
    }

    /// Applies a committed batch, already in [`RecentEvents`], to the entries that are held.
    pub(crate) async fn apply(&self, batch: &[RecordedEvent]) {
        for event in batch {
            if let Some(held) = self.namespace.peek(event.org).await {
                held.apply(event);
            }
        }
    }

    /// Forgets all entries.
    pub(crate) fn forget_all(&self) {
        self.namespace.forget_all();
    }

    /// See [`Namespace::retune`].
    pub(crate) fn retune(&self, settings: &CacheNamespace) {
        self.namespace.retune(settings);
    }

    /// See [`Namespace::tend`].
    pub(crate) async fn tend(&self) {
        self.namespace.tend().await;
    }
}

impl<L: Live> Warmable for LiveCache<L> {
    type Value = Loaded<L>;

    fn together(&self) -> &Together<Self::Value> {
        &self.together
    }

    async fn missing(&self, orgs: &[OrgId]) -> Vec<OrgId> {
        self.namespace.missing(orgs).await
    }

    /// Settled at once: nobody may look before the events that came during the load are no longer in [`RecentEvents`].
    async fn warm<E, F>(
        &self,
        org: OrgId,
        load: impl Fn(Freshness) -> F + Send + Sync,
    ) -> Result<(), LiveError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Loaded<L>, E>> + Send,
    {
        self.settled(org, Asker::Warming, load).await.map(drop)
    }
}

/// Answers kept of one entry: a client may ask for as many different ones as it likes.
const RENDERED_MAX: usize = 4;

/// An entry.
#[derive(Debug)]
struct Held<L: Live> {
    from: &'static str,
    negative: bool,
    epoch: i64,
    state: Mutex<State<L>>,
}

#[derive(Debug)]
struct State<L: Live> {
    value: L,
    /// Every event of the organisation up to here is in `value`.
    position: i64,
    /// Whether what the feed brought during the load has been taken in.
    settled: bool,
    /// Answers made since the last change.
    rendered: Vec<(L::View, Bytes)>,
}

impl<L: Live> Cached for Arc<Held<L>> {
    fn is_negative(&self) -> bool {
        self.negative
    }
}

impl<L: Live> Held<L> {
    fn new(loaded: Loaded<L>) -> Self {
        Self {
            from: loaded.from,
            negative: loaded.value.is_empty(),
            epoch: loaded.epoch,
            state: Mutex::new(State {
                value: loaded.value,
                position: loaded.position,
                settled: false,
                rendered: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, event: &RecordedEvent) {
        let mut state = self.state();
        // Not yet settled: older events may be missing, and whoever settles will find this one too.
        if state.settled {
            state.take(event);
        }
    }

    /// Takes in what the feed brought during the load, once. An error when that is not known, or the rows were of an epoch that is
    /// over.
    fn settle(&self, org: OrgId, recent: &RecentEvents) -> Result<(), Outrun> {
        if recent.is_outdated(org, self.epoch) {
            return Err(Outrun);
        }
        let mut state = self.state();
        if !state.settled {
            for event in recent.since(org, state.position)? {
                state.take(&event);
            }
            state.settled = true;
        }
        Ok(())
    }

    /// An answer of the settled entry.
    fn view(&self, view: L::View) -> Option<Bytes> {
        let mut state = self.state();
        if let Some((_, body)) = state.rendered.iter().find(|(held, _)| *held == view) {
            return Some(body.clone());
        }
        let body = state.value.render(view)?;
        if state.rendered.len() < RENDERED_MAX {
            state.rendered.push((view, body.clone()));
        }
        Some(body)
    }
}

impl<L: Live> State<L> {
    fn take(&mut self, event: &RecordedEvent) {
        if event.position <= self.position {
            return;
        }
        self.position = event.position;
        if self.value.apply(event) {
            self.rendered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::samples::event;
    use crate::config::Millis;
    use crate::events::Shard;

    /// The number of events it has taken in, before the load or since.
    #[derive(Debug)]
    struct Count(i64);

    impl Live for Count {
        type View = ();

        fn apply(&mut self, _: &RecordedEvent) -> bool {
            self.0 += 1;
            true
        }

        fn render(&self, (): ()) -> Option<Bytes> {
            Some(self.0.to_string().into())
        }

        fn is_empty(&self) -> bool {
            false
        }
    }

    const ORG: i64 = 1;

    fn org() -> OrgId {
        OrgId::new(ORG).unwrap()
    }

    /// A cache that is told events as the projection's observer is.
    struct Fed {
        cache: LiveCache<Count>,
        recent: Arc<RecentEvents>,
    }

    impl Fed {
        fn new(kept_max: usize) -> Self {
            let recent = Arc::new(RecentEvents::new(kept_max));
            recent.begin(Shard::of(org()), 0);
            let settings = CacheNamespace {
                entries: 100,
                ttl_ms: Millis(60_000),
                negative_ttl_ms: Millis(60_000),
            };
            let follows = (Projection::Finance, Arc::clone(&recent));
            Self { cache: LiveCache::new("test", &settings, follows, Warming::off()), recent }
        }

        async fn commit(&self, positions: std::ops::RangeInclusive<i64>) {
            let batch: Vec<_> = positions.map(|position| event(ORG, position)).collect();
            self.recent.extend(Shard::of(org()), &batch).unwrap();
            self.cache.apply(&batch).await;
        }

        /// Reads; a load finds all events up to `as_of`.
        async fn read(&self, as_of: i64) -> (String, Lookup) {
            let load = |_| async move { Ok::<_, ()>(loaded(as_of)) };
            let answer = self.cache.read(org(), (), load).await.unwrap();
            (String::from_utf8(answer.body.unwrap().to_vec()).unwrap(), answer.lookup)
        }
    }

    fn loaded(position: i64) -> Loaded<Count> {
        Loaded { value: Count(position), position, epoch: 0, from: "replica-1" }
    }

    #[tokio::test]
    async fn a_held_entry_takes_in_each_event_once_and_stays_a_hit() {
        let fed = Fed::new(100);
        fed.commit(1..=3).await;
        assert_eq!(fed.read(3).await, ("3".into(), Lookup::Miss));
        fed.commit(4..=5).await;
        fed.commit(5..=6).await; // 5 again
        assert_eq!(fed.read(0).await, ("6".into(), Lookup::Hit));
    }

    #[tokio::test]
    async fn a_load_from_a_server_behind_is_brought_up_to_date() {
        let fed = Fed::new(100);
        fed.commit(1..=5).await;
        assert_eq!(fed.read(2).await, ("5".into(), Lookup::Miss));
    }

    #[tokio::test]
    async fn a_load_from_a_server_ahead_of_the_feed_counts_nothing_twice() {
        let fed = Fed::new(100);
        fed.commit(1..=2).await;
        assert_eq!(fed.read(4).await, ("4".into(), Lookup::Miss));
        fed.commit(3..=5).await;
        assert_eq!(fed.read(0).await, ("5".into(), Lookup::Hit));
    }

    #[tokio::test]
    async fn events_that_come_during_a_load_are_not_lost() {
        let fed = Fed::new(100);
        fed.commit(1..=1).await;
        let load = |_| async {
            let before = loaded(1);
            fed.commit(2..=3).await;
            Ok::<_, ()>(before)
        };
        let answer = fed.cache.read(org(), (), load).await.unwrap();
        assert_eq!(answer.body.unwrap(), "3");
        fed.commit(4..=4).await;
        assert_eq!(fed.read(0).await, ("4".into(), Lookup::Hit));
    }

    #[test]
    fn an_event_that_comes_before_the_missing_ones_were_taken_in_does_not_hide_them() {
        let recent = RecentEvents::new(100);
        recent.begin(Shard::of(org()), 0);
        let held = Held::new(loaded(1));
        let batch: Vec<_> = (1..=3).map(|position| event(ORG, position)).collect();
        recent.extend(Shard::of(org()), &batch).unwrap();
        held.apply(&batch[2]); // held since just now, so it was not there for the second
        held.settle(org(), &recent).unwrap();
        assert_eq!(held.view(()).unwrap(), "3");
    }

    #[tokio::test]
    async fn a_warm_entry_is_a_hit_however_many_events_come_before_somebody_looks() {
        let fed = Fed::new(2);
        fed.commit(1..=3).await;
        fed.cache.warm(org(), |_| async { Ok::<_, ()>(loaded(2)) }).await.unwrap();
        fed.commit(4..=9).await;
        assert_eq!(fed.read(0).await, ("9".into(), Lookup::Hit));
    }

    #[tokio::test]
    async fn a_request_joins_the_warm_load_and_sees_what_came_meanwhile() {
        let fed = Fed::new(100);
        fed.commit(1..=1).await;
        let load = |_| async {
            let before = loaded(1);
            fed.commit(2..=3).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            Ok::<_, ()>(before)
        };
        let (warmed, seen) = tokio::join!(fed.cache.warm(org(), load), fed.read(0));
        warmed.unwrap();
        assert_eq!(seen, ("3".into(), Lookup::Wait));
    }

    #[tokio::test]
    async fn a_load_too_old_to_be_brought_up_to_date_is_repeated_on_the_primary() {
        let fed = Fed::new(2);
        fed.commit(1..=9).await;
        let load = |freshness| async move {
            Ok::<_, ()>(loaded(if freshness == Freshness::Newest { 9 } else { 3 }))
        };
        let answer = fed.cache.read(org(), (), load).await.unwrap();
        assert_eq!(answer.body.unwrap(), "9");
        fed.cache.namespace.forget(org()).await;
        let stale = |_| async { Ok::<_, ()>(loaded(3)) };
        assert!(matches!(fed.cache.read(org(), (), stale).await, Err(LiveError::Outrun)));
    }

    #[tokio::test]
    async fn what_was_loaded_before_a_correction_is_not_shown_after_it() {
        let fed = Fed::new(100);
        fed.commit(1..=3).await;
        assert_eq!(fed.read(3).await, ("3".into(), Lookup::Miss));
        fed.recent.raise_epoch(Shard::of(org()), 1);
        // A replica has not replayed the correction yet; the primary has.
        let load = |freshness| async move {
            let epoch = i64::from(freshness == Freshness::Newest);
            Ok::<_, ()>(Loaded { value: Count(100 * epoch), epoch, ..loaded(3) })
        };
        let answer = fed.cache.read(org(), (), load).await.unwrap();
        assert_eq!(answer.body.unwrap(), "100");
        fed.commit(4..=4).await;
        assert_eq!(fed.read(0).await, ("101".into(), Lookup::Hit));
        fed.recent.raise_epoch(Shard::of(org()), 2);
        let stale = |_| async { Ok::<_, ()>(loaded(4)) };
        assert!(matches!(fed.cache.read(org(), (), stale).await, Err(LiveError::Outrun)));
    }

    #[tokio::test]
    async fn a_load_that_ends_after_a_correction_cannot_bring_back_what_was_before_it() {
        let fed = Fed::new(100);
        fed.commit(1..=3).await;
        // Rows of before the correction, which comes, and is told, while they are on their way.
        let load = |freshness| {
            let fed = &fed;
            async move {
                if freshness == Freshness::Newest {
                    return Ok::<_, ()>(Loaded { value: Count(100), epoch: 1, ..loaded(3) });
                }
                fed.recent.raise_epoch(Shard::of(org()), 1);
                fed.commit(4..=4).await;
                Ok(loaded(3))
            }
        };
        let answer = fed.cache.read(org(), (), load).await.unwrap();
        assert_eq!(answer.body.unwrap(), "101");
        // Nor can one that begins after it, from a server behind.
        fed.cache.namespace.forget(org()).await;
        fed.cache.warm(org(), load).await.unwrap();
        fed.commit(5..=5).await;
        assert_eq!(fed.read(0).await, ("102".into(), Lookup::Hit));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn under_concurrent_loads_and_commits_no_event_is_lost_or_doubled() {
        let fed = Arc::new(Fed::new(10_000));
        let committed = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for reader in 0..3_i64 {
            let (fed, committed) = (Arc::clone(&fed), Arc::clone(&committed));
            tasks.spawn(async move {
                for round in 0..500_i64 {
                    let at_least = committed.load(std::sync::atomic::Ordering::SeqCst);
                    let behind = (at_least - (round + reader) % 7).max(0);
                    let (seen, _) = fed.read(behind).await;
                    assert!(seen.parse::<i64>().unwrap() >= at_least, "{seen} < {at_least}");
                    if round % 3 == 0 {
                        fed.cache.namespace.forget(org()).await;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        for position in 1..=2_000 {
            fed.commit(position..=position).await;
            committed.store(position, std::sync::atomic::Ordering::SeqCst);
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(fed.read(0).await.0, "2000");
    }
}
