//! What was observed of the servers, second by second, on the run's one time axis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which series: a Prometheus-style name with labels. Everything observed, from a scrape, from Postgres or
/// from `/proc`, is named this way, so that a signal can be defined as a selection of series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// As Prometheus names it, unit last: `backend_cache_requests_total`.
    pub name: String,
    /// Label names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl SeriesKey {
    /// A key with labels.
    pub fn new<'a>(name: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { name: name.to_owned(), labels }
    }

    /// A label's value, or nothing.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

/// One value per second of the axis; `None` where nothing could be read. Counters are kept as read
/// (cumulative), so that the increase over any window is exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Which.
    #[serde(flatten)]
    pub key: SeriesKey,
    /// Entry *s* was read about *s* seconds after the axis began.
    pub values: Vec<Option<f64>>,
}

/// All series of a run. Second 0 is the first intended arrival of the warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Length of the axis, in seconds; every series has `seconds + 1` values: one at each boundary.
    pub seconds: usize,
    /// Sorted by key.
    pub series: Vec<Series>,
}

impl Timeline {
    /// The series of one name whose labels include all the given ones.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Series> {
        self.series.iter().filter(move |series| {
            series.key.name == name && labels.iter().all(|(k, v)| series.key.label(k) == Some(*v))
        })
    }
}

impl Series {
    /// By how much a counter rose from second `from` to second `to` (the nearest values read inside those
    /// bounds); a counter that starts again from zero counts from zero. `None` with fewer than two values.
    pub fn increase(&self, from: usize, to: usize) -> Option<f64> {
        let end = (to + 1).min(self.values.len());
        let read: Vec<f64> = self.values.get(from..end)?.iter().flatten().copied().collect();
        if read.len() < 2 {
            return None;
        }
        let step = |pair: &[f64]| if pair[1] >= pair[0] { pair[1] - pair[0] } else { pair[1] };
        Some(read.windows(2).map(step).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(values: &[Option<f64>]) -> Series {
        Series { key: SeriesKey::new("c", []), values: values.to_vec() }
    }

    #[test]
    fn an_increase_is_exact_over_gaps_and_restarts() {
        let series = counter(&[Some(10.0), None, Some(16.0), Some(2.0), Some(5.0)]);
        assert_eq!(series.increase(0, 4), Some(6.0 + 2.0 + 3.0));
        assert_eq!(series.increase(0, 1), None, "one value is no increase");
        assert_eq!(series.increase(9, 12), None);
    }

    #[test]
    fn selection_needs_every_label() {
        let series = Series { key: SeriesKey::new("c", [("a", "1"), ("b", "2")]), values: vec![] };
        let timeline = Timeline { seconds: 0, series: vec![series] };
        assert_eq!(timeline.select("c", &[("a", "1")]).count(), 1);
        assert_eq!(timeline.select("c", &[("a", "2")]).count(), 0);
    }
}
