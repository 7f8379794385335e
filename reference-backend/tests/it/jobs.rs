//! Scheduled jobs on programs of their own: each instant once, whoever lives or dies.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

use crate::common::Cluster;
use crate::warming::Program;

/// Every second, and quick to see that a process died. A process that writes is not needed, and there can be but one.
const EVERY_SECOND: &str = "\
    [jobs]\nheartbeat_ms = 200\ndead_after_ms = 1500\njitter_ms = 50\n\
    [jobs.cache_warming]\nschedule = \"* * * * * *\"\ncatch_up = { each = 100 }\nif_died = \"take-over\"\n";

type Row = (DateTime<Utc>, String, i32, Option<String>);

/// Runs of cache-warming by instant.
async fn rows(health: &mut PgConnection) -> Vec<Row> {
    sqlx::query_as(
        "SELECT scheduled_at, process, attempts, outcome FROM job_runs WHERE job = 'cache-warming' AND NOT by_hand \
         ORDER BY scheduled_at",
    )
    .fetch_all(health)
    .await
    .unwrap()
}

/// Waits until the runs are as wanted.
async fn until(health: &mut PgConnection, what: &str, wanted: impl Fn(&[Row]) -> bool) -> Vec<Row> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = rows(health).await;
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "never {what}: {found:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn processes(rows: &[Row]) -> HashSet<&str> {
    rows.iter().map(|(_, process, ..)| process.as_str()).collect()
}

