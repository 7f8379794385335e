//! What is loaded of an organisation that is warmed: everything that the hosted services answer from the cache, with their
//! own loaders. See [`cache`](crate::cache) for why, when and how many.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use metrics::counter;
use tokio::time::MissedTickBehavior;

use super::load::{self, Statement, many};
use super::{Service, cash, entries, orgs, properties, read_models};
use crate::cache::{BATCH_MAX, LiveError, Ready, Side, Warmable};
use crate::db::Freshness;
use crate::domain::OrgId;
use crate::gateway::App;
use crate::jobs::WarmList;

/// One kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Properties,
    Cash,
    Record,
    Summaries,
    FirstPage(Side),
}

/// Loads the organisations that the caches ask for, until dropped.
pub(crate) async fn warm(app: Arc<App>, hosted: Vec<Service>, first_pages: bool) {
    let kept = kept(&hosted, app.following.is_some(), first_pages);
    let (app, kept) = (&app, &kept);
    app.caches.warming.run(|orgs| async move { load_all(app, &orgs, kept).await }).await;
}

/// Loads the organisations of the warm list: those there are at the start, and those of every new list. Until dropped.
pub(crate) async fn warm_listed(
    app: Arc<App>,
    hosted: Vec<Service>,
    first_pages: bool,
    at_once: usize,
) {
    let kept = kept(&hosted, app.following.is_some(), first_pages);
    if at_once == 0 {
        return;
    }
    let mut tick = tokio::time::interval(app.config.jobs.warm_list_interval_ms.duration());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        tick.tick().await;
        match WarmList::newer(&app, seen).await {
            Ok(Some(list)) => {
                seen = Some(list.computed_at);
                load_list(&app, list, &kept, at_once).await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the warm list could not be read"),
        }
    }
}

async fn load_list(app: &App, list: WarmList, kept: &[Answers], at_once: usize) {
    let outcome =
        |outcome: &'static str| counter!("backend_cache_list_warmed_total", "outcome" => outcome);
    let (loaded, failed) = (outcome("loaded"), outcome("failed"));
    stream::iter(list.orgs.chunks(BATCH_MAX))
        .for_each_concurrent(at_once, async |orgs| match load_all(app, orgs, kept).await {
            Ok(()) => loaded.increment(orgs.len() as u64),
            Err(error) => {
                tracing::debug!(?error, "organisations of the warm list could not be loaded");
                failed.increment(orgs.len() as u64);
            }
        })
        .await;
}

/// What is kept for the hosted services, the likeliest to be asked for next first. Answers that events change are kept only
/// where the process follows the events.
fn kept(hosted: &[Service], follows_events: bool, first_pages: bool) -> Vec<Answers> {
    let hosts = |service| hosted.contains(&service);
    let writes = hosts(Service::Revenues) || hosts(Service::Expenses);
    [
        (Answers::Properties, hosts(Service::Properties) || writes),
        (Answers::Cash, hosts(Service::Cash) && follows_events),
        (Answers::Record, hosts(Service::Orgs)),
        (Answers::Summaries, hosts(Service::ReadModels) && follows_events),
        (Answers::FirstPage(Side::Revenues), hosts(Service::Revenues) && first_pages),
        (Answers::FirstPage(Side::Expenses), hosts(Service::Expenses) && first_pages),
    ]
    .into_iter()
    .filter_map(|(answers, kept)| kept.then_some(answers))
    .collect()
}

type Warmed = Result<(), LiveError<sqlx::Error>>;

/// One kind of answer after another, each with one statement for all the organisations. The first failure ends it: the next
/// would add to the trouble.
async fn load_all(app: &App, orgs: &[OrgId], kept: &[Answers]) -> Warmed {
    for answers in kept {
        load(app, orgs, *answers).await?;
    }
    Ok(())
}

async fn load(app: &App, orgs: &[OrgId], answers: Answers) -> Warmed {
    match answers {
        Answers::Properties => hold::<properties::Lists>(app, orgs).await,
        Answers::Record => hold::<orgs::Records>(app, orgs).await,
        Answers::Cash => hold::<cash::Books>(app, orgs).await,
        Answers::Summaries => hold::<read_models::Totals>(app, orgs).await,
        Answers::FirstPage(side) => {
            for org in orgs {
                let load = |freshness| entries::load(app, *org, side, freshness);
                app.caches.first_pages(side).warm(*org, load).await?;
            }
            Ok(())
        }
    }
}

impl From<sqlx::Error> for LiveError<sqlx::Error> {
    fn from(error: sqlx::Error) -> Self {
        Self::Load(Arc::new(error))
    }
}

/// Has the cache hold what is found with one statement; what turns out to be too old is loaded again. Boxed, or the compiler
/// cannot see that it may be sent.
fn hold<'a, S: Statement>(app: &'a App, orgs: &'a [OrgId]) -> BoxFuture<'a, Warmed> {
    Box::pin(async move {
        let cache = S::cache(app);
        let missing = cache.missing(orgs).await;
        let found = Ready::new(many::<S>(app, &missing, Freshness::Any).await?);
        for org in missing {
            let load = found.first(org, move |freshness| load::one::<S>(app, org, freshness));
            cache.warm(org, load).await?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_process_answers_from_its_cache_is_loaded() {
        use Answers::{Cash, FirstPage, Properties, Record, Summaries};
        let pages = [FirstPage(Side::Revenues), FirstPage(Side::Expenses)];
        let four = [Properties, Cash, Record, Summaries];
        assert_eq!(kept(&Service::ALL, true, false), four);
        assert_eq!(kept(&Service::ALL, true, true), [&four[..], &pages].concat());
        assert_eq!(kept(&[Service::Cash, Service::Orgs], false, true), [Record]);
        assert_eq!(kept(&[Service::Properties], false, true), [Properties]);
        assert_eq!(kept(&[Service::Revenues], true, true), [Properties, pages[0]]);
    }
}
