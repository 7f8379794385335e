//! Services on several processes: what the gateway passes on, what it keeps back, and what happens when another is gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Router, serve};
use futures::StreamExt;
use futures::future::BoxFuture;
use reference_backend::services::Service;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{
    Server, TOKEN_HEADER, bearer, body, first_property, json_of, populate, problem_of,
};
use crate::processes::{Process, free_port, until};

/// A process that answers as a test wants; its URL.
async fn target(
    answer: impl Fn(Request) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, Router::new().fallback(answer)).into_future());
    url
}

/// A gateway that hosts organisations and forwards cash and revenues.
async fn gateway(cluster: &Cluster, url: &str, more: &str) -> Server {
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[services.urls]\ncash = \"{url}\"\nrevenues = \"{url}\"\n{more}"
    );
    Server::start(cluster.config(&settings), &[Service::Orgs, Service::Health]).await
}

#[tokio::test]
async fn headers_and_body_pass_and_those_of_the_connection_do_not() {
    let cluster = Cluster::start().await;
    let seen: Arc<Mutex<Option<(String, HeaderMap, Bytes)>>> = Arc::default();
    let noting = Arc::clone(&seen);
    let url = target(move |request| {
        let noting = Arc::clone(&noting);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            *noting.lock().unwrap() = Some((parts.uri.to_string(), parts.headers, body));
            let headers =
                [("x-consistency-token", "17"), ("x-read-from", "cache"), ("retry-after", "9")];
            (StatusCode::CREATED, headers, "made").into_response()
        })
    })
    .await;
    let server = gateway(&cluster, &url, "").await;
    let key = Uuid::now_v7();
    let asked = server
        .request(Method::POST, 1, "/v1/orgs/1/revenues?x=%20y")
        .header("Idempotency-Key", key.to_string())
        .header("X-Consistency-Token", "16")
        .header("X-Request-Id", "mine")
        .header("Connection", "keep-alive, x-private")
        .header("X-Private", "1")
        .body("{}");
    let answer = asked.send().await.unwrap();

    assert_eq!(answer.status(), StatusCode::CREATED);
    for (name, value) in [
        ("x-consistency-token", "17"),
        ("x-read-from", "cache"),
        ("retry-after", "9"),
        ("x-request-id", "mine"),
    ] {
        assert_eq!(answer.headers()[name], value);
    }
    assert_eq!(answer.text().await.unwrap(), "made");
    let (uri, headers, sent) = seen.lock().unwrap().take().unwrap();
    assert_eq!((uri.as_str(), &sent[..]), ("/v1/orgs/1/revenues?x=%20y", &b"{}"[..]));
    assert_eq!(headers["idempotency-key"], key.to_string());
    assert_eq!(headers["x-consistency-token"], "16");
    assert_eq!(headers["x-request-id"], "mine");
    assert!(headers["authorization"].to_str().unwrap().starts_with("Bearer "));
    assert!(!headers.contains_key("x-private"), "{headers:?}");
    assert_eq!(headers["host"], url.strip_prefix("http://").unwrap());
    server.stop().await;
}

#[tokio::test]
async fn an_endless_answer_arrives_piece_by_piece() {
    let cluster = Cluster::start().await;
    let more = Arc::new(Notify::new());
    let waiting = Arc::clone(&more);
    let url = target(move |_| {
        let waiting = Arc::clone(&waiting);
        let pieces = futures::stream::once(async { Ok::<_, std::io::Error>("data: 1\n\n") }).chain(
            futures::stream::once(async move {
                waiting.notified().await;
                Ok("data: 2\n\n")
            }),
        );
        Box::pin(async {
            ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
        })
    })
    .await;
    let server = gateway(&cluster, &url, "").await;
    let mut answer = server.get(1, "/cash/position").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    more.notify_one();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 2\n\n");
    server.stop().await;
}

#[tokio::test]
async fn a_browsers_stream_passes_with_its_token_in_the_address() {
    let cluster = Cluster::start().await;
    let writer = Server::all(&cluster, "").await;
    let server = gateway(&cluster, &writer.url, &format!("realtime = \"{}\"", writer.url)).await;
    let ask = |query: String| reqwest::get(format!("{}/v1/orgs/1/realtime{query}", server.url));
    let mut stream = ask(format!("?access_token={}", bearer(1, 60))).await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: ready") || first.starts_with(b"id: "), "{first:?}");

    for (query, status) in [
        (String::new(), 401),
        (format!("?access_token={}", bearer(1, -60)), 401),
        (format!("?access_token={}", bearer(2, 60)), 403),
    ] {
        assert_eq!(problem_of(ask(query).await.unwrap()).await.0, status);
    }
    server.stop().await;
    writer.stop().await;
}

