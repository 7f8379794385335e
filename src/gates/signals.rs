//! Figures about the server: series of the timeline over the measured window.
//!
//! A counter's increase is exact over gaps and restarts; a gauge's percentiles are over the seconds, by nearest rank; a
//! histogram's quantile is interpolated within its bucket. What cannot be computed is absent, never zero.

use std::collections::BTreeMap;

use super::figure::{Percentile, SignalName, Statistic};
use super::verdict::{Figure, Unit};
use crate::archive::{Series, Timeline, Window};
use crate::scenario::{Selector, SignalSource, Target};

/// How signals are computed for one target.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalBook {
    sources: BTreeMap<String, Form>,
    /// Replicas of the reference target; nothing for another. Its selectors are ours and checked, a scenario's may be misspelt.
    replicas: Option<usize>,
}

/// Share of the window's readings that may be missing.
const MISSING_MAX: f64 = 0.1;
/// The gauge of which every replica has a series.
const OF_EACH_REPLICA: &str = "replication_lag_ms";

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Source(SignalSource),
    /// The largest over the mean of the matching series, each at its last reading: 1 when all are even.
    Skew(String),
}

/// What a signal came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    /// The figure.
    pub(super) figure: Figure,
    /// The true value is at least this: it lies beyond a histogram's last finite bucket.
    pub(super) at_least: bool,
    /// Boundaries of the window at which not all of a gauge was read; 0 for anything else.
    pub(super) unread: usize,
}

/// The statistics of a gauge that a report shows.
const GAUGE_STATISTICS: [&str; 4] = ["p50", "p95", "p99", "max"];

impl SignalBook {
    /// The signals of a target: those of the reference target, or those that the scenario defines.
    pub fn of(target: &Target) -> Self {
        match target {
            Target::Reference(target) => Self::reference(usize::from(target.replicas)),
            Target::Http(http) => {
                let own = http.signals.sources.iter();
                let sources = own.map(|(n, s)| (n.clone(), Form::Source(s.clone()))).collect();
                Self { sources, replicas: None }
            }
        }
    }

    /// The signals of the reference target.
    fn reference(replicas: usize) -> Self {
        let ratio = |part: &str, of: &str| {
            Form::Source(SignalSource::Ratio { part: part.to_owned(), of: of.to_owned() })
        };
        let seconds_as_ms =
            |of: &str| Form::Source(SignalSource::Gauge { of: of.to_owned(), scale: 1e3 });
        let named = [
            (
                "cache_hit_ratio",
                ratio(
                    r#"backend_cache_requests_total{outcome="hit"}"#,
                    "backend_cache_requests_total",
                ),
            ),
            (
                "replica_share",
                ratio(
                    r#"backend_reads_total{source="replica"}"#,
                    r#"backend_reads_total{source=~"replica|primary"}"#,
                ),
            ),
            ("projection_lag_ms", seconds_as_ms("backend_projection_lag_seconds")),
            // As the primary tells it: a replica that hangs cannot report its own lag.
            ("replication_lag_ms", seconds_as_ms("pg_replication_lag_seconds")),
            (
                "projected_rate",
                Form::Source(SignalSource::Rate {
                    of: r#"pg_projected_total{projection="finance"}"#.to_owned(),
                }),
            ),
            (
                "db_query",
                Form::Source(SignalSource::Histogram {
                    of: "backend_db_query_duration_seconds".to_owned(),
                    quantile: 0.95,
                    scale: 1e3,
                }),
            ),
            (
                "partition_skew",
                Form::Skew(
                    r#"pg_partition_rows{table="daily_cash_balances_partitioned"}"#.to_owned(),
                ),
            ),
        ];
        let sources = named.map(|(name, form)| (name.to_owned(), form)).into();
        Self { sources, replicas: Some(replicas) }
    }

    /// The signals of this target by name, without their statistics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// Whether this target has the signal: a gate on another could only ever be inconclusive.
    pub fn defines(&self, signal: &SignalName) -> bool {
        let Some((form, statistic)) = self.find(signal) else { return false };
        match form {
            Form::Source(SignalSource::Gauge { .. }) => statistic.is_some(),
            Form::Source(SignalSource::Histogram { .. }) => statistic != Some(Statistic::Max),
            Form::Source(_) | Form::Skew(_) => statistic.is_none(),
        }
    }

