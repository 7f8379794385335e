//! Requests for a service that another process hosts: checked here as if it were here, sent on, and answered with what came
//! back. Headers and body pass as they are, so that a stream of events arrives event by event.
//!
//! A request that can be repeated is repeated within the budget: reads, commands with a key, and whatever never got a
//! connection. Whoever gets a forwarded request does not forward it on, so that two processes that each think the other
//! hosts a service cannot send a request round for ever.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tracing::field::display;
use uuid::Uuid;

use super::app::App;
use super::extract::{IDEMPOTENCY_KEY, Tenant};
use super::problem::Problem;
use crate::config::{self, BaseUrl, Config};
use crate::resilience::Dependency;
use crate::services::Service;

/// Longest silence within an answer. Streams of events say more often that they are alive.
const SILENCE: Duration = Duration::from_secs(60);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;
/// On a request that a process of this program sent.
const FORWARDED: HeaderName = HeaderName::from_static("x-plimsoll-forwarded");

/// Where the services are that this process does not host.
#[derive(Debug, Default)]
pub(crate) struct Targets(BTreeMap<Service, Arc<Target>>);

/// Another process of this program.
#[derive(Debug)]
struct Target {
    base: BaseUrl,
    client: Client,
    dependency: Dependency,
    /// Bodies up to this size are kept until the answer comes, to be sent again.
    kept_bytes_max: usize,
}

/// The forwarding of one service's routes.
#[derive(Debug)]
pub(super) struct Forward {
    app: Arc<App>,
    service: Service,
    target: Arc<Target>,
}

impl Targets {
    /// One target per URL, with one breaker, however many services it hosts.
    pub(super) fn new(config: &Config) -> reqwest::Result<Self> {
        let urls = &config.services.urls;
        if urls.is_empty() {
            return Ok(Self::default());
        }
        let settings = &config.resilience.forwarding;
        let client = client(settings)?;
        let target = |base: &BaseUrl| Target {
            base: base.clone(),
            client: client.clone(),
            dependency: Dependency::new(base.authority(), settings),
            kept_bytes_max: config.server.body_bytes_max,
        };
        let mut targets: BTreeMap<&BaseUrl, Arc<Target>> = BTreeMap::new();
        let of = urls.iter().map(|(service, base)| {
            let made = targets.entry(base).or_insert_with(|| Arc::new(target(base)));
            (*service, Arc::clone(made))
        });
        Ok(Self(of.collect()))
    }

    /// The URL of the process that requests for a service are forwarded to.
    pub(crate) fn url(&self, service: Service) -> Option<&str> {
        self.0.get(&service).map(|target| target.base.as_str())
    }
}

fn client(settings: &config::Dependency) -> reqwest::Result<Client> {
    // An answer is the client's, also if it says to go elsewhere; and no proxy of the environment stands between processes.
    Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(settings.connect_timeout_ms.duration())
        .read_timeout(SILENCE)
        .build()
}

impl Forward {
    /// None if nobody is known to host the service.
    pub(super) fn of(app: &Arc<App>, service: Service) -> Option<Self> {
        let target = Arc::clone(app.targets.0.get(&service)?);
        Some(Self { app: Arc::clone(app), service, target })
    }

    async fn run(&self, request: Request) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        if parts.headers.contains_key(FORWARDED) {
            return Err(Problem::not_hosted(self.service.name()));
        }
        self.check(&mut parts).await?;
        let entered = self.target.dependency.enter().map_err(|error| self.problem(error))?;
        let call = Call::new(&self.target, parts, body).await?;
        let again = |failure: &Failure| call.may_repeat(failure);
        let answer = entered.call(call.repeatable, again, || call.send()).await;
        answer.or_else(|error| self.answer_of(error))
    }

    /// Who may not ask costs the other process nothing.
    async fn check(&self, parts: &mut Parts) -> Result<(), Problem> {
        let path = parts.extensions.get::<MatchedPath>();
        if path.is_some_and(|path| path.as_str().contains("{org}")) {
            Tenant::from_request_parts(parts, &self.app).await?;
        }
        Ok(())
    }

    fn answer_of(&self, error: CallError) -> Result<Response, Problem> {
        match error {
            CallError::Failed(Failure::Late(answer)) => Ok(answer),
            error => Err(self.problem(error)),
        }
    }

    fn problem(&self, error: CallError) -> Problem {
        if let CallError::Failed(Failure::Transport(error)) = &error {
            let (target, cause) = (self.target.base.as_str(), error.source().map(display));
            tracing::warn!(target_url = target, service = self.service.name(), %error, cause, "forwarding failed");
        }
        Problem::of_call(&format!("the process that hosts `{}`", self.service), &error)
    }
}

type CallError = crate::resilience::CallError<Failure>;

