//! Warming by organisation: who opens one screen opens the next. The first answer of an organisation that had to be loaded
//! asks for the organisation's other answers to be loaded too, in the background, so that only the first screen of a visit
//! waits for a database.
//!
//! The price is statements: an organisation that is looked at once costs as much as one that is looked at everywhere. Hence
//! organisations that are wanted within some milliseconds are loaded together, with one statement for each kind of answer; and
//! all is bounded, and whoever asks never waits: an organisation is wanted once at a time, so many batches are worked on at
//! once, so many organisations wait, and one more is skipped and counted. A skipped one asks again with its next miss.
//!
//! Here are the queue and its bounds. What is loaded, and how, is the services' business; they use the loaders and the single
//! flight of the requests, so that what makes a request's load true (see `live` and `fixed`) makes a warm load true.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use metrics::{Counter, counter};
use tokio::sync::mpsc;

use super::batches::batches;
use super::live::LiveError;
use super::together::Together;
use crate::config;
use crate::db::Freshness;
use crate::domain::OrgId;

/// A cache whose values can be loaded before anybody asks for them.
pub(crate) trait Warmable: Sync {
    /// What a load finds.
    type Value: Send;

    /// Where misses meet.
    fn together(&self) -> &Together<Self::Value>;

    /// Those of the organisations whose value is not held. Not counted: it is nobody's question.
    fn missing(&self, orgs: &[OrgId]) -> impl Future<Output = Vec<OrgId>> + Send;

    /// Sees to it that the organisation's value is held.
    fn warm<E, F>(
        &self,
        org: OrgId,
        load: impl Fn(Freshness) -> F + Send + Sync,
    ) -> impl Future<Output = Result<(), LiveError<E>>> + Send
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<Self::Value, E>> + Send;
}

/// The organisations that are to be warmed.
#[derive(Debug)]
pub(crate) struct Warming {
    /// Batches.
    at_once: usize,
    /// From one batch to the next, which gathers meanwhile.
    gather: Duration,
    asks: mpsc::Sender<OrgId>,
    /// Locked by [`Warming::run`] for its life.
    asked: tokio::sync::Mutex<mpsc::Receiver<OrgId>>,
    /// Those that wait or are being worked on.
    wanted: Mutex<HashSet<OrgId>>,
    outcomes: Outcomes,
}

/// Counts organisations by how their warming ended.
#[derive(Debug)]
struct Outcomes {
    loaded: Counter,
    skipped: Counter,
    failed: Counter,
}

impl Outcomes {
    fn published() -> Self {
        let outcome =
            |outcome: &'static str| counter!("backend_cache_warmed_total", "outcome" => outcome);
        Self { loaded: outcome("loaded"), skipped: outcome("skipped"), failed: outcome("failed") }
    }
}

impl Warming {
    /// As the settings bound it.
    pub(crate) fn new(settings: &config::Cache) -> Self {
        let gather = settings.warm_gather_ms.duration();
        Self::bounded(settings.warm_at_once, gather, settings.warm_queue, Outcomes::published())
    }

