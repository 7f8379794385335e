//! How refusals look. Who may ask what is in `security`.

use reference_backend::db::{Database, Databases};
use reference_backend::services::Service;
use reqwest::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{
    Server, TOKEN_HEADER, body, first_property, json_of, populate, problem_of,
};

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;

    for (path, named) in [
        ("/revenues?colour=red", "colour"),
        ("/revenues?limit=201", "limit 201"),
        ("/revenues?limit=0", "limit 0"),
        ("/revenues?after=xyz", "after"),
        ("/revenues?from=yesterday", "from"),
        ("/cash/balances?from=2020-01-01&to=2024-01-01", "366 days"),
        ("/cash/balances?property=7", "property"),
        ("/cash/balances?to=-262143-01-01", "expected one from 1900-01-01"),
        ("/revenues?from=%2B262142-12-31", "expected one from 1900-01-01"),
        ("/expenses?after=7fffffff00000000000000000000000000000000", "not a cursor"),
        ("/expenses?after=0595870000000000000000000000000000000000", "not a cursor"),
        ("/events", "property"),
        ("/events?property=00000000-0000-0000-0000-00000000000a&limit=1001", "limit 1001"),
        ("/finance-summary/seven", "not a UUID"),
    ] {
        let (status, detail) = problem_of(server.get(1, path).await).await;
        assert_eq!(status, 400, "{path}");
        assert!(detail.contains(named), "{path}: {detail}");
    }
    let mut extra = body(1, 5);
    extra["colour"] = json!("red");
    for (request, expected, named) in [
        (extra, 422, "unknown field `colour`"),
        (body(1, 0), 422, "amount of 0 cents"),
        (
            json!({"property": first_property(2), "amount_cents": 5, "category": "x"}),
            404,
            "no property",
        ),
        (
            json!({"property": first_property(1), "amount_cents": 5, "category": "x", "date": "2999-01-01"}),
            422,
            "later than today",
        ),
        (
            json!({"property": first_property(1), "amount_cents": 5, "category": "x", "date": "1999-01-01"}),
            422,
            "the books begin",
        ),
    ] {
        let (status, detail) =
            problem_of(server.post(1, "revenues", Uuid::now_v7(), &request).await).await;
        assert_eq!(status, expected, "{request}");
        assert!(detail.contains(named), "{request}: {detail}");
    }
    let post = || server.request(Method::POST, 1, "/v1/orgs/1/expenses");
    let keyless = problem_of(post().json(&body(1, 5)).send().await.unwrap()).await;
    assert_eq!(keyless, (400, "the header Idempotency-Key is required".into()));
    let odd = post().header("Idempotency-Key", "7").json(&body(1, 5)).send().await.unwrap();
    assert_eq!(problem_of(odd).await.0, 400);
    let long =
        post().header("Idempotency-Key", Uuid::now_v7().to_string()).body("x".repeat(70_000));
    assert_eq!(problem_of(long.send().await.unwrap()).await.0, 413);

    assert_eq!(
        problem_of(server.request(Method::GET, 9, "/v1/orgs/9").send().await.unwrap()).await.0,
        404
    );
    assert_eq!(
        problem_of(server.request(Method::GET, 1, "/v1/nothing").send().await.unwrap()).await.0,
        404
    );
    assert_eq!(
        problem_of(server.request(Method::DELETE, 1, "/v1/orgs/1").send().await.unwrap()).await.0,
        405
    );
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_no_write_gave_is_refused_at_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let far = server.request(Method::GET, 1, "/v1/orgs/1/revenues");
    let refused = far.header("x-consistency-token", "nonsense").send().await.unwrap();
    assert_eq!(problem_of(refused).await.0, 400);
    for shard in 0..8 {
        // Of another organisation's shard, or of this one's and beyond its last event.
        let invented = server.request(Method::GET, 1, "/v1/orgs/1/cash/position");
        let invented = invented.header("x-consistency-token", format!("1{shard}ffff"));
        assert_eq!(problem_of(invented.send().await.unwrap()).await.0, 400, "shard {shard}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_renamed_organisation_is_shown_at_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    assert_eq!(json_of(server.get(1, "").await).await["name"], "Hotel 1");
    let held = server.get(1, "").await;
    assert_eq!(held.headers()["x-read-from"], "cache");

    let rename = |body| server.request(Method::PATCH, 1, "/v1/orgs/1").json(&body).send();
    let renamed = json_of(rename(json!({"name": "Inn"})).await.unwrap()).await;
    assert_eq!((&renamed["name"], &renamed["version"]), (&json!("Inn"), &json!(2)));
    assert_eq!(json_of(server.get(1, "").await).await, renamed);
    assert_eq!(problem_of(rename(json!({"name": ""})).await.unwrap()).await.0, 422);
    assert_eq!(problem_of(rename(json!({"title": "x"})).await.unwrap()).await.0, 422);
    server.stop().await;
}

#[tokio::test]
async fn only_hosted_services_answer() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let config = cluster.config(
        "[server]\nlisten = \"127.0.0.1:0\"\n[services.urls]\nrooms = \"http://127.0.0.1:9\"",
    );
    const HOSTED: [Service; 3] = [Service::Cash, Service::Health, Service::Gateway];
    let server = Server::start(config, &HOSTED).await;
    assert_eq!(json_of(server.get(1, "/cash/position").await).await["total_cents"], 0);
    let (status, detail) = problem_of(server.get(1, "/revenues").await).await;
    assert_eq!(status, 404);
    assert!(detail.contains("does not host `revenues`"), "{detail}");
    let ready = reqwest::get(format!("{}/health/ready", server.url)).await.unwrap();
    assert_eq!(json_of(ready).await["status"], "ready");
    let listed = server.request(Method::GET, 1, "/v1/services").send().await.unwrap();
    let listed = json_of(listed).await["services"].as_array().unwrap().clone();
    assert_eq!(listed.len(), Service::ALL.len());
    let of = |name: &str| listed.iter().find(|service| service["name"] == name).unwrap();
    assert_eq!(of("cash"), &json!({"name": "cash", "hosted": true}));
    // Its address is for the gateway, not for its clients.
    assert_eq!(of("rooms"), &json!({"name": "rooms", "hosted": false}));
    assert_eq!(of("tasks"), &json!({"name": "tasks", "hosted": false}));
    server.stop().await;
}

