//! Server-sent events over real HTTP: what a browser is told, and that it misses nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use reference_backend::pubsub::{Topic, publish};
use reference_backend::services::Service;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Cluster, org};
use crate::http_server::{Server, bearer, body, json_of, populate, problem_of};

/// One server-sent event; a comment has no name.
#[derive(Debug, Clone, Default)]
struct Told {
    id: String,
    name: String,
    data: Value,
}

/// What an `EventSource` does.
struct Page {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

impl Page {
    async fn open(server: &Server, of: i64, last: Option<&str>) -> Self {
        let request = server.request(Method::GET, of, &format!("/v1/orgs/{of}/realtime"));
        let request = match last {
            Some(id) => request.header("Last-Event-ID", id),
            None => request,
        };
        Self::of(request).await
    }

    async fn of(request: reqwest::RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { bytes: answer.bytes_stream().boxed(), text: String::new() }
    }

    /// The next event or comment; None when the stream has ended.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let mut told = Told::default();
                for line in frame.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => id.clone_into(&mut told.id),
                        Some(("event", name)) => name.clone_into(&mut told.name),
                        Some(("data", data)) => told.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                return Some(told);
            }
            let more = tokio::time::timeout(Duration::from_secs(20), self.bytes.next()).await;
            match more.expect("nothing came") {
                Some(Ok(bytes)) => self.text += std::str::from_utf8(&bytes).unwrap(),
                _ => return None,
            }
        }
    }

    /// The next event, which must be of this name.
    async fn expect(&mut self, name: &str) -> Told {
        loop {
            let told = self.next().await.unwrap_or_else(|| panic!("ended before {name}"));
            if !told.name.is_empty() {
                assert_eq!(told.name, name, "{told:?}");
                return told;
            }
        }
    }
}

async fn book(server: &Server, of: i64, cents: i64) -> Uuid {
    let key = Uuid::now_v7();
    assert_eq!(server.post(of, "revenues", key, &body(of, cents)).await.status(), 201);
    key
}

async fn tell(cluster: &Cluster, of: i64, data: Value) {
    let mut store = cluster.admin("plimsoll_event_store").await;
    publish(&mut store, Topic::RealtimeUpdates, org(of), &data).await.unwrap();
}