    fn bounded(at_once: usize, gather: Duration, waiting_max: usize, outcomes: Outcomes) -> Self {
        let (asks, asked) = mpsc::channel(waiting_max);
        let asked = tokio::sync::Mutex::new(asked);
        Self { at_once, gather, asks, asked, wanted: Mutex::default(), outcomes }
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<OrgId>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an organisation to be warmed. Never waits: where there is no room it is skipped, and where it is wanted already
    /// nothing happens.
    pub(super) fn ask(&self, org: OrgId) {
        if self.at_once == 0 {
            return;
        }
        // Held over the sending, so that nobody finishes the organisation before it is known to be wanted.
        let mut wanted = self.wanted();
        if wanted.contains(&org) {
            return;
        }
        match self.asks.try_send(org) {
            Ok(()) => {
                wanted.insert(org);
            }
            Err(_) => self.outcomes.skipped.increment(1),
        }
    }

    /// Loads what is asked for, in batches, until dropped. `load` returns those of a batch that failed.
    pub(crate) async fn run<F>(&self, load: impl Fn(Vec<OrgId>) -> F)
    where
        F: Future<Output = Vec<OrgId>>,
    {
        if self.at_once == 0 {
            return;
        }
        let asked = self.asked.lock().await;
        let load = &load;
        batches(asked, self.gather)
            .for_each_concurrent(self.at_once, |batch| async move {
                let failed = load(batch.clone()).await.len() as u64;
                self.outcomes.loaded.increment(batch.len() as u64 - failed);
                self.outcomes.failed.increment(failed);
                let mut wanted = self.wanted();
                batch.iter().for_each(|org| {
                    wanted.remove(org);
                });
            })
            .await;
    }
}

#[cfg(test)]
impl Warming {
    /// Takes no notice of anything.
    pub(super) fn off() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self::bounded(0, Duration::ZERO, 1, Outcomes::published()))
    }

    /// Room for one, and nobody who works.
    pub(super) fn of_one_seat() -> Self {
        Self::bounded(1, Duration::ZERO, 1, Outcomes::published())
    }

    /// Whether an organisation waits or is being worked on.
    pub(super) fn wants(&self, org: OrgId) -> bool {
        self.wanted().contains(&org)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use tokio::sync::Semaphore;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::cache::BATCH_MAX;

    const GATHER: Duration = Duration::from_millis(10);

    fn org(number: i64) -> OrgId {
        OrgId::new(number).unwrap()
    }

    /// A warming whose batches wait for permits, and what was seen of it.
    #[derive(Clone)]
    struct Rig {
        warming: Arc<Warming>,
        permits: Arc<Semaphore>,
        begun: Arc<Mutex<Vec<Vec<i64>>>>,
        at_once: Arc<AtomicUsize>,
        at_once_most: Arc<AtomicUsize>,
        counts: [Arc<AtomicU64>; 3],
    }

    impl Rig {
        fn new(at_once: usize, waiting_max: usize) -> Self {
            let counts: [Arc<AtomicU64>; 3] = Default::default();
            let [loaded, skipped, failed] = counts.clone().map(Counter::from_arc);
            let outcomes = Outcomes { loaded, skipped, failed };
            Self {
                warming: Arc::new(Warming::bounded(at_once, GATHER, waiting_max, outcomes)),
                permits: Arc::new(Semaphore::new(0)),
                begun: Arc::default(),
                at_once: Arc::default(),
                at_once_most: Arc::default(),
                counts,
            }
        }

        /// Organisation 13 cannot be loaded.
        async fn load(&self, batch: Vec<OrgId>) -> Vec<OrgId> {
            self.begun.lock().unwrap().push(batch.iter().map(|org| org.get()).collect());
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_most.fetch_max(now, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            batch.into_iter().filter(|one| *one == org(13)).collect()
        }

        fn start(&self) -> JoinHandle<()> {
            let rig = self.clone();
            tokio::spawn(async move { rig.warming.run(|orgs| rig.load(orgs)).await })
        }

        fn ask(&self, orgs: impl IntoIterator<Item = i64>) {
            orgs.into_iter().for_each(|number| self.warming.ask(org(number)));
        }

        /// Lets some batches end, and everything that follows from it happen.
        async fn end(&self, batches: usize) {
            self.permits.add_permits(batches);
            self.settle().await;
        }

        /// The clock stands while anybody can go on.
        async fn settle(&self) {
            sleep(100 * GATHER).await;
        }

        /// Loaded, skipped, failed.
        fn counted(&self) -> [u64; 3] {
            self.counts.each_ref().map(|count| count.load(Ordering::SeqCst))
        }

        fn begun(&self) -> Vec<Vec<i64>> {
            self.begun.lock().unwrap().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_wanted_together_are_loaded_together() {
        let rig = Rig::new(1, 100);
        rig.ask(20..22);
        let running = rig.start();
        rig.settle().await;
        assert_eq!(rig.begun(), [[20, 21]]);
        rig.ask(22..23 + BATCH_MAX as i64);
        rig.end(3).await;
        assert_eq!(rig.begun().iter().map(Vec::len).collect::<Vec<_>>(), [2, BATCH_MAX, 1]);
        assert_eq!(rig.counted(), [2 + BATCH_MAX as u64 + 1, 0, 0]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_organisation_is_wanted_once_until_it_is_done() {
        let rig = Rig::new(1, 10);
        let running = rig.start();
        rig.ask([1, 1]);
        rig.settle().await;
        rig.ask([1, 2, 2]); // 1 is being worked on, 2 waits
        rig.end(2).await;
        assert_eq!(rig.begun(), [[1], [2]]);
        assert_eq!(rig.counted(), [2, 0, 0]);
        rig.ask([1]);
        rig.end(1).await;
        assert_eq!(rig.begun(), [[1], [2], [1]], "done, so it may be wanted again");
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_worked_on_at_once_than_allowed() {
        let rig = Rig::new(3, 1_000);
        let running = rig.start();
        rig.ask(100..100 + 5 * BATCH_MAX as i64);
        rig.settle().await;
        assert_eq!(rig.begun().len(), 3);
        rig.end(5).await;
        assert_eq!(rig.begun().len(), 5);
        assert_eq!(rig.at_once_most.load(Ordering::SeqCst), 3);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_skipped_and_counted_and_may_ask_again() {
        let rig = Rig::new(1, 2);
        rig.ask(20..25);
        assert_eq!(rig.counted(), [0, 3, 0]);
        let running = rig.start();
        rig.end(1).await;
        assert_eq!(rig.counted(), [2, 3, 0]);
        rig.ask([24]);
        rig.end(1).await;
        assert_eq!(rig.begun(), [vec![20, 21], vec![24]]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_counted_and_stops_nobody() {
        let rig = Rig::new(1, 10);
        let running = rig.start();
        rig.ask([12, 13]);
        rig.settle().await;
        rig.ask([14]);
        rig.end(2).await;
        assert_eq!(rig.counted(), [2, 0, 1]);
        rig.ask([13]);
        rig.end(1).await;
        assert_eq!(rig.counted(), [2, 0, 2], "not wanted for ever");
        running.abort();
    }

    #[tokio::test]
    async fn when_off_nothing_is_wanted() {
        let rig = Rig::new(0, 10);
        rig.ask(20..40);
        rig.start().await.unwrap(); // has nothing to do
        assert_eq!(rig.counted(), [0, 0, 0]);
        assert!(rig.warming.wanted().is_empty());
    }
}
