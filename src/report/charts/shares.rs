//! Did the parts that carry the load carry it: the cache and the replicas.

use super::axis::Axis;
use super::chart::{Chart, Drawn, SeriesShape, extremes};
use super::ink::Ink;
use crate::report::format;
use crate::report::model::Report;

/// Cache hit ratio and replica share.
pub(in crate::report) fn shares(report: &Report) -> Drawn {
    let curves = &report.curves;
    let series = vec![
        SeriesShape::line(Ink::CacheHits, "cache hit ratio", &curves.cache_hit_ratio),
        SeriesShape::line(Ink::ReplicaShare, "replica share", &curves.replica_share),
    ];
    let y = Axis::from_zero(1.0, 4, format::percent);
    let mut chart = Chart::over_time(report, "shares", "Cache and replicas over time", y, series);
    let range = |curve| {
        format::or_not_measured(extremes([curve]), |(lowest, highest)| {
            format!("{} to {}", format::percent(lowest), format::percent(highest))
        })
    };
    chart.description = format!(
        "Cache hit ratio: {}. Replica share: {}.",
        range(&curves.cache_hit_ratio),
        range(&curves.replica_share)
    );
    chart.drawn()
}
