//! Which index serves which statement, by the server's own record of what it did. Each index that a migration makes for a
//! query has its query here; a plan that changes shows in the snapshot.

use std::fmt::Write;

use sqlx::Executor;
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{Server, first_property, json_of, populate};

/// Enough rows of the organisations 1 to 4 that reading all is the dearer way, and few enough that ANALYZE looks at each. The
/// ids look random and are not, so that plans repeat.
const HOSPITALITY: &str = "\
    INSERT INTO rooms (org_id, id, property_id, name, kind, beds, status) \
    SELECT org_id, md5(concat_ws('/', 'room', property_id, n))::uuid, property_id, 'room ' || n, 'double', 2, \
           CASE WHEN n % 50 = 0 THEN 'dirty' ELSE 'clean' END \
    FROM properties, generate_series(1, 500) n; \
    INSERT INTO reservations (org_id, id, property_id, room_id, guest_name, arrival, departure, details) \
    SELECT org_id, md5(concat_ws('/', 'stay', property_id, n))::uuid, property_id, \
           md5(concat_ws('/', 'room', property_id, n % 500 + 1))::uuid, \
           'guest ' || n, date '2027-01-01' + n / 500 * 7 + n % 7, date '2027-01-02' + n / 500 * 7 + n % 7, \
           jsonb_build_object('floor', n % 200) \
    FROM properties, generate_series(0, 2999) n; \
    INSERT INTO staff (org_id, id, property_id, name, role, active) \
    SELECT org_id, md5(concat_ws('/', 'staff', property_id, n))::uuid, property_id, 'one ' || n, 'kitchen', n % 40 = 0 \
    FROM properties, generate_series(1, 2000) n; \
    INSERT INTO tasks (org_id, id, property_id, title, status, assignee_id, due_at) \
    SELECT org_id, md5(concat_ws('/', 'task', property_id, n))::uuid, property_id, 'task ' || n, \
           CASE WHEN n % 40 = 0 THEN 'open' ELSE 'done' END, \
           md5(concat_ws('/', 'staff', property_id, n % 100 + 1))::uuid, timestamptz '2027-01-01' + n * interval '1 hour' \
    FROM properties, generate_series(1, 2000) n";

const SHARED: &str = "\
    INSERT INTO users (org_id, user_id, name, email, role, created_at) \
    SELECT org_id, md5(concat_ws('/', org_id, n))::uuid, 'user ' || n, n || '@example.com', 'clerk', now() \
    FROM organisations, generate_series(1, 1000) n; \
    INSERT INTO notifications (org_id, id, kind, title, body, created_at, read_at) \
    SELECT org_id, md5(concat_ws('/', org_id, n))::uuid, 'note', n::text, '', \
           timestamptz '2027-01-01' + n * interval '1 hour', CASE WHEN n % 40 > 0 THEN now() END \
    FROM organisations, generate_series(1, 2000) n";

const GUEST_CHECKIN: &str = "\
    INSERT INTO checkins (org_id, id, reservation_id, property_id, guest_name, status) \
    SELECT org, md5(concat_ws('/', org, n))::uuid, md5(concat_ws('/', 'stay', org, n))::uuid, \
           ('00000000-0000-0000-0000-' || lpad(to_hex(10 * org + n % 2), 12, '0'))::uuid, 'guest ' || n, \
           CASE WHEN n % 40 = 0 THEN 'started' ELSE 'completed' END \
    FROM generate_series(1, 4) org, generate_series(1, 2000) n";

/// A question, and the plan of the statement that answered it.
struct Plans<'a> {
    cluster: &'a Cluster,
    server: &'a Server,
    text: String,
}

impl Plans<'_> {
    /// Asks as organisation 1; `needle` is a part of the statement.
    async fn of(&mut self, path: &str, needle: &str) {
        json_of(self.server.get(1, path).await).await;
        self.add(path, needle);
    }

    fn add(&mut self, heading: &str, needle: &str) {
        write!(self.text, "{heading}\n{}\n\n", self.cluster.last_plan(needle)).unwrap();
    }
}

