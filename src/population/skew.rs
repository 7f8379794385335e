//! Chooses organisations the way real traffic does: a few are busy, most are not. Pure, and without memory:
//! nothing grows with the population.

use std::num::NonZeroU64;

use super::mix::mix64;
use crate::ids::OrgId;
use crate::scenario::Skew;

/// Turns a number drawn evenly from 0 to 1 into an organisation.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    law: Law,
    places: Permutation,
}

#[derive(Debug, Clone, Copy)]
enum Law {
    Uniform { organisations: NonZeroU64 },
    Zipf(Zipf),
}

impl Sampler {
    /// A sampler over the organisations 1 to `organisations`; `seed` decides which of them are busy.
    pub fn new(skew: &Skew, organisations: NonZeroU64, seed: u64) -> Self {
        let law = match *skew {
            Skew::Uniform => Law::Uniform { organisations },
            Skew::Zipf { exponent } => Law::Zipf(Zipf::new(exponent, organisations)),
        };
        Self { law, places: Permutation::new(organisations, seed) }
    }

    /// The organisation at `u`, which must be at least 0 and below 1.
    pub fn organisation(&self, u: f64) -> OrgId {
        let rank = match self.law {
            Law::Uniform { organisations } => scale(u, organisations),
            Law::Zipf(zipf) => zipf.rank(u) - 1,
        };
        self.of_rank(rank)
    }

    /// The organisation at a zero-based rank; rank 0 is the busiest.
    pub fn of_rank(&self, rank: u64) -> OrgId {
        OrgId::from_index(self.places.at(rank))
    }
}

/// A whole number below `below`, even over `u` in 0 to 1.
pub(super) fn scale(u: f64, below: NonZeroU64) -> u64 {
    ((u * below.get() as f64) as u64).min(below.get() - 1)
}

/// P(k) ∝ 1/k^s for k in 1..=n, by rejection-inversion: W. Hörmann, G. Derflinger, "Rejection-inversion to generate
/// variates from monotone discrete distributions", ACM TOMACS 6(3), 1996. Exact, and with no table of n entries.
#[derive(Debug, Clone, Copy)]
struct Zipf {
    exponent: f64,
    n: f64,
    /// H(3/2) − 1, where the area of k = 1 ends.
    h_low: f64,
    /// H(n + 1/2).
    h_high: f64,
    /// How far right of k the inverse may fall and be accepted without looking.
    squeeze: f64,
}

impl Zipf {
    fn new(exponent: f64, n: NonZeroU64) -> Self {
        let mut zipf = Self { exponent, n: n.get() as f64, h_low: 0.0, h_high: 0.0, squeeze: 0.0 };
        zipf.h_low = zipf.h(1.5) - 1.0;
        zipf.h_high = zipf.h(zipf.n + 0.5);
        zipf.squeeze = 2.0 - zipf.h_inverse(zipf.h(2.5) - zipf.weight(2.0));
        zipf
    }

    fn rank(&self, u: f64) -> u64 {
        let mut u = u;
        loop {
            let area = self.h_high + u * (self.h_low - self.h_high);
            let x = self.h_inverse(area);
            let k = x.round().clamp(1.0, self.n);
            if k - x <= self.squeeze || area >= self.h(k + 0.5) - self.weight(k) {
                return k as u64;
            }
            // Rejected (rare): draw again, from what the first draw determines.
            u = (mix64(u.to_bits()) >> 11) as f64 / (1_u64 << 53) as f64;
        }
    }

    fn weight(&self, k: f64) -> f64 {
        (-self.exponent * k.ln()).exp()
    }

    /// H(x) = (x^(1−s) − 1) / (1−s), and ln x for s = 1: an integral of 1/x^s.
    fn h(&self, x: f64) -> f64 {
        let (ln, q) = (x.ln(), 1.0 - self.exponent);
        if q.abs() < 1e-9 { ln } else { (q * ln).exp_m1() / q }
    }

    fn h_inverse(&self, area: f64) -> f64 {
        let q = 1.0 - self.exponent;
        // Below −1 only by rounding, where x is at its end.
        if q.abs() < 1e-9 { area.exp() } else { ((area * q).max(-1.0).ln_1p() / q).exp() }
    }
}

/// A keyed one-to-one map of 0..n onto itself: a Feistel network on the next power of four, walked until the result
/// falls below n (fewer than four steps on average). J. Black, P. Rogaway, "Ciphers with arbitrary finite domains", 2002.
#[derive(Debug, Clone, Copy)]
struct Permutation {
    n: NonZeroU64,
    half_bits: u32,
    keys: [u64; 4],
}

