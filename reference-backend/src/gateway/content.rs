//! Content that is no JSON, in and out: pictures and papers. What comes in is a stream with a type; what goes out is to be
//! kept, not shown, whatever it may be: a browser must not run what a client uploaded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, HeaderName, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use utoipa::openapi::{Content as Shape, RefOr, Response as Described, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::api::{ANY, WRITE, problem};
use super::app::App;
use super::problem::Problem;
use crate::objects::{Content, Media};

/// Bytes that are still read of a body that was refused, so that its client comes to read the answer.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
/// And for how long.
const DISCARDED_FOR: Duration = Duration::from_millis(500);

/// A picture or a paper.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only its shape matters")]
pub(crate) struct Binary(Vec<u8>);

/// A body that is content: its type as the client says, and its bytes as they come.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) media: Media,
    pub(crate) body: BodyDataStream,
}

impl FromRequest<Arc<App>> for Upload {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Problem> {
        let said = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = said.and_then(Media::from_content_type);
        let body = request.into_body().into_data_stream();
        let mut upload = Self { media: media.unwrap_or(Media::Pdf), body };
        if media.is_none() {
            upload.discard().await;
            return Err(Problem::unsupported_type("send the content with its own Content-Type"));
        }
        Ok(upload)
    }
}

impl Upload {
    /// Reads on for a while, and forgets what it reads: who is cut off while sending may never read why.
    pub(crate) async fn discard(&mut self) {
        let discarding = async {
            let mut bytes = 0;
            while bytes < DISCARDED_BYTES_MAX
                && let Some(Ok(chunk)) = self.body.next().await
            {
                bytes += chunk.len();
            }
        };
        // Who sends nothing more is waiting for the answer.
        let _ = tokio::time::timeout(DISCARDED_FOR, discarding).await;
    }
}

/// The tag that the client has content under, if any.
#[derive(Debug)]
pub(crate) struct Held(Option<HeaderValue>);

impl FromRequestParts<Arc<App>> for Held {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        Ok(Self(parts.headers.get(IF_NONE_MATCH).cloned()))
    }
}

/// The tag of content: its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(HeaderValue);

impl Tag {
    pub(crate) fn new(sha256: &[u8]) -> Self {
        let text = format!("\"{}\"", hex(sha256));
        Self(HeaderValue::from_str(&text).expect("digits and quotes"))
    }

    /// Whether the client has this content already.
    pub(crate) fn is(&self, Held(held): &Held) -> bool {
        let held = held.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut tags = held.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
        tags.any(|tag| tag == "*" || tag.as_bytes() == self.0.as_bytes())
    }

    /// 304: the client has it.
    pub(crate) fn unchanged(self) -> Response {
        (StatusCode::NOT_MODIFIED, [(ETAG, self.0), (CACHE_CONTROL, CACHED)]).into_response()
    }
}

/// As lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes text");
        text
    })
}

/// Content on its way out.
#[derive(Debug)]
pub(crate) struct Download {
    /// The name to keep it under, without the ending: ASCII letters, digits and hyphens.
    pub(crate) name: String,
    pub(crate) media: Media,
    pub(crate) tag: Tag,
    pub(crate) content: Content,
}

/// May be kept by the one who asked, and asked for again each time: it can be removed, and others must not see it.
const CACHED: HeaderValue = HeaderValue::from_static("private, no-cache");

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        let Self { name, media, tag: Tag(tag), content } = self;
        let saved = format!("attachment; filename=\"{name}.{}\"", media.ending());
        let fixed = |text| HeaderValue::from_static(text);
        let headers: [(HeaderName, HeaderValue); 7] = [
            (CONTENT_TYPE, fixed(media.name())),
            (CONTENT_LENGTH, HeaderValue::from(content.bytes)),
            (CONTENT_DISPOSITION, HeaderValue::from_str(&saved).expect("names of ours are ASCII")),
            (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (CONTENT_SECURITY_POLICY, fixed("default-src 'none'; sandbox")),
            (CACHE_CONTROL, CACHED),
            (ETAG, tag),
        ];
        let mut response = Response::new(Body::from_stream(content.pieces));
        *response.headers_mut() = HeaderMap::from_iter(headers);
        response
    }
}

/// What a route that takes content may refuse.
#[derive(Debug)]
pub(crate) struct UploadRefusals;

impl IntoResponses for UploadRefusals {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let other = ("415", "The type of the content is not one that is taken here");
        ANY.into_iter().chain(WRITE).chain([other]).map(problem).collect()
    }
}

/// What a route that gives content out answers.
#[derive(Debug)]
pub(crate) struct Downloads;

impl IntoResponses for Downloads {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let given = ResponseBuilder::new().description("The content, to be kept as a file");
        let given = Media::ALL.into_iter().fold(given, |given, media| {
            given.content(media.name(), Shape::new(Some(Binary::schema())))
        });
        let held =
            ResponseBuilder::new().description("The client has it, as its If-None-Match says");
        let answers = [("200".to_owned(), given.build()), ("304".to_owned(), held.build())];
        let answers = answers.map(|(status, answer)| (status, RefOr::from(answer)));
        ANY.into_iter().map(problem).chain(answers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_every_form_a_client_may_send() {
        let tag = Tag::new(&[0xab, 0x01]);
        let is = |held: Option<&str>| tag.is(&Held(held.map(|text| text.parse().unwrap())));
        for held in ["\"ab01\"", "W/\"ab01\"", "\"x\", \"ab01\"", "*"] {
            assert!(is(Some(held)), "{held}");
        }
        for other in [None, Some(""), Some("ab01"), Some("\"ab02\""), Some("\"ab0\", \"1\"")] {
            assert!(!is(other), "{other:?}");
        }
    }
}
