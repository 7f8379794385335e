//! The token that a write to a plain table answers: honoured by another process, by the primary while the replicas are
//! behind, by a replica once it has replayed the write; and refused when no write can have given it.

use std::time::{Duration, Instant};

use reference_backend::services::Service;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Cluster, Replica, property};
use crate::http_server::{
    Server, TOKEN_HEADER, body, first_property, json_of, populate, problem_of,
};
use crate::tables::{created, room};

/// Settings for a server that may ask `replica`, however late it is.
fn with_replica(cluster: &Cluster, replica: &Replica) -> reference_backend::config::Config {
    cluster.config(&format!(
        "[[database.replicas]]\nname = \"replica-1\"\nhost = \"{}\"\nport = {}\n\
         [database.replica_choice]\nlag_max_ms = 600000\n\
         [server]\nlisten = \"127.0.0.1:0\"\n",
        replica.socket().display(),
        replica.port(),
    ))
}

/// Waits until reads without a token come from the replica.
async fn until_replica_answers(server: &Server, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.get(1, path).await.headers()["x-read-from"] != "replica-1" {
        assert!(Instant::now() < deadline, "the replica never answered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Who answers a read with a token, and what.
async fn read(server: &Server, path: &str, token: &str) -> (String, Value) {
    let request = server.request(reqwest::Method::GET, 1, &format!("/v1/orgs/1{path}"));
    let response = request.header(TOKEN_HEADER, token).send().await.unwrap();
    let from = response.headers()["x-read-from"].to_str().unwrap().to_owned();
    (from, json_of(response).await)
}

#[tokio::test]
async fn a_write_is_shown_by_every_process_and_by_replicas_that_have_it() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let replica = Replica::of(&cluster).await;
    let writer = Server::all(&cluster, "").await;
    // A process that hosts no writer of events, and so follows nothing.
    let reader =
        Server::start(with_replica(&cluster, &replica), &[Service::Rooms, Service::Properties])
            .await;
    until_replica_answers(&reader, "/rooms").await;
    let held = json_of(reader.get(1, "/properties").await).await;
    assert_eq!(reader.get(1, "/properties").await.headers()["x-read-from"], "cache");

    let mut on_replica = replica.admin().await;
    sqlx::raw_sql("SELECT pg_wal_replay_pause()").execute(&mut on_replica).await.unwrap();
    let house = json!({"name": "Annex", "city": "Bremen", "rooms": 3});
    let (house, _) = created(writer.post(1, "properties", Uuid::now_v7(), &house).await).await;
    let (made, token) = created(writer.post(1, "rooms", Uuid::now_v7(), &room(1, "7")).await).await;
    let path = format!("/rooms/{}", made["id"].as_str().unwrap());

    // Without the token the replica answers, and it has not seen the room: so the token is what shows it.
    assert_eq!(problem_of(reader.get(1, &path).await).await.0, 404);
    assert_eq!(json_of(reader.get(1, "/properties").await).await, held);
    assert_eq!(read(&reader, &path, &token).await, ("primary".to_owned(), made.clone()));
    let (from, all) = read(&reader, "/properties", &token).await;
    assert_eq!(from, "primary", "what the cache held is older than the token");
    assert!(all["properties"].as_array().unwrap().contains(&house), "{all}");
    assert_eq!(read(&reader, "/properties", &token).await, ("cache".to_owned(), all));

    sqlx::raw_sql("SELECT pg_wal_replay_resume()").execute(&mut on_replica).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while read(&reader, &path, &token).await != ("replica-1".to_owned(), made.clone()) {
        assert!(Instant::now() < deadline, "the replica never counted as caught up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reader.stop().await;
    writer.stop().await;
}

#[tokio::test]
async fn a_token_that_no_write_can_have_given_is_refused() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let (_, token) = created(server.post(1, "rooms", Uuid::now_v7(), &room(1, "7")).await).await;
    let entry = server.post(1, "revenues", Uuid::now_v7(), &body(1, 5)).await;
    let of_entry = entry.headers()[TOKEN_HEADER].to_str().unwrap();
    let ahead = format!("2{:x}", u64::from_str_radix(&token[1..], 16).unwrap() + (1 << 30));
    for (path, token, named) in [
        ("/rooms", "nonsense", "not one that a write of this kind gave"),
        ("/rooms", of_entry, "not one that a write of this kind gave"),
        ("/rooms", &ahead, "ahead of all writes"),
        ("/properties", &ahead, "ahead of all writes"),
        ("/revenues", &token, "not one that a write gave"),
    ] {
        let request = server.request(reqwest::Method::GET, 1, &format!("/v1/orgs/1{path}"));
        let refused = request.header(TOKEN_HEADER, token).send().await.unwrap();
        let (status, detail) = problem_of(refused).await;
        assert_eq!(status, 400, "{path} {token}: {detail}");
        assert!(detail.contains(named), "{path} {token}: {detail}");
    }
    assert_eq!(read(&server, "/rooms", &token).await.0, "primary");
    server.stop().await;
}

#[tokio::test]
async fn a_property_can_be_booked_on_wherever_it_was_made() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let books = Server::all(
        &cluster,
        "[cache.properties]\nentries = 100\nttl_ms = 600000\nnegative_ttl_ms = 0",
    )
    .await;
    let config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    let houses = Server::start(config, &[Service::Properties]).await;
    assert_eq!(books.post(1, "revenues", Uuid::now_v7(), &body(1, 5)).await.status(), 201);

    let house = houses
        .create(1, "properties", &json!({"name": "Annex", "city": "Bremen", "rooms": 3}))
        .await;
    let entry = json!({"property": house["property_id"], "amount_cents": 5, "category": "rooms"});
    assert_eq!(books.post(1, "revenues", Uuid::now_v7(), &entry).await.status(), 201);
    assert_eq!(problem_of(books.post(2, "revenues", Uuid::now_v7(), &entry).await).await.0, 404);

    // A rename by this very process is shown at once, though the list was held.
    assert_eq!(books.get(1, "/properties").await.headers()["x-read-from"], "cache");
    let renamed =
        books.patch(1, &format!("properties/{}", first_property(1)), &json!({"name": "Inn"})).await;
    assert_eq!(json_of(renamed).await["name"], "Inn");
    let listed = json_of(books.get(1, "/properties").await).await;
    assert_eq!(listed["properties"][0]["property_id"], property(10).to_string());
    assert_eq!(listed["properties"][0]["name"], "Inn");
    houses.stop().await;
    books.stop().await;
}
