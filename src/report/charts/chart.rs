//! What a chart shows, before anything is drawn.

use super::axis::Axis;
use super::draw;
use super::ink::Ink;
use crate::report::curves::Curve;
use crate::report::model::Report;

/// A chart: axes, what lies behind, and series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    /// Unique on the page: names the title for assistive software.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// The chart in words, for those who do not see it.
    pub(super) description: String,
    pub(super) height: u32,
    pub(super) x: Axis,
    /// Whether the ticks of the x axis are labelled: of aligned charts only the lowest is.
    pub(super) x_labelled: bool,
    pub(super) y: Axis,
    /// Shaded from the left end to here, with a word or none.
    pub(super) shaded: Option<(f64, &'static str)>,
    /// Vertical marks with their short names.
    pub(super) marks: Vec<(f64, String)>,
    /// A horizontal line with its name.
    pub(super) limit: Option<(f64, String)>,
    pub(super) series: Vec<SeriesShape>,
}

/// A series: runs of points between gaps, labelled beside its end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeriesShape {
    pub(super) ink: Ink,
    pub(super) label: String,
    pub(super) runs: Vec<Vec<(f64, f64)>>,
    /// Where the filled area below begins, run by run; empty for a line.
    pub(super) floor: Vec<Vec<(f64, f64)>>,
}

impl SeriesShape {
    /// A line through the middle of each second; seconds without a value are gaps.
    pub(super) fn line(ink: Ink, label: impl Into<String>, curve: &Curve) -> Self {
        let mut runs = vec![Vec::new()];
        for (second, value) in curve.iter().enumerate() {
            match (value, runs.last_mut()) {
                (Some(value), Some(run)) => run.push((second as f64 + 0.5, *value)),
                (None, Some(run)) if !run.is_empty() => runs.push(Vec::new()),
                _ => {}
            }
        }
        runs.retain(|run| !run.is_empty());
        Self { ink, label: label.into(), runs, floor: Vec::new() }
    }
}

/// A chart as SVG, or nothing when none of its series was measured; and which were not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::report) struct Drawn {
    pub(in crate::report) svg: Option<String>,
    pub(in crate::report) missing: Vec<String>,
}

impl Chart {
    /// A chart over the run's time axis, with its warm-up and incidents.
    pub(super) fn over_time(
        report: &Report,
        id: &'static str,
        title: &'static str,
        y: Axis,
        series: Vec<SeriesShape>,
    ) -> Self {
        let warm_up = report.window.warm_up_s as f64;
        let marks = report.incidents.iter().zip(1..);
        Self {
            id,
            title,
            description: String::new(),
            height: 132,
            x: Axis::seconds(report.window.end()),
            x_labelled: false,
            y,
            shaded: (warm_up > 0.0).then_some((warm_up, "")),
            marks: marks
                .filter_map(|(incident, number)| {
                    Some((incident.second? as f64, number.to_string()))
                })
                .collect(),
            limit: None,
            series,
        }
    }

    /// Draws what was measured.
    pub(super) fn drawn(mut self) -> Drawn {
        let (measured, missing): (Vec<_>, Vec<_>) =
            self.series.into_iter().partition(|series| !series.runs.is_empty());
        self.series = measured;
        Drawn {
            svg: (!self.series.is_empty()).then(|| draw::svg(&self)),
            missing: missing.into_iter().map(|series| series.label).collect(),
        }
    }
}

/// The smallest and the largest value of some curves.
pub(super) fn extremes<'a>(curves: impl IntoIterator<Item = &'a Curve>) -> Option<(f64, f64)> {
    let values = curves.into_iter().flatten().flatten().copied();
    values.map(|v| (v, v)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_a_value_divides_a_line() {
        let curve = vec![None, Some(1.0), Some(2.0), None, None, Some(3.0)];
        let shape = SeriesShape::line(Ink::P50, "p50", &curve);
        assert_eq!(shape.runs, [vec![(1.5, 1.0), (2.5, 2.0)], vec![(5.5, 3.0)]]);
        assert!(SeriesShape::line(Ink::P50, "p50", &vec![None; 3]).runs.is_empty());
    }
}