#[tokio::test]
async fn beyond_the_room_requests_are_shed_and_told_when_to_come_back() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let settings =
        "[server]\nlisten = \"127.0.0.1:0\"\nin_flight_max = 1\nread_your_writes_wait_ms = 3000";
    let server = Server::start(cluster.config(settings), &Service::ALL).await;
    // Two reads that wait for a write that is not projected, and one place.
    let mut finance = cluster.admin("plimsoll_finance").await;
    let away = "ALTER TABLE revenues_partitioned RENAME TO away";
    sqlx::raw_sql(away).execute(&mut finance).await.unwrap();
    let written = server.post(1, "revenues", Uuid::now_v7(), &body(1, 5)).await;
    let token = &written.headers()[TOKEN_HEADER];
    let wait = || {
        let path = "/v1/orgs/1/cash/position";
        server.request(Method::GET, 1, path).header(TOKEN_HEADER, token).send()
    };
    let alive = async {
        let alive = reqwest::get(format!("{}/health/live", server.url)).await.unwrap();
        assert_eq!(alive.status(), StatusCode::OK, "probes are never shed");
    };
    let (one, other, ()) = tokio::join!(wait(), wait(), alive);
    let mut details = Vec::new();
    for answer in [one.unwrap(), other.unwrap()] {
        assert_eq!(answer.headers()["retry-after"], "1");
        let (status, detail) = problem_of(answer).await;
        assert_eq!(status, 503);
        details.push(detail);
    }
    details.sort();
    assert_eq!(
        details,
        ["the write of the token is not yet projected", "too many requests are in flight"]
    );
    let back = "ALTER TABLE away RENAME TO revenues_partitioned";
    sqlx::raw_sql(back).execute(&mut finance).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn probes_need_none_of_the_connections_that_requests_use() {
    let cluster = Cluster::start().await;
    let settings = "[database.pools]\nwrite_connections = 1\nacquire_timeout_ms = 60000";
    let databases = Databases::connect(&cluster.config(settings).database).await.unwrap();
    let _held = databases.write(Database::EventStore).acquire().await.unwrap();
    assert!(databases.primary_answers().await);
    drop(cluster);
    assert!(!databases.primary_answers().await, "the primary is gone");
}
