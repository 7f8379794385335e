//! Requests: an operation compiled once, rendered for each arrival. No text of a scenario is parsed during a run.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderName, InvalidHeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Uri};
use uuid::Uuid;

use super::address::Address;
use super::frame::WorkerPlan;
use super::line::Outgoing;
use super::schedule::Arrival;
use super::template::{Calendar, Directory, Values, json_template};
use super::token::{TokenError, Tokens};
use crate::ids::{CommandId, OrgId};
use crate::scenario::{self, Operation, Template, TemplateError};

/// Name of the header that carries the command id.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why a request cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("operation {operation:?}: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Template { operation: String, problems: Vec<TemplateError> },
    #[error("operation {operation:?}: header {name:?}: {source}")]
    HeaderName { operation: String, name: String, source: InvalidHeaderName },
    #[error("a header's value: {0}\nhelp: header values are printable ASCII")]
    HeaderValue(#[from] InvalidHeaderValue),
    #[error("address {address:?}: {reason}\nhelp: a target's url looks like http://127.0.0.1:8080")]
    Address { address: String, reason: String },
    #[error("load the certificates that this system trusts: {0}")]
    Tls(std::io::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A request ready to be sent, and whom it is for.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) request: Outgoing,
    pub(crate) org: OrgId,
}

/// Everything that the requests of a run are made from.
pub(crate) struct Requests {
    operations: Vec<Compiled>,
    address: Address,
    /// Headers that every request has.
    common: HeaderMap,
    tokens: Tokens,
    calendar: Calendar,
    directory: Box<dyn Directory>,
    /// Under which command ids are derived.
    namespace: Uuid,
}

/// An operation whose texts have been parsed.
struct Compiled {
    method: Method,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Template>,
    event: bool,
}

impl Requests {
    /// Compiles a plan's operations, and makes one request of each, so that what cannot work fails here.
    pub(crate) fn new(
        plan: &WorkerPlan,
        directory: Box<dyn Directory>,
    ) -> Result<Self, RequestError> {
        let operations = &plan.scenario.operations;
        let example = operations.first().map_or("", |operation| &operation.request.path);
        let address = Address::new(&plan.base_url, example)?;
        let requests = Self {
            operations: operations.iter().map(Compiled::new).collect::<Result<_, _>>()?,
            common: common_headers(&address)?,
            address,
            tokens: Tokens::new(&plan.auth)?,
            calendar: Calendar::new(plan.today),
            directory,
            namespace: plan.run.namespace(),
        };
        for operation in 0..operations.len() {
            requests.prepare(&Arrival { index: 0, intended_us: 0, operation, content: 0 })?;
        }
        Ok(requests)
    }

    /// The request of an arrival.
    pub(crate) fn prepare(&self, arrival: &Arrival) -> Result<Prepared, RequestError> {
        let operation = &self.operations[arrival.operation];
        let values = Values::new(&*self.directory, &self.calendar, arrival);
        let mut path = String::with_capacity(128);
        values.render(&operation.path, &mut path);
        let mut body = String::new();
        if let Some(template) = &operation.body {
            body.reserve(128);
            values.render(template, &mut body);
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = operation.method.clone();
        *request.uri_mut() = self.address.target(path)?;
        request.headers_mut().clone_from(&self.common);
        self.set_headers(operation, arrival, &values, request.headers_mut())?;
        Ok(Prepared { request, org: values.org })
    }

    /// Where connections go.
    pub(crate) fn server(&self) -> Uri {
        self.address.server()
    }

    /// The scenario's own headers come last, so that they win.
    fn set_headers(
        &self,
        operation: &Compiled,
        arrival: &Arrival,
        values: &Values<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), RequestError> {
        if let Some(token) = self.tokens.header(values.org, unix_seconds())? {
            headers.insert(AUTHORIZATION, token);
        }
        if operation.event {
            let command = CommandId::derive(self.namespace, arrival.index).to_string();
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(command)?);
        }
        if operation.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, template) in &operation.headers {
            let mut value = String::new();
            values.render(template, &mut value);
            headers.insert(name.clone(), HeaderValue::try_from(value)?);
        }
        Ok(())
    }
}

