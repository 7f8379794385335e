//! How far projections and replicas were behind.

use super::axis::Axis;
use super::chart::{Chart, Drawn, SeriesShape, extremes};
use super::ink::Ink;
use crate::report::format;
use crate::report::model::Report;

/// Projection lag and replication lag.
pub(in crate::report) fn lags(report: &Report) -> Drawn {
    let curves = &report.curves;
    let both = [&curves.projection_lag_ms, &curves.replication_lag_ms];
    let highest = extremes(both).map_or(0.0, |(_, highest)| highest);
    let series = vec![
        SeriesShape::line(Ink::ProjectionLag, "projection lag", &curves.projection_lag_ms),
        SeriesShape::line(Ink::ReplicationLag, "replication lag", &curves.replication_lag_ms),
    ];
    let time = |ms: f64| format::duration_us(ms * 1e3);
    let y = Axis::from_zero(highest, 3, time);
    let mut chart = Chart::over_time(report, "lags", "Lags over time", y, series);
    chart.height = 92;
    chart.description = format!("Projections and replicas behind by at most {}.", time(highest));
    chart.drawn()
}
