//! The exchange with a channel manager that works, is slow, and is broken.

use std::time::Duration;

use futures::future::join_all;
use reference_backend::db::Databases;
use reference_backend::ota::{ChannelManager, sync_all};
use reference_backend::services::Service;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{Server, TOKEN_HEADER, first_property, json_of, populate, problem_of};
use crate::processes::{Process, until};

/// A backend with a channel manager, and what it is asked and told.
struct Exchanges {
    cluster: Cluster,
    server: Server,
    stub: Process,
}

impl Exchanges {
    /// Organisations 1 to 4; the first property of 1 is the hotel `H1`.
    async fn start(settings: &str) -> Self {
        let cluster = Cluster::start().await;
        populate(&cluster).await;
        let stub = Process::ota_stub();
        let settings = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nrequest_timeout_ms = 120000\n[ota]\nchannel_manager_url = \"{}\"\n{settings}",
            stub.url
        );
        let server = Server::start(cluster.config(&settings), &Service::ALL).await;
        let all = Self { cluster, server, stub };
        assert_eq!(all.connect(1, "H1").await.status(), StatusCode::OK);
        all
    }

    async fn connect(&self, org: i64, hotel: &str) -> reqwest::Response {
        let path = format!("/v1/orgs/{org}/ota/connections/{}", first_property(org));
        let body = json!({"hotel_code": hotel, "rate_cents": 9_900, "push_days": 7});
        self.server.request(Method::PUT, org, &path).json(&body).send().await.unwrap()
    }

    async fn exchange_as(&self, key: Uuid, org: i64, kind: &str) -> reqwest::Response {
        let body = json!({"property": first_property(org), "kind": kind});
        self.server.post(org, "ota/exchanges", key, &body).await
    }

    async fn exchange(&self, kind: &str) -> reqwest::Response {
        self.exchange_as(Uuid::now_v7(), 1, kind).await
    }

    async fn done(&self, kind: &str) -> Value {
        let answer = self.exchange(kind).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json().await.unwrap()
    }

    /// Changes how the channel manager behaves.
    async fn behave(&self, change: Value) {
        let client = reqwest::Client::new().put(format!("{}/control", self.stub.url));
        assert!(client.json(&change).send().await.unwrap().status().is_success());
    }

    /// What the channel manager saw.
    async fn seen(&self, what: &str) -> u64 {
        let seen = reqwest::get(format!("{}/control", self.stub.url)).await.unwrap();
        json_of(seen).await[what].as_u64().unwrap()
    }

    /// Reservations of organisation 1 that came from the channel manager: reference and status.
    async fn reservations(&self) -> Vec<(String, String)> {
        let mut hospitality = self.cluster.admin("plimsoll_hospitality").await;
        let query = "SELECT external_ref, status FROM reservations WHERE org_id = 1 AND source = 'ota' ORDER BY created_at, external_ref";
        sqlx::query_as(query).fetch_all(&mut hospitality).await.unwrap()
    }

    async fn sql(&self, statement: &'static str) {
        let mut hospitality = self.cluster.admin("plimsoll_hospitality").await;
        sqlx::raw_sql(statement).execute(&mut hospitality).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_pushed_is_sold_and_what_is_sold_is_pulled_once() {
    let all = Exchanges::start("").await;
    for _ in 0..3 {
        let pushed = all.done("push").await;
        assert_eq!((&pushed["outcome"], &pushed["items"]), (&json!("done"), &json!(7)));
    }
    let key = Uuid::now_v7();
    let pulled = all.exchange_as(key, 1, "pull").await;
    assert!(pulled.headers().contains_key(TOKEN_HEADER));
    let pulled: Value = pulled.json().await.unwrap();
    assert_eq!(pulled["items"], 3);
    let refs = |rows: Vec<(String, String)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(refs(all.reservations().await), ["H1/CM-1", "H1/CM-2", "H1/CM-3"]);

    let calls = all.seen("calls").await;
    let again: Value = all.exchange_as(key, 1, "pull").await.json().await.unwrap();
    assert_eq!(again, pulled, "a retry is answered from the record");
    assert_eq!(all.seen("calls").await, calls, "and costs no call");
    assert_eq!(problem_of(all.exchange_as(key, 1, "push").await).await.0, 422);
    assert_eq!(all.done("pull").await["items"], 0, "the place in the list is kept");

    let listed = json_of(all.server.get(1, "/ota/exchanges?limit=2").await).await;
    assert_eq!(listed["exchanges"][1], pulled);
    let rest = format!("/ota/exchanges?after={}", listed["next"].as_str().unwrap());
    let rest = json_of(all.server.get(1, &rest).await).await;
    assert_eq!((rest["exchanges"].as_array().unwrap().len(), &rest["next"]), (3, &Value::Null));
    assert_eq!(json_of(all.server.get(2, "/ota/exchanges").await).await["exchanges"], json!([]));
    all.server.stop().await;
}

#[tokio::test]
async fn the_house_has_the_last_word_on_guests_who_are_there() {
    let all = Exchanges::start("").await;
    all.done("push").await;
    all.done("pull").await;
    // Both pages of the hotel's list come again, the cancellation of the ninth too.
    all.sql("UPDATE reservations SET status = 'checked_in' WHERE external_ref = 'H1/CM-1'").await;
    for _ in 0..9 {
        all.done("push").await;
    }
    all.sql("UPDATE ota_connections SET pulled_to = 0").await;
    assert_eq!(all.done("pull").await["items"], 9);
    let statuses = all.reservations().await;
    let of = |reference: &str| {
        statuses.iter().find(|row| row.0 == reference).map(|row| row.1.as_str()).unwrap()
    };
    assert_eq!(
        (of("H1/CM-1"), of("H1/CM-2"), of("H1/CM-9")),
        ("checked_in", "booked", "cancelled")
    );
    all.server.stop().await;
}

#[tokio::test]
async fn nights_that_are_sold_and_rooms_that_are_broken_are_not_for_sale() {
    let all = Exchanges::start("").await;
    all.sql(
        "INSERT INTO rooms (org_id, id, property_id, name, kind, beds, status) \
         SELECT 1, gen_random_uuid(), property_id, n, 'single', 1, CASE n WHEN 1 THEN 'out_of_order' ELSE 'clean' END \
         FROM properties, generate_series(1, 4) n WHERE org_id = 1 AND property_id = '00000000-0000-0000-0000-00000000000a'; \
         INSERT INTO reservations (org_id, id, property_id, guest_name, arrival, departure, status) \
         SELECT 1, gen_random_uuid(), '00000000-0000-0000-0000-00000000000a', 'Ada', current_date - 1 + a, current_date + 1 + a, s \
         FROM (VALUES (0, 'checked_in'), (1, 'booked'), (1, 'cancelled'), (30, 'booked')) AS r (a, s)",
    )
    .await;
    all.done("push").await;
    let pushed = reqwest::get(format!("{}/hotels/H1/availability", all.stub.url)).await.unwrap();
    let days = json_of(pushed).await;
    let available: Vec<i64> = days["days"]
        .as_array()
        .unwrap()
        .iter()
        .map(|day| day["available"].as_i64().unwrap())
        .collect();
    assert_eq!(available, [1, 2, 3, 3, 3, 3, 3]);
    assert_eq!(days["days"][0]["rate_cents"], 9_900);
    all.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let all = Exchanges::start("").await;
    assert_eq!(problem_of(all.connect(2, "H1").await).await.0, 409, "one hotel is one property");
    assert_eq!(problem_of(all.connect(2, "no way").await).await.0, 422);
    let foreign = format!("/v1/orgs/2/ota/connections/{}", first_property(1));
    let body = json!({"hotel_code": "H2", "rate_cents": 1});
    let foreign = all.server.request(Method::PUT, 2, &foreign).json(&body).send().await.unwrap();
    assert_eq!(problem_of(foreign).await.0, 404);
    assert_eq!(problem_of(all.exchange_as(Uuid::now_v7(), 2, "push").await).await.0, 404);

    assert_eq!(all.connect(2, "unknown").await.status(), StatusCode::OK);
    let refused = all.exchange_as(Uuid::now_v7(), 2, "push").await;
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["outcome"], "refused", "{refused}");
    all.sql("UPDATE ota_connections SET enabled = false WHERE org_id = 2").await;
    assert_eq!(problem_of(all.exchange_as(Uuid::now_v7(), 2, "push").await).await.0, 409);
    let connections = json_of(all.server.get(2, "/ota/connections").await).await;
    assert_eq!(connections["connections"][0]["hotel_code"], "unknown");
    all.server.stop().await;
}

