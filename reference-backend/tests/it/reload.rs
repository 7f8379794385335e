//! Settings that change while the program runs: SIGHUP on the real binary.

use std::time::{Duration, Instant};

use reqwest::Method;
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{bearer, body, populate};
use crate::warming::Program;

const WAIT: Duration = Duration::from_secs(20);

/// The value of a series, 0 where there is none yet.
async fn metric(program: &Program, series: &str) -> u64 {
    let text =
        reqwest::get(format!("{}/metrics", program.url)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

async fn until(program: &Program, series: &str, expected: u64) {
    let deadline = Instant::now() + WAIT;
    while metric(program, series).await != expected {
        assert!(Instant::now() < deadline, "{series} never became {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Statuses of some requests at once.
async fn asked(program: &Program, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        let answer = program.request(Method::GET, "").send().await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn a_hangup_puts_live_settings_into_force_and_nothing_else() {
    const UNCHANGED: &str = "backend_config_reloads_total{outcome=\"unchanged\"} ";
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let program = Program::start(&cluster, "");
    assert_eq!(metric(&program, EPOCH).await, 1);
    assert_eq!(asked(&program, 3).await, [200, 200, 200]);

    let strict = "[resilience.rate_limit]\nper_second = 1\nburst = 1\n";
    program.reload(strict);
    until(&program, EPOCH, 2).await;
    assert_eq!(asked(&program, 2).await, [200, 429]);

    // A setting that needs a restart: the others in the same file stay out of force too.
    program.reload("body_bytes_max = 70_000\n");
    until(&program, REFUSED, 1).await;
    program.reload("in_flight_max = \"many\"\n");
    until(&program, REFUSED, 2).await;
    assert_eq!(metric(&program, EPOCH).await, 2);
    assert!(asked(&program, 8).await.contains(&429), "the rate limit is still in force");

    program.reload(strict);
    until(&program, UNCHANGED, 1).await;
    program.reload("");
    until(&program, EPOCH, 3).await;
    assert_eq!(asked(&program, 3).await, [200, 200, 200]);
}

const EPOCH: &str = "backend_config_epoch ";
const REFUSED: &str = "backend_config_reloads_total{outcome=\"refused\"} ";
const WARMED: &str = "backend_job_runs_total{job=\"cache-warming\",outcome=\"done\"}";

/// So many runs as wanted have ended.
async fn ran(program: &Program, wanted: u64) {
    program.until_counted(WARMED, wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_timed_and_switched_anew_by_a_hangup() {
    const OFF: &str = "[jobs]\nenabled = false\n";
    const EVERY_SECOND: &str =
        "[jobs]\njitter_ms = 0\n[jobs.cache_warming]\nschedule = \"* * * * * *\"\n";
    const NEVER: &str = "[jobs]\njitter_ms = 0\n[jobs.cache_warming]\nschedule = \"0 0 1 1 *\"\n";
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let program = Program::start(&cluster, NEVER);
    // It sleeps until the new year, and is woken.
    program.reload(EVERY_SECOND);
    until(&program, EPOCH, 2).await;
    ran(&program, 2).await;

    // A file with a setting that needs a restart is refused whole, and says which that is.
    program.reload(&format!("{OFF}heartbeat_ms = 4_321\njitter_ms = 0\n"));
    until(&program, REFUSED, 1).await;
    let said = program.said();
    assert!(said.contains("jobs.heartbeat_ms cannot change while the program runs"), "{said}");
    assert!(!said.contains("jobs.enabled cannot"), "{said}");
    let before = program.counted(WARMED).await;
    ran(&program, before + 2).await;
    // So is one that cannot be read.
    program.reload("[jobs\nenabled = false\n");
    until(&program, REFUSED, 2).await;
    program.reload("[jobs.cache_warming]\nschedule = \"now and then\"\n");
    until(&program, REFUSED, 3).await;
    assert_eq!(metric(&program, EPOCH).await, 2);
    let before = program.counted(WARMED).await;
    ran(&program, before + 2).await;

    program.reload(&EVERY_SECOND.replace("jitter_ms", "enabled = false\njitter_ms"));
    until(&program, EPOCH, 3).await;
    // One that was running then may end yet; an instant later there is none.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = program.counted(WARMED).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(program.counted(WARMED).await, before, "jobs are off");
    program.reload(EVERY_SECOND);
    until(&program, EPOCH, 4).await;
    ran(&program, before + 2).await;
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_takes_more_at_once_from_a_hangup_on() {
    const IN_HAND: &str = "backend_subscription_in_flight{subscription=\"notifications\"} ";
    let own =
        |most: usize| format!("[pubsub.subscriptions.notifications]\nmax_concurrency = {most}\n");
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let program = Program::start(&cluster, &own(1));
    let mut shared = cluster.admin("plimsoll_shared").await;
    // Its handlers wait for this table.
    sqlx::raw_sql("BEGIN; LOCK TABLE notifications").execute(&mut shared).await.unwrap();
    for org in 1..=3 {
        let url = format!("{}/v1/orgs/{org}/revenues", program.url);
        let request = program.client.post(url).bearer_auth(bearer(org, 60));
        let request = request.header("Idempotency-Key", Uuid::now_v7().to_string());
        let booked = request.json(&body(org, 2_000_000)).send().await.unwrap();
        assert_eq!(booked.status(), 201);
    }
    until(&program, IN_HAND, 1).await;
    program.reload(&own(3));
    until(&program, IN_HAND, 3).await;
    // What a subscription says of its own may be taken back.
    program.reload("[pubsub.delivery]\nmax_concurrency = 2\n");
    until(&program, EPOCH, 3).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut shared).await.unwrap();
    until(&program, IN_HAND, 0).await;
    program.stop();
}