impl Permutation {
    fn new(n: NonZeroU64, seed: u64) -> Self {
        let bits = u64::BITS - (n.get() - 1).leading_zeros();
        let keys = std::array::from_fn(|round| mix64(seed ^ mix64(round as u64)));
        Self { n, half_bits: bits.div_ceil(2).max(1), keys }
    }

    fn at(&self, index: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let mut value = index;
        loop {
            let (mut left, mut right) = (value >> self.half_bits, value & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (mix64(right ^ key) & mask));
            }
            value = left << self.half_bits | right;
            if value < self.n.get() {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::collections::{HashMap, HashSet};

    fn size(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    /// Pearson's statistic of `draws` samples against P(k) ∝ 1/k^s, over n ranks.
    fn chi_square(exponent: f64, n: u64, draws: u32) -> f64 {
        let zipf = Zipf::new(exponent, size(n));
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut seen = vec![0.0; n as usize];
        for _ in 0..draws {
            seen[zipf.rank(rng.random()) as usize - 1] += 1.0;
        }
        let weights: Vec<f64> = (1..=n).map(|k| (k as f64).powf(-exponent)).collect();
        let total: f64 = weights.iter().sum();
        let expected = weights.iter().map(|w| w / total * f64::from(draws));
        seen.iter().zip(expected).map(|(seen, expected)| (seen - expected).powi(2) / expected).sum()
    }

    #[test]
    fn ranks_follow_the_law() {
        for exponent in [0.5, 1.0, 1.05, 2.0] {
            // 99.9 % point of chi-square with 19 degrees of freedom.
            let statistic = chi_square(exponent, 20, 200_000);
            assert!(statistic < 43.8, "exponent {exponent}: chi-square {statistic}");
        }
    }

    #[test]
    fn the_busiest_of_a_million_have_their_share() {
        let (exponent, n, draws) = (1.05, 1_000_000_u64, 300_000);
        let zipf = Zipf::new(exponent, size(n));
        let total: f64 = (1..=n).map(|k| (k as f64).powf(-exponent)).sum();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let ranks: Vec<u64> = (0..draws).map(|_| zipf.rank(rng.random())).collect();
        for top in [1, 10, 1000, 100_000] {
            let share = ranks.iter().filter(|rank| **rank <= top).count() as f64 / f64::from(draws);
            let theory = (1..=top).map(|k| (k as f64).powf(-exponent)).sum::<f64>() / total;
            let sigma = (theory * (1.0 - theory) / f64::from(draws)).sqrt();
            assert!((share - theory).abs() < 4.0 * sigma, "top {top}: {share} against {theory}");
        }
    }

    #[test]
    fn the_ends_of_the_unit_interval_are_inside() {
        for exponent in [0.1, 1.0, 4.0] {
            for n in [1, 2, 1_000_000_000] {
                let zipf = Zipf::new(exponent, size(n));
                for u in [0.0, f64::EPSILON, 0.5, 1.0 - f64::EPSILON] {
                    assert!((1..=n).contains(&zipf.rank(u)), "{exponent} {n} {u}");
                }
            }
        }
    }

    #[test]
    fn every_rank_is_another_organisation() {
        for n in [1, 2, 3, 17, 1000, 65_537] {
            let sampler = Sampler::new(&Skew::Uniform, size(n), 3);
            let seen: HashSet<_> = (0..n).map(|rank| sampler.of_rank(rank)).collect();
            assert_eq!(seen.len() as u64, n);
            assert!(seen.iter().all(|org| org.get() <= n));
        }
    }

    #[test]
    fn the_seed_decides_who_is_busy() {
        let busiest = |seed| {
            let sampler = Sampler::new(&Skew::Zipf { exponent: 1.05 }, size(1_000_000), seed);
            (0..100).map(|rank| sampler.of_rank(rank).get()).collect::<Vec<_>>()
        };
        assert_eq!(busiest(1), busiest(1));
        assert_ne!(busiest(1), busiest(2));
        // Busy organisations are spread over all ids: about half of them lie in the upper half.
        let upper = busiest(1).iter().filter(|id| **id > 500_000).count();
        assert!((30..=70).contains(&upper), "{upper} of 100");
    }

    #[test]
    fn uniform_traffic_is_even() {
        let sampler = Sampler::new(&Skew::Uniform, size(10), 1);
        let mut seen: HashMap<OrgId, u32> = HashMap::new();
        for i in 0..10_000 {
            *seen.entry(sampler.organisation(f64::from(i) / 10_000.0)).or_default() += 1;
        }
        assert!(seen.len() == 10 && seen.values().all(|count| *count == 1000), "{seen:?}");
    }
}