#[tokio::test]
async fn a_pull_of_one_hotel_does_not_move_the_place_in_the_next_ones_list() {
    let all = Exchanges::start("[ota.calls]\ntimeout_ms = 60000").await;
    for _ in 0..3 {
        all.done("push").await;
    }
    all.behave(json!({"delay_ms": 60_000})).await;
    let meanwhile = async {
        until("the pull in flight", || async { all.seen("in_flight").await == 1 }).await;
        assert_eq!(all.connect(1, "H2").await.status(), StatusCode::OK);
        all.behave(json!({"delay_ms": 0})).await;
    };
    let (pulled, ()) = tokio::join!(all.done("pull"), meanwhile);
    let detail = pulled["detail"].as_str().unwrap();
    assert!(pulled["items"] == 0 && detail.contains("another hotel"), "{pulled}");
    assert_eq!(all.reservations().await, []);

    // The new hotel's list is shorter than the old one's.
    all.done("push").await;
    assert_eq!(all.done("pull").await["items"], 1);
    assert_eq!(all.reservations().await, [("H2/CM-1".to_owned(), "booked".to_owned())]);
    all.server.stop().await;
}

#[tokio::test]
async fn without_a_channel_manager_the_service_says_so() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let body = json!({"property": first_property(1), "kind": "push"});
    let answer = server.post(1, "ota/exchanges", Uuid::now_v7(), &body).await;
    let (status, detail) = problem_of(answer).await;
    assert_eq!((status, detail.as_str()), (503, "no channel manager is configured"));
    server.stop().await;
}

