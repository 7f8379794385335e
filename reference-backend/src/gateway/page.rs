//! Who asks, where a browser's page does: a stream's token may stand in its address.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::time::{Duration, Instant};

use super::app::App;
use super::extract::{Params, own_organisation};
use super::problem::Problem;
use crate::domain::OrgId;

/// Longest life of a stream, whatever its token says.
const STREAM_MAX: Duration = Duration::from_secs(24 * 3600);

/// As [`Tenant`], for a stream that a browser opens: its token may stand in the query as `access_token`, because an
/// `EventSource` can set no headers. For such routes alone: what stands in a query may end in somebody's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageTenant {
    pub(crate) org: OrgId,
    /// When the token ends.
    pub(crate) expires_at: Instant,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageToken {
    access_token: Option<String>,
}

impl FromRequestParts<Arc<App>> for PageTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Params(PageToken { access_token }) = Params::from_request_parts(parts, app).await?;
        let claims = match access_token {
            Some(token) => app.verifier.verify_token(&token)?,
            None => app.verifier.verify(&parts.headers)?,
        };
        let ends_at = DateTime::from_timestamp(claims.exp.try_into().unwrap_or(i64::MAX), 0);
        let left = ends_at.map_or(STREAM_MAX, |at| (at - Utc::now()).to_std().unwrap_or_default());
        let expires_at = Instant::now() + left.min(STREAM_MAX);
        let org = own_organisation(claims, parts, app).await?;
        Ok(Self { org, expires_at })
    }
}
