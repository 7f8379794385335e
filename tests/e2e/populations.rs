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
    let file = place.write("scenario.toml", &scenario).display().to_string();

    let (code, stdout, stderr) = texts(&command(&place, &["seed", &file]));
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains("seed ") && stdout.contains("keep "), "{stdout}");
    let (_, listed, _) = texts(&command(&place, &["stack", "list"]));
    assert!(listed.contains("10000 organisations, 2 months"), "{listed}");
    let name = listed.split(' ').next().unwrap().to_owned();

    // The audit holds every table against what the population must be: the copy is whole.
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
    let left = fs::read_dir(place.path("state/populations")).unwrap().flatten();
    assert_eq!(left.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["lock"]);
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
    let kept = fs::read_dir(place.path("state/populations")).unwrap().flatten();
    let partial = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("partial-"));
    assert_eq!(partial.count(), 0, "the next one cleans up");
}
