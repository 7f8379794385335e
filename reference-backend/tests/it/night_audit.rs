//! Days that are closed: with what the books said, once, and not before the books hold what was acknowledged.

use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate};
use reference_backend::config::Millis;
use reference_backend::db::Databases;
use reference_backend::services::{Night, Service, audit_all};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::common::{Cluster, property, today};
use crate::http_server::{Server, first_property, json_of, populate, problem_of};
use crate::tables::created;
use crate::warming::Program;

fn days_ago(days: u64) -> NaiveDate {
    today() - Days::new(days)
}

/// Books an entry of a day in an organisation's first property.
async fn book(server: &Server, org: i64, side: &str, cents: i64, date: NaiveDate) {
    let entry = json!({"property": first_property(org), "amount_cents": cents, "category": "x", "date": date});
    created(server.post(org, side, Uuid::now_v7(), &entry).await).await;
}

async fn close(server: &Server, org: i64, property: &str, date: NaiveDate) -> reqwest::Response {
    let body = json!({"property": property, "date": date});
    server.post(org, "night-audits", Uuid::now_v7(), &body).await
}

fn figures(audit: &Value) -> [i64; 6] {
    [
        "opening_cents",
        "revenue_cents",
        "expense_cents",
        "closing_cents",
        "open_checkins",
        "no_shows",
    ]
    .map(|name| audit[name].as_i64().unwrap())
}

