//! What comes one by one, taken in batches: the first at once, and every next one a pause later, with what came meanwhile. So who
//! comes alone does not wait, and the batches grow with the load.

use std::time::Duration;

use futures::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Most that one batch holds. A full one does not wait.
pub(crate) const BATCH_MAX: usize = 64;

/// Ends with the channel.
pub(super) fn batches<'a, T: Send + 'a>(
    from: impl std::ops::DerefMut<Target = mpsc::Receiver<T>> + Send + 'a,
    pause: Duration,
) -> impl Stream<Item = Vec<T>> + Send + 'a {
    stream::unfold((from, Instant::now()), move |(mut from, next)| async move {
        sleep_until(next).await;
        let mut batch = Vec::new();
        if from.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return None;
        }
        let pause = if batch.len() == BATCH_MAX { Duration::ZERO } else { pause };
        Some((batch, (from, Instant::now() + pause)))
    })
}