/// The one whose runs are recorded under this name: it begins with the process's number.
fn is_of(program: &Program, process: &str) -> bool {
    process.split('-').next() == Some(&program.child.id().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_run_each_instant_once_and_a_death_is_made_good() {
    let cluster = Cluster::start().await;
    let mut health = cluster.admin("plimsoll_health_check").await;
    let start = || Program::serving(&cluster, &["cash"], EVERY_SECOND);
    let (first, second) = (start(), start());
    until(&mut health, "did both run some", |rows| {
        processes(rows).len() == 2 && rows.iter().all(|(.., outcome)| outcome.is_some())
    })
    .await;

    // Holds the next run up in the middle of its work.
    let mut models = cluster.admin("plimsoll_read_models").await;
    let mut held = models.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE warm_list IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let held_up = until(&mut health, "was a run held up", |rows| {
        rows.last().is_some_and(|(at, .., outcome)| {
            outcome.is_none() && Utc::now() - at > chrono::TimeDelta::milliseconds(1_200)
        })
    })
    .await;
    let (instant, process, attempts, _) = held_up.last().unwrap().clone();
    assert_eq!(attempts, 1);
    let (mut dead, alive) = if is_of(&first, &process) { (first, second) } else { (second, first) };
    kill(Pid::from_raw(dead.child.id().cast_signed()), Signal::SIGKILL).unwrap();
    dead.child.wait().unwrap();
    let taken = until(&mut health, "was it taken over", |rows| {
        rows.last().is_some_and(|(.., attempts, _)| *attempts == 2)
    })
    .await;
    assert_eq!(taken.last().unwrap().0, instant, "no second run began beside it");
    held.rollback().await.unwrap();

    let since = taken.len();
    let rows = until(&mut health, "did the other go on", |rows| {
        rows.len() > since + 3 && rows.last().is_some_and(|(.., outcome)| outcome.is_some())
    })
    .await;
    assert!(is_of(&alive, &rows.last().unwrap().1));
    let redone: Vec<_> = rows.iter().filter(|(.., attempts, _)| *attempts > 1).collect();
    assert_eq!(redone.len(), 1, "{redone:#?}");
    assert!(is_of(&alive, &redone[0].1) && redone[0].3.as_deref() == Some("done"), "{redone:#?}");
    for pair in rows.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, chrono::TimeDelta::seconds(1), "{pair:#?}");
    }
    alive.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_gives_the_run_back_and_missed_instants_are_made_up_for() {
    let cluster = Cluster::start().await;
    let mut health = cluster.admin("plimsoll_health_check").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    // Longer than the test, and then it would be given up: only a run that was given back can be taken over.
    let patient = EVERY_SECOND.replace("1500", "600000").replace("take-over", "give-up");
    let first = Program::serving(&cluster, &["cash"], &patient);
    until(&mut health, "did it run", |rows| !rows.is_empty()).await;
    let mut held = models.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE warm_list IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let running = |rows: &[Row]| rows.last().is_some_and(|(.., outcome)| outcome.is_none());
    until(&mut health, "was a run held up", |rows| {
        running(rows)
            && Utc::now() - rows.last().unwrap().0 > chrono::TimeDelta::milliseconds(1_200)
    })
    .await;
    first.stop();
    let left = rows(&mut health).await;
    assert!(running(&left), "{left:#?}");
    held.rollback().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let second = Program::serving(&cluster, &["cash"], &patient);
    let made_up = until(&mut health, "was all made up for", |rows| {
        rows.len() >= left.len() + 3 && !running(rows)
    })
    .await;
    let redone = &made_up[left.len() - 1];
    // A stop is not a death: it costs none of the attempts.
    assert_eq!((redone.2, redone.3.as_deref()), (1, Some("done")));
    assert!(is_of(&second, &redone.1), "{redone:?}");
    for pair in made_up.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, chrono::TimeDelta::seconds(1), "{pair:#?}");
    }
    second.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_does_not_end_a_run_that_was_taken_over() {
    let cluster = Cluster::start().await;
    let mut health = cluster.admin("plimsoll_health_check").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let first = Program::serving(&cluster, &["cash"], EVERY_SECOND);
    until(&mut health, "did it run", |rows| !rows.is_empty()).await;
    let mut held = models.begin().await.unwrap();
    let lock = "LOCK TABLE warm_list IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut *held).await.unwrap();
    let running = |rows: &[Row]| rows.last().is_some_and(|(.., outcome)| outcome.is_none());
    until(&mut health, "was a run held up", |rows| {
        running(rows)
            && Utc::now() - rows.last().unwrap().0 > chrono::TimeDelta::milliseconds(1_200)
    })
    .await;
    let sleeper = Pid::from_raw(first.child.id().cast_signed());
    kill(sleeper, Signal::SIGSTOP).unwrap();
    let second = Program::serving(&cluster, &["cash"], EVERY_SECOND);
    let taken = until(&mut health, "was it taken over", |rows| {
        rows.last().is_some_and(|(.., attempts, _)| *attempts == 2)
    })
    .await;
    // The sleeper's work could go on now; its heartbeat comes first, or the end of its run finds it another's.
    held.rollback().await.unwrap();
    kill(sleeper, Signal::SIGCONT).unwrap();
    let rows = until(&mut health, "did both go on", |rows| {
        rows.len() > taken.len() + 2
            && processes(&rows[taken.len()..]).len() == 2
            && rows.last().is_some_and(|(.., outcome)| outcome.is_some())
    })
    .await;
    let redone = &rows[taken.len() - 1];
    assert_eq!((redone.2, redone.3.as_deref()), (2, Some("done")));
    assert!(is_of(&second, &redone.1), "{redone:?}");
    for pair in rows.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, chrono::TimeDelta::seconds(1), "{pair:#?}");
    }
    first.stop();
    second.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_takes_too_long_has_failed() {
    let cluster = Cluster::start().await;
    let mut health = cluster.admin("plimsoll_health_check").await;
    let mut models = cluster.admin("plimsoll_read_models").await;
    let mut held = models.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE warm_list IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let program =
        Program::serving(&cluster, &["cash"], &format!("{EVERY_SECOND}time_limit_ms = 100\n"));
    let rows = until(&mut health, "did it end", |rows| {
        rows.first().is_some_and(|(.., outcome)| outcome.is_some())
    })
    .await;
    assert_eq!(rows[0].3.as_deref(), Some("failed"));
    held.rollback().await.unwrap();
    until(&mut health, "did it work again", |rows| {
        rows.iter().any(|(.., outcome)| outcome.as_deref() == Some("done"))
    })
    .await;
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_list_run_and_look_back() {
    let cluster = Cluster::start().await;
    let mut health = cluster.admin("plimsoll_health_check").await;
    let jobs = |arguments: &[&str]| command(&cluster, arguments);
    let (listed, text) = jobs(&["list"]);
    assert!(listed, "{text}");
    assert_eq!(text.lines().count(), 8);
    assert!(text.lines().all(|line| line.ends_with("never ran")), "{text}");

    let (done, text) = jobs(&["run", "cache-warming"]);
    assert!(done, "{text}");
    assert_eq!(text, "cache-warming: 0 organisations by 0 events\n");
    let (_, text) = jobs(&["history", "cache-warming"]);
    assert!(text.contains("by hand  done in ") && text.lines().count() == 1, "{text}");

    sqlx::query(
        "INSERT INTO job_runs (job, scheduled_at, process, finished_at, outcome) \
         SELECT 'cache-warming', now() - make_interval(days => d), 'other', now(), 'done' FROM unnest('{89,91,92}'::int[]) d",
    )
    .execute(&mut health)
    .await
    .unwrap();
    jobs(&["run", "cache-warming"]);
    let (_, text) = jobs(&["history", "cache-warming"]);
    assert_eq!(text.lines().count(), 3, "runs of more than 90 days ago are gone: {text}");
    sqlx::query("INSERT INTO job_runs (job, scheduled_at, process) VALUES ('cache-warming', now(), 'other')")
        .execute(&mut health)
        .await
        .unwrap();
    let (done, text) = jobs(&["run", "cache-warming"]);
    assert!(!done && text.contains("a run of it is in progress"), "{text}");
    sqlx::query(
        "UPDATE job_runs SET heartbeat_at = now() - interval '1 hour' WHERE process = 'other'",
    )
    .execute(&mut health)
    .await
    .unwrap();
    let (done, text) = jobs(&["run", "cache-warming"]);
    assert!(done, "a run whose process died is in nobody's way: {text}");
    let (done, text) = jobs(&["run", "no-such-job"]);
    assert!(!done && text.contains("no such job; there are cache-warming"), "{text}");
}

/// `reference-backend jobs …`: whether it succeeded, and what it said.
pub(crate) fn command(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    command_with(cluster, "", arguments)
}

/// With more settings.
pub(crate) fn command_with(cluster: &Cluster, more: &str, arguments: &[&str]) -> (bool, String) {
    let settings = tempfile::NamedTempFile::new().unwrap();
    let socket = cluster.config("").database.primary.host;
    // Pages of two, so that there is more than one.
    let text =
        format!("[database.primary]\nhost = \"{socket}\"\n[jobs]\ncheck_organisations = 2\n{more}");
    std::fs::write(&settings, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_reference-backend"))
        .arg("jobs")
        .args(arguments)
        .arg("--config")
        .arg(settings.path())
        .env("BACKEND__LOGS__FILTER", "off")
        .output()
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}
