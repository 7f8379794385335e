//! Stays: rooms that are never booked twice for a night, the states of a reservation, the guest at the desk; and the tasks and
//! notifications of a house.

use reference_backend::services::Service;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{Server, first_property, json_of, populate, problem_of};
use crate::tables::{created, reservation, room, walk};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A reservation of a room.
fn stay(room: &Value, arrival: &str, departure: &str) -> Value {
    let mut body = reservation(1, arrival, departure);
    body["room"] = room["id"].clone();
    body
}

fn today() -> String {
    crate::common::today().to_string()
}

fn in_days(days: u64) -> String {
    (crate::common::today() + chrono::Days::new(days)).to_string()
}

#[tokio::test]
async fn a_room_is_never_booked_twice_for_a_night() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let seven = server.create(1, "rooms", &room(1, "7")).await;

    // Many at once, over another night each but all over the 10th: one is taken.
    let at_once = (1..=8).map(|n| {
        let body =
            stay(&seven, &format!("2027-05-{:02}", 10 - n % 3), &format!("2027-05-{:02}", 10 + n));
        let server = &server;
        async move { server.post(1, "reservations", Uuid::now_v7(), &body).await.status().as_u16() }
    });
    let mut statuses = futures::future::join_all(at_once).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    let booked = json_of(server.get(1, "/reservations").await).await;
    let booked = booked["reservations"][0].clone();

    let take = |arrival: &str, departure: &str| {
        let body = stay(&seven, arrival, departure);
        let server = &server;
        async move { server.post(1, "reservations", Uuid::now_v7(), &body).await }
    };
    // The day of departure is free for the next guest.
    let departure = text(&booked["departure"]).to_owned();
    let (next, _) = created(take(&departure, "2027-05-25").await).await;
    let (status, detail) = problem_of(take("2027-05-24", "2027-05-26").await).await;
    assert_eq!(status, 409);
    assert!(detail.contains("taken for one of these nights"), "{detail}");
    // Nor by a change, of the dates or of the room.
    let onto = server
        .patch(1, &format!("reservations/{}", text(&next["id"])), &json!({"arrival": "2027-05-10"}))
        .await;
    assert_eq!(problem_of(onto).await.0, 409);
    let unassigned =
        server.create(1, "reservations", &reservation(1, "2027-05-24", "2027-05-26")).await;
    let path = format!("reservations/{}", text(&unassigned["id"]));
    let moved = server.patch(1, &path, &json!({"room": seven["id"]})).await;
    assert_eq!(problem_of(moved).await.0, 409);
    // A cancelled stay gives its nights back.
    let cancel = server
        .patch(1, &format!("reservations/{}", text(&next["id"])), &json!({"status": "cancelled"}))
        .await;
    assert_eq!(json_of(cancel).await["status"], "cancelled");
    let moved = json_of(server.patch(1, &path, &json!({"room": seven["id"]})).await).await;
    assert_eq!(moved["room_id"], seven["id"]);
    let freed = json_of(server.patch(1, &path, &json!({"room": null})).await).await;
    assert_eq!(freed["room_id"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn only_a_room_of_the_property_can_be_booked_and_free_ones_are_found() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let rooms = [room(1, "7"), room(1, "8"), room(1, "9")];
    let mut made = Vec::new();
    for body in &rooms {
        made.push(server.create(1, "rooms", body).await);
    }
    let mut elsewhere = room(1, "1");
    elsewhere["property"] = json!(crate::common::property(11).to_string());
    let elsewhere = server.create(1, "rooms", &elsewhere).await;
    let others = server.create(2, "rooms", &room(2, "7")).await;
    for wrong in [&elsewhere, &others] {
        let body = stay(wrong, "2027-05-01", "2027-05-03");
        let (status, detail) =
            problem_of(server.post(1, "reservations", Uuid::now_v7(), &body).await).await;
        assert_eq!((status, detail.as_str()), (404, "the property has no such room"));
    }

    server.create(1, "reservations", &stay(&made[0], "2027-05-01", "2027-05-03")).await;
    let broken = server
        .patch(1, &format!("rooms/{}", text(&made[1]["id"])), &json!({"status": "out_of_order"}))
        .await;
    assert_eq!(json_of(broken).await["status"], "out_of_order");
    let free = async |arrival: &str, departure: &str| {
        let own = first_property(1);
        let path = format!("/rooms/free?property={own}&arrival={arrival}&departure={departure}");
        let found = json_of(server.get(1, &path).await).await;
        let names =
            found["rooms"].as_array().unwrap().iter().map(|room| text(&room["name"]).to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(free("2027-05-02", "2027-05-04").await, ["9"]);
    assert_eq!(free("2027-05-03", "2027-05-04").await, ["7", "9"]);
    assert_eq!(free("2027-04-30", "2027-05-01").await, ["7", "9"]);
    let own = first_property(1);
    let path = format!("/rooms/free?property={own}&arrival=2027-05-02&departure=2027-05-02");
    assert_eq!(problem_of(server.get(1, &path).await).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_stay_goes_its_way_and_not_back() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let made = server.create(1, "reservations", &reservation(1, "2027-05-01", "2027-05-03")).await;
    assert_eq!((&made["status"], &made["source"]), (&json!("booked"), &json!("direct")));
    let path = format!("reservations/{}", text(&made["id"]));
    let to = async |status: &str| server.patch(1, &path, &json!({"status": status})).await;
    let refused = async |status: &str, named: &str| {
        let (code, detail) = problem_of(to(status).await).await;
        assert_eq!(code, 409, "{status}: {detail}");
        assert!(detail.contains(named), "{status}: {detail}");
    };
    refused("checked_out", "is booked, and not checked in").await;
    assert_eq!(json_of(to("checked_in").await).await["status"], "checked_in");
    refused("cancelled", "is checked in").await;
    let longer = server.patch(1, &path, &json!({"departure": "2027-05-04"})).await;
    assert_eq!(json_of(longer).await["departure"], "2027-05-04");
    let (status, detail) =
        problem_of(server.patch(1, &path, &json!({"departure": "2027-05-01"})).await).await;
    assert_eq!(status, 422, "{detail}");
    assert_eq!(json_of(to("checked_out").await).await["status"], "checked_out");
    refused("checked_in", "has ended").await;
    let (status, _) =
        problem_of(server.patch(1, &path, &json!({"guest_name": "Grace"})).await).await;
    assert_eq!(status, 409);
    server.stop().await;
}

#[tokio::test]
async fn reservations_are_listed_by_arrival_and_found_by_what_they_say() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    for (arrival, details) in [
        ("2027-05-03", json!({"pets": ["dog"], "late": true})),
        ("2027-05-01", json!({"pets": ["dog", "cat"]})),
        ("2027-05-02", json!({"late": true})),
        ("2027-05-01", json!({})),
    ] {
        let mut body = reservation(3, arrival, "2027-05-09");
        body["details"] = details;
        server.create(3, "reservations", &body).await;
    }
    let arrivals = async |query: &str| {
        let rows = walk(&server, &format!("reservations{query}"), "reservations", 1).await;
        rows.iter().map(|row| text(&row["arrival"])[8..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(arrivals("").await, ["01", "01", "02", "03"]);
    assert_eq!(arrivals("?from=2027-05-02&to=2027-05-02").await, ["02"]);
    assert_eq!(arrivals(r#"?details={"pets":["dog"]}"#).await, ["01", "03"]);
    assert_eq!(arrivals(r#"?details={"late":true}&from=2027-05-03"#).await, ["03"]);
    assert!(arrivals(r#"?details={"late":false}"#).await.is_empty());
    for wrong in ["[1]", "late", r#"{"a":"\u0000"}"#] {
        let (status, detail) =
            problem_of(server.get(3, &format!("/reservations?details={wrong}")).await).await;
        assert_eq!(status, 400, "{wrong}");
        assert!(detail.contains("details"), "{wrong}: {detail}");
    }
    let own = first_property(3);
    let day = format!("/reservations/arrivals?property={own}&date=2027-05-01");
    assert_eq!(json_of(server.get(3, &day).await).await["arrivals"].as_array().unwrap().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_check_in_takes_its_reservation_along_and_can_be_repeated() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let made = server.create(1, "reservations", &reservation(1, &today(), &in_days(2))).await;
    let key = Uuid::now_v7();
    let body = json!({"reservation": made["id"]});
    let (started, _) = created(server.post(1, "checkins", key, &body).await).await;
    assert_eq!(started["guest_name"], "Ada");
    assert_eq!(started["property_id"], made["property_id"]);
    let twice = problem_of(server.post(1, "checkins", Uuid::now_v7(), &body).await).await;
    assert_eq!(twice, (409, "the reservation has a check-in".into()));
    assert_eq!(problem_of(server.act(2, &format!("checkins/{key}/complete")).await).await.0, 404);

    // Half done, as after a crash: the reservation is checked in, the check-in is not completed.
    let path = format!("reservations/{}", text(&made["id"]));
    assert_eq!(
        json_of(server.patch(1, &path, &json!({"status": "checked_in"})).await).await["version"],
        2
    );
    for _ in 0..2 {
        let done = json_of(server.act(1, &format!("checkins/{key}/complete")).await).await;
        assert_eq!((&done["status"], &done["version"]), (&json!("completed"), &json!(2)));
    }
    let kept = json_of(server.get(1, &format!("/{path}")).await).await;
    assert_eq!((&kept["status"], &kept["version"]), (&json!("checked_in"), &json!(2)));
    // Though the reservation could not be checked in by now, a retry of the start gets its answer.
    assert_eq!(created(server.post(1, "checkins", key, &body).await).await.0, started);
    let over = problem_of(server.act(1, &format!("checkins/{key}/cancel")).await).await;
    assert_eq!(over, (409, "the check-in is completed".into()));
    server.stop().await;
}

#[tokio::test]
async fn only_a_guest_who_is_expected_can_check_in() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let refused = async |reservation: &Value, status: u16, named: &str| {
        let body = json!({"reservation": reservation});
        let found = problem_of(server.post(1, "checkins", Uuid::now_v7(), &body).await).await;
        assert_eq!(found.0, status, "{}", found.1);
        assert!(found.1.contains(named), "{}", found.1);
    };
    let others = server.create(2, "reservations", &reservation(2, &today(), &in_days(2))).await;
    refused(&others["id"], 404, "has no reservation").await;
    let early = server.create(1, "reservations", &reservation(1, &in_days(3), &in_days(4))).await;
    refused(&early["id"], 409, "the guest arrives on").await;
    let gone = server.create(1, "reservations", &reservation(1, &today(), &in_days(2))).await;
    let path = format!("reservations/{}", text(&gone["id"]));
    let started = server.create(1, "checkins", &json!({"reservation": gone["id"]})).await;
    json_of(server.patch(1, &path, &json!({"status": "cancelled"})).await).await;
    // Cancelled while the guest stood at the desk: the check-in cannot be completed, and stays as it is.
    let at = format!("checkins/{}", text(&started["id"]));
    let stuck = problem_of(server.act(1, &format!("{at}/complete")).await).await;
    assert_eq!(stuck, (409, "the reservation was cancelled".into()));
    assert_eq!(json_of(server.get(1, &format!("/{at}")).await).await["status"], "started");
    assert_eq!(json_of(server.act(1, &format!("{at}/cancel")).await).await["status"], "cancelled");
    refused(&gone["id"], 409, "the reservation was cancelled").await;
    let listed = json_of(server.get(1, "/checkins?status=cancelled").await).await;
    assert_eq!(listed["checkins"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_task_is_assigned_moved_and_done_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let employee =
        |org: i64| json!({"property": first_property(org), "name": "Bo", "role": "housekeeping"});
    let own = server.create(1, "staff", &employee(1)).await;
    let others = server.create(2, "staff", &employee(2)).await;
    let due = |n: i64, due: &str| json!({"property": first_property(1), "title": n.to_string(), "due_at": due});
    let late = server.create(1, "tasks", &due(1, "2027-01-02T00:00:00Z")).await;
    let path = format!("tasks/{}", text(&late["id"]));
    let foreign = server.patch(1, &path, &json!({"assignee": others["id"]})).await;
    assert_eq!(problem_of(foreign).await, (404, "the organisation has no such employee".into()));
    let assigned = json_of(server.patch(1, &path, &json!({"assignee": own["id"]})).await).await;
    assert_eq!(assigned["assignee_id"], own["id"]);
    let listed =
        json_of(server.get(1, &format!("/tasks?assignee={}", text(&own["id"]))).await).await;
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 1);

    // Another time is reminded of again; the same one is not.
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    let remind = "UPDATE tasks SET reminded_at = now()";
    sqlx::raw_sql(remind).execute(&mut hospitality).await.unwrap();
    let same =
        json_of(server.patch(1, &path, &json!({"due_at": "2027-01-02T00:00:00Z"})).await).await;
    assert!(same["reminded_at"].is_string());
    let moved =
        json_of(server.patch(1, &path, &json!({"due_at": "2027-01-03T00:00:00Z"})).await).await;
    assert_eq!(moved["reminded_at"], Value::Null);

    let soon = server.create(1, "tasks", &due(2, "2027-01-01T00:00:00.123456789Z")).await;
    server.create(1, "tasks", &json!({"property": first_property(1), "title": "3"})).await;
    let urgent = async |query: &str| {
        let found = json_of(server.get(1, &format!("/tasks/due{query}")).await).await;
        let titles =
            found["tasks"].as_array().unwrap().iter().map(|task| text(&task["title"]).to_owned());
        (titles.collect::<Vec<_>>(), found["next"].clone())
    };
    assert_eq!(urgent("").await.0, ["2", "1"]);
    let (first, next) = urgent("?limit=1").await;
    assert_eq!(first, ["2"]);
    assert_eq!(
        urgent(&format!("?limit=1&after={}", text(&next))).await,
        (vec!["1".into()], Value::Null)
    );

    let done = format!("tasks/{}", text(&soon["id"]));
    let finish =
        async || server.patch(1, &done, &json!({"status": "done", "assignee": null})).await;
    assert_eq!(json_of(finish().await).await["status"], "done");
    assert_eq!(problem_of(finish().await).await, (409, "the task is done".into()));
    assert_eq!(urgent("").await.0, ["1"]);
    server.stop().await;
}

#[tokio::test]
async fn notifications_are_listed_newest_first_and_read_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    let server = Server::start(config, &[Service::Notifications]).await;
    let mut shared = cluster.admin("plimsoll_shared").await;
    // Two at the same instant, and one of another organisation.
    let made = "INSERT INTO notifications (org_id, id, kind, title, body, created_at) \
         SELECT org, gen_random_uuid(), 'note', n::text, '', timestamptz '2027-01-01' + n / 2 * interval '1 hour' \
         FROM generate_series(1, 5) n, (VALUES (3), (4)) AS o(org)";
    sqlx::raw_sql(made).execute(&mut shared).await.unwrap();
    let shown = walk(&server, "notifications", "notifications", 2).await;
    let mut titles: Vec<&str> = shown.iter().map(|one| text(&one["title"])).collect();
    assert!(titles[..2].iter().all(|title| ["4", "5"].contains(title)), "{titles:?}");
    titles.sort_unstable();
    assert_eq!(titles, ["1", "2", "3", "4", "5"], "each of the organisation's once");

    let unread =
        async || json_of(server.get(3, "/notifications/unread").await).await["unread"].clone();
    assert_eq!(unread().await, 5);
    let path = format!("notifications/{}/read", text(&shown[0]["id"]));
    assert_eq!(problem_of(server.act(4, &path).await).await.0, 404);
    let first = json_of(server.act(3, &path).await).await;
    assert!(first["read_at"].is_string());
    assert_eq!(json_of(server.act(3, &path).await).await, first, "the first time counts");
    assert_eq!(unread().await, 4);
    assert_eq!(walk(&server, "notifications?unread=true", "notifications", 3).await, shown[1..]);
    server.stop().await;
}
