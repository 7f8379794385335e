//! Latency by percentile, on an axis that gives every nine the same room: log of 1/(1−q).
//!
//! Response and service time side by side: where they part, requests waited before they were sent.

use super::axis::{Axis, Tick};
use super::chart::{Chart, Drawn, SeriesShape};
use super::ink::Ink;
use crate::report::figures::PercentileCurve;
use crate::report::format;
use crate::report::model::Report;

/// Response and service time by percentile.
pub(in crate::report) fn percentile(report: &Report) -> Drawn {
    let curves = [&report.response, &report.service];
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let rarest = points().map(|(rarity, _)| *rarity).fold(10.0, f64::max);
    let lowest = points().map(|(_, us)| us.max(1.0)).fold(f64::INFINITY, f64::min);
    let highest = points().map(|(_, us)| *us).fold(0.0, f64::max);
    let shape = |ink, label: &str, curve: &PercentileCurve| SeriesShape {
        ink,
        label: label.to_owned(),
        runs: if curve.points.is_empty() { Vec::new() } else { vec![curve.points.clone()] },
        floor: Vec::new(),
    };
    let chart = Chart {
        id: "percentile",
        title: "Latency by percentile",
        description: format!(
            "Response and service time of all operations together, up to the slowest request at {}.",
            format::duration_us(highest)
        ),
        height: 240,
        x: rarity_axis(rarest),
        x_labelled: true,
        y: Axis::times(if lowest.is_finite() { lowest } else { 0.0 }, highest, format::duration_us),
        shaded: None,
        marks: Vec::new(),
        limit: None,
        series: vec![
            shape(Ink::Response, "response time", &report.response),
            shape(Ink::Service, "service time", &report.service),
        ],
    };
    chart.drawn()
}

fn rarity_axis(rarest: f64) -> Axis {
    const TICKS: [(f64, &str); 8] = [
        (2.0, "p50"),
        (10.0, "p90"),
        (20.0, "p95"),
        (100.0, "p99"),
        (1e3, "p99.9"),
        (1e4, "p99.99"),
        (1e5, "p99.999"),
        (1e6, "p99.9999"),
    ];
    let mut axis = Axis::log(1.0, rarest, |_| String::new());
    axis.range = 1.0..rarest;
    // The slowest request ends the axis; a tick right beside it would run into its label.
    let shown = TICKS.into_iter().filter(|(at, _)| at * 2.0 < rarest);
    let ticks = shown.chain([(rarest, "slowest")]);
    axis.ticks = ticks.map(|(at, label)| Tick { at, label: label.to_owned() }).collect();
    axis
}
