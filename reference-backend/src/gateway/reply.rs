//! The answer to a read: JSON bytes, and who gave them.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

const READ_FROM: HeaderName = HeaderName::from_static("x-read-from");

/// A read's answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) body: Bytes,
    /// `cache`, `primary` or a replica's name.
    pub(crate) from: &'static str,
}

impl Reply {
    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize, from: &'static str) -> Self {
        let body = serde_json::to_vec(value).expect("answers have text keys and finite numbers");
        Self { body: body.into(), from }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(READ_FROM, HeaderValue::from_static(self.from));
        response
    }
}
