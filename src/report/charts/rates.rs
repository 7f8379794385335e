//! Was the load real: what was offered, what was sent, what failed.

use super::axis::Axis;
use super::chart::{Chart, Drawn, SeriesShape, extremes};
use super::ink::Ink;
use crate::report::format;
use crate::report::model::Report;

/// Offered, achieved and failed arrivals per second.
pub(in crate::report) fn rates(report: &Report) -> Drawn {
    let curves = &report.curves;
    let highest = |curve| extremes([curve]).map_or(0.0, |(_, highest)| highest);
    let top = highest(&curves.offered).max(highest(&curves.achieved));
    let failed = highest(&curves.failed);
    // On an axis made for the whole load a few failures look like none: the label says how many.
    let failed_label = match extremes([&curves.failed]) {
        Some((_, most)) if most > 0.0 => format!("failed, max {}", format::per_second(most)),
        _ => "failed".to_owned(),
    };
    let series = vec![
        SeriesShape::line(Ink::Offered, "offered", &curves.offered),
        SeriesShape::line(Ink::Achieved, "achieved", &curves.achieved),
        SeriesShape::line(Ink::Failed, failed_label, &curves.failed),
    ];
    let y = Axis::from_zero(top.max(failed), 4, format::per_second);
    let mut chart = Chart::over_time(report, "rates", "Rates over time", y, series);
    chart.shaded = chart.shaded.map(|(until, _)| (until, "warm-up, not judged"));
    chart.description = format!(
        "Per second: offered at most {}, achieved at most {}, failed at most {}.",
        format::per_second(highest(&curves.offered)),
        format::per_second(highest(&curves.achieved)),
        format::per_second(failed)
    );
    chart.drawn()
}
