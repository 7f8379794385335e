//! From a request to checked values, once for all routes: who asks for which organisation ([`Tenant`]), the query
//! ([`Params`]), the body
//! ([`Body`]), the command's id ([`IdempotencyKey`]) and the write to be seen ([`Consistency`]). Whatever is unknown is refused by name: a
//! misspelt filter that is ignored gives a wrong answer with status 200.

use std::sync::Arc;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::app::App;
use super::auth::Claims;
use super::problem::Problem;
use crate::domain::{CommandId, OrgId};
use crate::events::ConsistencyToken;
use crate::resilience::TooFast;

/// The header that names a command, so that a retry is not a second command.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that a write gives out and a read may carry.
pub(crate) const CONSISTENCY_TOKEN: &str = "x-consistency-token";

/// The organisation of the path, after the token was checked to be its own, and its rate not to be used up. A handler that
/// takes one cannot serve another organisation's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenant(pub(crate) OrgId);

impl FromRequestParts<Arc<App>> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let claims = app.verifier.verify(&parts.headers)?;
        own_organisation(claims, parts, app).await.map(Self)
    }
}

/// A request with a valid token, whichever organisation's: for what is no organisation's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bearer;

impl FromRequestParts<Arc<App>> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.verifier.verify(&parts.headers).map(|_| Self)
    }
}

/// The organisation of the path, if the claims are its own and it asks no faster than it may.
pub(super) async fn own_organisation(
    claims: Claims,
    parts: &mut Parts,
    app: &Arc<App>,
) -> Result<OrgId, Problem> {
    let path = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| Problem::malformed("the path is not valid UTF-8"))?;
    let org = path
        .iter()
        .find(|(name, _)| *name == "org")
        .and_then(|(_, text)| OrgId::new(text.parse().ok()?).ok())
        .ok_or_else(|| Problem::malformed("the organisation in the path is not a number"))?;
    if claims.org != org {
        return Err(Problem::other_organisation());
    }
    // Counted for whoever the token names: nobody can use up the rate of an organisation that is not theirs.
    app.rate_limit.check(org).map_err(|TooFast { wait }| Problem::too_fast(wait))?;
    Ok(org)
}

/// The `{id}` of the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id(pub(crate) Uuid);

impl FromRequestParts<Arc<App>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        uuid_of_path(parts, app, "id").await.map(Self)
    }
}

/// The `{image}` of the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageId(pub(crate) Uuid);

impl FromRequestParts<Arc<App>> for ImageId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        uuid_of_path(parts, app, "image").await.map(Self)
    }
}

async fn uuid_of_path(
    parts: &mut Parts,
    app: &Arc<App>,
    wanted: &'static str,
) -> Result<Uuid, Problem> {
    let path = RawPathParams::from_request_parts(parts, app).await;
    let path = path.map_err(|_| Problem::malformed("the path is not valid UTF-8"))?;
    path.iter()
        .find(|(name, _)| *name == wanted)
        .and_then(|(_, text)| Uuid::try_parse(text).ok())
        .ok_or_else(|| Problem::malformed(format!("the {wanted} in the path is not a UUID")))
}

/// The query string as a type. Unknown parameters are refused when the type says `deny_unknown_fields`, as all do.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|rejection| Problem::malformed(rejection.body_text()))
    }
}

/// The JSON body as a type: 400 when it is not JSON, 422 when it is JSON of another shape.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let bytes: Bytes = request.extract().await.map_err(|rejection: BytesRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Problem::too_large(app.settings.load().body_bytes_max)
            } else {
                Problem::malformed("the body could not be read to its end")
            }
        })?;
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            Problem::invalid(error.to_string())
        } else {
            Problem::malformed(format!("the body is not JSON: {error}"))
        }
    })
}

/// The id of a command, given by the client: a retry with the same id is the same command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdempotencyKey(pub(crate) CommandId);

impl FromRequestParts<Arc<App>> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        parts
            .headers
            .get(IDEMPOTENCY_KEY)
            .ok_or_else(|| Problem::malformed("the header Idempotency-Key is required"))?
            .to_str()
            .ok()
            .and_then(|text| Uuid::try_parse(text).ok())
            .ok_or_else(|| Problem::malformed("the header Idempotency-Key is not a UUID"))
            .and_then(command_id)
            .map(Self)
    }
}

/// Version of the UUIDs that entries from before the store's first event carry.
pub(crate) const HISTORY_VERSION: usize = 8;

/// A command's id becomes its entry's id. The store knows the ids of its own commands, but not those of the entries that were
/// there before it: these have a version of their own, which no command may use.
fn command_id(key: Uuid) -> Result<CommandId, Problem> {
    if key.get_version_num() == HISTORY_VERSION {
        return Err(Problem::malformed(
            "the header Idempotency-Key is a UUID of version 8, which is kept for entries from before the event store; \
             use version 4, 5 or 7",
        ));
    }
    Ok(key.into())
}

/// The write that a read must show, if the client named one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consistency(pub(crate) Option<ConsistencyToken>);

impl FromRequestParts<Arc<App>> for Consistency {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let Some(token) = parts.headers.get(CONSISTENCY_TOKEN) else { return Ok(Self(None)) };
        token
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .map(|token| Self(Some(token)))
            .ok_or_else(|| {
                Problem::malformed("the header X-Consistency-Token is not one that a write gave")
            })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its shape matters")]
        amount: u32,
    }

    #[test]
    fn a_key_that_an_older_entry_may_have_is_refused() {
        let refused = command_id(Uuid::new_v8([7; 16])).unwrap_err();
        assert_eq!(refused.status.as_u16(), 400);
        assert!(refused.detail.contains("version 8"), "{}", refused.detail);
        for key in [Uuid::new_v4(), Uuid::now_v7(), Uuid::from_u128(7)] {
            assert_eq!(command_id(key).unwrap().uuid(), key);
        }
    }

    #[test]
    fn a_body_of_another_shape_is_refused_by_name() {
        let refusal = |text: &str| {
            let problem = parse::<Sample>(text.as_bytes()).unwrap_err();
            (problem.status.as_u16(), problem.detail.into_owned())
        };
        let (status, detail) = refusal(r#"{"amount": 1, "colour": "red"}"#);
        assert_eq!(status, 422);
        assert!(detail.contains("unknown field `colour`"), "{detail}");
        let (status, detail) = refusal("{}");
        assert_eq!(status, 422);
        assert!(detail.contains("missing field `amount`"), "{detail}");
        assert_eq!(refusal("{").0, 400);
    }
}