#[tokio::test]
async fn a_slow_channel_manager_takes_no_more_than_its_own_room() {
    // Either of the two rooms is enough: that of the service, and that of the calls.
    for (service, calls, named) in [(64, 2, "the channel manager"), (2, 32, "`ota`")] {
        slow(service, calls, named).await;
    }
}

async fn slow(service: usize, calls: usize, named: &str) {
    let settings = format!(
        "[ota.calls]\nin_flight_max = {calls}\ntimeout_ms = 60000\n\
         [resilience.bulkheads]\nservices = {{ ota = {service} }}\n[database.pools]\nwrite_connections = 1"
    );
    let all = Exchanges::start(&settings).await;
    all.behave(json!({"delay_ms": 60_000})).await;
    let waiting = async {
        let exchanges = (0..8).map(|_| all.exchange("push"));
        join_all(exchanges).await
    };
    let meanwhile = async {
        until("two calls in flight", || async { all.seen("in_flight").await == 2 }).await;
        let more = all.exchange("push").await;
        assert_eq!(more.headers()["retry-after"], "1");
        let (status, detail) = problem_of(more).await;
        assert_eq!(status, 503);
        assert!(detail.contains(named), "{detail}");
        for path in ["", "/properties", "/cash/position", "/revenues", "/rooms"] {
            assert_eq!(all.server.get(1, path).await.status(), StatusCode::OK, "{path}");
        }
        // Writes, of the same database too: no connection is held while the channel manager is asked.
        let rename =
            all.server.request(Method::PATCH, 1, "/v1/orgs/1").json(&json!({"name": "Inn"}));
        assert_eq!(rename.send().await.unwrap().status(), StatusCode::OK);
        let room = json!({"property": first_property(1), "name": "1", "kind": "single", "beds": 1});
        let room = all.server.post(1, "rooms", Uuid::now_v7(), &room).await;
        assert_eq!(room.status(), StatusCode::CREATED);
        assert_eq!(all.seen("in_flight_max").await, 2);
        all.behave(json!({"delay_ms": 0})).await;
    };
    let (answers, ()) = tokio::join!(waiting, meanwhile);
    let status = |wanted| answers.iter().filter(|answer| answer.status() == wanted).count();
    assert_eq!((status(StatusCode::CREATED), status(StatusCode::SERVICE_UNAVAILABLE)), (2, 6));
    all.server.stop().await;
}