impl Compiled {
    fn new(operation: &Operation) -> Result<Self, RequestError> {
        let name = || operation.name.clone();
        let in_template = |problems| RequestError::Template { operation: name(), problems };
        let request = &operation.request;
        let mut headers = Vec::with_capacity(request.headers.len());
        for (header, value) in &request.headers {
            let parsed = HeaderName::try_from(header).map_err(|source| {
                RequestError::HeaderName { operation: name(), name: header.clone(), source }
            })?;
            headers.push((parsed, Template::parse(value).map_err(in_template)?));
        }
        Ok(Self {
            method: method(request.method),
            path: Template::parse(&request.path).map_err(in_template)?,
            headers,
            body: request.json.as_ref().map(json_template).transpose().map_err(in_template)?,
            event: operation.event,
        })
    }
}

fn common_headers(address: &Address) -> Result<HeaderMap, InvalidHeaderValue> {
    let user_agent = concat!("plimsoll/", env!("CARGO_PKG_VERSION"));
    Ok(HeaderMap::from_iter([
        (HOST, HeaderValue::try_from(address.host())?),
        (USER_AGENT, HeaderValue::from_static(user_agent)),
        (ACCEPT, HeaderValue::from_static("*/*")),
    ]))
}

/// The method as it is sent.
pub(crate) fn method(method: scenario::Method) -> Method {
    match method {
        scenario::Method::Get => Method::GET,
        scenario::Method::Post => Method::POST,
        scenario::Method::Put => Method::PUT,
        scenario::Method::Patch => Method::PATCH,
        scenario::Method::Delete => Method::DELETE,
        scenario::Method::Head => Method::HEAD,
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load::testing::{Village, plan, scenario};
    use crate::load::token::Auth;
    use crate::scenario::Method as Verb;

    fn event_plan() -> WorkerPlan {
        let mut scenario = scenario(&[10.0], 1);
        let operation = &mut scenario.operations[0];
        operation.event = true;
        operation.request.method = Verb::Post;
        operation.request.path = "/v1/orgs/{org}/revenues".into();
        operation.request.json =
            Some(json!({ "property": "{property}", "amount_cents": "{amount}" }));
        plan(scenario, "http://127.0.0.1:9")
    }

    fn prepared(plan: &WorkerPlan) -> Prepared {
        let requests = Requests::new(plan, Box::new(Village)).unwrap();
        let arrival = Arrival { index: 3, intended_us: 0, operation: 0, content: 5 };
        requests.prepare(&arrival).unwrap()
    }

    #[test]
    fn an_event_carries_its_command_id_and_a_typed_body() {
        let plan = event_plan();
        let Prepared { request, org } = prepared(&plan);
        assert_eq!(request.uri(), format!("/v1/orgs/{org}/revenues").as_str());
        let command = CommandId::derive(plan.run.namespace(), 3).to_string();
        assert_eq!(request.headers()["idempotency-key"], command.as_str());
        assert_eq!(request.headers()["content-type"], "application/json");
        let body = request.into_body().into_inner().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(body["amount_cents"].is_u64(), "{body}");
    }

    #[test]
    fn headers_of_the_scenario_win() {
        let mut plan = event_plan();
        plan.auth = Auth::Bearer { token: "ours".into() };
        assert_eq!(prepared(&plan).request.headers()["authorization"], "Bearer ours");
        let headers = &mut plan.scenario.operations[0].request.headers;
        headers.insert("Authorization".into(), "Basic {org}".into());
        assert_eq!(prepared(&plan).request.headers()["authorization"], "Basic 39");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_the_run() {
        let mut bad_url = event_plan();
        bad_url.base_url = "nowhere".into();
        let mut bad_path = event_plan();
        bad_path.scenario.operations[0].request.path = "/{colour}".into();
        for (plan, expected) in
            [(bad_url, "nowhere/v1"), (bad_path, "unknown placeholder {colour}")]
        {
            let error = Requests::new(&plan, Box::new(Village)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
