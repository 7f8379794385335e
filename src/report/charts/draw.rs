//! Draws a chart with plotters.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, DrawingArea, IntoDrawingArea, PathElement, Polygon, Rectangle,
    SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, ShapeStyle, TextStyle};

use super::chart::{Chart, SeriesShape};
use super::ink::Ink;
use super::theme;

/// plotters places by whole units; ten to a unit of the page keep curves smooth.
const FINE: u32 = 10;
const WIDTH: u32 = 1080;
const LEFT: u32 = 62;
const RIGHT: u32 = 136;
const TOP: u32 = 14;
const BOTTOM_LABELLED: u32 = 22;
const BOTTOM: u32 = 9;
/// Between the middles of two labels.
const LABEL_HEIGHT: i32 = fine(13);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Context<'a, 'b> =
    ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawing = Result<(), Box<dyn std::error::Error>>;

/// The chart as themed SVG.
pub(super) fn svg(chart: &Chart) -> String {
    let mut raw = String::new();
    draw(chart, &mut raw).expect("drawing into memory cannot fail");
    theme::themed(&raw, chart.id, chart.title, &chart.description)
}

fn draw(chart: &Chart, raw: &mut String) -> Drawing {
    let bottom = if chart.x_labelled { BOTTOM_LABELLED } else { BOTTOM };
    let size = (WIDTH * FINE, (chart.height + TOP + bottom) * FINE);
    let root = SVGBackend::with_string(raw, size).into_drawing_area();
    let mut context = ChartBuilder::on(&root)
        .margin_top(TOP * FINE)
        .margin_bottom(bottom * FINE)
        .margin_left(LEFT * FINE)
        .margin_right(RIGHT * FINE)
        .build_cartesian_2d(chart.x.places(), chart.y.places())
        .map_err(|error| error.to_string())?;
    background(chart, &root, &mut context)?;
    for series in &chart.series {
        shape(chart, series, &mut context)?;
    }
    marks(chart, &root, &mut context)?;
    labels(chart, &root, &context)?;
    root.present()?;
    Ok(())
}

fn background(chart: &Chart, root: &Area<'_>, context: &mut Context<'_, '_>) -> Drawing {
    let (x, y) = (chart.x.places(), chart.y.places());
    if let Some((until, word)) = chart.shaded {
        let corner = (chart.x.place(until), y.start);
        let shade = Rectangle::new([(x.start, y.end), corner], filled(Ink::WarmUp));
        context.draw_series([shade])?;
        let at = context.backend_coord(&(x.start, y.end));
        let at = (at.0 + fine(6), at.1 + fine(9));
        text(root, word, at, Ink::Tick, HPos::Left)?;
    }
    for tick in &chart.y.ticks {
        let at = chart.y.place(tick.at);
        context.draw_series([PathElement::new([(x.start, at), (x.end, at)], stroke(Ink::Grid))])?;
        let place = context.backend_coord(&(x.start, at));
        text(root, &tick.label, (place.0 - fine(8), place.1), Ink::Tick, HPos::Right)?;
    }
    for tick in &chart.x.ticks {
        let at = chart.x.place(tick.at);
        context.draw_series([PathElement::new([(at, y.start), (at, y.end)], stroke(Ink::Grid))])?;
        if chart.x_labelled {
            let place = context.backend_coord(&(at, y.start));
            text(root, &tick.label, (place.0, place.1 + fine(13)), Ink::Tick, HPos::Center)?;
        }
    }
    let baseline = [(x.start, y.start), (x.end, y.start)];
    context.draw_series([PathElement::new(baseline, stroke(Ink::Baseline))])?;
    Ok(())
}