/// The middleware: instead of the handler, which is elsewhere.
pub(super) async fn forward(
    State(forward): State<Arc<Forward>>,
    mut request: Request,
    _: Next,
) -> Response {
    let id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = forward.run(request).await.into_response();
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sound = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    headers.get(REQUEST_ID).filter(sound).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(Uuid::now_v7().to_string()).expect("a UUID is ASCII")
    })
}

/// Why the other process's answer is missing, or counts as missing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it could not be reached")]
    Transport(#[from] reqwest::Error),
    /// Its handler did not end in time: it is as slow as one that does not answer at all.
    #[error("it answered that it was too slow")]
    Late(Response),
}

/// One request, to be sent once or more.
struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Content,
    repeatable: bool,
}

/// A request's body.
enum Content {
    Kept(Bytes),
    /// Passed on while it comes in; nothing is left for a second try.
    Passing(Mutex<Option<Body>>),
}

impl<'a> Call<'a> {
    async fn new(target: &'a Target, parts: Parts, body: Body) -> Result<Self, Problem> {
        let url = join(&target.base, &parts.uri)?;
        let kept =
            body.size_hint().upper().is_some_and(|size| size <= target.kept_bytes_max as u64);
        let repeatable =
            kept && (parts.method.is_idempotent() || parts.headers.contains_key(IDEMPOTENCY_KEY));
        let mut headers = end_to_end(parts.headers);
        headers.remove(header::HOST);
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        let body = if kept {
            let whole = to_bytes(body, target.kept_bytes_max).await;
            Content::Kept(
                whole.map_err(|_| Problem::malformed("the body could not be read to its end"))?,
            )
        } else {
            Content::Passing(Mutex::new(Some(body)))
        };
        Ok(Self { client: &target.client, method: parts.method, url, headers, body, repeatable })
    }

    fn may_repeat(&self, failure: &Failure) -> bool {
        match (failure, &self.body) {
            (Failure::Transport(error), Content::Kept(_)) => self.repeatable || error.is_connect(),
            (Failure::Late(_), _) | (_, Content::Passing(_)) => false,
        }
    }

    fn send(&self) -> impl Future<Output = Result<Response, Failure>> + Send + 'static + use<> {
        let body = match &self.body {
            Content::Kept(bytes) => reqwest::Body::from(bytes.clone()),
            Content::Passing(body) => {
                let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
                reqwest::Body::wrap_stream(body.unwrap_or_default().into_data_stream())
            }
        };
        let request = self.client.request(self.method.clone(), self.url.clone());
        let sent = request.headers(self.headers.clone()).body(body).send();
        async move {
            let (parts, body) =
                axum::http::Response::<reqwest::Body>::from(sent.await?).into_parts();
            let mut answer = Response::new(Body::new(body));
            *answer.status_mut() = parts.status;
            *answer.headers_mut() = end_to_end(parts.headers);
            if parts.status == StatusCode::GATEWAY_TIMEOUT {
                return Err(Failure::Late(answer));
            }
            Ok(answer)
        }
    }
}

/// The same path on another server.
fn join(base: &BaseUrl, uri: &Uri) -> Result<Url, Problem> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    Url::parse(&format!("{base}{path}"))
        .ok()
        // A URL resolves `..`: it would lead to another route than the one that was checked.
        .filter(|url| slashes(url.path()) == slashes(uri.path()))
        .ok_or_else(|| Problem::malformed("the path cannot be forwarded as it is"))
}

/// Headers of one connection only (RFC 9110, 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Without the headers that were meant for the connection they came on.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named).chain([&header::EXPECT]) {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_on_as_it_is_or_not_at_all() {
        let base = BaseUrl::try_from("http://other:1".to_owned()).unwrap();
        let join = |uri: &'static str| {
            join(&base, &Uri::from_static(uri)).map(String::from).map_err(|problem| problem.status)
        };
        assert_eq!(
            join("/v1/orgs/1/cash?x=%20y&z"),
            Ok("http://other:1/v1/orgs/1/cash?x=%20y&z".into())
        );
        for climbing in
            ["/v1/orgs/1/../2/cash", "/v1/orgs/1/%2e%2E/2/cash", "/v1/./orgs", "/v1/orgs/.."]
        {
            assert_eq!(join(climbing), Err(StatusCode::BAD_REQUEST), "{climbing}");
        }
    }

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("authorization", "Bearer x"),
            ("idempotency-key", "7"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let left = end_to_end(headers);
        let mut names: Vec<&str> = left.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "idempotency-key"]);
    }

    #[test]
    fn a_sound_request_id_is_kept_and_another_replaced() {
        let of = |id: &'static str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(id))]);
            request_id(&headers)
        };
        assert_eq!(of("abc-1"), "abc-1");
        for bad in ["", "a b"] {
            assert_eq!(of(bad).len(), 36, "{bad}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
