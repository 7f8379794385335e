//! All namespaces, and how they follow the projections.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;

use super::fixed::OrgCache;
use super::live::LiveCache;
use super::properties::PropertyCache;
use super::recent::RecentEvents;
use super::warming::Warming;
use super::{CashBook, FirstPage, Results, Side, Summaries};
use crate::config;
use crate::domain::RecordedEvent;
use crate::events::Shard;
use crate::projections::{Observer, Projection};

/// The caches of this process.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) orgs: OrgCache,
    pub(crate) properties: PropertyCache,
    pub(crate) cash: LiveCache<CashBook>,
    pub(crate) summaries: LiveCache<Summaries>,
    pub(crate) results: LiveCache<Results>,
    revenues: LiveCache<FirstPage>,
    expenses: LiveCache<FirstPage>,
    pub(crate) warming: Arc<Warming>,
    /// Batches of the finance projection and of the summaries' projection; they move apart from each other.
    finance: Arc<RecentEvents>,
    summary: Arc<RecentEvents>,
}

impl Caches {
    pub(crate) fn new(settings: &config::Cache) -> Self {
        let recent = || Arc::new(RecentEvents::new(settings.recent_events));
        let (finance, summary) = (recent(), recent());
        let warming = Arc::new(Warming::new(settings));
        let warm = || Arc::clone(&warming);
        let by_finance = || (Projection::Finance, Arc::clone(&finance));
        let by_summary = (Projection::FinanceSummary, Arc::clone(&summary));
        Self {
            orgs: OrgCache::new("orgs", &settings.organisations, warm()),
            properties: PropertyCache::new("properties", &settings.properties, warm()),
            cash: LiveCache::new("cash", &settings.cash, by_finance(), warm()),
            summaries: LiveCache::new("finance-summary", &settings.summaries, by_summary, warm()),
            results: LiveCache::new(
                "profit-and-loss",
                &settings.profit_and_loss,
                by_finance(),
                warm(),
            ),
            revenues: LiveCache::new("revenues", &settings.first_pages, by_finance(), warm()),
            expenses: LiveCache::new("expenses", &settings.first_pages, by_finance(), warm()),
            warming,
            finance,
            summary,
        }
    }

    /// From now on other lifetimes, for what is loaded from now on.
    pub(crate) fn retune(&self, settings: &config::Cache) {
        self.orgs.retune(&settings.organisations);
        self.properties.retune(&settings.properties);
        self.cash.retune(&settings.cash);
        self.summaries.retune(&settings.summaries);
        self.results.retune(&settings.profit_and_loss);
        self.revenues.retune(&settings.first_pages);
        self.expenses.retune(&settings.first_pages);
    }

    /// The first pages of one side.
    pub(crate) fn first_pages(&self, side: Side) -> &LiveCache<FirstPage> {
        match side {
            Side::Revenues => &self.revenues,
            Side::Expenses => &self.expenses,
        }
    }

    fn recent(&self, projection: Projection) -> &RecentEvents {
        match projection {
            Projection::Finance => &self.finance,
            Projection::FinanceSummary => &self.summary,
        }
    }

    fn forget_all(&self, projection: Projection) {
        match projection {
            Projection::FinanceSummary => self.summaries.forget_all(),
            Projection::Finance => {
                self.cash.forget_all();
                self.results.forget_all();
                self.revenues.forget_all();
                self.expenses.forget_all();
            }
        }
    }

    /// Deferred upkeep of all namespaces and their gauges; to be called about once a second.
    pub(crate) async fn tend(&self) {
        self.orgs.tend().await;
        self.properties.tend().await;
        self.cash.tend().await;
        self.summaries.tend().await;
        self.results.tend().await;
        self.revenues.tend().await;
        self.expenses.tend().await;
    }
}

impl Observer for Caches {
    fn begin(&self, projection: Projection, shard: Shard, position: i64) {
        if self.recent(projection).begin(shard, position) {
            tracing::error!(%shard, projection = projection.name(), "the tables went back; its entries are dropped");
            self.forget_all(projection);
        }
    }

    fn corrected(&self, projection: Projection, shard: Shard, epoch: i64) {
        self.recent(projection).raise_epoch(shard, epoch);
    }

    fn committed<'a>(
        &'a self,
        projection: Projection,
        shard: Shard,
        events: &'a [RecordedEvent],
    ) -> BoxFuture<'a, ()> {
        // First the log, then the entries: the order that `live` relies on.
        if self.recent(projection).extend(shard, events).is_err() {
            tracing::error!(%shard, projection = projection.name(), "events were not told; its entries are dropped");
            self.forget_all(projection);
        }
        Box::pin(async move {
            match projection {
                Projection::FinanceSummary => self.summaries.apply(events).await,
                Projection::Finance => {
                    self.cash.apply(events).await;
                    self.results.apply(events).await;
                    self.revenues.apply(events).await;
                    self.expenses.apply(events).await;
                }
            }
        })
    }
}

/// The JSON of an answer.
pub(super) fn to_json(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).expect("answers have text keys and finite numbers").into()
}