/// An id that a statement finds.
async fn any(cluster: &Cluster, database: &str, statement: &'static str) -> Uuid {
    let mut admin = cluster.admin(database).await;
    sqlx::query_scalar(statement).fetch_one(&mut admin).await.unwrap()
}

#[tokio::test]
async fn every_index_serves_the_statement_that_it_is_for() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    cluster.log_plans().await;
    for (database, rows) in [
        ("plimsoll_hospitality", HOSPITALITY),
        ("plimsoll_shared", SHARED),
        ("plimsoll_guest_checkin", GUEST_CHECKIN),
    ] {
        cluster.admin(database).await.execute(rows).await.unwrap();
        cluster.analyze(database).await;
    }
    let server = Server::all(&cluster, "").await;
    let mut plans = Plans { cluster: &cluster, server: &server, text: String::new() };
    let own = first_property(1);

    plans.of(&format!("/rooms?property={own}&limit=10"), "FROM rooms").await;
    plans.of(&format!("/rooms?property={own}&status=dirty"), "FROM rooms").await;
    let nights = "arrival=2027-01-05&departure=2027-01-06";
    plans.of(&format!("/rooms/free?property={own}&{nights}&limit=5"), "FROM rooms").await;
    plans.of(&format!("/reservations?property={own}"), "FROM reservations").await;
    plans.of("/reservations?from=2027-01-20", "FROM reservations").await;
    plans.of("/reservations?details={\"floor\":7}", "FROM reservations").await;
    plans
        .of(&format!("/reservations/arrivals?property={own}&date=2027-01-05"), "FROM reservations")
        .await;
    plans.of(&format!("/staff?property={own}&active=true"), "FROM staff").await;
    plans.of(&format!("/tasks?property={own}"), "FROM tasks").await;
    let busy = "SELECT assignee_id FROM tasks WHERE org_id = 1 ORDER BY id LIMIT 1";
    let busy = any(&cluster, "plimsoll_hospitality", busy).await;
    plans.of(&format!("/tasks?assignee={busy}"), "FROM tasks").await;
    plans.of("/tasks/due", "FROM tasks").await;
    plans.of("/users?email=7@example.com", "FROM users").await;
    plans.of("/notifications", "FROM notifications").await;
    plans.of("/notifications?unread=true", "FROM notifications").await;
    plans.of("/notifications/unread", "FROM notifications").await;
    let stay = "SELECT reservation_id FROM checkins WHERE org_id = 1 ORDER BY id LIMIT 1";
    let stay = any(&cluster, "plimsoll_guest_checkin", stay).await;
    plans.of(&format!("/checkins?reservation={stay}"), "FROM checkins").await;
    plans.of(&format!("/checkins?property={own}"), "FROM checkins").await;
    plans.of(&format!("/checkins?property={own}&status=started"), "FROM checkins").await;
    insta::assert_snapshot!(plans.text);
    server.stop().await;
}

/// Statements of jobs and of the exchange with the channel manager, in the form that they need from the indexes.
#[tokio::test]
async fn indexes_for_other_processes_serve_their_kind_of_statement() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    cluster.log_plans().await;
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    hospitality.execute(HOSPITALITY).await.unwrap();
    cluster.analyze("plimsoll_hospitality").await;
    let remind = "SELECT org_id, id, title FROM tasks WHERE status = 'open' AND reminded_at IS NULL \
         AND due_at <= timestamptz '2027-01-05' ORDER BY due_at LIMIT 100";
    hospitality.execute(remind).await.unwrap();
    let upsert = "INSERT INTO reservations (org_id, id, property_id, guest_name, arrival, departure, source, external_ref) \
         SELECT 1, gen_random_uuid(), property_id, 'Ada', '2027-01-01', '2027-01-02', 'ota', 'A-1' \
         FROM properties WHERE org_id = 1 LIMIT 1 \
         ON CONFLICT (org_id, external_ref) WHERE external_ref IS NOT NULL DO UPDATE SET guest_name = excluded.guest_name";
    for _ in 0..2 {
        hospitality.execute(upsert).await.unwrap();
    }
    let plans = format!(
        "{}\n\n{}",
        cluster.last_plan("FROM tasks"),
        cluster.last_plan("INTO reservations")
    );
    insta::assert_snapshot!(plans);
}