async fn started(more: &str) -> (Cluster, Server) {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, &format!("[pubsub]\npoll_interval_ms = 10\n{more}")).await;
    (cluster, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_told_of_its_own_organisation_and_no_other() {
    let (cluster, server) = started("").await;
    let mut page = Page::open(&server, 1, None).await;
    page.expect("ready").await;
    book(&server, 2, 5).await;
    let id = book(&server, 1, 7).await;
    let entry = page.expect("entry").await;
    assert_eq!((&entry.data["id"], &entry.data["amount_cents"]), (&json!(id), &json!(7)));
    assert_eq!(entry.data["type"], "revenue_recorded");
    tell(&cluster, 2, json!({"type": "notification", "title": "not yours"})).await;
    tell(&cluster, 1, json!({"type": "correction", "from": "2026-01-01"})).await;
    assert_eq!(page.expect("correction").await.data["from"], "2026-01-01");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_entry_is_notified_at_once_and_kept_once() {
    let (cluster, server) = started("").await;
    let mut page = Page::open(&server, 1, None).await;
    page.expect("ready").await;
    book(&server, 1, 999_999).await;
    book(&server, 1, 1_000_000).await;
    page.expect("entry").await;
    page.expect("entry").await;
    let notification = page.expect("notification").await;
    assert_eq!(notification.data["title"], "A large revenue: 10000.00");
    let mut shared = cluster.admin("plimsoll_shared").await;
    let kept: Vec<(i64, String)> = sqlx::query_as("SELECT org_id, kind FROM notifications")
        .fetch_all(&mut shared)
        .await
        .unwrap();
    assert_eq!(kept, [(1, "large-entry".to_owned())]);
    let listed = json_of(server.get(1, "/notifications").await).await;
    assert_eq!(listed["notifications"][0]["id"], notification.data["id"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_comes_back_misses_nothing_and_is_told_nothing_twice() {
    let (cluster, server) = started("").await;
    let server = std::sync::Arc::new(server);
    let mut page = Page::open(&server, 1, None).await;
    let mut last = page.expect("ready").await.id;
    let writers: tokio::task::JoinSet<Vec<Uuid>> = (0..3)
        .map(|_| {
            let server = std::sync::Arc::clone(&server);
            async move {
                let mut booked = Vec::new();
                for n in 1..=40 {
                    booked.push(book(&server, 1, n).await);
                }
                booked
            }
        })
        .collect();
    let messages = async {
        for n in 0..20 {
            tell(&cluster, 1, json!({"type": "notification", "n": n})).await;
        }
    };
    let listening = async {
        let (mut entries, mut notes) = (Vec::new(), Vec::new());
        let mut heard = 0;
        while entries.len() < 120 || notes.len() < 20 {
            let told = page.next().await.unwrap();
            last = told.id;
            match told.name.as_str() {
                "entry" => entries.push(told.data["id"].as_str().unwrap().to_owned()),
                "notification" => notes.push(told.data["n"].as_i64().unwrap()),
                _ => {}
            }
            heard += 1;
            if heard % 9 == 0 {
                page = Page::open(&server, 1, Some(&last)).await;
                page.expect("ready").await;
            }
        }
        (entries, notes)
    };
    let (booked, (), (entries, notes)) = tokio::join!(writers.join_all(), messages, listening);
    let booked: BTreeSet<String> = booked.concat().iter().map(Uuid::to_string).collect();
    assert_eq!((entries.len(), notes), (120, (0..20).collect()));
    assert_eq!(entries.into_iter().collect::<BTreeSet<_>>(), booked);
    drop(page);
    std::sync::Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_missed_too_much_or_comes_from_elsewhere_starts_anew() {
    let (_cluster, server) = started("[pubsub.realtime]\nresume_updates_max = 3\n").await;
    let mut page = Page::open(&server, 1, None).await;
    let begin = page.expect("ready").await.id;
    for n in 1..=3 {
        book(&server, 1, n).await;
    }
    let mut back = Page::open(&server, 1, Some(&begin)).await;
    back.expect("ready").await;
    for n in 1..=3 {
        assert_eq!(back.expect("entry").await.data["amount_cents"], n);
    }
    book(&server, 1, 4).await;
    let mut late = Page::open(&server, 1, Some(&begin)).await;
    late.expect("reset").await;
    for foreign in ["999999.0", "0.999999"] {
        let mut page = Page::open(&server, 1, Some(foreign)).await;
        page.expect("reset").await;
        book(&server, 1, 5).await;
        assert_eq!(page.expect("entry").await.data["amount_cents"], 5, "from here on");
    }
    let request = server.request(Method::GET, 1, "/v1/orgs/1/realtime");
    let refused = request.header("Last-Event-ID", "yesterday").send().await.unwrap();
    assert_eq!(problem_of(refused).await.0, 400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_holds_no_room_of_requests_and_outlives_their_time_limit() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let config = cluster.config(
        "[server]\nlisten = \"127.0.0.1:0\"\nin_flight_max = 1\nrequest_timeout_ms = 700\n\
         [pubsub.realtime]\nheartbeat_ms = 100\nstreams_per_organisation_max = 1\n",
    );
    let server = Server::start(config, &Service::ALL).await;
    let mut page = Page::open(&server, 1, None).await;
    page.expect("ready").await;
    for _ in 0..10 {
        let beat = page.next().await.expect("a heartbeat");
        assert_eq!(beat.name, "", "a comment, no event for the page");
    }
    book(&server, 1, 7).await;
    page.expect("entry").await;
    let second = server.get(1, "/realtime").await;
    assert_eq!(problem_of(second).await.0, 503, "one per organisation here");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_moves_the_place_to_come_back_to() {
    let (cluster, server) = started("[pubsub.realtime]\nheartbeat_ms = 100\n").await;
    let mut page = Page::open(&server, 1, None).await;
    assert_eq!(page.expect("ready").await.id, "0.0");
    for _ in 0..3 {
        tell(&cluster, 2, json!({"type": "notification"})).await;
    }
    while page.next().await.unwrap().id != "0.3" {}
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_beyond_the_buffer_cuts_off_and_the_page_resumes() {
    let (cluster, server) = started("[pubsub.realtime]\nbuffer_updates = 2\n").await;
    let mut page = Page::open(&server, 1, None).await;
    let mut last = page.expect("ready").await.id;
    // One commit, so that all come in one look.
    let mut store = cluster.admin("plimsoll_event_store").await;
    sqlx::raw_sql(
        "BEGIN; INSERT INTO topic_messages (topic, position, org_id, data) \
         SELECT 'realtime-updates', n, 1, jsonb_build_object('type', 'notification', 'n', n) \
         FROM generate_series(1, 20) n; UPDATE topics SET head = 20; COMMIT",
    )
    .execute(&mut store)
    .await
    .unwrap();
    let mut heard = Vec::new();
    loop {
        let told = page.next().await.unwrap();
        last.clone_from(&told.id);
        if told.name == "end" {
            assert_eq!(told.data["reason"], "slow");
            break;
        }
        heard.push(told.data["n"].as_i64().unwrap());
    }
    assert!(page.next().await.is_none(), "it was told, and then cut off");
    let mut page = Page::open(&server, 1, Some(&last)).await;
    page.expect("ready").await;
    while heard.len() < 20 {
        heard.push(page.expect("notification").await.data["n"].as_i64().unwrap());
    }
    assert_eq!(heard, (1..=20).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token_and_with_the_server_and_says_why() {
    let (_cluster, server) = started("").await;
    let url = format!("{}/v1/orgs/1/realtime", server.url);
    let with = |token: String| server.client.get(format!("{url}?access_token={token}"));
    let mut short = Page::of(with(bearer(1, 2))).await;
    short.expect("ready").await;
    assert_eq!(short.expect("end").await.data["reason"], "expired");
    assert!(short.next().await.is_none());
    for (request, status) in [
        (server.client.get(&url), 401),
        (with("nonsense".to_owned()), 401),
        (with(bearer(1, -60)), 401),
        (with(bearer(2, 60)), 403),
        (server.client.get(format!("{url}?token=x")).bearer_auth(bearer(1, 60)), 400),
    ] {
        assert_eq!(problem_of(request.send().await.unwrap()).await.0, status);
    }
    // The token in the address opens this route alone.
    let (url, token) = (&server.url, bearer(1, 60));
    let other = server.client.get(format!("{url}/v1/orgs/1/cash/position?access_token={token}"));
    assert_eq!(problem_of(other.send().await.unwrap()).await.0, 401);

    let mut page = Page::open(&server, 1, None).await;
    page.expect("ready").await;
    server.stop().await;
    assert_eq!(page.expect("end").await.data["reason"], "closing");
    assert!(page.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_writes_nothing_pushes_what_another_writes() {
    let (cluster, writer) = started("").await;
    let config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"\n");
    let pushing = Server::start(config, &[Service::Realtime]).await;
    let mut page = Page::open(&pushing, 1, None).await;
    let begin = page.expect("ready").await.id;
    let id = book(&writer, 1, 7).await;
    assert_eq!(page.expect("entry").await.data["id"], json!(id));
    // Marks mean the same in every process.
    let mut elsewhere = Page::open(&writer, 1, Some(&begin)).await;
    elsewhere.expect("ready").await;
    assert_eq!(elsewhere.expect("entry").await.data["id"], json!(id));
    drop((page, elsewhere));
    pushing.stop().await;
    writer.stop().await;
}
