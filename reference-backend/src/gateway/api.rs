//! What the OpenAPI document says of all routes alike: the path's organisation, the headers, and the refusals.

use std::collections::BTreeMap;

use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use uuid::Uuid;

use super::problem::Problem;

/// The organisation of the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its shape matters")]
pub(crate) struct OrgPath {
    /// The organisation; the token must be its own.
    #[param(minimum = 1)]
    org: i64,
}

/// The thing of the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its shape matters")]
pub(crate) struct IdPath {
    /// The thing's id: the Idempotency-Key that created it.
    id: Uuid,
}

/// The header of a command.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape matters")]
pub(crate) struct KeyHeader {
    /// The command's id, chosen by the client: a retry with the same key is the same command. Any UUID but of version 8.
    #[param(rename = "Idempotency-Key")]
    key: Uuid,
}

/// The header of a read that must show a write.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape matters")]
pub(crate) struct TokenHeader {
    /// What the write answered in its header of the same name; the read then shows that write.
    #[param(rename = "X-Consistency-Token")]
    token: Option<String>,
}

/// The refusals that every route of an organisation may give.
#[derive(Debug)]
pub(crate) struct Refusals;

/// [`Refusals`], and those of a route that takes a body.
#[derive(Debug)]
pub(crate) struct WriteRefusals;

pub(super) const ANY: [(&str, &str); 8] = [
    ("400", "The request is malformed"),
    ("401", "No token, or one that is not valid now"),
    ("403", "The token is another organisation's"),
    ("404", "There is no such thing"),
    ("429", "Too many requests of this organisation"),
    ("500", "The server failed"),
    ("503", "The server cannot answer now"),
    ("504", "The request took too long"),
];
pub(super) const WRITE: [(&str, &str); 3] = [
    ("409", "The state has moved on"),
    ("413", "The body is too large"),
    ("422", "The request breaks a rule"),
];

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        ANY.into_iter().map(problem).collect()
    }
}

impl IntoResponses for WriteRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        ANY.into_iter().chain(WRITE).map(problem).collect()
    }
}

pub(super) fn problem((status, description): (&str, &str)) -> (String, RefOr<Response>) {
    let shape = Content::new(Some(Ref::from_schema_name(Problem::name())));
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", shape)
        .build();
    (status.to_owned(), response.into())
}
