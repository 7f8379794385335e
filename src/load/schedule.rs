//! The schedule: when each request is intended, of which operation, with which content.
//!
//! A pure function of the seed and the load profile. Worker *k* of *N* takes the arrivals *i* with *i* mod *N* = *k*,
//! so that the workers of a run share one schedule without a word between them. Nothing here waits or sends.
//!
//! ```text
//! Poisson:   t(i+1) = t(i) − ln(1 − U) / λ      operation drawn with probability rate / λ
//! Constant:  t(i)   = i / λ                     operations interleaved by smooth weighted round robin
//! ```
//! with λ the sum of the operations' rates, in arrivals per second, and U uniform in [0, 1). A load in steps is the same
//! sequence in another time: see `profile`.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::profile::Profile;
use crate::scenario::{Arrivals, Scenario};

/// One intended request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Number within the run, over all workers, from 0.
    pub index: u64,
    /// Intended time, in µs from second 0 of the run's axis.
    pub intended_us: u64,
    /// Index into the scenario's operations.
    pub operation: usize,
    /// 64 random bits from which all of the request's values derive.
    pub content: u64,
}

/// Which part of the schedule a worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which worker, from 0; below `count`.
    pub index: u64,
    /// How many workers; at least 1.
    pub count: u64,
}

impl Shard {
    /// The whole schedule.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether an arrival belongs to this worker.
    pub fn takes(self, arrival: &Arrival) -> bool {
        arrival.index % self.count == self.index
    }
}

/// The arrivals of warm-up and measurement, in the order of their intended times.
#[derive(Debug, Clone)]
pub struct Schedule {
    random: ChaCha8Rng,
    spacing: Spacing,
    /// Offered rate of each operation, in arrivals per second.
    rates: Vec<f64>,
    /// Sum of `rates`.
    total: f64,
    /// By how much they are multiplied, and when.
    profile: Profile,
    /// Index of the next arrival.
    next: u64,
    /// No arrival is intended at or after this time, in µs.
    end_us: u64,
}

#[derive(Debug, Clone)]
enum Spacing {
    /// Credit of each operation: the one with most goes next.
    Constant { credit: Vec<f64> },
    /// Time of the last arrival, in µs, not rounded.
    Poisson { at_us: f64 },
}

