//! A load in steps: what each asked for and what came of it, and where it gave way.

use super::axis::{Axis, Scale, Tick};
use super::chart::{Chart, Drawn, SeriesShape};
use super::ink::Ink;
use crate::report::format;
use crate::report::steps::{ClimbFigures, StepFigures};

/// Rates by step, and the p95 of the response time by step.
pub(in crate::report) fn steps(figures: &ClimbFigures) -> [Drawn; 2] {
    [rates(figures).drawn(), p95(figures).drawn()]
}

fn rates(figures: &ClimbFigures) -> Chart {
    let events = figures.is_of_events();
    let offered =
        |of: &StepFigures| if events { of.events_offered_per_s } else { of.offered_per_s };
    let achieved = |of: &StepFigures| if events { of.events_per_s } else { of.achieved_per_s };
    let (asked, came) = (points(figures, offered), points(figures, achieved));
    let highest = asked.iter().chain(&came).map(|(_, rate)| *rate).fold(0.0, f64::max);
    let (asked_name, came_name) = match events {
        true => ("events offered", "acknowledged"),
        false => ("offered", "achieved"),
    };
    let series = vec![line(Ink::Offered, asked_name, asked), line(Ink::Achieved, came_name, came)];
    let y = Axis::from_zero(highest, 4, format::per_second);
    let held = figures.held_per_s().map_or("nothing".to_owned(), format::per_second);
    let mut chart = chart(figures, "steps-rates", "Rates by step", y, series);
    chart.description =
        format!("{} of {} steps held, the last with {held}.", figures.climb.held, figures.climb.of);
    chart
}

fn p95(figures: &ClimbFigures) -> Chart {
    let times = points(figures, |of| of.response.map(|response| response.p95 as f64));
    let lowest = times.iter().map(|(_, us)| *us).fold(f64::INFINITY, f64::min);
    let highest = times.iter().map(|(_, us)| *us).fold(0.0, f64::max);
    let y =
        Axis::times(if lowest.is_finite() { lowest } else { 0.0 }, highest, format::duration_us);
    let series = vec![line(Ink::P95, "p95", times)];
    let mut chart = chart(figures, "steps-p95", "Response time p95 by step", y, series);
    chart.description = format!("The p95 of each step, at most {}.", format::duration_us(highest));
    chart
}

/// Step and figure, of the steps that have one.
fn points(figures: &ClimbFigures, of: impl Fn(&StepFigures) -> Option<f64>) -> Vec<(f64, f64)> {
    let rows = figures.rows();
    rows.filter_map(|(step, figures)| Some((step.number as f64, of(figures)?))).collect()
}

fn line(ink: Ink, label: &str, points: Vec<(f64, f64)>) -> SeriesShape {
    let runs = if points.is_empty() { Vec::new() } else { vec![points] };
    SeriesShape { ink, label: label.to_owned(), runs, floor: Vec::new() }
}

/// Steps from left to right, with a mark at the one that broke.
fn chart(
    figures: &ClimbFigures,
    id: &'static str,
    title: &'static str,
    y: Axis,
    series: Vec<SeriesShape>,
) -> Chart {
    let ended = figures.climb.ended_by();
    let mark = ended.map(|step| {
        let word = if figures.broken().is_some() { "broke" } else { "cannot be told" };
        (step.number as f64, word.to_owned())
    });
    Chart {
        id,
        title,
        description: String::new(),
        height: 160,
        x: axis(figures.climb.steps.len()),
        x_labelled: true,
        y,
        shaded: None,
        marks: mark.into_iter().collect(),
        limit: None,
        series,
    }
}

/// A place for each step, and half a place beside the first and the last.
fn axis(count: usize) -> Axis {
    const LABELS_MAX: usize = 20;
    let apart = count.div_ceil(LABELS_MAX).max(1);
    let ticks = (1..=count).step_by(apart);
    let tick = |number: usize| Tick { at: number as f64, label: format!("step {number}") };
    Axis {
        scale: Scale::Linear,
        range: 0.5..count.max(1) as f64 + 0.5,
        ticks: ticks.map(tick).collect(),
    }
}
