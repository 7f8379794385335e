//! A distribution of times: a sparse HdrHistogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is told apart, in µs (ten minutes); a longer one is recorded as this.
pub const HIGHEST_US: u64 = 600_000_000;

/// An empty histogram of the one shape used everywhere: 1 µs to [`HIGHEST_US`], three significant digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_US, 3).expect("constant bounds are valid")
}

/// Recorded times in µs and how often each occurred, ascending. A full histogram takes 150 KB; one
/// operation's second holds a few dozen different values, so this is what is kept and sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    counts: Vec<(u64, u64)>,
}

impl Distribution {
    /// Keeps what a histogram has recorded.
    pub fn from_histogram(histogram: &Histogram<u64>) -> Self {
        let counts = histogram
            .iter_recorded()
            .map(|v| (v.value_iterated_to(), v.count_at_value()))
            .collect();
        Self { counts }
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The recorded values in µs, ascending, each with its count.
    pub fn counts(&self) -> &[(u64, u64)] {
        &self.counts
    }

    /// Adds everything recorded here to a histogram made by [`new_histogram`].
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for &(value, count) in &self.counts {
            histogram.saturating_record_n(value, count);
        }
    }

    /// Adds everything recorded in another distribution.
    pub fn absorb(&mut self, other: &Self) {
        self.counts.extend_from_slice(&other.counts);
        self.counts.sort_by_key(|(value, _)| *value);
        self.counts.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
    }

    /// This distribution as a histogram.
    pub fn to_histogram(&self) -> Histogram<u64> {
        Self::merged([self])
    }

    /// All of them as one histogram: percentiles are read from merged histograms, never averaged.
    pub fn merged<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Histogram<u64> {
        let mut all = new_histogram();
        for part in parts {
            part.add_to(&mut all);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Distribution {
        let mut histogram = new_histogram();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        Distribution::from_histogram(&histogram)
    }

    proptest! {
        #[test]
        fn absorbing_is_recording_both(
            a in prop::collection::vec(1u64..5000, 0..100), b in prop::collection::vec(1u64..5000, 0..100),
        ) {
            let mut both = of(&a);
            both.absorb(&of(&b));
            prop_assert_eq!(both, of(&[a, b].concat()));
        }

        #[test]
        fn a_distribution_keeps_every_count_and_percentile(values in prop::collection::vec(1u64..HIGHEST_US, 1..200)) {
            let mut histogram = new_histogram();
            for value in &values {
                histogram.record(*value).unwrap();
            }
            let back = Distribution::from_histogram(&histogram).to_histogram();
            prop_assert_eq!(&back, &histogram);
        }
    }
}
