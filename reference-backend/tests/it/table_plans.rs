//! Which index serves which statement, by the server's own record of what it did.

use serde_json::json;
use sqlx::Executor;

use crate::common::Cluster;
use crate::http_server::{Server, first_property, json_of, populate};

/// Rooms for the first two properties of the organisations 1 to 4: enough that reading all is the dearer way.
const ROOMS: &str = "\
    INSERT INTO rooms (org_id, id, property_id, name, kind, beds, status) \
    SELECT p.org_id, gen_random_uuid(), p.property_id, 'room ' || n, 'double', 2, \
           CASE WHEN n % 50 = 0 THEN 'dirty' ELSE 'clean' END \
    FROM properties p, generate_series(1, 500) n";

#[tokio::test]
async fn rooms_are_found_by_their_indexes() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    cluster.log_plans().await;
    cluster.admin("plimsoll_hospitality").await.execute(ROOMS).await.unwrap();
    cluster.analyze("plimsoll_hospitality").await;
    let server = Server::all(&cluster, "").await;
    let own = first_property(1);
    json_of(server.get(1, &format!("/rooms?property={own}")).await).await;
    insta::assert_snapshot!(cluster.last_plan("FROM rooms WHERE"), @"");
    json_of(server.get(1, &format!("/rooms?property={own}&status=dirty")).await).await;
    insta::assert_snapshot!(cluster.last_plan("FROM rooms WHERE"), @"");
    server
        .create(1, "rooms", &json!({"property": own, "name": "x", "kind": "double", "beds": 2}))
        .await;
    server.stop().await;
}
