//! What users waited, second by second.

use super::axis::Axis;
use super::chart::{Chart, Drawn, SeriesShape, extremes};
use super::ink::Ink;
use crate::report::format;
use crate::report::model::Report;

/// Percentiles of the response time of each second's arrivals.
pub(in crate::report) fn response(report: &Report) -> Drawn {
    let curves = &report.curves;
    let (lowest, highest) = extremes([&curves.p50, &curves.p95, &curves.p99]).unwrap_or((0.0, 0.0));
    let series = vec![
        SeriesShape::line(Ink::P50, "p50", &curves.p50),
        SeriesShape::line(Ink::P95, "p95", &curves.p95),
        SeriesShape::line(Ink::P99, "p99", &curves.p99),
    ];
    let y = Axis::times(lowest, highest, format::duration_us);
    let mut chart = Chart::over_time(report, "response", "Response time over time", y, series);
    chart.description = format!(
        "p50, p95 and p99 of each second, between {} and {}.",
        format::duration_us(lowest),
        format::duration_us(highest)
    );
    chart.drawn()
}