    /// The form behind a name, and the statistic to read from it.
    fn find(&self, signal: &SignalName) -> Option<(&Form, Option<Statistic>)> {
        match self.sources.get(&signal.to_string()) {
            Some(form) => Some((form, None)),
            None => self.sources.get(&signal.base).map(|form| (form, signal.statistic)),
        }
    }

    /// A signal over the measured window.
    pub(super) fn read(
        &self,
        signal: &SignalName,
        timeline: &Timeline,
        window: Window,
    ) -> Option<Reading> {
        let (form, statistic) = self.find(signal)?;
        let eye = Eye { timeline, from: window.warm_up_s, to: window.end(), unit: signal.unit() };
        match (form, statistic) {
            (Form::Skew(of), None) => eye.skew(of),
            (Form::Source(SignalSource::Ratio { part, .. }), None)
                if self.may_be_misspelt(part, timeline) =>
            {
                None
            }
            (Form::Source(SignalSource::Ratio { part, of }), None) => eye.ratio(part, of),
            (Form::Source(SignalSource::Rate { of }), None) => eye.rate(of),
            (Form::Source(SignalSource::Gauge { of, scale }), Some(statistic)) => {
                let reading = eye.gauge(of, *scale, statistic)?;
                let unread = eye.unread(of, self.series_due(&signal.base, of, timeline));
                Some(Reading { unread, ..reading })
            }
            (Form::Source(SignalSource::Histogram { of, quantile, scale }), statistic) => {
                let quantile = match statistic {
                    Some(Statistic::Percentile(percentile)) => percentile.share(),
                    Some(Statistic::Mean | Statistic::Max) => return None,
                    None => *quantile,
                };
                eye.histogram(of, quantile, *scale)
            }
            _ => None,
        }
    }

    /// Whether a selector of the scenario's own matches nothing that was ever read. That its events never occurred cannot be
    /// told from a slip of the pen.
    fn may_be_misspelt(&self, of: &str, timeline: &Timeline) -> bool {
        let Ok(selector) = of.parse::<Selector>() else { return true };
        let mut matching = selector.matching(timeline);
        self.replicas.is_none() && !matching.any(|one| one.values.iter().any(Option::is_some))
    }

    /// How many series of a gauge must have been read at a boundary for their largest to be known. Those of another's
    /// service may come and go.
    fn series_due(&self, signal: &str, of: &str, timeline: &Timeline) -> usize {
        let (Some(replicas), Ok(selector)) = (self.replicas, of.parse::<Selector>()) else {
            return 1;
        };
        let known = selector.matching(timeline).count();
        if signal == OF_EACH_REPLICA { known.max(replicas) } else { known }
    }

    /// Why a signal could not be computed.
    pub(super) fn why_absent(&self, signal: &SignalName, timeline: &Timeline) -> String {
        match self.find(signal) {
            Some((Form::Source(SignalSource::Ratio { part, .. }), _))
                if self.may_be_misspelt(part, timeline) =>
            {
                format!(
                    "nothing was read that matches {part}, and whether it is zero or misspelt cannot be told"
                )
            }
            Some((Form::Source(SignalSource::Rate { of }), _))
                if increase(timeline, of, 0, timeline.seconds).is_some() =>
            {
                "it was not read over enough of the window to speak for it".to_owned()
            }
            _ => "no data".to_owned(),
        }
    }

    /// Every signal that could be computed, by name; gauges with `_p50`, `_p95`, `_p99` and `_max`.
    pub fn figures(&self, timeline: &Timeline, window: Window) -> BTreeMap<String, Figure> {
        let names = self.sources.iter().flat_map(|(name, form)| {
            let statistics: &[&str] = match form {
                Form::Source(SignalSource::Gauge { .. }) => &GAUGE_STATISTICS,
                // The scenario's own histogram has its one quantile; the reference target's is `db_query_p95`.
                Form::Source(SignalSource::Histogram { .. }) if name == "db_query" => &["p95"],
                _ => return vec![SignalName { base: name.clone(), statistic: None }],
            };
            let with = |s: &&str| SignalName { base: name.clone(), statistic: s.parse().ok() };
            statistics.iter().map(with).collect()
        });
        names
            .filter_map(|signal| {
                let reading = self.read(&signal, timeline, window)?;
                (!reading.at_least).then(|| (signal.to_string(), reading.figure))
            })
            .collect()
    }
}

