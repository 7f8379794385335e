//! Who used the processors: the system under test, or the generator that measures it.

use super::axis::Axis;
use super::chart::{Chart, Drawn, SeriesShape};
use super::ink::Ink;
use crate::report::curves::Curve;
use crate::report::figures::within;
use crate::report::format;
use crate::report::model::Report;

/// Cores in use, groups of processes stacked, the busiest lowest.
pub(in crate::report) fn cpu(report: &Report) -> Drawn {
    let groups = &report.curves.cpu;
    let seconds = report.window.end();
    let mut below: Curve = vec![Some(0.0); seconds];
    let mut series = Vec::new();
    let mut told = Vec::new();
    for ((name, curve), ink) in groups.iter().zip(Ink::CPU.into_iter().cycle()) {
        // A second that one group lacks is a gap in all above it: a stack cannot stand on nothing.
        let above: Curve = below.iter().zip(curve).map(|(b, c)| Some((*b)? + (*c)?)).collect();
        let floor: Curve = below.iter().zip(&above).map(|(b, a)| a.and(*b)).collect();
        let label = mean(within(curve, report.window))
            .map_or_else(|| name.clone(), |cores| format!("{name} {}", cores_text(cores)));
        let mut shape = SeriesShape::line(ink, label.clone(), &above);
        shape.floor = SeriesShape::line(ink, "", &floor).runs;
        series.push(shape);
        told.push(label);
        below = above;
    }
    let total = below.iter().flatten().copied().fold(0.0, f64::max);
    let cores = report.environment.cores as f64;
    // The machine's size belongs into the picture only when the use comes near enough to compare by eye.
    let shows_limit = cores > 0.0 && total > cores / 4.0;
    let y = Axis::from_zero(if shows_limit { total.max(cores) } else { total }, 4, cores_text);
    let mut chart = Chart::over_time(report, "cpu", "Processor use over time", y, series);
    chart.x_labelled = true;
    chart.limit = shows_limit.then(|| (cores, format!("all {cores} cores")));
    chart.description = format!(
        "Cores in use on average over the measured window: {}; at most {} together.",
        told.join(", "),
        cores_text(total)
    );
    let mut drawn = chart.drawn();
    if drawn.svg.is_none() {
        drawn.missing = vec!["processor use".to_owned()];
    }
    drawn
}

fn mean(values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

fn cores_text(cores: f64) -> String {
    format::significant((cores * 100.0).round() / 100.0)
}
