//! What is loaded of an organisation that is warmed: everything that the hosted services answer from the cache, with their
//! own loaders. See [`cache`](crate::cache) for why, when and how many.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
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
        .for_each_concurrent(at_once, async |orgs| {
            let failing = load_all(app, orgs, kept).await.len() as u64;
            loaded.increment(orgs.len() as u64 - failing);
            failed.increment(failing);
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

/// One kind of answer after another, each with one statement for all the organisations. With an organisation's first failure
/// it is done with: its next would add to the trouble. Returns those that failed.
async fn load_all(app: &App, orgs: &[OrgId], kept: &[Answers]) -> Vec<OrgId> {
    let (mut left, mut failed) = (orgs.to_vec(), Vec::new());
    for answers in kept {
        let failing = load(app, &left, *answers).await;
        left.retain(|org| !failing.contains(org));
        failed.extend(failing);
    }
    failed
}

/// Returns those that failed.
async fn load(app: &App, orgs: &[OrgId], answers: Answers) -> Vec<OrgId> {
    match answers {
        Answers::Properties => hold::<properties::Lists>(app, orgs).await,
        Answers::Record => hold::<orgs::Records>(app, orgs).await,
        Answers::Cash => hold::<cash::Books>(app, orgs).await,
        Answers::Summaries => hold::<read_models::Totals>(app, orgs).await,
        Answers::FirstPage(side) => {
            let pages = app.caches.first_pages(side);
            let warm = |org| {
                pages.warm(org, move |freshness| entries::load(app, org, side, freshness)).boxed()
            };
            each(orgs, warm).await
        }
    }
}

/// Has the cache hold what is found; what turns out to be too old is loaded again. Boxed, or the compiler cannot see that it
/// may be sent. Returns those that failed.
fn hold<'a, S: Statement>(app: &'a App, orgs: &'a [OrgId]) -> BoxFuture<'a, Vec<OrgId>> {
    Box::pin(async move {
        let cache = S::cache(app);
        let missing = cache.missing(orgs).await;
        let (found, mut failed) = find::<S>(app, missing.clone()).await;
        let found = &Ready::new(found);
        let warm = |org| {
            let load = found.first(org, move |freshness| load::one::<S>(app, org, freshness));
            cache.warm(org, load).boxed()
        };
        let there: Vec<OrgId> = missing.into_iter().filter(|org| !failed.contains(org)).collect();
        failed.extend(each(&there, warm).await);
        failed
    })
}

/// What is found of organisations, and those of which it is not known. One whose rows cannot be read is looked for in halves:
/// it must not hide the others.
async fn find<S: Statement>(app: &App, orgs: Vec<OrgId>) -> (HashMap<OrgId, S::Value>, Vec<OrgId>) {
    let (mut found, mut failed) = (HashMap::new(), Vec::new());
    let mut parts = vec![orgs];
    while let Some(mut part) = parts.pop() {
        match many::<S>(app, &part, Freshness::Any).await {
            Ok(values) => found.extend(values),
            Err(error) if part.len() > 1 && lies_in_rows(&error) => {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
            }
            Err(error) => {
                tracing::debug!(%error, orgs = part.len(), "organisations could not be loaded");
                failed.extend(part);
            }
        }
    }
    (found, failed)
}

fn lies_in_rows(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
}

/// Failures in a row from which on they are a server's and no organisation's.
const FAILURES_IN_A_ROW_MAX: usize = 3;

/// Warms one organisation after another. Returns those that failed, and those that were not tried any more.
async fn each<'a>(
    orgs: &[OrgId],
    warm: impl Fn(OrgId) -> BoxFuture<'a, Result<(), LiveError<sqlx::Error>>>,
) -> Vec<OrgId> {
    let (mut failed, mut in_a_row) = (Vec::new(), 0);
    for org in orgs {
        if in_a_row == FAILURES_IN_A_ROW_MAX {
            failed.push(*org);
            continue;
        }
        match warm(*org).await {
            Ok(()) => in_a_row = 0,
            Err(error) => {
                tracing::debug!(?error, %org, "an organisation could not be warmed");
                failed.push(*org);
                in_a_row += 1;
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Mutex;

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

    #[tokio::test]
    async fn one_that_fails_stops_no_other_unless_all_do() {
        let org = |number| OrgId::new(number).unwrap();
        let orgs: Vec<OrgId> = (1..=9).map(org).collect();
        let (tried, bad) = (&Mutex::new(Vec::new()), &Mutex::new(vec![2, 4, 5, 9]));
        let warm = |org: OrgId| {
            tried.lock().unwrap().push(org.get());
            let failed = bad.lock().unwrap().contains(&org.get());
            ready(if failed { Err(LiveError::Outrun) } else { Ok(()) }).boxed()
        };
        assert_eq!(each(&orgs, warm).await, [2, 4, 5, 9].map(org));
        assert_eq!(std::mem::take(&mut *tried.lock().unwrap()), (1..=9).collect::<Vec<_>>());
        *bad.lock().unwrap() = vec![4, 5, 6];
        assert_eq!(each(&orgs, warm).await, [4, 5, 6, 7, 8, 9].map(org));
        assert_eq!(*tried.lock().unwrap(), (1..=6).collect::<Vec<_>>());
    }
}
