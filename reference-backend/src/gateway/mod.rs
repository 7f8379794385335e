//! The way in: routes, who asks, whether there is room, how long it may take, and how refusals look. Turns requests into
//! checked values for `services`, and their answers into responses. Knows no SQL and nothing about money.

mod api;
mod app;
mod auth;
mod content;
mod extract;
mod forward;
mod fresh;
mod guard;
mod listen;
mod meter;
mod page;
mod passing;
mod problem;
mod reply;
mod router;
mod server;

pub(crate) use api::{IdPath, KeyHeader, OrgPath, Refusals, TokenHeader, WriteRefusals};
pub(crate) use app::App;
pub(crate) use content::{Binary, Download, Downloads, Held, Tag, Upload, UploadRefusals, hex};
pub(crate) use extract::{
    Bearer, Body, CONSISTENCY_TOKEN, Consistency, HISTORY_VERSION, Id, IdempotencyKey, ImageId,
    Params, Tenant,
};
pub(crate) use fresh::Fresh;
pub(crate) use page::PageTenant;
pub(crate) use problem::Problem;
pub(crate) use reply::Reply;
pub(crate) use server::open;
pub use server::{ServeError, serve};
