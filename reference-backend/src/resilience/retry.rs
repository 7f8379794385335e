//! Tries again what failed, with growing waits and jitter, within a budget: retries are a share of the calls, so that a
//! dependency that fails all calls does not get several times as many.

use std::fmt;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use metrics::{Counter, counter};
use tower::retry::budget::{Budget, TpsBudget};

use crate::config;

/// How long a call counts for the budget.
const WINDOW: Duration = Duration::from_secs(10);

/// The retries of one dependency.
pub(super) struct Retries {
    waits: ExponentialBuilder,
    budget: TpsBudget,
    made: Counter,
    denied: Counter,
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retries").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Retries {
    pub(super) fn new(name: &str, settings: config::Retry) -> Self {
        let outcome = |outcome| counter!("backend_retries_total", "dependency" => name.to_owned(), "outcome" => outcome);
        Self {
            waits: ExponentialBuilder::new()
                .with_jitter()
                .with_min_delay(settings.first_ms.duration())
                .with_max_delay(settings.longest_ms.duration())
                .with_max_times(settings.times_max),
            budget: TpsBudget::new(WINDOW, settings.budget_per_second_min, settings.budget_ratio),
            made: outcome("made"),
            denied: outcome("over-budget"),
        }
    }

    /// Calls until it works, `again` says that another try is no use, or the tries or the budget are used up.
    pub(super) async fn run<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        again: impl Fn(&E) -> bool,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        self.budget.deposit();
        // Asked last, when nothing else ends the tries: only a retry that is made is taken from the budget.
        let within_budget = |_: &E, wait: Option<Duration>| wait.filter(|_| self.withdraw());
        attempt.retry(self.waits).when(again).adjust(within_budget).await
    }

    fn withdraw(&self) -> bool {
        let granted = self.budget.withdraw();
        let counter = if granted { &self.made } else { &self.denied };
        counter.increment(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::Millis;

    fn retries(times_max: usize, budget_ratio: f32, budget_per_second_min: u32) -> Retries {
        let (first_ms, longest_ms) = (Millis(1), Millis(2));
        let settings =
            config::Retry { times_max, first_ms, longest_ms, budget_ratio, budget_per_second_min };
        Retries::new("test", settings)
    }

    /// Tries made by a number of calls that all fail.
    async fn tries(retries: &Retries, calls: usize, again: bool) -> usize {
        let tries = Cell::new(0);
        for _ in 0..calls {
            let attempt = async || {
                tries.set(tries.get() + 1);
                Err::<(), _>(())
            };
            retries.run(|()| again, attempt).await.unwrap_err();
        }
        tries.get()
    }

    #[tokio::test]
    async fn a_failed_call_is_tried_so_often_and_only_if_it_may_be() {
        let generous = retries(2, 1.0, 100);
        assert_eq!(tries(&generous, 1, true).await, 3);
        assert_eq!(tries(&generous, 1, false).await, 1);
    }

    #[tokio::test]
    async fn an_outage_costs_no_more_than_the_budget() {
        let tight = retries(2, 0.1, 0);
        assert_eq!(tries(&tight, 1_000, true).await, 1_100, "without a budget: 3,000");
    }

    #[tokio::test]
    async fn what_works_at_last_is_a_success() {
        let left = Cell::new(2_u32);
        let attempt = async || match left.get() {
            0 => Ok("answer"),
            n => {
                left.set(n - 1);
                Err(())
            }
        };
        assert_eq!(retries(2, 1.0, 10).run(|()| true, attempt).await, Ok("answer"));
    }
}