fn shape(chart: &Chart, series: &SeriesShape, context: &mut Context<'_, '_>) -> Drawing {
    let place = |&(x, y): &(f64, f64)| (chart.x.place(x), chart.y.place(y));
    for (run, floor) in series.runs.iter().zip(&series.floor) {
        let outline = run.iter().chain(floor.iter().rev()).map(place);
        let outline: Vec<_> = outline.collect();
        context.draw_series([Polygon::new(outline, filled(series.ink))])?;
    }
    for run in &series.runs {
        let mut points: Vec<_> = run.iter().map(place).collect();
        if let [(x, y)] = points[..] {
            // A lone second between two gaps would draw nothing: give it the width of its second.
            points = vec![(x - 0.4, y), (x + 0.4, y)];
        }
        context.draw_series([PathElement::new(points, stroke(series.ink))])?;
    }
    Ok(())
}

fn marks(chart: &Chart, root: &Area<'_>, context: &mut Context<'_, '_>) -> Drawing {
    let (x, y) = (chart.x.places(), chart.y.places());
    if let Some((at, name)) = &chart.limit {
        let at = chart.y.place(*at);
        context
            .draw_series([PathElement::new([(x.start, at), (x.end, at)], stroke(Ink::Limit))])?;
        let place = context.backend_coord(&(x.end, at));
        let place = (place.0 - fine(6), place.1 + fine(9));
        text(root, name, place, Ink::Tick, HPos::Right)?;
    }
    for (at, name) in &chart.marks {
        let at = chart.x.place(*at);
        let line = [(at, y.start), (at, y.end)];
        context.draw_series([PathElement::new(line, stroke(Ink::Incident))])?;
        let place = context.backend_coord(&(at, y.end));
        text(root, name, (place.0, place.1 - fine(7)), Ink::Incident, HPos::Center)?;
    }
    Ok(())
}

/// Each series is named beside its end; names that would overlap are moved apart.
fn labels(chart: &Chart, root: &Area<'_>, context: &Context<'_, '_>) -> Drawing {
    let x_end = chart.x.places().end;
    let mut named = Vec::new();
    for series in &chart.series {
        let Some((_, last)) = series.runs.last().and_then(|run| run.last()) else { continue };
        let floor = series.floor.last().and_then(|run| run.last()).map(|(_, y)| *y);
        let middle = floor.map_or(*last, |floor| f64::midpoint(floor, *last));
        named.push((context.backend_coord(&(x_end, chart.y.place(middle))), series));
    }
    named.sort_by_key(|((_, y), _)| *y);
    let wished: Vec<i32> = named.iter().map(|((_, y), _)| *y).collect();
    let bottom = fine((TOP + chart.height) as i32);
    for (((x, _), series), y) in named.iter().zip(apart(&wished, bottom)) {
        text(root, &series.label, (x + fine(8), y), series.ink, HPos::Left)?;
    }
    Ok(())
}

/// Ascending places at least a label's height apart and none below `bottom`, near the ascending wishes.
fn apart(wished: &[i32], bottom: i32) -> Vec<i32> {
    let mut places = wished.to_vec();
    for index in 1..places.len() {
        places[index] = places[index].max(places[index - 1] + LABEL_HEIGHT);
    }
    let mut lowest = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(lowest);
        lowest = *place - LABEL_HEIGHT;
    }
    places
}

fn text(root: &Area<'_>, words: &str, at: (i32, i32), ink: Ink, side: HPos) -> Drawing {
    if !words.is_empty() {
        let colour = ink.placeholder();
        let style = TextStyle::from(("sans-serif", 12 * FINE).into_font())
            .color(&colour)
            .pos(Pos::new(side, VPos::Center));
        root.draw(&Text::new(words.to_owned(), at, style))?;
    }
    Ok(())
}

/// From units of the page to plotters'.
const fn fine(units: i32) -> i32 {
    units * FINE as i32
}

fn stroke(ink: Ink) -> ShapeStyle {
    ink.placeholder().stroke_width(1)
}

fn filled(ink: Ink) -> ShapeStyle {
    ink.placeholder().filled()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_distance_and_stay_inside() {
        assert_eq!(apart(&[100, 500], 1_000), [100, 500], "there is room");
        assert_eq!(apart(&[400, 410, 420], 1_000), [400, 530, 660]);
        assert_eq!(apart(&[980, 990], 1_000), [870, 1_000]);
        assert_eq!(apart(&[], 1_000), Vec::<i32>::new());
    }
}
