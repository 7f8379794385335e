//! The profile: how fast the plain schedule goes by, and when.
//!
//! A load in steps sends the sequence of the plain schedule, the one at the operations' own rates, in a time of its own:
//! where the factor is 2, two plain seconds go by in one. With gaps that are exponential, or even, in plain time, so they
//! are within each step at its rate; and what an arrival holds does not depend on the steps at all.

use crate::scenario::{LoadSpec, Steps};

/// Times of the plain schedule to times of the run.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    /// Ascending; the first begins at 0.
    stretches: Vec<Stretch>,
    /// The stretch of the last time asked for: times are asked for in ascending order.
    current: usize,
}

/// From some time on, plain time goes by so many times as fast.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    begin_us: f64,
    begin_plain_us: f64,
    factor: f64,
}

impl Profile {
    /// Of a load: one stretch without steps; else one for each, the first with the warm-up before it.
    pub(super) fn of(load: &LoadSpec) -> Self {
        let factors: Vec<f64> =
            load.steps.as_ref().map_or(vec![1.0], |steps| steps.factors().collect());
        let each_us = load.steps.as_ref().map_or(0, |steps: &Steps| steps.each.get()) as f64;
        let warm_up_us = load.warm_up.get() as f64;
        let mut stretches: Vec<Stretch> = Vec::with_capacity(factors.len());
        for (step, factor) in factors.into_iter().enumerate() {
            let begin_us = if step == 0 { 0.0 } else { warm_up_us + step as f64 * each_us };
            let begin_plain_us = stretches.last().map_or(0.0, |last| last.plain(begin_us));
            stretches.push(Stretch { begin_us, begin_plain_us, factor });
        }
        Self { stretches, current: 0 }
    }

    /// When a time of the plain schedule comes, in µs; ask in ascending order.
    pub(super) fn time_of(&mut self, plain_us: f64) -> f64 {
        while self.stretches.get(self.current + 1).is_some_and(|s| s.begin_plain_us <= plain_us) {
            self.current += 1;
        }
        let Stretch { begin_us, begin_plain_us, factor } = self.stretches[self.current];
        begin_us + (plain_us - begin_plain_us) / factor
    }
}

impl Stretch {
    fn plain(self, us: f64) -> f64 {
        self.begin_plain_us + (us - self.begin_us) * self.factor
    }
}
