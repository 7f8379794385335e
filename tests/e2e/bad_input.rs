//! What bad input gets: exit code 2, one message that helps, nothing started.

use std::fs;
use std::process::Command;

use crate::support::{Place, TINY, texts};

/// Runs a scenario text and returns what is said about it, having seen that it ends with 2 and starts nothing.
fn refused(scenario: &str) -> String {
    let place = Place::new();
    let (code, stdout, stderr) = texts(&place.run(scenario).output().unwrap());
    assert_eq!(code, Some(2), "stderr:\n{stderr}");
    assert_eq!(stdout, "", "results go to stdout, and there are none");
    assert!(!place.out().exists(), "a refused run leaves no results");
    place.assert_clean();
    stderr
}

fn assert_says(text: &str, needles: &[&str]) {
    for needle in needles {
        assert!(text.contains(needle), "expected {needle:?} in:\n{text}");
    }
}

#[test]
fn an_unknown_scenario_names_the_known_ones() {
    let place = Place::new();
    let (code, _, stderr) = texts(&place.plimsoll().args(["run", "phase"]).output().unwrap());
    assert_eq!(code, Some(2));
    assert_says(&stderr, &["phase", "phase1", "smoke"]);
}

#[test]
fn broken_toml_is_shown_with_its_line() {
    assert_says(&refused("name = \"x\"\ntitle = \n"), &["scenario.toml:2"]);
}

#[test]
fn a_gate_on_a_misspelt_figure_names_the_nearest() {
    let text = refused(&TINY.replace("error_rate < 5%", "eror_rate < 5%"));
    assert_says(&text, &["eror_rate", "did you mean \"error_rate\""]);
}

#[test]
fn a_negative_rate_is_refused_with_what_is_allowed() {
    let text = refused(&TINY.replacen("30/s", "-30/s", 1));
    assert_says(&text, &["-30/s", "rate above zero"]);
}

#[test]
fn an_unknown_placeholder_names_the_nearest() {
    let text = refused(&TINY.replace("{property}", "{prperty}"));
    assert_says(&text, &["prperty", "property"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = TINY.replacen("30/s", "fast", 1).replace("measure", "meassure");
    assert_says(&refused(&text), &["fast", "meassure", "did you mean \"measure\""]);
}

#[test]
fn results_are_never_written_over() {
    let place = Place::new();
    fs::create_dir(place.out()).unwrap();
    let (code, _, stderr) = texts(&place.run(TINY).output().unwrap());
    assert_eq!(code, Some(2), "stderr:\n{stderr}");
    assert_says(&stderr, &["exists", "--out"]);
    place.assert_clean();
}

#[test]
fn a_place_that_cannot_be_written_is_noticed_before_anything_starts() {
    let place = Place::new();
    let file = place.write("file", "");
    let scenario = place.write("scenario.toml", TINY);
    let mut command = place.plimsoll();
    command.arg("run").arg(scenario).arg("--out").arg(file.join("out"));
    let (code, _, stderr) = texts(&command.output().unwrap());
    assert_eq!(code, Some(2), "stderr:\n{stderr}");
    assert_says(&stderr, &["/file", "--out"]);
    place.assert_clean();
}

#[test]
fn a_reader_that_has_gone_away_changes_no_exit_code() {
    let place = Place::new();
    let closed = || std::io::pipe().unwrap().1;
    let code =
        |command: &mut Command| command.stdout(closed()).stderr(closed()).status().unwrap().code();
    assert_eq!(code(place.plimsoll().arg("--help")), Some(0));
    assert_eq!(code(place.run(TINY).arg("--dry-run")), Some(0));
    assert_eq!(code(&mut place.run("name = 7")), Some(2));
}

#[test]
fn a_dry_run_prints_the_plan_and_what_it_found_and_starts_nothing() {
    let place = Place::new();
    let (code, stdout, _) = texts(&place.run(TINY).arg("--dry-run").output().unwrap());
    assert_eq!(code, Some(0));
    assert_says(&stdout, &["200 organisations", "record revenue", "p95 < 5s"]);
    let plan = stdout.split("\nchecks\n").nth(1).expect("checks after the plan");
    assert_says(plan, &["results", "free", "postgres", "machine", "of memory"]);
    assert!(!place.out().exists());
    place.assert_clean();
}

#[test]
fn a_dry_run_ends_as_the_run_would() {
    let place = Place::new();
    let dry = |command: &mut Command| texts(&command.arg("--dry-run").output().unwrap());
    let (code, stdout, stderr) =
        dry(place.run(TINY).env("PLIMSOLL_PG_BIN", place.path("no-such-place")));
    assert_eq!(code, Some(20), "stderr:\n{stderr}");
    assert_says(&stderr, &["no-such-place"]);
    assert_says(&stdout, &["200 organisations", "of memory"]);

    fs::create_dir(place.out()).unwrap();
    let (code, _, stderr) = dry(&mut place.run(TINY));
    assert_eq!(code, Some(2), "stderr:\n{stderr}");
    assert_says(&stderr, &["exists", "--out"]);
}