#[tokio::test]
async fn an_open_stream_does_not_keep_the_gateway_from_stopping() {
    let cluster = Cluster::start().await;
    let url = target(|_| {
        let endless = futures::stream::once(async { Ok::<_, std::io::Error>("data: 1\n\n") })
            .chain(futures::stream::pending());
        Box::pin(async {
            ([("content-type", "text/event-stream")], Body::from_stream(endless)).into_response()
        })
    })
    .await;
    let settings = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndrain_timeout_ms = 600000\n[services.urls]\ncash = \"{url}\""
    );
    let server = Server::start(cluster.config(&settings), &[Service::Orgs]).await;
    let mut answer = server.get(1, "/cash/position").await;
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    server.stop().await;
    assert_eq!(answer.chunk().await.unwrap(), None, "it was ended, not cut off");
}

/// The first half of a command, and the connection on which the second may follow.
async fn half_a_command(server: &Server) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/orgs/1/revenues HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: {}\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nfirst\r\n",
        bearer(1, 60),
        Uuid::now_v7()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

async fn answer_after(mut connection: TcpStream, rest: &str) -> String {
    connection.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn slow_and_broken_clients_are_not_held_against_the_other_process() {
    let cluster = Cluster::start().await;
    let url = target(|request| {
        Box::pin(async {
            match axum::body::to_bytes(request.into_body(), usize::MAX).await {
                Ok(body) => (StatusCode::CREATED, body).into_response(),
                Err(_) => StatusCode::BAD_REQUEST.into_response(),
            }
        })
    })
    .await;
    let touchy =
        "[resilience.forwarding]\ntimeout_ms = 50\nbreaker = { calls_min = 1, open_ms = 600000 }";
    let server = gateway(&cluster, &url, touchy).await;

    let slow = half_a_command(&server).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = answer_after(slow, "6\r\nsecond\r\n0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 201") && answer.contains("firstsecond"), "{answer}");

    let broken = half_a_command(&server).await;
    let answer = answer_after(broken, "no chunk\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("could not be read to its end"), "{answer}");

    assert_eq!(server.get(1, "/cash/position").await.status(), StatusCode::CREATED);
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_ask_never_reaches_the_other_process() {
    let cluster = Cluster::start().await;
    let reached = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&reached);
    let url = target(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { "hello".into_response() })
    })
    .await;
    let slow = "[resilience.rate_limit]\nper_second = 1\nburst = 2";
    let server = gateway(&cluster, &url, slow).await;
    let bare = reqwest::get(format!("{}/v1/orgs/1/cash/position", server.url)).await.unwrap();
    assert_eq!(problem_of(bare).await.0, 401);
    let foreign = server.request(Method::GET, 2, "/v1/orgs/1/cash/position").send().await.unwrap();
    assert_eq!(problem_of(foreign).await.0, 403);
    let again = server.request(Method::GET, 1, "/v1/orgs/1/cash/position");
    let again = again.header("x-plimsoll-forwarded", "1").send().await.unwrap();
    assert_eq!(problem_of(again).await.0, 404, "what was forwarded is not forwarded on");
    assert_eq!(reached.load(Ordering::Relaxed), 0);

    for _ in 0..2 {
        assert_eq!(server.get(1, "/cash/position").await.status(), StatusCode::OK);
    }
    let limited = server.get(1, "/cash/position").await;
    assert_eq!(limited.headers()["retry-after"], "1");
    assert_eq!(problem_of(limited).await.0, 429);
    assert_eq!(server.get(2, "/cash/position").await.status(), StatusCode::OK, "the other's rate");
    assert_eq!(reached.load(Ordering::Relaxed), 3);
    server.stop().await;
}

