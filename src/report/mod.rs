//! Reports: one model of a judged run, rendered as HTML, JSON, JUnit, Markdown and for the console. Pure.
//!
//! [`Report::new`] takes a record and its judgement; [`render_all`] gives the files of a run as bytes, for whoever
//! may write them. Nothing here opens a file, a socket or a clock, so an old run renders the same again.

mod charts;
mod console;
mod curves;
mod failures;
mod figures;
#[cfg(test)]
mod fixture;
mod format;
mod html;
mod json;
mod json_steps;
mod junit;
mod markdown;
mod model;
mod render;
mod steps;
mod yardstick;

pub use console::{COLUMNS_MAX, Colour, LINES_MAX, render_console};
pub use curves::{Curve, Curves};
pub use failures::{FailureRow, Failures};
pub use figures::{LoadFigures, OperationFigures, PercentileCurve, Percentiles};
pub use model::Report;
pub use render::render_all;
pub use steps::{ClimbFigures, StepFigures};
pub use yardstick::YardstickFigures;
