//! Waiting for a condition: always with a limit, and never forgetting what was seen last.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::StackError;

/// What a look at the condition found.
pub(super) enum Seen<T> {
    /// It holds.
    Done(T),
    /// Not yet, and what was seen instead.
    NotYet(String),
}

/// A condition did not come to hold in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimedOut {
    /// How long it was waited for.
    pub(super) limit: Duration,
    /// What was seen last.
    pub(super) last: String,
}

/// Looks every `interval` until the condition holds or `limit` has passed. An error of the look itself ends the wait.
pub(super) async fn wait_for<T, F>(
    limit: Duration,
    interval: Duration,
    mut look: impl FnMut() -> F,
) -> Result<Result<T, TimedOut>, StackError>
where
    F: Future<Output = Result<Seen<T>, StackError>>,
{
    let deadline = Instant::now() + limit;
    let mut last = "nothing was seen of it".to_owned();
    loop {
        // The look may hang where the condition does: the limit covers it too.
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(seen) => match seen? {
                Seen::Done(value) => return Ok(Ok(value)),
                Seen::NotYet(status) => last = status,
            },
            Err(_) => return Ok(Err(TimedOut { limit, last })),
        }
        if Instant::now() + interval > deadline {
            return Ok(Err(TimedOut { limit, last }));
        }
        sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const INTERVAL: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn the_last_status_is_in_the_time_out() {
        let mut looks = 0;
        let outcome: Result<(), TimedOut> = wait_for(LIMIT, INTERVAL, || {
            looks += 1;
            ready(Ok(Seen::NotYet(format!("look {looks}"))))
        })
        .await
        .unwrap();
        let timed_out = outcome.unwrap_err();
        assert_eq!(timed_out.limit, LIMIT);
        assert_eq!(timed_out.last, format!("look {looks}"));
        assert!(looks > 10, "it looked again and again, {looks} times");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_limited() {
        let outcome: Result<(), TimedOut> = wait_for(LIMIT, INTERVAL, pending).await.unwrap();
        assert!(outcome.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_to_hold_ends_the_wait() {
        let mut looks = 0;
        let outcome = wait_for(LIMIT, INTERVAL, || {
            looks += 1;
            ready(Ok(if looks == 3 { Seen::Done(looks) } else { Seen::NotYet(String::new()) }))
        });
        assert_eq!(outcome.await.unwrap(), Ok(3));
    }
}
