//! Requests for a service that another process hosts: checked here as if it were here, sent on, and answered with what came
//! back. Headers and body pass as they are, so that a stream of events arrives event by event.
//!
//! A request that can be repeated is repeated within the budget: reads, commands of routes that take a key, and whatever
//! never got a connection. Whoever gets a forwarded request does not forward it on, so that two processes that each think the other
//! hosts a service cannot send a request round for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, RefOr};
use uuid::Uuid;

use super::app::App;
use super::extract::{IDEMPOTENCY_KEY, Tenant};
use super::page::PageTenant;
use super::passing::Passing;
use super::problem::Problem;
use crate::config::{self, BaseUrl, Config};
use crate::resilience::Dependency;
use crate::services::Service;

/// Longest silence within an answer. Streams of events say more often that they are alive.
const SILENCE: Duration = Duration::from_secs(60);
const _: () = assert!(SILENCE.as_millis() >= 2 * config::HEARTBEAT_MAX.0 as u128);
/// How long a connection is kept that is not used.
const IDLE: Duration = Duration::from_secs(30);
const EVENT_STREAM: &[u8] = b"text/event-stream";
/// What a client is told that broke off.
const CUT_OFF: &str = "the body could not be read to its end";
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
    keyed: Keyed,
    /// The process is to stop: streams that have no end of their own end here.
    stop: CancellationToken,
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
        // Before the other process closes them: server.head_timeout_ms.
        .pool_idle_timeout(IDLE)
        .build()
}

impl Forward {
    /// None if nobody is known to host the service, whose routes are those of `document`.
    pub(super) fn of(
        app: &Arc<App>,
        service: Service,
        document: &OpenApi,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let target = Arc::clone(app.targets.0.get(&service)?);
        let (app, keyed, stop) = (Arc::clone(app), Keyed::of(document), stop.clone());
        Some(Self { app, service, target, keyed, stop })
    }

    async fn run(&self, request: Request) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        if parts.headers.contains_key(FORWARDED) {
            return Err(Problem::not_hosted(self.service.name()));
        }
        self.check(&mut parts).await?;
        let entered = self.target.dependency.enter().map_err(|error| self.problem(error))?;
        let call = Call::new(&self.target, self.keyed.may_repeat(&parts), parts, body).await?;
        let again = |failure: &Failure| call.may_repeat(failure);
        let overdue = |limit| call.overdue(limit);
        tokio::select! {
            biased;
            // The call is dropped, and so counts neither for the other process nor against it.
            () = call.broken_off() => Err(Problem::malformed(CUT_OFF)),
            answer = entered.call_until(call.repeatable, again, overdue, || call.send()) => answer
                .map(|answer| self.until_stop(answer))
                .or_else(|error| self.answer_of(error)),
        }
    }

    /// Who may not ask costs the other process nothing.
    async fn check(&self, parts: &mut Parts) -> Result<(), Problem> {
        let path = parts.extensions.get::<MatchedPath>();
        if !path.is_some_and(|path| path.as_str().contains("{org}")) {
            return Ok(());
        }
        // As the service itself does.
        if self.service == Service::Realtime {
            PageTenant::from_request_parts(parts, &self.app).await.map(drop)
        } else {
            Tenant::from_request_parts(parts, &self.app).await.map(drop)
        }
    }

    /// A stream of events would else keep the process from stopping for as long as it waits for requests in flight.
    fn until_stop(&self, answer: Response) -> Response {
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(EVENT_STREAM)) {
            return answer;
        }
        let stop = self.stop.clone().cancelled_owned();
        answer.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(stop))))
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

