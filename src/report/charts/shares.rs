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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{Variant, report};

    #[test]
    fn the_chart_of_a_run_with_gaps_and_incidents() {
        let svg = shares(&report(Variant::Fail)).svg.unwrap();
        assert!(!svg.contains("#F"), "a placeholder colour is left");
        assert!(!svg.contains("font-"), "a font of plotters' is left");
        let lines = svg.matches("<polyline class=\"cache-hits\"").count();
        assert_eq!(lines, 2, "a gap divides the line");
        insta::assert_snapshot!("svg_shares_fail", svg);
    }

    #[test]
    fn a_curve_that_was_not_measured_is_named() {
        let mut report = report(Variant::Pass);
        report.curves.replica_share = vec![None; 80];
        let drawn = shares(&report);
        assert!(drawn.svg.is_some());
        assert_eq!(drawn.missing, ["replica share"]);
        assert_eq!(shares(&crate::report::fixture::report(Variant::Empty)).svg, None);
    }
}
