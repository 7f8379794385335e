//! Misses of different organisations that come together are loaded together: one statement for ten of them costs little more
//! than one for each. Whoever cannot be served in this way loads alone, as if this were not there.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::batches::batches;
use crate::domain::OrgId;

/// Askers that may wait for a batch; one more loads alone.
const WAITING_MAX: usize = 4_096;

/// Where the misses of one kind of value meet.
#[derive(Debug)]
pub(crate) struct Together<V> {
    /// None while nobody loads.
    asks: Mutex<Option<mpsc::Sender<Ask<V>>>>,
}

#[derive(Debug)]
struct Ask<V> {
    org: OrgId,
    answer: oneshot::Sender<V>,
}

impl<V> Default for Together<V> {
    fn default() -> Self {
        Self { asks: Mutex::default() }
    }
}

impl<V: Send> Together<V> {
    /// The organisation's value, found with those of others. None where nobody loads, too many wait, or it was not found.
    pub(crate) async fn ask(&self, org: OrgId) -> Option<V> {
        let (answer, found) = oneshot::channel();
        self.send(Ask { org, answer })?;
        found.await.ok()
    }

    fn send(&self, ask: Ask<V>) -> Option<()> {
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        asks.as_ref()?.try_send(ask).ok()
    }

    fn set(&self, asks: Option<mpsc::Sender<Ask<V>>>) {
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = asks;
    }

    /// Loads what is asked for, a batch every `pause` at most, until dropped: then whoever waits loads alone. A batch does not wait
    /// for the one before it, whose server may be slow. `load` gives what it found.
    pub(crate) async fn run<F>(&self, pause: Duration, load: impl Fn(Vec<OrgId>) -> F)
    where
        F: Future<Output = HashMap<OrgId, V>>,
    {
        let (asks, mut asked) = mpsc::channel(WAITING_MAX);
        self.set(Some(asks));
        let _closes = Closes(self);
        let load = &load;
        batches(&mut asked, pause)
            .for_each_concurrent(None, |batch| async move {
                let mut found = load(batch.iter().map(|ask| ask.org).collect()).await;
                for Ask { org, answer } in batch {
                    if let Some(value) = found.remove(&org) {
                        // An error: the asker went away.
                        let _ = answer.send(value);
                    }
                }
            })
            .await;
    }
}

/// Nobody loads any more.
struct Closes<'a, V: Send>(&'a Together<V>);

impl<V: Send> Drop for Closes<'_, V> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::{join_all, pending};
    use tokio::time::{Instant, sleep};

    use super::*;

    const PAUSE: Duration = Duration::from_millis(10);

    fn org(number: i64) -> OrgId {
        OrgId::new(number).unwrap()
    }

    type Batches = Arc<Mutex<Vec<Vec<i64>>>>;

    /// Finds ten times the organisation's number, but nothing of 13, in no time.
    fn started() -> (Arc<Together<i64>>, Batches, tokio::task::JoinHandle<()>) {
        let (together, batches) = (Arc::new(Together::default()), Batches::default());
        let (of, seen) = (Arc::clone(&together), Arc::clone(&batches));
        let running = tokio::spawn(async move {
            let load = async |orgs: Vec<OrgId>| {
                seen.lock().unwrap().push(orgs.iter().map(|org| org.get()).collect());
                orgs.into_iter().filter(|o| *o != org(13)).map(|o| (o, 10 * o.get())).collect()
            };
            of.run(PAUSE, load).await;
        });
        (together, batches, running)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_alone_does_not_wait_and_who_comes_next_waits_for_company() {
        let (together, batches, running) = started();
        sleep(PAUSE).await;
        let begin = Instant::now();
        assert_eq!(together.ask(org(1)).await, Some(10));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let found = join_all([2, 3, 13].map(|number| together.ask(org(number)))).await;
        assert_eq!(found, [Some(20), Some(30), None]);
        assert_eq!(begin.elapsed(), PAUSE);
        assert_eq!(*batches.lock().unwrap(), [vec![1], vec![2, 3, 13]]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_loads_everybody_is_told_at_once() {
        let together = Arc::new(Together::<i64>::default());
        assert_eq!(together.ask(org(1)).await, None, "not begun");
        let of = Arc::clone(&together);
        let running = tokio::spawn(async move { of.run(PAUSE, |_| pending()).await });
        sleep(PAUSE).await;
        let waits = {
            let of = Arc::clone(&together);
            tokio::spawn(async move { of.ask(org(1)).await })
        };
        sleep(PAUSE).await;
        running.abort();
        assert_eq!(waits.await.unwrap(), None, "ended while it waited");
        assert_eq!(together.ask(org(1)).await, None, "ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_hangs_holds_up_no_other() {
        let together = Arc::new(Together::default());
        let of = Arc::clone(&together);
        let running = tokio::spawn(async move {
            let load = async |orgs: Vec<OrgId>| match orgs[0].get() {
                1 => pending().await,
                _ => orgs.into_iter().map(|org| (org, org.get())).collect(),
            };
            of.run(PAUSE, load).await;
        });
        sleep(PAUSE).await;
        let hung = {
            let of = Arc::clone(&together);
            tokio::spawn(async move { of.ask(org(1)).await })
        };
        sleep(PAUSE).await;
        assert_eq!(together.ask(org(2)).await, Some(2));
        assert!(!hung.is_finished());
        running.abort();
    }
}
