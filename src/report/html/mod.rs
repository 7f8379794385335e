//! `report.html`: one file, no network, no script; a section per question, in the order in which people ask.

mod failures;
mod gates;
mod icon;
mod load;
mod page;
mod run;
mod server;
mod steps;
mod trust;

pub(super) use page::render;