/// The commands of a service that can be repeated under their key.
#[derive(Debug)]
struct Keyed(BTreeSet<(&'static str, String)>);

impl Keyed {
    /// Those whose routes say that they take a key; elsewhere it means nothing.
    fn of(document: &OpenApi) -> Self {
        let keyed = document.paths.paths.iter().flat_map(|(path, item)| {
            let takes_key = |(_, operation): &(&str, &Operation)| {
                let mut parameters = operation.parameters.iter().flatten();
                parameters.any(|parameter| match parameter {
                    RefOr::T(named) => named.name.eq_ignore_ascii_case(IDEMPOTENCY_KEY),
                    RefOr::Ref(_) => false,
                })
            };
            writes(item).filter(takes_key).map(|(method, _)| (method, path.clone()))
        });
        Self(keyed.collect())
    }

    /// Whether a second request like this one would get the answer of the first.
    fn may_repeat(&self, parts: &Parts) -> bool {
        if matches!(parts.method, Method::GET | Method::HEAD) {
            return true;
        }
        let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        let takes_key = |(method, keyed): &(&str, String)| {
            *method == parts.method.as_str() && path == Some(keyed)
        };
        parts.headers.contains_key(IDEMPOTENCY_KEY) && self.0.iter().any(takes_key)
    }
}

fn writes(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let PathItem { post, put, patch, delete, .. } = item;
    [("POST", post), ("PUT", put), ("PATCH", patch), ("DELETE", delete)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
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
    Transport(reqwest::Error),
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
    Passing(Passing),
}

impl<'a> Call<'a> {
    async fn new(
        target: &'a Target,
        may_repeat: bool,
        parts: Parts,
        body: Body,
    ) -> Result<Self, Problem> {
        let url = join(&target.base, &parts.uri)?;
        let kept =
            body.size_hint().upper().is_some_and(|size| size <= target.kept_bytes_max as u64);
        let repeatable = kept && may_repeat;
        let mut headers = end_to_end(parts.headers);
        headers.remove(header::HOST);
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        let body = if kept {
            let whole = to_bytes(body, target.kept_bytes_max).await;
            Content::Kept(whole.map_err(|_| Problem::malformed(CUT_OFF))?)
        } else {
            Content::Passing(Passing::new(body))
        };
        Ok(Self { client: &target.client, method: parts.method, url, headers, body, repeatable })
    }

    fn may_repeat(&self, failure: &Failure) -> bool {
        match (failure, &self.body) {
            (Failure::Transport(error), Content::Kept(_)) => self.repeatable || error.is_connect(),
            (Failure::Late(_), _) | (_, Content::Passing(_)) => false,
        }
    }

    /// Returns when a client has broken off within a body that is passed on.
    async fn broken_off(&self) {
        match &self.body {
            Content::Kept(_) => std::future::pending().await,
            Content::Passing(body) => body.broken_off().await,
        }
    }

    /// Returns when the other process has had its time, without that in which it waited for the client.
    fn overdue(&self, limit: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        let passing = match &self.body {
            Content::Kept(_) => None,
            Content::Passing(body) => Some(body.overdue(limit)),
        };
        async move {
            match passing {
                Some(overdue) => overdue.await,
                None => tokio::time::sleep(limit).await,
            }
        }
    }

    fn send(&self) -> impl Future<Output = Result<Response, Failure>> + Send + 'static + use<> {
        let (body, waits_for_client) = match &self.body {
            Content::Kept(bytes) => (reqwest::Body::from(bytes.clone()), None),
            Content::Passing(body) => {
                (reqwest::Body::wrap_stream(body.take()), Some(body.waits_for_client()))
            }
        };
        let request = self.client.request(self.method.clone(), self.url.clone());
        let sent = request.headers(self.headers.clone()).body(body).send();
        async move {
            // Its URL has the client's query, in which there may be a token.
            let answer = sent.await.map_err(|error| Failure::Transport(error.without_url()))?;
            let (parts, body) = axum::http::Response::<reqwest::Body>::from(answer).into_parts();
            let mut answer = Response::new(Body::new(body));
            *answer.status_mut() = parts.status;
            *answer.headers_mut() = end_to_end(parts.headers);
            // Not where it had to wait for the client.
            let is_slow = !waits_for_client.is_some_and(|waits| waits());
            if parts.status == StatusCode::GATEWAY_TIMEOUT && is_slow {
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

    #[tokio::test]
    async fn what_is_logged_of_a_failure_does_not_hold_the_clients_query() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{gone}/v1/orgs/1/realtime?access_token=a-secret");
        let call = Call {
            client: &Client::new(),
            method: Method::GET,
            url: Url::parse(&url).unwrap(),
            headers: HeaderMap::new(),
            body: Content::Kept(Bytes::new()),
            repeatable: true,
        };
        let Err(Failure::Transport(error)) = call.send().await else {
            panic!("nobody listens there");
        };
        let told = format!("{error} {error:?}");
        assert!(error.is_connect() && !told.contains("a-secret"), "{told}");
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
