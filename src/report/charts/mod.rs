//! Charts as inline SVG, drawn by plotters: a file per chart, each from the report alone.
//!
//! A chart file says *what* to draw as a [`chart::Chart`]; `draw` draws it, `theme` turns plotters' fixed colours and
//! fonts into classes, so that the page's style decides and light, dark and print need no second drawing.

mod axis;
mod chart;
mod cpu;
mod draw;
mod ink;
mod lags;
mod percentile;
mod rates;
mod response;
mod shares;
mod steps;
mod theme;

pub(super) use chart::Drawn;
pub(super) use cpu::cpu;
pub(super) use lags::lags;
pub(super) use percentile::percentile;
pub(super) use rates::rates;
pub(super) use response::response;
pub(super) use shares::shares;
pub(super) use steps::steps;