impl Schedule {
    /// The schedule of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        let rates: Vec<f64> = scenario.operations.iter().map(|op| op.rate.get()).collect();
        let spacing = match scenario.load.arrivals {
            Arrivals::Constant => Spacing::Constant { credit: vec![0.0; rates.len()] },
            Arrivals::Poisson => Spacing::Poisson { at_us: 0.0 },
        };
        Self {
            random: ChaCha8Rng::seed_from_u64(scenario.seed),
            spacing,
            total: rates.iter().sum(),
            profile: Profile::of(&scenario.load),
            rates,
            next: 0,
            end_us: scenario.load.warm_up.get() + scenario.load.measure.get(),
        }
    }

    /// Uniform in [0, 1), with 53 random bits.
    fn uniform(random: &mut ChaCha8Rng) -> f64 {
        (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Time in µs and operation of the next arrival.
    fn draw(&mut self) -> (u64, usize) {
        let (plain_us, operation) = self.draw_plain();
        (self.profile.time_of(plain_us) as u64, operation)
    }

    /// The same at the operations' own rates.
    fn draw_plain(&mut self) -> (f64, usize) {
        match &mut self.spacing {
            Spacing::Constant { credit } => {
                let at_us = self.next as f64 / self.total * 1e6;
                (at_us, take_turn(credit, &self.rates, self.total))
            }
            Spacing::Poisson { at_us } => {
                *at_us -= (1.0 - Self::uniform(&mut self.random)).ln() / self.total * 1e6;
                let mark = Self::uniform(&mut self.random) * self.total;
                (*at_us, share_at(&self.rates, mark))
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.rates.is_empty() {
            return None;
        }
        let (intended_us, operation) = self.draw();
        if intended_us >= self.end_us {
            return None;
        }
        let arrival =
            Arrival { index: self.next, intended_us, operation, content: self.random.next_u64() };
        self.next += 1;
        Some(arrival)
    }
}

/// Smooth weighted round robin: everyone earns their rate, the richest goes and pays the total.
fn take_turn(credit: &mut [f64], rates: &[f64], total: f64) -> usize {
    let mut richest = 0;
    for operation in 0..credit.len() {
        credit[operation] += rates[operation];
        if credit[operation] > credit[richest] {
            richest = operation;
        }
    }
    credit[richest] -= total;
    richest
}

/// The operation whose share of the summed rates holds `mark`.
fn share_at(rates: &[f64], mark: f64) -> usize {
    let mut upper = 0.0;
    for (operation, rate) in rates.iter().enumerate() {
        upper += rate;
        if mark < upper {
            return operation;
        }
    }
    rates.len() - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::testing;
    use crate::scenario::Steps;
    use crate::units::Micros;

    fn scenario(seed: u64, arrivals: Arrivals, rates: &[f64], seconds: u64) -> Scenario {
        let mut scenario = testing::scenario(rates, seconds);
        scenario.seed = seed;
        scenario.load.arrivals = arrivals;
        scenario
    }

    /// The same in two to four steps of two seconds after a warm-up of one.
    fn in_steps(seed: u64, arrivals: Arrivals, rates: &[f64], percents: &[u32]) -> Scenario {
        let steps = Steps {
            percents: percents.to_vec(),
            each: Micros::from_secs(2),
            settle: Micros::from_secs(1),
        };
        let mut scenario = scenario(seed, arrivals, rates, 2 * percents.len() as u64);
        scenario.load.warm_up = Micros::from_secs(1);
        scenario.load.steps = Some(steps);
        scenario
    }

    fn any_percents() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::btree_set(10u32..400, 2..5).prop_map(|set| set.into_iter().collect())
    }

    fn any_arrivals() -> impl Strategy<Value = Arrivals> {
        prop::sample::select(vec![Arrivals::Constant, Arrivals::Poisson])
    }

    fn any_rates() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(0.5f64..120.0, 1..6)
    }

    proptest! {
        #[test]
        fn the_workers_together_are_the_single_worker(
            seed in any::<u64>(), arrivals in any_arrivals(), rates in any_rates(), workers in 1u64..6,
        ) {
            let scenario = scenario(seed, arrivals, &rates, 3);
            let whole: Vec<Arrival> = Schedule::new(&scenario).collect();
            let mut union: Vec<Arrival> = (0..workers)
                .map(|index| Shard { index, count: workers })
                .flat_map(|shard| Schedule::new(&scenario).filter(move |a| shard.takes(a)))
                .collect();
            union.sort_by_key(|arrival| arrival.index);
            prop_assert_eq!(union, whole);
        }

        #[test]
        fn the_workers_together_are_the_single_worker_in_steps_as_well(
            seed in any::<u64>(), arrivals in any_arrivals(), rates in any_rates(),
            percents in any_percents(), workers in 1u64..6,
        ) {
            let scenario = in_steps(seed, arrivals, &rates, &percents);
            let whole: Vec<Arrival> = Schedule::new(&scenario).collect();
            let mut union: Vec<Arrival> = (0..workers)
                .map(|index| Shard { index, count: workers })
                .flat_map(|shard| Schedule::new(&scenario).filter(move |a| shard.takes(a)))
                .collect();
            union.sort_by_key(|arrival| arrival.index);
            prop_assert_eq!(union, whole);
        }

        #[test]
        fn steps_are_the_plain_schedule_in_another_time(
            seed in any::<u64>(), arrivals in any_arrivals(), rates in any_rates(),
            percents in any_percents(),
        ) {
            let scenario = in_steps(seed, arrivals, &rates, &percents);
            let stepped: Vec<Arrival> = Schedule::new(&scenario).collect();
            let mut plain = scenario.clone();
            plain.load.steps = None;
            plain.load.measure = Micros::from_secs(100);
            let plain = Schedule::new(&plain).take(stepped.len());
            for (one, other) in stepped.iter().zip(plain) {
                let same = Arrival { intended_us: one.intended_us, ..other };
                prop_assert_eq!(*one, same, "who comes, and with what, does not depend on the steps");
            }
            prop_assert!(stepped.windows(2).all(|w| w[0].intended_us <= w[1].intended_us));
            let end_us = 1_000_000 * (1 + 2 * percents.len() as u64);
            prop_assert!(stepped.iter().all(|a| a.intended_us < end_us));
        }

        #[test]
        fn each_step_has_its_own_rate_and_the_warm_up_that_of_the_first(
            seed in any::<u64>(), arrivals in any_arrivals(), rates in any_rates(),
            percents in any_percents(),
        ) {
            let scenario = in_steps(seed, arrivals, &rates, &percents);
            let stepped: Vec<Arrival> = Schedule::new(&scenario).collect();
            let bounds = std::iter::once((0, 1, percents[0])).chain(
                percents.iter().zip(0..).map(|(percent, step)| (1 + 2 * step, 2, *percent)),
            );
            for (from_s, length_s, percent) in bounds {
                let within = from_s * 1_000_000..(from_s + length_s) * 1_000_000;
                let count = stepped.iter().filter(|a| within.contains(&a.intended_us)).count();
                let factor = f64::from(percent) / 100.0;
                let expected = rates.iter().sum::<f64>() * factor * length_s as f64;
                let tolerance = match arrivals {
                    Arrivals::Constant => 1.0 + 1e-6,
                    Arrivals::Poisson => 7.0 * expected.sqrt() + 2.0,
                };
                let off = (count as f64 - expected).abs();
                prop_assert!(off <= tolerance, "{count} at {percent}%, not {expected}");
            }
        }

        #[test]
        fn the_length_is_rate_times_duration(
            seed in any::<u64>(), arrivals in any_arrivals(), rates in any_rates(),
        ) {
            let scenario = scenario(seed, arrivals, &rates, 10);
            let expected = rates.iter().sum::<f64>() * 10.0;
            // Six standard deviations of a Poisson count; an even spacing is exact to one arrival.
            let tolerance = match arrivals {
                Arrivals::Constant => 1.0,
                Arrivals::Poisson => 6.0 * expected.sqrt() + 1.0,
            };
            let count = Schedule::new(&scenario).count() as f64;
            prop_assert!((count - expected).abs() <= tolerance, "{count} arrivals, not {expected}");
        }

        #[test]
        fn times_ascend_within_the_axis(
            seed in any::<u64>(), arrivals in any_arrivals(), rates in any_rates(),
        ) {
            let all: Vec<Arrival> = Schedule::new(&scenario(seed, arrivals, &rates, 3)).collect();
            prop_assert!(all.windows(2).all(|w| w[0].intended_us <= w[1].intended_us));
            prop_assert!(all.iter().all(|a| a.intended_us < 3_000_000));
            prop_assert!(all.iter().zip(0..).all(|(a, index)| a.index == index));
        }

        #[test]
        fn even_spacing_keeps_exact_proportions_at_every_moment(rates in any_rates()) {
            let mut counts = vec![0.0; rates.len()];
            let total: f64 = rates.iter().sum();
            for (arrival, sent) in Schedule::new(&scenario(1, Arrivals::Constant, &rates, 4)).zip(1..) {
                counts[arrival.operation] += 1.0;
                for (count, rate) in counts.iter().zip(&rates) {
                    let due = f64::from(sent) * rate / total;
                    prop_assert!((count - due).abs() < rates.len() as f64, "{count}, not {due}");
                }
            }
        }
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let schedule = Schedule::new(&scenario(7, Arrivals::Poisson, &[700.0, 300.0], 100));
        let times: Vec<u64> = schedule.map(|a| a.intended_us).collect();
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let above = gaps.iter().filter(|gap| **gap > 1000.0).count() as f64 / gaps.len() as f64;
        assert!((mean - 1000.0).abs() < 20.0, "mean gap {mean} µs");
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.02,
            "an exponential's deviation is its mean"
        );
        assert!((above - (-1.0f64).exp()).abs() < 0.01, "{above} of the gaps exceed the mean");
    }

    #[test]
    fn poisson_operations_follow_their_rates() {
        let schedule = Schedule::new(&scenario(7, Arrivals::Poisson, &[700.0, 300.0], 100));
        let operations: Vec<usize> = schedule.map(|a| a.operation).collect();
        let second = operations.iter().filter(|op| **op == 1).count() as f64;
        assert!((second / operations.len() as f64 - 0.3).abs() < 0.01);
    }

    #[test]
    fn another_seed_is_another_schedule() {
        let first = |seed| Schedule::new(&scenario(seed, Arrivals::Poisson, &[50.0], 1)).next();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