#[tokio::test]
async fn only_what_can_be_repeated_is_sent_again() {
    let cluster = Cluster::start().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&tries);
    let url = target(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    })
    .await;
    let quick = format!(
        "properties = \"{url}\"\nota = \"{url}\"\n[resilience.forwarding]\ntimeout_ms = 20\n\
         retry = {{ times_max = 2 }}\nbreaker = {{ calls_min = 1000 }}"
    );
    let server = gateway(&cluster, &url, &quick).await;
    let ask = |method, path: String, key: bool, body: &'static str| {
        let request = server.request(method, 1, &format!("/v1/orgs/1/{path}")).body(body);
        let request = if key {
            request.header("Idempotency-Key", Uuid::now_v7().to_string())
        } else {
            request
        };
        request.send()
    };
    let long: &'static str = "x".repeat(70_000).leak();
    let revenues = || "revenues".to_owned();
    let property = first_property(1);
    let (property, hotel) =
        (format!("properties/{property}"), format!("ota/connections/{property}"));
    for (method, path, key, body, expected) in [
        (Method::GET, revenues(), false, "", 3),
        (Method::POST, revenues(), true, "{}", 3),
        (Method::POST, revenues(), false, "{}", 1),
        (Method::POST, revenues(), true, long, 1),
        // The first try may have moved the version on, and these routes know no keys.
        (Method::PATCH, property, true, "{}", 1),
        (Method::PUT, hotel, false, "{}", 1),
    ] {
        tries.store(0, Ordering::Relaxed);
        let answer = ask(method.clone(), path, key, body).await.unwrap();
        assert_eq!(problem_of(answer).await.0, 504, "{method}");
        assert_eq!(
            tries.load(Ordering::Relaxed),
            expected,
            "{method}, key: {key}, {} bytes",
            body.len()
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn refusals_of_the_other_process_pass_as_they_are() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let writer = Server::all(&cluster, "").await;
    let server = gateway(&cluster, &writer.url, "").await;
    let long = server.request(Method::POST, 1, "/v1/orgs/1/revenues");
    let long = long.header("Idempotency-Key", Uuid::now_v7().to_string()).body("x".repeat(70_000));
    assert_eq!(problem_of(long.send().await.unwrap()).await.0, 413);
    let mut odd = body(1, 5);
    odd["colour"] = json!("red");
    assert_eq!(problem_of(server.post(1, "revenues", Uuid::now_v7(), &odd).await).await.0, 422);
    assert_eq!(problem_of(server.get(1, "/revenues?limit=0").await).await.0, 400);
    server.stop().await;
    writer.stop().await;
}

/// Three processes: the gateway with all that is not hosted elsewhere, the writer, and the readers.
struct Deployment {
    gateway: Process,
    writer: Process,
    readers: Process,
    readers_port: u16,
}

const READERS: &str = "cash,read-models,events,health";

impl Deployment {
    fn start(cluster: &Cluster) -> Self {
        let writer = Process::serve(
            &cluster.config("[server]\nlisten = \"127.0.0.1:0\""),
            "revenues,expenses,health",
        );
        let readers_port = free_port();
        let readers = Self::start_readers(cluster, readers_port);
        let (w, r) = (&writer.url, &readers.url);
        let urls = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[services.urls]\nrevenues = \"{w}\"\nexpenses = \"{w}\"\n\
             cash = \"{r}\"\nread-models = \"{r}\"\nevents = \"{r}\"\n[resilience.forwarding.breaker]\nopen_ms = 100"
        );
        let gateway = Process::serve(&cluster.config(&urls), "gateway,orgs,health");
        Self { gateway, writer, readers, readers_port }
    }

    fn start_readers(cluster: &Cluster, port: u16) -> Process {
        Process::serve(
            &cluster.config(&format!("[server]\nlisten = \"127.0.0.1:{port}\"")),
            READERS,
        )
    }
}

#[tokio::test]
async fn a_write_through_the_gateway_is_read_through_the_gateway() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let all = Deployment::start(&cluster);
    let written = all.gateway.request(Method::POST, 1, "/revenues");
    let written = written.header("Idempotency-Key", Uuid::now_v7().to_string()).json(&body(1, 500));
    let written = written.send().await.unwrap();
    assert_eq!(written.status(), StatusCode::CREATED);
    let token = written.headers()[TOKEN_HEADER].clone();
    let listed = all.gateway.request(Method::GET, 1, "/revenues").header(TOKEN_HEADER, &token);
    let listed = json_of(listed.send().await.unwrap()).await;
    assert_eq!(listed["entries"][0]["amount_cents"], 500, "{listed}");
    // Another process than the one that wrote, and that only follows it.
    let position =
        all.gateway.request(Method::GET, 1, "/cash/position").header(TOKEN_HEADER, &token);
    assert_eq!(json_of(position.send().await.unwrap()).await["total_cents"], 500);

    assert_eq!(
        json_of(all.gateway.request(Method::GET, 1, "").send().await.unwrap()).await["name"],
        "Hotel 1"
    );
    let forwarded =
        r#"backend_forwarded_requests_total{service="revenues",method="POST",status="201"}"#;
    let answered = r#"backend_http_requests_total{service="revenues",method="POST",status="201"}"#;
    assert_eq!(all.gateway.metric(forwarded).await, 1.0);
    assert_eq!(all.gateway.metric(answered).await, 0.0, "counted by the one that answered, only");
    assert_eq!(all.writer.metric(answered).await, 1.0);
    let foreign = format!("{}/v1/orgs/1/revenues", all.writer.url);
    let foreign =
        reqwest::Client::new().get(foreign).bearer_auth(bearer(2, 60)).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN, "the other process checks again");
}

#[tokio::test]
async fn a_killed_process_is_given_up_at_once_and_found_again() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut all = Deployment::start(&cluster);
    let ask = || all.gateway.request(Method::GET, 1, "/cash/position").send();
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    let target = all.readers.url.strip_prefix("http://").unwrap().to_owned();
    let state = format!("backend_breaker_state{{dependency=\"{target}\"}}");
    let refused = format!("backend_breaker_refused_total{{dependency=\"{target}\"}}");

    all.readers.kill();
    until("the open breaker", || async {
        let answer = ask().await.unwrap();
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(problem_of(answer).await.0, 503);
        all.gateway.metric(&refused).await > 0.0
    })
    .await;
    let others = all.gateway.request(Method::GET, 1, "/revenues").send().await.unwrap();
    assert_eq!(others.status(), StatusCode::OK, "another process is another breaker");
    let ready = reqwest::get(format!("{}/health/ready", all.gateway.url)).await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK, "the gateway itself is well");

    all.readers = Deployment::start_readers(&cluster, all.readers_port);
    until("an answer after the recovery", || async {
        ask().await.unwrap().status() == StatusCode::OK
    })
    .await;
    assert_eq!(all.gateway.metric(&state).await, 0.0, "closed again");
}
