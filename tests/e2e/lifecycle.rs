//! Nothing survives the program, however it ends, and the next run just works.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor};

use crate::support::{Place, TINY, result, signal, texts, wait_until};

/// Starts a run and waits until its load is under way: all kinds of processes are there.
fn loaded(place: &Place) -> crate::support::Running {
    let mut run = place.start(&mut place.run(TINY));
    run.wait_for_stderr("replicate");
    for process in [" worker", "serve --config", "replica-1", "primary"] {
        place.wait_for_process(process);
    }
    run
}

#[test]
fn ctrl_c_sigterm_and_a_hang_up_end_everything_with_130_and_leave_no_report() {
    for asked in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let place = Place::new();
        let run = loaded(&place);
        signal(run.pid(), asked);
        assert_eq!(run.wait(), Some(130), "{asked}");
        assert!(!place.out().exists());
        place.assert_clean();
    }
}

#[test]
fn ctrl_c_while_the_population_is_built_ends_everything() {
    let place = Place::new();
    let many = TINY.replace("organisations = 200,", "organisations = 100_000,");
    let mut run = place.start(&mut place.run(&many));
    run.wait_for_stderr("provision");
    signal(run.pid(), Signal::SIGINT);
    let stderr = place.path("stderr");
    assert_eq!(run.wait(), Some(130));
    let said = fs::read_to_string(stderr).unwrap();
    assert!(said.contains("seed") && !said.contains("replicate"), "stderr:\n{said}");
    place.assert_clean();
}

#[test]
fn kill_9_leaves_nothing_running_and_the_next_run_works_and_cleans_up() {
    let place = Place::new();
    let run = loaded(&place);
    signal(run.pid(), Signal::SIGKILL);
    assert_eq!(run.wait(), None);
    place.assert_nothing_left();
    assert!(!place.out().exists());
    assert_eq!((place.stacks().len(), place.partials().len()), (1, 1), "what the next run finds");

    let (code, _, stderr) = texts(&place.run(TINY).output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}, stderr:\n{stderr}");
    assert_eq!(result(&place.out())["run"]["scenario"], "tiny");
    place.assert_clean();
}

#[test]
fn a_run_that_does_not_fit_has_made_room_before_it_says_so() {
    let place = Place::new();
    let killed = place.path("state/killed");
    fs::create_dir_all(killed.join("primary")).unwrap();
    fs::write(killed.join("primary/rows"), "rows".repeat(1_000_000)).unwrap();
    fs::write(killed.join(".plimsoll-lock"), "").unwrap();
    let huge = TINY.replace("organisations = 200,", "organisations = 100_000_000,");
    let (code, stdout, _) = texts(&place.run(&huge).arg("--dry-run").output().unwrap());
    assert_eq!(code, Some(20), "{stdout}");
    let (_, stdout, _) = texts(&place.run(TINY).arg("--dry-run").output().unwrap());
    assert!(stdout.contains("left by killed runs would be removed first"), "{stdout}");
    assert!(killed.exists(), "a dry run changes nothing");

    let (code, _, stderr) = texts(&place.run(&huge).output().unwrap());
    assert_eq!(code, Some(20), "{stderr}");
    assert!(stderr.contains("are needed") && stderr.contains("stack drop"), "{stderr}");
    assert!(!killed.exists(), "it would have stood in the way of every run");
    place.assert_clean();
}

#[test]
fn a_failed_gate_ends_with_10_and_everything_is_torn_down() {
    let place = Place::new();
    let scenario = TINY.replace("event_rate > 10/s", "event_rate > 1000/s");
    let (code, stdout, stderr) = texts(&place.run(&scenario).output().unwrap());
    assert!(stdout.contains("event_rate > 1000/s"), "stdout:\n{stdout}");
    if cfg!(debug_assertions) {
        // What a debug build makes slow is not the system's fault, and the program says so of itself.
        assert_eq!(code, Some(12), "stderr:\n{stderr}");
        let result = result(&place.out());
        let said = |check: &serde_json::Value| {
            check["check"] == "optimised build" && check["state"] == "red"
        };
        assert!(result["validity"].as_array().unwrap().iter().any(said), "{result:#}");
    } else {
        assert_eq!(code, Some(10), "stderr:\n{stderr}");
    }
    place.assert_clean();
}

#[test]
fn an_acknowledged_command_that_is_lost_ends_with_10() {
    let place = Place::new();
    let run = loaded(&place);
    lose_an_event(&place);
    let stderr = place.path("stderr");
    assert_eq!(run.wait(), Some(10), "stderr:\n{}", fs::read_to_string(stderr).unwrap());
    let result = result(&place.out());
    assert_eq!(result["verdict"], "fail");
    let red = |check: &serde_json::Value| check["state"] == "red";
    assert!(result["audit"].as_array().unwrap().iter().any(red), "{result:#}");
    place.assert_clean();
}

/// Deletes an event that has been acknowledged and projected, as a faulty store would lose it.
fn lose_an_event(place: &Place) {
    const SQL: &str = "DELETE FROM events WHERE (shard, position) IN (
        SELECT shard, min(position) FROM events GROUP BY shard HAVING count(*) > 3 LIMIT 1)";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    wait_until("an event to lose", || {
        // On a replica this fails, which leaves the primary.
        let deleted = |port| runtime.block_on(delete(&place.sockets(), port, SQL));
        place.ports().into_iter().find_map(|port| deleted(port).ok().filter(|rows| *rows == 1))
    });
}

async fn delete(sockets: &Path, port: u16, sql: &'static str) -> Result<u64, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass().socket(sockets).port(port);
    let options = options.username("postgres").database("plimsoll_event_store");
    Ok(options.connect().await?.execute(sql).await?.rows_affected())
}
