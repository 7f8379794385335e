//! How fresh a read of a plain table must be: the client may name a write with the token that it answered, which any process
//! may have made.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::app::App;
use super::extract::CONSISTENCY_TOKEN;
use super::problem::Problem;
use crate::db::{Freshness, WriteToken};

/// What a server must have replayed to answer: the write of the request's token, or anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh(pub(crate) Freshness);

impl FromRequestParts<Arc<App>> for Fresh {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Some(token) = parts.headers.get(CONSISTENCY_TOKEN) else {
            return Ok(Self(Freshness::Any));
        };
        let token = token.to_str().ok().and_then(|text| text.parse().ok());
        let WriteToken(lsn) = token.ok_or_else(|| {
            Problem::malformed(
                "the header X-Consistency-Token is not one that a write of this kind gave",
            )
        })?;
        // Else every read would go to the primary, on the word of a client.
        if app.databases.has_written(lsn).await? {
            return Ok(Self(Freshness::AtLeast(lsn)));
        }
        Err(Problem::malformed("the header X-Consistency-Token is ahead of all writes"))
    }
}