/// A guest of organisation 1 who is to arrive two days ago and did not, one who was checked in, and one of another day.
async fn guests(cluster: &Cluster) {
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    for (days, status) in [(2, "booked"), (2, "checked_in"), (2, "cancelled"), (1, "booked")] {
        sqlx::query(
            "INSERT INTO reservations (org_id, id, property_id, guest_name, arrival, departure, status) \
             VALUES (1, gen_random_uuid(), $1, 'Ada', $2, $2 + 1, $3)",
        )
        .bind(property(10).uuid())
        .bind(days_ago(days))
        .bind(status)
        .execute(&mut hospitality)
        .await
        .unwrap();
    }
    let mut checkins = cluster.admin("plimsoll_guest_checkin").await;
    for (days, status) in [(2, "started"), (3, "started"), (1, "started"), (2, "completed")] {
        sqlx::query(
            "INSERT INTO checkins (org_id, id, reservation_id, property_id, guest_name, status, created_at) \
             VALUES (1, gen_random_uuid(), gen_random_uuid(), $1, 'Ada', $3, ($2 + time '23:59') AT TIME ZONE 'UTC')",
        )
        .bind(property(10).uuid())
        .bind(days_ago(days))
        .bind(status)
        .execute(&mut checkins)
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_day_is_closed_once_with_what_was_known() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    guests(&cluster).await;
    let server = Server::all(&cluster, "").await;
    book(&server, 1, "revenues", 1_000, days_ago(4)).await;
    book(&server, 1, "revenues", 500, days_ago(2)).await;
    book(&server, 1, "expenses", 200, days_ago(2)).await;
    book(&server, 1, "revenues", 7, days_ago(1)).await;
    let house = first_property(1);

    let (first, token) = created(close(&server, 1, &house, days_ago(2)).await).await;
    assert_eq!(figures(&first), [1_000, 500, 200, 1_300, 2, 1]);
    // A day without entries opens and closes as the last one before it closed; before the first there is nothing.
    let (quiet, _) = created(close(&server, 1, &house, days_ago(3)).await).await;
    assert_eq!(figures(&quiet)[..4], [1_000, 0, 0, 1_000]);
    let (before, _) = created(close(&server, 1, &house, days_ago(5)).await).await;
    assert_eq!(figures(&before), [0; 6]);

    // What is booked on the day later does not change it.
    book(&server, 1, "revenues", 90, days_ago(2)).await;
    let (again, _) = created(close(&server, 1, &house, days_ago(2)).await).await;
    assert_eq!(again, first);
    let path = format!("/night-audits/{house}/{}", days_ago(2));
    assert_eq!(server.get_after(1, &path, &token).await, first);

    let page = json_of(server.get(1, "/night-audits?limit=2").await).await;
    assert_eq!(page["night_audits"], json!([first, quiet]));
    let after = page["next"].as_str().unwrap();
    let rest = json_of(server.get(1, &format!("/night-audits?limit=2&after={after}")).await).await;
    assert_eq!(rest, json!({"night_audits": [before], "next": null}));
    let some = format!("/night-audits?property={house}&from={}&to={}", days_ago(3), days_ago(3));
    assert_eq!(json_of(server.get(1, &some).await).await["night_audits"], json!([quiet]));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_closed_is_refused_and_others_see_nothing() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let house = first_property(1);
    for (org, date, status, named) in [
        (1, today(), 422, "not over yet"),
        (1, "2001-01-01".parse().unwrap(), 422, "the books begin"),
        (2, days_ago(1), 404, "has no property"),
    ] {
        let (found, detail) = problem_of(close(&server, org, &house, date).await).await;
        assert_eq!(found, status, "{org} {date}");
        assert!(detail.contains(named), "{detail}");
    }
    created(close(&server, 1, &house, days_ago(1)).await).await;
    let path = format!("/night-audits/{house}/{}", days_ago(1));
    assert_eq!(problem_of(server.get(2, &path).await).await.0, 404);
    assert_eq!(json_of(server.get(2, "/night-audits").await).await["night_audits"], json!([]));
    for bad in ["/night-audits/x/2026-01-01", &format!("/night-audits/{house}/today")] {
        assert_eq!(problem_of(server.get(1, bad).await).await.0, 400, "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_night_closes_every_property_and_again_none() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    guests(&cluster).await;
    // More properties than one batch takes, in organisations that have nothing else.
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    sqlx::query(
        "INSERT INTO properties (org_id, property_id, name, city, rooms, created_at) \
         SELECT 100 + n / 3, gen_random_uuid(), 'House', 'Bremen', 9, now() FROM generate_series(1, 4500) n",
    )
    .execute(&mut hospitality)
    .await
    .unwrap();
    let config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    let server = Server::all(&cluster, "").await;
    book(&server, 1, "revenues", 500, days_ago(2)).await;
    book(&server, 2, "expenses", 30, days_ago(3)).await;
    let databases = Databases::connect(&config.database).await.unwrap();

    let night = audit_all(&databases, days_ago(2)).await.unwrap();
    assert_eq!(night, Night { properties: 4_508, closed: 4_508 });
    let again = audit_all(&databases, days_ago(2)).await.unwrap();
    assert_eq!(again, Night { properties: 4_508, closed: 0 });
    let one = async |org| {
        let path = format!("/night-audits/{}/{}", first_property(org), days_ago(2));
        figures(&json_of(server.get(org, &path).await).await)
    };
    assert_eq!(one(1).await, [0, 500, 0, 500, 2, 1]);
    assert_eq!(one(2).await, [-30, 0, 0, -30, 0, 0]);
    assert_eq!(one(3).await, [0; 6]);
    databases.close().await;
    server.stop().await;
}

#[tokio::test]
async fn no_day_is_closed_while_the_books_lack_an_acknowledged_entry() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    config.server.read_your_writes_wait_ms = Millis(300);
    let server = Server::start(config, &Service::ALL).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let away = "ALTER TABLE revenues_partitioned RENAME TO away";
    sqlx::raw_sql(away).execute(&mut finance).await.unwrap();
    book(&server, 1, "revenues", 500, days_ago(1)).await;
    let (status, detail) =
        problem_of(close(&server, 1, &first_property(1), days_ago(1)).await).await;
    assert_eq!(
        (status, detail.as_str()),
        (503, "the books do not hold all acknowledged events yet")
    );
    // Another shard's books are whole.
    created(close(&server, 2, &first_property(2), days_ago(1)).await).await;

    let back = "ALTER TABLE away RENAME TO revenues_partitioned";
    sqlx::raw_sql(back).execute(&mut finance).await.unwrap();
    let (closed, _) = loop {
        let answer = close(&server, 1, &first_property(1), days_ago(1)).await;
        if answer.status() != 503 {
            break created(answer).await;
        }
    };
    assert_eq!(figures(&closed), [0, 500, 0, 500, 0, 0]);
    server.stop().await;
}

/// The first run of the job: when it began, and how it ended.
const FIRST_RUN: &str = "\
    SELECT outcome FROM job_runs WHERE job = 'night-audit' ORDER BY scheduled_at LIMIT 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_night_that_could_not_be_closed_is_tried_again() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let mut health = cluster.admin("plimsoll_health_check").await;
    let rename = "ALTER TABLE night_audits RENAME TO away";
    sqlx::raw_sql(rename).execute(&mut finance).await.unwrap();
    let every_second = "[jobs]\njitter_ms = 0\n[jobs.night_audit]\nschedule = \"* * * * * *\"\n";
    let program = Program::serving(&cluster, &["cash"], every_second);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut outcome: Option<Option<String>> = None;
    while outcome.is_none() {
        assert!(Instant::now() < deadline, "it never ran");
        tokio::time::sleep(Duration::from_millis(50)).await;
        outcome = sqlx::query_scalar(FIRST_RUN).fetch_optional(&mut health).await.unwrap();
    }
    // Long enough for it to have met the missing table.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let back = "ALTER TABLE away RENAME TO night_audits";
    sqlx::raw_sql(back).execute(&mut finance).await.unwrap();
    let outcome = loop {
        assert!(Instant::now() < deadline, "it never ended");
        let found: Option<String> =
            sqlx::query_scalar(FIRST_RUN).fetch_one(&mut health).await.unwrap();
        match found {
            Some(outcome) => break outcome,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(outcome, "done");
    let closed: i64 = sqlx::query_scalar("SELECT count(*) FROM night_audits")
        .fetch_one(&mut finance)
        .await
        .unwrap();
    assert_eq!(closed, 8);
    program.stop();
}

/// How many properties each day was closed for: days ago, and properties.
async fn closed_days(finance: &mut PgConnection) -> Vec<(i32, i64)> {
    let closed = "SELECT (now() AT TIME ZONE 'UTC')::date - date, count(*) FROM night_audits GROUP BY date ORDER BY date";
    sqlx::query_as(closed).fetch_all(finance).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_that_nights_left_open_are_closed_by_later_ones() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut finance = cluster.admin("plimsoll_finance").await;
    let away = "ALTER TABLE night_audits RENAME TO away";
    sqlx::raw_sql(away).execute(&mut finance).await.unwrap();
    let no_time = ["run", "night-audit"];
    let (done, said) =
        crate::jobs::command_with(&cluster, "[jobs.night_audit]\ntime_limit_ms = 1900\n", &no_time);
    assert!(!done && said.contains("close "), "{said}");
    // As if that night had been ten days before, and none since had come to its end.
    let before = "ALTER TABLE away RENAME TO night_audits; UPDATE nights SET date = date - 9";
    sqlx::raw_sql(before).execute(&mut finance).await.unwrap();

    let night = || {
        let (done, said) = crate::jobs::command(&cluster, &["run", "night-audit"]);
        assert!(done, "{said}");
        said.matches("8 of 8 properties").count()
    };
    assert_eq!(night(), 8, "the oldest seven, and its own");
    let closed = [10, 9, 8, 7, 6, 5, 4, 1].map(|days| (days, 8));
    assert_eq!(closed_days(&mut finance).await, closed);
    assert_eq!(night(), 2);
    let closed: Vec<_> = (1..=10).rev().map(|days| (days, 8)).collect();
    assert_eq!(closed_days(&mut finance).await, closed);
    assert_eq!(night(), 0, "nothing is open any more");
}
