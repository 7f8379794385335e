//! Was the load real: what was offered, what was sent, what came to nothing.

use super::axis::Axis;
use super::chart::{Chart, Drawn, SeriesShape, extremes};
use super::ink::Ink;
use crate::report::format;
use crate::report::model::Report;

/// Offered and achieved rate, and what was not answered as expected.
pub(in crate::report) fn rates(report: &Report) -> Drawn {
    let curves = &report.curves;
    let highest = |curve| extremes([curve]).map_or(0.0, |(_, highest)| highest);
    let top = highest(&curves.offered).max(highest(&curves.achieved));
    let not_ok = highest(&curves.not_ok);
    // On an axis made for the whole load a few failures look like none: the label says how many.
    let not_ok_label = match extremes([&curves.not_ok]) {
        Some((_, most)) if most > 0.0 => format!("not OK, max {}", format::per_second(most)),
        _ => "not OK".to_owned(),
    };
    let series = vec![
        SeriesShape::line(Ink::Offered, "offered", &curves.offered),
        SeriesShape::line(Ink::Achieved, "achieved", &curves.achieved),
        SeriesShape::line(Ink::NotOk, not_ok_label, &curves.not_ok),
    ];
    let y = Axis::from_zero(top.max(not_ok), 4, format::per_second);
    let mut chart = Chart::over_time(report, "rates", "Rates over time", y, series);
    chart.shaded = chart.shaded.map(|(until, _)| (until, "warm-up, not judged"));
    chart.description = format!(
        "Per second: offered at most {}, achieved at most {}, not OK at most {}.",
        format::per_second(highest(&curves.offered)),
        format::per_second(highest(&curves.achieved)),
        format::per_second(not_ok)
    );
    chart.drawn()
}
