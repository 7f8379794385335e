//! What bad days get: the right exit code, the reason in plain words, nothing left running, no half-written report.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::{Place, TINY, result, signal, texts};

#[test]
fn a_postgres_too_old_is_refused_with_how_to_get_a_newer() {
    let place = Place::new();
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    for tool in ["postgres", "initdb", "pg_ctl", "pg_basebackup"] {
        let script = format!("#!/bin/sh\necho '{tool} (PostgreSQL) 13.4'\n");
        fs::write(bin.join(tool), script).unwrap();
        fs::set_permissions(bin.join(tool), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = place.run(TINY).env("PLIMSOLL_PG_BIN", &bin).output().unwrap();
    let (code, _, stderr) = texts(&output);
    assert_eq!(code, Some(20), "stderr:\n{stderr}");
    assert!(stderr.contains("13.4") && stderr.contains("15"), "stderr:\n{stderr}");
    assert!(!place.out().exists());
}

#[test]
fn a_disk_too_small_is_noticed_before_anything_starts() {
    let place = Place::new();
    // A thousand million organisations on two servers take more than twenty terabytes.
    let mut command = place.run(TINY);
    let (code, _, stderr) =
        texts(&command.args(["--organisations", "1000000000"]).output().unwrap());
    assert_eq!(code, Some(20), "stderr:\n{stderr}");
    assert!(stderr.contains("are needed") && stderr.contains("are free"), "stderr:\n{stderr}");
    place.assert_nothing_left();
}

#[test]
fn a_taken_port_is_named() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let scenario = TINY.replace("replicas = 1 }", &format!("replicas = 1, port = {port} }}"));
    let (code, _, stderr) = texts(&place.run(&scenario).output().unwrap());
    assert_eq!(code, Some(20), "stderr:\n{stderr}");
    assert!(stderr.contains(&port.to_string()), "stderr:\n{stderr}");
    place.assert_clean();
}

#[test]
fn a_backend_that_dies_fails_the_stack_and_quotes_its_log() {
    let place = Place::new();
    let mut run = place.start(&mut place.run(TINY));
    run.wait_for_stderr("replicate");
    let worker = place.wait_for_process(" worker");
    assert!(worker > 0);
    signal(place.wait_for_process("serve --config"), Signal::SIGKILL);
    let stderr = place.path("stderr");
    assert_eq!(run.wait(), Some(20), "stderr:\n{}", fs::read_to_string(&stderr).unwrap());
    let said = fs::read_to_string(stderr).unwrap();
    assert!(said.contains("backend") && said.contains(".log"), "stderr:\n{said}");
    assert!(!place.out().exists(), "no report of half a run");
    place.assert_nothing_left();
}

#[test]
fn a_replica_that_dies_is_in_the_report() {
    let place = Place::new();
    let mut run = place.start(&mut place.run(TINY));
    run.wait_for_stderr("replicate");
    place.wait_for_process(" worker");
    signal(place.wait_for_process("replica-1"), Signal::SIGKILL);
    // A system with a replica less is not the one of the scenario: whatever its gates say, it has not passed.
    let code = run.wait();
    assert!(matches!(code, Some(10 | 12)), "exit {code:?}");
    let result = result(&place.out());
    let red =
        |check: &serde_json::Value| check["check"] == "no incidents" && check["state"] == "red";
    assert!(result["validity"].as_array().unwrap().iter().any(red), "{result:#}");
    assert!(result["incidents"].to_string().contains("replica-1"), "{result:#}");
    place.assert_nothing_left();
}

#[test]
fn a_killed_worker_makes_the_run_inconclusive() {
    let place = Place::new();
    let mut run = place.start(&mut place.run(TINY));
    run.wait_for_stderr("replicate");
    let worker = place.wait_for_process(" worker");
    std::thread::sleep(std::time::Duration::from_secs(2));
    signal(worker, Signal::SIGKILL);
    let stderr = place.path("stderr");
    assert_eq!(run.wait(), Some(12), "stderr:\n{}", fs::read_to_string(stderr).unwrap());
    assert_eq!(result(&place.out())["verdict"], "inconclusive");
    place.assert_nothing_left();
}
