//! A request's body on its way through to another process, piece by piece. Knows whose turn it is, so that a slow client is
//! not taken for a slow process, nor a client that broke off for a broken one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;

/// A body that can be taken once.
#[derive(Debug)]
pub(super) struct Passing {
    body: Mutex<Option<Body>>,
    watch: Arc<Watch>,
}

#[derive(Debug)]
struct Watch {
    turn: Mutex<Turn>,
    broken_off: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Nothing can go on before the client has sent more.
    Client,
    /// All that the client has sent was handed on at this time.
    Other(Instant),
}

impl Passing {
    pub(super) fn new(body: Body) -> Self {
        let watch = Watch {
            turn: Mutex::new(Turn::Other(Instant::now())),
            broken_off: CancellationToken::new(),
        };
        Self { body: Mutex::new(Some(body)), watch: Arc::new(watch) }
    }

    /// The body; nothing the second time.
    pub(super) fn take(&self) -> impl Stream<Item = Result<Bytes, axum::Error>> + use<> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut body, watch) =
            (body.unwrap_or_default().into_data_stream(), Arc::clone(&self.watch));
        stream::poll_fn(move |context| {
            let polled = body.poll_next_unpin(context);
            watch.note(&polled);
            polled
        })
    }

    /// Returns when the client has broken off, within its body.
    pub(super) async fn broken_off(&self) {
        self.watch.broken_off.cancelled().await;
    }

    /// Tells whether nothing can go on before the client has sent more.
    pub(super) fn waits_for_client(&self) -> impl Fn() -> bool + Send + use<> {
        let watch = Arc::clone(&self.watch);
        move || matches!(*watch.turn(), Turn::Client)
    }

    /// Returns when it has been the other's turn for so long without a break.
    pub(super) fn overdue(&self, limit: Duration) -> impl Future<Output = ()> + Send + use<> {
        let watch = Arc::clone(&self.watch);
        async move {
            while let Some(left) = watch.left(limit) {
                tokio::time::sleep(left).await;
            }
        }
    }
}

impl Watch {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, polled: &Poll<Option<Result<Bytes, axum::Error>>>) {
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            self.broken_off.cancel();
        }
        *self.turn() = if polled.is_pending() { Turn::Client } else { Turn::Other(Instant::now()) };
    }

    /// How long at least the other has; None if its time is up.
    fn left(&self, limit: Duration) -> Option<Duration> {
        let left = match *self.turn() {
            Turn::Client => limit,
            Turn::Other(since) => limit.saturating_sub(since.elapsed()),
        };
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn passing() -> (mpsc::UnboundedSender<io::Result<&'static str>>, Passing) {
        let (send, mut sent) = mpsc::unbounded_channel();
        (send, Passing::new(Body::from_stream(stream::poll_fn(move |cx| sent.poll_recv(cx)))))
    }

    #[tokio::test]
    async fn time_runs_for_who_has_all_that_was_sent() {
        let (send, passing) = passing();
        let mut body = Box::pin(passing.take());
        passing.overdue(SHORT).await;
        let waits_for_client = passing.waits_for_client();
        assert!(!waits_for_client());

        assert!(futures::poll!(body.next()).is_pending());
        assert!(waits_for_client());
        let waits = tokio::time::timeout(10 * SHORT, passing.overdue(SHORT)).await;
        assert!(waits.is_err(), "the client's time counts for the other");

        send.send(Ok("piece")).unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "piece");
        // Not asked for more.
        assert!(!waits_for_client());
        passing.overdue(SHORT).await;

        drop(send);
        assert!(body.next().await.is_none());
        passing.overdue(SHORT).await;
        assert!(passing.broken_off().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_breaks_off_is_told_from_who_is_done() {
        let (send, passing) = passing();
        let mut body = Box::pin(passing.take());
        send.send(Err(io::Error::other("gone"))).unwrap();
        assert!(body.next().await.unwrap().is_err());
        assert!(passing.broken_off().now_or_never().is_some());
        assert!(passing.take().next().await.is_none(), "there is no second body");
    }
}
