//! Populations that are kept: made once, started from again, listed, dropped.

use std::fs;
use std::process::Output;

use nix::sys::signal::Signal;

use crate::support::{Place, TINY, result, signal, texts};

fn command(place: &Place, arguments: &[&str]) -> Output {
    place.plimsoll().args(arguments).output().unwrap()
}

#[test]
fn a_population_is_made_once_and_runs_start_from_its_copy() {
    let place = Place::new();
    let scenario = TINY.replace("organisations = 200", "organisations = 10_000");
    // Its maker had more replicas than the run has: a server writes what it could feed into its data.
    let two = scenario.replace("replicas = 1", "replicas = 2");
    let file = place.write("two.toml", &two).display().to_string();

    let (code, stdout, stderr) = texts(&command(&place, &["seed", &file]));
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains("seed ") && stdout.contains("keep "), "{stdout}");
    let (_, listed, _) = texts(&command(&place, &["stack", "list"]));
    assert!(listed.contains("10000 organisations, 2 months"), "{listed}");
    let name = listed.split(' ').next().unwrap().to_owned();

    // The run holds the copy's files against what was kept, and the audit holds what the load wrote against the ledger. Rows that
    // no request touches were compared once, when they were made.
    let (code, stdout, stderr) = texts(&place.run(&scenario).output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    assert!(stderr.contains("from a population that an earlier run kept"), "{stderr}");
    let json = result(&place.out());
    let red = |check: &serde_json::Value| check["state"] == "red";
    assert!(!json["audit"].as_array().unwrap().iter().any(red), "{json:#}");
    place.assert_clean();

    let (code, _, stderr) = texts(&command(&place, &["stack", "drop", "nothing-of-that-name"]));
    assert_eq!(code, Some(2), "{stderr}");
    let (code, dropped, _) = texts(&command(&place, &["stack", "drop", &name]));
    assert_eq!(code, Some(0));
    assert!(dropped.contains(&name), "{dropped}");
    let (_, listed, _) = texts(&command(&place, &["stack", "list"]));
    assert_eq!(listed, "no populations are kept\n");
    assert_eq!(folder(&place), ["lock"]);
}

fn folder(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("state/populations")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_population_that_cannot_be_kept_costs_no_run_but_is_what_seed_is_for() {
    let place = Place::new();
    let scenario = TINY.replace("organisations = 200", "organisations = 10_000");
    let file = place.write("scenario.toml", &scenario).display().to_string();
    place.write("state/populations", "no directory");
    let (code, stdout, stderr) = texts(&place.run(&scenario).output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    assert!(stderr.contains("was not kept for later runs"), "{stderr}");
    assert!(place.out().join("report.html").is_file());
    place.assert_clean();

    let none = command(&place, &["seed", &file, "--populations-max", "1 MiB"]);
    let (code, _, stderr) = texts(&none);
    assert_eq!(code, Some(20), "{stderr}");
    assert!(stderr.contains("error: the population was not kept"), "{stderr}");
    let tiny = place.write("tiny.toml", TINY).display().to_string();
    let (code, _, stderr) = texts(&command(&place, &["seed", &tiny]));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("200 organisations") && stderr.contains("--fresh"), "{stderr}");
    place.assert_clean();
}

#[test]
fn a_population_in_use_stays_and_the_others_go() {
    let place = Place::new();
    let entry = |digit: &str| {
        let path = place.path("state/populations").join(digit.repeat(32));
        fs::create_dir_all(path.join("data")).unwrap();
        let description = r#"{ "key": [], "wal_compression": "lz4", "bytes": 5 }"#;
        fs::write(path.join("population.json"), description).unwrap();
        fs::write(path.join("lock"), "").unwrap();
        path
    };
    let (used, idle) = (entry("a"), entry("b"));
    fs::create_dir(place.path("state/populations/partial-killed")).unwrap();
    let lock = fs::File::open(used.join("lock")).unwrap();
    lock.lock_shared().unwrap();
    let (code, dropped, stderr) = texts(&command(&place, &["stack", "drop", "--all"]));
    assert_eq!(code, Some(20), "{stderr}");
    assert!(stderr.contains("in use") && stderr.contains("aaaa"), "{stderr}");
    assert!(dropped.contains("bbbb") && used.exists() && !idle.exists(), "{dropped}");
    assert!(!folder(&place).iter().any(|name| name.starts_with("partial-")));
}

#[test]
fn a_killed_seed_leaves_nothing_that_is_taken_for_whole() {
    let place = Place::new();
    let scenario = TINY.replace("organisations = 200", "organisations = 10_000");
    let file = place.write("scenario.toml", &scenario).display().to_string();
    // While rows are copied, and as the copy of the copy begins: that one may be whole already.
    for (told, may_be_whole) in [("provision", false), ("seed", true)] {
        let mut seeding = place.start(place.plimsoll().args(["seed", &file]));
        seeding.wait_for_stderr(told);
        signal(seeding.pid(), Signal::SIGKILL);
        assert_eq!(seeding.wait(), None);
        place.assert_nothing_left();
        let (code, listed, _) = texts(&command(&place, &["stack", "list"]));
        assert_eq!(code, Some(0));
        let whole = listed.contains("10000 organisations");
        assert!(
            listed == "no populations are kept\n" || (may_be_whole && whole),
            "{told}: {listed}"
        );
    }
    let (code, stdout, stderr) = texts(&command(&place, &["seed", &file]));
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    let partial = folder(&place).into_iter().filter(|name| name.starts_with("partial-"));
    assert_eq!(partial.count(), 0, "the next one cleans up");
}
