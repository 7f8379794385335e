//! A server that misbehaves on request, scenarios for it, and ways to drive a worker.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each file of tests is a program of its own and uses a part of this"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Router, serve};
use chrono::NaiveDate;
use plimsoll::archive::LoadRecord;
use plimsoll::load::{
    Auth, DriveEvent, Driven, LoadError, Order, PROTOCOL, Reins, Shard, WorkerPlan,
};
use plimsoll::scenario::{
    Arrivals, Expect, GateRules, LoadSpec, Method, Operation, PopulationSpec, ReferenceTarget,
    RequestSpec, Scenario, Skew, Target,
};
use plimsoll::units::{Micros, Rate};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_plimsoll");

/// At which request `/stall` stops, and for how long.
const STALL: (u64, Duration) = (100, Duration::from_secs(2));

/// A server on a port of its own, and what it was asked.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Requests by the first part of their path.
    requests: Mutex<BTreeMap<String, u64>>,
    keys: Mutex<BTreeSet<String>>,
    stalling: AtomicU64,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let router = Router::new()
            .route("/ok/{any}", get(|| async { "ok" }))
            .route("/text", get(|| async { "some words" }))
            .route("/event", any(|| async { StatusCode::CREATED }))
            .route("/status/{code}", any(status))
            .route("/guarded", get(guarded))
            .route("/slow/{ms}", get(slow))
            .route("/stall", get(stall))
            .route("/broken", any(broken))
            .route("/close", get(|| async { ([("connection", "close")], "ok") }))
            .layer(middleware::from_fn_with_state(Arc::clone(&seen), note))
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { serve(listener, router).await });
        Self { url, seen }
    }

    /// Requests whose path began with this part.
    pub(crate) fn count(&self, part: &str) -> u64 {
        self.seen.requests.lock().unwrap().get(part).copied().unwrap_or_default()
    }

    /// Every `Idempotency-Key` seen.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.seen.keys.lock().unwrap().clone()
    }
}

async fn note(State(seen): State<Arc<Seen>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let part = path[1..].split('/').next().unwrap_or_default();
    *seen.requests.lock().unwrap().entry(format!("/{part}")).or_default() += 1;
    if let Some(key) = request.headers().get("idempotency-key") {
        seen.keys.lock().unwrap().insert(key.to_str().unwrap().to_owned());
    }
    next.run(request).await
}

async fn status(UrlPath(code): UrlPath<u16>) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

/// 200 for a bearer token in three parts.
async fn guarded(headers: HeaderMap) -> StatusCode {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    match token.and_then(|token| token.strip_prefix("Bearer ")) {
        Some(token) if token.split('.').count() == 3 => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

async fn slow(UrlPath(ms): UrlPath<u64>) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn stall(State(seen): State<Arc<Seen>>) {
    let (at, duration) = STALL;
    if seen.stalling.fetch_add(1, Ordering::SeqCst) == at {
        tokio::time::sleep(duration).await;
    }
}

/// The right status, and half a body.
async fn broken() -> Response {
    let parts = [Ok("half"), Err(std::io::Error::other("gone"))];
    let body = Body::from_stream(futures::stream::iter(parts));
    Response::builder().status(201).body(body).unwrap()
}

/// Constant arrivals of one `GET` operation per path and rate, for so many seconds.
pub(crate) fn scenario(operations: &[(&str, f64)], seconds: u64) -> Scenario {
    Scenario {
        name: "test".into(),
        title: "Test".into(),
        seed: 7,
        population: PopulationSpec {
            organisations: NonZeroU64::new(1000).unwrap(),
            history_months: 1,
            busy: Skew::Zipf { exponent: 1.05 },
        },
        target: Target::Reference(ReferenceTarget {
            replicas: 0,
            port: None,
            split: Vec::new(),
            channel_manager: None,
        }),
        load: LoadSpec {
            arrivals: Arrivals::Constant,
            warm_up: Micros::from_secs(0),
            measure: Micros::from_secs(seconds),
            steps: None,
            yardstick: None,
            in_flight_max: 32,
            timeout: Micros::from_secs(2),
        },
        operations: operations.iter().map(|(path, rate)| operation(path, *rate).0).collect(),
        gates: GateRules::default(),
    }
}

/// An operation in the making.
pub(crate) struct Drawn(Operation);

pub(crate) fn operation(path: &str, rate: f64) -> Drawn {
    Drawn(Operation {
        name: format!("get{}", path.replace(['/', '{', '}'], " ")),
        service: None,
        rate: Rate::per_second(rate).unwrap(),
        request: RequestSpec {
            method: Method::Get,
            path: path.into(),
            headers: BTreeMap::new(),
            json: None,
        },
        expect: Expect { status: vec![200], body_contains: None },
        event: false,
    })
}

impl Drawn {
    /// A command that is acknowledged with 201.
    pub(crate) fn posting_events(self) -> Operation {
        let mut operation = self.0;
        operation.request.method = Method::Post;
        operation.request.json = Some(json!({ "property": "{property}", "amount": "{amount}" }));
        operation.expect.status = vec![201];
        operation.event = true;
        operation
    }
}

pub(crate) fn plan(scenario: Scenario, url: &str) -> WorkerPlan {
    WorkerPlan {
        protocol: PROTOCOL,
        scenario,
        run: "test-run".parse().unwrap(),
        base_url: url.to_owned(),
        auth: Auth::None,
        shard: Shard::WHOLE,
        today: NaiveDate::from_ymd_opt(2026, 3, 14).unwrap(),
    }
}

/// Drives a worker to its end; returns what happened on the way as well.
pub(crate) async fn drive(plan: &WorkerPlan) -> (Driven, Vec<DriveEvent>) {
    let mut events = Vec::new();
    let cancel = CancellationToken::new();
    let driven = drive_with(plan, |event| events.push(event), &cancel).await.unwrap();
    (driven, events)
}

pub(crate) async fn drive_with(
    plan: &WorkerPlan,
    mut on_event: impl FnMut(DriveEvent),
    cancel: &CancellationToken,
) -> Result<Driven, LoadError> {
    let reins = Reins { abandon: cancel.clone(), ..Reins::default() };
    let on_event = |event, _: &LoadRecord| on_event(event);
    plimsoll::load::drive(Path::new(PROGRAM), &["worker"], plan, on_event, &reins).await
}

/// Drives a worker to its end by these reins.
pub(crate) async fn drive_by(
    plan: &WorkerPlan,
    on_event: impl FnMut(DriveEvent, &LoadRecord),
    reins: &Reins,
) -> Driven {
    let program = Path::new(PROGRAM);
    plimsoll::load::drive(program, &["worker"], plan, on_event, reins).await.unwrap()
}

/// Drives a shell script that plays the worker.
pub(crate) async fn drive_script(plan: &WorkerPlan, script: &str) -> Driven {
    let (shell, reins) = (Path::new("/bin/sh"), Reins::default());
    plimsoll::load::drive(shell, &["-c", script], plan, |_, _| {}, &reins).await.unwrap()
}

/// Says something to a worker that no session drives.
pub(crate) fn say(worker: &mut std::process::Child, order: &Order) {
    let stdin = worker.stdin.as_mut().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(order).unwrap()).unwrap();
}