#[tokio::test]
async fn a_broken_channel_manager_is_left_alone_until_it_works_again() {
    let all = Exchanges::start("[ota.calls.breaker]\nopen_ms = 1000").await;
    all.behave(json!({"fail_ratio": 1.0})).await;
    let key = Uuid::now_v7();
    until("the open breaker", || async {
        let (status, detail) = problem_of(all.exchange_as(key, 1, "push").await).await;
        assert_eq!(status, 503);
        detail.contains("failed too often")
    })
    .await;
    let failed = json_of(all.server.get(1, "/ota/exchanges").await).await;
    assert_eq!(failed["exchanges"][0]["outcome"], "failed", "{failed}");

    // Far more are refused than are let through to see whether it works.
    let calls = all.seen("calls").await;
    for _ in 0..50 {
        let shed = all.exchange("push").await;
        assert_eq!(shed.headers()["retry-after"], "1");
        assert_eq!(problem_of(shed).await.0, 503);
    }
    let more = all.seen("calls").await - calls;
    assert!(more < 25, "{more} calls of 50 reached the channel manager");

    all.behave(json!({"fail_ratio": 0.0})).await;
    until("the closed breaker", || async {
        all.exchange_as(key, 1, "push").await.status() == StatusCode::CREATED
    })
    .await;
    for _ in 0..5 {
        all.done("pull").await;
    }
    all.server.stop().await;
}

#[tokio::test]
async fn failing_calls_are_repeated_within_the_budget_only() {
    let settings = "[ota.calls.breaker]\ncalls_min = 100000\n\
        [ota.calls.retry]\ntimes_max = 3\nfirst_ms = 1\nlongest_ms = 2\nbudget_ratio = 0.1\nbudget_per_second_min = 0";
    let all = Exchanges::start(settings).await;
    all.behave(json!({"fail_ratio": 1.0})).await;
    for _ in 0..60 {
        assert_eq!(problem_of(all.exchange("push").await).await.0, 503);
    }
    // 60 tries, and a tenth more; not the 240 that three retries of each would be.
    let calls = all.seen("calls").await;
    assert!((61..=66).contains(&calls), "{calls}");
    all.server.stop().await;
}

#[tokio::test]
async fn the_regular_round_covers_every_connection() {
    let all = Exchanges::start("").await;
    assert_eq!(all.connect(2, "H2").await.status(), StatusCode::OK);
    all.sql(
        "INSERT INTO ota_exchanges SELECT org_id, gen_random_uuid(), property_id, 'push', 'done', 1, '', \
         now() - interval '31 days', now() FROM ota_connections",
    )
    .await;
    let settings = format!(
        "[ota]\nchannel_manager_url = \"{}\"\n[ota.calls.breaker]\ncalls_min = 2",
        all.stub.url
    );
    let config = all.cluster.config(&settings);
    let databases = Databases::connect(&config.database).await.unwrap();
    let manager = ChannelManager::new(&config.ota).unwrap();
    let run = async || sync_all(&databases, manager.as_ref(), &config.ota).await;
    assert_eq!(run().await.unwrap(), "4 exchanges done, 0 refused, 0 failed; 2 old ones forgotten");
    assert_eq!(all.reservations().await.len(), 1);

    all.behave(json!({"fail_ratio": 1.0})).await;
    let failed = run().await.unwrap_err();
    assert!(failed.contains("ended early"), "{failed}");
    let none = sync_all(&databases, None, &config.ota).await.unwrap();
    assert_eq!(none, "no channel manager is configured");
    tokio::time::timeout(Duration::from_secs(10), databases.close()).await.unwrap();
    all.server.stop().await;
}
