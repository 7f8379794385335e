//! Refusals as the client sees them: RFC 9457 `application/problem+json`. The only place that turns an error into a
//! status. What a server fault was stays in the log; the client is told that it was ours.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::resilience::CallError;

/// A refused or failed request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Which problem, as a URI reference.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The problem in words that do not change.
    title: &'static str,
    /// The status that the client sees.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    pub(crate) status: StatusCode,
    /// What is wrong with this request.
    pub(crate) detail: Cow<'static, str>,
    /// Seconds after which a retry is worth while.
    #[serde(skip)]
    retry_after_s: Option<u32>,
    /// It was refused before any statement was sent.
    #[serde(skip)]
    before_all: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn as_number<S: serde::Serializer>(status: &StatusCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (retry_after_s, before_all) = (None, false);
        Self { kind, title, status, detail: detail.into(), retry_after_s, before_all }
    }

    /// The same, of a request that came to no statement.
    pub(super) fn before_all(self) -> Self {
        Self { before_all: true, ..self }
    }

    /// Whether it is certain that the request changed nothing.
    pub(crate) fn wrote_nothing(&self) -> bool {
        self.before_all || self.status.is_client_error()
    }

    /// 400: the request cannot be read as this route needs it.
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "/problems/malformed",
            "the request is malformed",
            detail,
        )
    }

    /// 401: no token, or one that is not valid now.
    pub(crate) fn unauthenticated(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "/problems/unauthenticated",
            "a valid bearer token is required",
            detail,
        )
    }

    /// 403: the token is another organisation's.
    pub(crate) fn other_organisation() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "/problems/other-organisation",
            "the token belongs to another organisation",
            "use a token whose `org` claim is the organisation in the path",
        )
    }

    /// 404: nothing of that name.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "/problems/not-found", "not found", detail)
    }

    /// 404: the route exists, on another process.
    pub(crate) fn not_hosted(service: &'static str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "/problems/not-hosted",
            "the service is not hosted here",
            format!("this process does not host `{service}`; it was started with --services"),
        )
    }

    /// 405: the path exists, the method does not.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "/problems/method-not-allowed",
            "the method is not allowed on this path",
            "the Allow header lists the methods",
        )
    }

    /// 409: the aggregate has moved on.
    pub(crate) fn version_conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "/problems/version-conflict",
            "the expected version is not the current one",
            detail,
        )
    }

    /// 409: the thing is not in a state that allows it.
    pub(crate) fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "/problems/conflict",
            "what is there does not allow it",
            detail,
        )
    }

    /// 413: the body is longer than the server reads.
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "/problems/too-large",
            "the body is too large",
            format!("at most {limit_bytes} bytes are read"),
        )
    }

    /// 415: content of a type that is not taken.
    pub(crate) fn unsupported_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "/problems/unsupported-type",
            "content of this type is not taken",
            detail,
        )
    }

    /// 422: readable, and refused by a rule.
    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "/problems/invalid",
            "the request is not valid",
            detail,
        )
    }

    /// 429: this client is too fast; a retry after the wait may succeed.
    pub(crate) fn too_fast(wait: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "/problems/too-fast",
            "too many requests of this organisation",
            "the Retry-After header says how long to wait",
        )
        .retry_after(wait)
    }

    /// 500: our fault. The cause goes to the log, not to the client.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "/problems/internal",
            "the server failed",
            "the cause is in the server's log",
        )
    }

    /// 503: too busy now, or not yet able to; a retry may succeed.
    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            retry_after_s: Some(1),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "/problems/unavailable",
                "the server cannot answer now",
                detail,
            )
        }
    }

    /// The same, with another time after which a retry is worth while.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000).max(1);
        Self { retry_after_s: Some(u32::try_from(seconds).unwrap_or(u32::MAX)), ..self }
    }

    /// 503 or 504: `what`, which is outside this process, gave no answer.
    pub(crate) fn of_call<E>(what: &str, error: &CallError<E>) -> Self {
        match error {
            CallError::Full => Self::unavailable(format!("too many calls to {what} are in flight")),
            CallError::Open { wait } => {
                let detail =
                    format!("{what} failed too often lately; it is not called for a moment");
                Self::unavailable(detail).retry_after(*wait)
            }
            CallError::TimedOut { limit } => Self::timed_out(*limit),
            CallError::Failed(_) => Self::unavailable(format!(
                "{what} could not be reached or failed; a write may have taken effect"
            )),
        }
    }

    /// 504: the answer took longer than a request may.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "/problems/timed-out",
            "the request took too long",
            format!(
                "it was given up after {} ms; a write may still take effect",
                limit.as_millis()
            ),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("a problem is plain text and a number");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_to_no_statement_is_certain_to_have_written_nothing() {
        let of = |error: sqlx::Error| Problem::from(error).wrote_nothing();
        assert!(of(sqlx::Error::PoolTimedOut) && of(sqlx::Error::PoolClosed));
        assert!(!of(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())));
        assert!(!of(sqlx::Error::WorkerCrashed));
        assert!(Problem::invalid("").wrote_nothing() && !Problem::internal().wrote_nothing());
    }

    #[tokio::test]
    async fn a_problem_is_rfc_9457_json_with_its_status() {
        let response = Problem::unavailable("no room").into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        insta::assert_snapshot!(
            std::str::from_utf8(&body).unwrap(),
            @r#"{"type":"/problems/unavailable","title":"the server cannot answer now","status":503,"detail":"no room"}"#
        );
    }
}
