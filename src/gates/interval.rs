//! How far a share seen in a sample can lie from the true one: the exact binomial bounds of Clopper and Pearson
//! (Biometrika 26, 1934).
//!
//! With k of n: low = B⁻¹(α; k, n−k+1), high = B⁻¹(1−α; k+1, n−k), B the beta distribution. α = 0.05 on either side, so
//! that each bound by itself is right 95 times in 100.

use statrs::distribution::{Beta, ContinuousCDF};

/// Chance of a bound being wrong.
const ALPHA: f64 = 0.05;

/// The true share behind `k` of `n` lies above the first with 95 % confidence, and below the second with the same.
/// Holds for independent samples; requests of one run are not quite that, so it is a little too narrow.
pub(super) fn share_bounds(k: u64, n: u64) -> (f64, f64) {
    assert!(k <= n, "{k} of {n}");
    if n == 0 {
        return (0.0, 1.0);
    }
    let (k_f, n_f) = (k as f64, n as f64);
    let quantile = |a: f64, b: f64, share: f64| {
        Beta::new(a, b).expect("both shapes are at least 1").inverse_cdf(share)
    };
    let low = if k == 0 { 0.0 } else { quantile(k_f, n_f - k_f + 1.0, ALPHA) };
    let high = if k == n { 1.0 } else { quantile(k_f + 1.0, n_f - k_f, 1.0 - ALPHA) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_agree_with_published_values() {
        // Closed form without occurrences: high = 1 − 0.05^(1/n).
        for (n, limit) in [(59, 0.05), (299, 0.01), (2995, 0.001)] {
            let (low, high) = share_bounds(0, n);
            assert_eq!(low, 0.0);
            assert!((high - (1.0 - 0.05_f64.powf(1.0 / n as f64))).abs() < 1e-9);
            assert!(high <= limit && share_bounds(0, n - 1).1 > limit, "{n}");
        }
        // R: binom.test(10, 100, conf.level = 0.90)$conf.int
        let (low, high) = share_bounds(10, 100);
        assert!((low - 0.055_263).abs() < 1e-5 && (high - 0.163_667).abs() < 1e-4, "{low} {high}");
    }

    #[test]
    fn bounds_hold_at_the_size_of_a_real_run() {
        let (low, high) = share_bounds(15_000, 300_000);
        assert!(low > 0.0493 && low < 0.05 && high > 0.05 && high < 0.0507, "{low} {high}");
    }

    proptest! {
        #[test]
        fn the_observed_share_lies_within(n in 1u64..100_000, part in 0.0..=1.0f64) {
            let k = (n as f64 * part) as u64;
            let (low, high) = share_bounds(k, n);
            let share = k as f64 / n as f64;
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low <= share && share <= high, "{low} {share} {high}");
        }
    }
}