/// A timeline seen through a window: boundaries `from..=to`.
struct Eye<'a> {
    timeline: &'a Timeline,
    from: usize,
    to: usize,
    unit: Unit,
}

impl Eye<'_> {
    fn reading(&self, value: f64, samples: f64) -> Option<Reading> {
        // A factor or a series may hold anything; a figure that is no number is no figure.
        value.is_finite().then(|| Reading {
            figure: Figure { value, unit: self.unit, samples: samples.round() as u64 },
            at_least: false,
            unread: 0,
        })
    }

    fn ratio(&self, part: &str, of: &str) -> Option<Reading> {
        let whole = increase(self.timeline, of, self.from, self.to)?;
        // A part that never occurred has no series; with a whole that was read, and a selector that is right, that is a
        // true zero.
        let part = increase(self.timeline, part, self.from, self.to).unwrap_or(0.0);
        if whole > 0.0 { self.reading(part / whole, whole) } else { None }
    }

    /// Over the seconds between the first and the last reading of any of the counters, so that a gap at an edge does not thin
    /// the rate; none when those are too few to speak for the window.
    fn rate(&self, of: &str) -> Option<Reading> {
        let rose = increase(self.timeline, of, self.from, self.to)?;
        let seconds = self.span(of)?;
        let missing = (self.to - self.from).saturating_sub(seconds);
        if too_many_missing(missing, self.to - self.from) {
            return None;
        }
        self.reading(rose / seconds as f64, seconds as f64)
    }

    /// Seconds from the first to the last reading of the matching counters.
    fn span(&self, of: &str) -> Option<usize> {
        let selector: Selector = of.parse().ok()?;
        let read = |series: &Series| ends(self.timeline, series, self.from, self.to);
        let ends = selector.matching(self.timeline).filter_map(read);
        let (first, last) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        (last > first).then_some(last - first)
    }

    fn gauge(&self, of: &str, scale: f64, statistic: Statistic) -> Option<Reading> {
        let selector: Selector = of.parse().ok()?;
        let series: Vec<&Series> = selector.matching(self.timeline).collect();
        let at = |second: usize| {
            let read = series.iter().filter_map(|one| one.values.get(second).copied().flatten());
            read.max_by(f64::total_cmp)
        };
        let mut values: Vec<f64> = (self.from..=self.to).filter_map(at).collect();
        values.sort_by(f64::total_cmp);
        let value = match statistic {
            Statistic::Percentile(percentile) => nearest_rank(&values, percentile)?,
            Statistic::Max => *values.last()?,
            Statistic::Mean => return None,
        };
        self.reading(value * scale, values.len() as f64)
    }

    /// Boundaries at which fewer than so many of the matching series were read.
    fn unread(&self, of: &str, series_due: usize) -> usize {
        let Ok(selector) = of.parse::<Selector>() else { return self.to + 1 - self.from };
        let series: Vec<&Series> = selector.matching(self.timeline).collect();
        let unread = |second: &usize| {
            let values = series.iter().filter_map(|one| one.values.get(*second).copied().flatten());
            values.count() < series_due
        };
        (self.from..=self.to).filter(unread).count()
    }

    fn histogram(&self, of: &str, quantile: f64, scale: f64) -> Option<Reading> {
        let buckets = self.buckets(of)?;
        let &(last, total) = buckets.last()?;
        if last != f64::INFINITY || total <= 0.0 {
            return None;
        }
        let rank = quantile * total;
        let at = buckets.iter().position(|(_, count)| *count >= rank)?;
        let (low, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
        let (high, up_to) = buckets[at];
        if high == f64::INFINITY {
            let reading = self.reading(low * scale, total)?;
            return Some(Reading { at_least: true, ..reading });
        }
        let share = if up_to > below { (rank - below) / (up_to - below) } else { 1.0 };
        self.reading((low + (high - low) * share) * scale, total)
    }

    /// Upper bounds of a histogram's buckets, ascending, with the increase of their cumulative counts.
    fn buckets(&self, of: &str) -> Option<Vec<(f64, f64)>> {
        let selector = of.parse::<Selector>().ok()?.with_suffix("_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for series in selector.matching(self.timeline) {
            let bound: f64 = series.key.label("le")?.parse().ok()?;
            let Some(rose) = increase_of(self.timeline, series, self.from, self.to) else {
                continue;
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += rose,
                None => buckets.push((bound, rose)),
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Buckets are read one after the other while requests go on: keep them cumulative.
        let mut highest = 0.0_f64;
        for (_, count) in &mut buckets {
            highest = highest.max(*count);
            *count = highest;
        }
        Some(buckets)
    }

    fn skew(&self, of: &str) -> Option<Reading> {
        let selector: Selector = of.parse().ok()?;
        let last = |series: &Series| {
            let end = (self.to + 1).min(series.values.len());
            series.values.get(self.from..end)?.iter().rev().flatten().next().copied()
        };
        let sizes: Vec<f64> = selector.matching(self.timeline).filter_map(last).collect();
        let sum: f64 = sizes.iter().sum();
        let largest = sizes.iter().copied().max_by(f64::total_cmp)?;
        if sum > 0.0 { self.reading(largest * sizes.len() as f64 / sum, sum) } else { None }
    }
}

/// Whether so many missing readings leave too little to judge by. One is never too many: a short run has few in all.
pub(super) fn too_many_missing(missing: usize, readings: usize) -> bool {
    missing > 1 && missing as f64 > MISSING_MAX * readings as f64
}

/// By how much all matching counters rose between two boundaries; nothing when none was read.
pub(super) fn increase(timeline: &Timeline, of: &str, from: usize, to: usize) -> Option<f64> {
    let selector: Selector = of.parse().ok()?;
    let rises = selector.matching(timeline);
    rises.filter_map(|series| increase_of(timeline, series, from, to)).reduce(|a, b| a + b)
}

/// By how much all matching counters rose in each second of the window that has a reading at both ends.
pub(super) fn per_second(timeline: &Timeline, of: &str, window: Window) -> Vec<f64> {
    let rose = |second: usize| increase(timeline, of, second, second + 1);
    window.measured().filter_map(rose).collect()
}

/// A counter with labels is born with its first count. One that appears within the window, after others of its
/// name had been read, therefore rose from zero to its first reading.
fn increase_of(timeline: &Timeline, series: &Series, from: usize, to: usize) -> Option<f64> {
    let rose = series.increase(from, to);
    let Some(birth) = series.values.iter().position(Option::is_some) else { return rose };
    if !(from + 1..=to).contains(&birth) {
        return rose;
    }
    // What is merely read late was not born: only a sibling that was read before proves that this one was not there.
    let older = |other: &&Series| other.values.iter().take(birth).any(Option::is_some);
    if siblings(timeline, series).any(|other| older(&other)) {
        Some(rose.unwrap_or(0.0) + series.values[birth]?)
    } else {
        rose
    }
}

/// The series of the same name that come with the same reading: of one process of the backend, of one Postgres server.
fn siblings<'a>(timeline: &'a Timeline, series: &'a Series) -> impl Iterator<Item = &'a Series> {
    let name = series.key.name.as_str();
    let source = |one: &Series| {
        let label = if name.starts_with("pg_") { "server" } else { "process" };
        // A foreign service may have a label of that name.
        let is_ours = name.starts_with("pg_") || name.starts_with("backend_");
        one.key.label(label).filter(|_| is_ours).map(str::to_owned)
    };
    let own = source(series);
    timeline.series.iter().filter(move |one| one.key.name == name && source(one) == own)
}

/// The first and the last boundary at which a counter was read, or is known to have been zero: one that was born within the
/// window was so when its siblings were read before.
fn ends(timeline: &Timeline, series: &Series, from: usize, to: usize) -> Option<(usize, usize)> {
    let first_of = |one: &Series| {
        let end = (to + 1).min(one.values.len());
        (from..end).find(|second| one.values[*second].is_some())
    };
    let first = first_of(series)?;
    let last = (first..(to + 1).min(series.values.len())).rev();
    let last = last.into_iter().find(|second| series.values[*second].is_some())?;
    let is_born = series.values.iter().take(first).all(Option::is_none);
    let zero_at = siblings(timeline, series).filter_map(first_of).min().filter(|_| is_born);
    Some((zero_at.map_or(first, |zero| zero.min(first)), last))
}

/// The smallest value with at least the percentile's share of all values at or below it.
fn nearest_rank(sorted: &[f64], percentile: Percentile) -> Option<f64> {
    let rank = (percentile.share() * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::archive::SeriesKey;
    use crate::gates::FigureName;
    use crate::scenario::{HttpTarget, ReferenceTarget, Signals};

    const WINDOW: Window = Window { warm_up_s: 1, measure_s: 4 };

    fn series(name: &str, labels: &[(&str, &str)], values: &[f64]) -> Series {
        let values = values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect();
        Series { key: SeriesKey::new(name, labels.iter().copied()), values }
    }

    fn reference(series: Vec<Series>) -> BTreeMap<String, Figure> {
        let target = Target::Reference(ReferenceTarget {
            replicas: 2,
            port: None,
            split: Vec::new(),
            channel_manager: None,
        });
        SignalBook::of(&target).figures(&Timeline { seconds: 5, series }, WINDOW)
    }

    fn read(name: &str, series: Vec<Series>) -> Option<Reading> {
        let target = Target::Reference(ReferenceTarget {
            replicas: 2,
            port: None,
            split: Vec::new(),
            channel_manager: None,
        });
        let Some(FigureName::Signal(signal)) = FigureName::parse(name, &BTreeSet::new()) else {
            panic!("{name} is a signal")
        };
        SignalBook::of(&target).read(&signal, &Timeline { seconds: 5, series }, WINDOW)
    }

    #[test]
    fn nothing_observed_gives_no_signal() {
        assert!(reference(vec![]).is_empty());
        let idle = series("backend_cache_requests_total", &[("outcome", "hit")], &[5.0; 6]);
        assert!(reference(vec![idle]).is_empty(), "no request is no ratio");
    }

    #[test]
    fn a_ratio_is_of_the_measured_window_alone() {
        let hits = [0.0, 0.0, 30.0, 60.0, 85.0, 90.0];
        let misses = [0.0, 900.0, 900.0, 905.0, 908.0, 910.0];
        let found = reference(vec![
            series("backend_cache_requests_total", &[("outcome", "hit")], &hits),
            series("backend_cache_requests_total", &[("outcome", "miss")], &misses),
        ]);
        let expected = Figure { value: 0.9, unit: Unit::Ratio, samples: 100 };
        assert_eq!(found["cache_hit_ratio"], expected);
    }

    #[test]
    fn a_counter_born_in_the_window_rose_from_zero() {
        let nan = f64::NAN;
        let found = reference(vec![
            series(
                "backend_reads_total",
                &[("source", "primary")],
                &[0.0, 0.0, 5.0, 5.0, 5.0, 5.0],
            ),
            series(
                "backend_reads_total",
                &[("source", "replica")],
                &[nan, nan, nan, 15.0, 15.0, 15.0],
            ),
        ]);
        assert_eq!(found["replica_share"].value, 0.75);
        assert_eq!(found["replica_share"].samples, 20);
    }

    #[test]
    fn a_rate_is_over_the_seconds_that_were_read() {
        let labels = [("projection", "finance")];
        let values = [0.0, 100.0, 200.0, f64::NAN, 400.0, f64::NAN];
        let found = reference(vec![series("pg_projected_total", &labels, &values)]);
        assert_eq!(
            found["projected_rate"],
            Figure { value: 100.0, unit: Unit::PerSecond, samples: 3 }
        );
    }

    #[test]
    fn a_rate_does_not_rest_on_a_burst_or_on_counting_a_second_twice() {
        let rate = |values: &[&[f64]]| {
            let pod = |(pod, values): (usize, &&[f64])| {
                series("jobs_total", &[("pod", pod.to_string().as_str())], values)
            };
            let series = values.iter().enumerate().map(pod).collect();
            let book = foreign("jobs_rate", SignalSource::Rate { of: "jobs_total".to_owned() });
            let signal = SignalName { base: "jobs_rate".to_owned(), statistic: None };
            let timeline = Timeline { seconds: 5, series };
            let value = book.read(&signal, &timeline, WINDOW).map(|reading| reading.figure.value);
            (value, book.why_absent(&signal, &timeline))
        };
        let nan = f64::NAN;
        let (value, why) = rate(&[&[0.0, nan, nan, 0.0, 900.0, nan]]);
        assert_eq!(value, None, "one second of four");
        assert!(why.contains("enough of the window"), "{why}");
        let even = [0.0, 0.0, 100.0, 200.0, 300.0, 400.0];
        let brief = [7.0, nan, nan, nan, 7.0, 407.0];
        assert_eq!(rate(&[&even, &brief]).0, Some(200.0), "800 in four seconds, not in one");
        let late = [nan, nan, nan, nan, 100.0, 200.0];
        assert_eq!(rate(&[&even, &late]).0, Some(150.0), "born in the window, and zero before");
    }

    #[test]
    fn a_process_that_is_read_late_did_not_rise_from_zero() {
        let nan = f64::NAN;
        let hits = |process: &str, values: &[f64]| {
            let labels = [("outcome", "hit"), ("process", process)];
            series("backend_cache_requests_total", &labels, values)
        };
        let misses = |process: &str, values: &[f64]| {
            let labels = [("outcome", "miss"), ("process", process)];
            series("backend_cache_requests_total", &labels, values)
        };
        let late = [nan, nan, nan, 9_000.0, 9_010.0, 9_020.0];
        let found = reference(vec![
            hits("backend", &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
            hits("backend-2", &late),
            misses("backend", &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
        ]);
        assert_eq!(found["cache_hit_ratio"].value, 0.6, "60 hits of 100");
    }

    #[test]
    fn a_gauge_is_its_worst_series_by_nearest_rank() {
        let name = "backend_projection_lag_seconds";
        let one = series(name, &[("projection", "finance")], &[9.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
        let two = series(name, &[("projection", "x")], &[9.0, 0.0, 0.9, f64::NAN, 0.0, 0.0]);
        let found = reference(vec![one, two]);
        assert_eq!(found["projection_lag_ms_p50"].value, 400.0);
        assert_eq!(found["projection_lag_ms_max"].value, 900.0);
        assert_eq!(found["projection_lag_ms_p95"].samples, 5);
        assert!(!found.contains_key("projection_lag_ms"));
    }

    fn histogram(counts: [f64; 3]) -> Vec<Series> {
        let bucket = |le: &str, count: f64| {
            let labels = [("le", le), ("kind", "read")];
            let values = [0.0, 7.0, 7.0, 7.0, 7.0, 7.0 + count];
            series("backend_db_query_duration_seconds_bucket", &labels, &values)
        };
        vec![bucket("0.01", counts[0]), bucket("0.02", counts[1]), bucket("+Inf", counts[2])]
    }

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        let reading = read("db_query_p95", histogram([90.0, 100.0, 100.0])).expect("computable");
        assert!((reading.figure.value - 15.0).abs() < 1e-9, "{reading:?}");
        assert_eq!((reading.figure.unit, reading.figure.samples), (Unit::Ms, 100));
        let median = read("db_query_p50", histogram([100.0, 100.0, 100.0])).expect("computable");
        assert!((median.figure.value - 5.0).abs() < 1e-9, "{median:?}");
    }

    #[test]
    fn a_quantile_beyond_the_last_bucket_is_a_lower_bound_and_not_shown() {
        let reading = read("db_query_p95", histogram([10.0, 90.0, 100.0])).expect("computable");
        assert!(reading.at_least);
        assert!((reading.figure.value - 20.0).abs() < 1e-9);
        assert!(!reference(histogram([10.0, 90.0, 100.0])).contains_key("db_query_p95"));
        let cut = histogram([90.0, 95.0, 100.0]).into_iter().take(2).collect();
        assert_eq!(read("db_query_p95", cut), None, "without +Inf the total is not known");
    }

    #[test]
    fn skew_is_the_largest_partition_over_the_mean() {
        let partition = |name: &str, rows: f64| {
            let labels = [("table", "daily_cash_balances_partitioned"), ("partition", name)];
            series("pg_partition_rows", &labels, &[0.0, 1.0, f64::NAN, rows, f64::NAN, f64::NAN])
        };
        let found = reference(vec![partition("p0", 10.0), partition("p1", 30.0)]);
        assert_eq!(found["partition_skew"].value, 1.5);
    }

    /// A foreign target with one signal of its own.
    fn foreign(name: &str, source: SignalSource) -> SignalBook {
        let sources = BTreeMap::from([(name.to_owned(), source)]);
        SignalBook::of(&Target::Http(HttpTarget {
            url: "https://example.org".to_owned(),
            metrics: None,
            bearer_token_env: None,
            signals: Signals { sources },
        }))
    }

    #[test]
    fn a_part_that_matches_nothing_is_no_zero() {
        let requests =
            |status: &str, values: &[f64]| series("requests", &[("status", status)], values);
        let ratio = |part: &str| {
            let (part, of) = (part.to_owned(), "requests".to_owned());
            let book = foreign("failed_ratio", SignalSource::Ratio { part, of });
            let signal = SignalName { base: "failed_ratio".to_owned(), statistic: None };
            let served = requests("200", &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
            let failed = requests("500", &[3.0; 6]);
            let timeline = Timeline { seconds: 5, series: vec![served, failed] };
            let value = book.read(&signal, &timeline, WINDOW).map(|reading| reading.figure.value);
            (value, book.why_absent(&signal, &timeline))
        };
        assert_eq!(
            ratio(r#"requests{status="500"}"#).0,
            Some(0.0),
            "it was read, and did not rise"
        );
        for part in [r#"requests{status="50"}"#, r#"request{status="500"}"#] {
            let (value, why) = ratio(part);
            assert_eq!(value, None, "{part}");
            assert!(why.contains(part), "{why}");
        }
        let misses = series(
            "backend_cache_requests_total",
            &[("outcome", "miss")],
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        );
        assert_eq!(
            reference(vec![misses])["cache_hit_ratio"].value,
            0.0,
            "our own selectors are right"
        );
    }

    #[test]
    fn a_second_counts_when_all_of_a_gauge_was_read() {
        let lag = |replica: &str, values: &[f64]| {
            series("pg_replication_lag_seconds", &[("replica", replica)], values)
        };
        let nan = f64::NAN;
        let unread = |series| read("replication_lag_ms_p95", series).unwrap().unread;
        let whole = || lag("replica-1", &[0.1; 6]);
        assert_eq!(unread(vec![whole(), lag("replica-2", &[0.1; 6])]), 0);
        assert_eq!(unread(vec![whole(), lag("replica-2", &[0.1, 0.1, nan, 0.1, nan, 0.1])]), 2);
        assert_eq!(unread(vec![whole()]), 5, "replica-2 never had a row");
        let book = foreign("depth", SignalSource::Gauge { of: "depth".to_owned(), scale: 1.0 });
        let signal = SignalName { base: "depth".to_owned(), statistic: "max".parse().ok() };
        let pods = vec![
            series("depth", &[("pod", "a")], &[1.0, 1.0, 1.0, nan, nan, nan]),
            series("depth", &[("pod", "b")], &[nan, nan, nan, 1.0, 1.0, nan]),
        ];
        let timeline = Timeline { seconds: 5, series: pods };
        assert_eq!(book.read(&signal, &timeline, WINDOW).unwrap().unread, 1);
        assert!(!too_many_missing(1, 5) && too_many_missing(2, 5));
        assert!(!too_many_missing(6, 61) && too_many_missing(7, 61));
    }

    #[test]
    fn a_foreign_target_has_the_signals_that_its_scenario_defines() {
        let gauge = SignalSource::Gauge { of: "depth".to_owned(), scale: 1.0 };
        let book = foreign("queue_depth", gauge);
        let extra = BTreeSet::from(["queue_depth".to_owned()]);
        let defines = |name: &str| match FigureName::parse(name, &extra) {
            Some(FigureName::Signal(signal)) => book.defines(&signal),
            other => panic!("{name} is {other:?}"),
        };
        assert!(defines("queue_depth_p95"));
        assert!(!defines("queue_depth"), "a gauge needs a statistic");
        assert!(!defines("cache_hit_ratio"), "not the reference target");
        let timeline = Timeline { seconds: 5, series: vec![series("depth", &[], &[3.0; 6])] };
        assert_eq!(book.figures(&timeline, WINDOW)["queue_depth_max"].value, 3.0);
    }
}
