//! Nothing survives the program, however it ends, and the next run just works.

use nix::sys::signal::Signal;

use crate::support::{Place, TINY, result, signal, texts};

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
fn ctrl_c_ends_everything_with_130_and_leaves_no_report() {
    let place = Place::new();
    let run = loaded(&place);
    signal(run.pid(), Signal::SIGINT);
    assert_eq!(run.wait(), Some(130));
    assert!(!place.out().exists());
    place.assert_nothing_left();
}

#[test]
fn sigterm_ends_everything_with_130() {
    let place = Place::new();
    let run = loaded(&place);
    signal(run.pid(), Signal::SIGTERM);
    assert_eq!(run.wait(), Some(130));
    place.assert_nothing_left();
}

#[test]
fn ctrl_c_while_the_population_is_built_ends_everything() {
    let place = Place::new();
    let run = place.start(&mut place.run(TINY));
    place.wait_for_process("primary");
    signal(run.pid(), Signal::SIGINT);
    assert_eq!(run.wait(), Some(130));
    place.assert_nothing_left();
}

#[test]
fn kill_9_leaves_nothing_running_and_the_next_run_works() {
    let place = Place::new();
    let run = loaded(&place);
    signal(run.pid(), Signal::SIGKILL);
    assert_eq!(run.wait(), None);
    place.assert_nothing_left();

    let (code, _, stderr) = texts(&place.run(TINY).output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}, stderr:\n{stderr}");
    assert_eq!(result(&place.out())["run"]["scenario"], "tiny");
    place.assert_nothing_left();
}

#[test]
fn a_failed_gate_ends_with_10_and_everything_is_torn_down() {
    let place = Place::new();
    let scenario = TINY.replace("p95 < 5s", "p95 < 1us");
    let (code, stdout, stderr) = texts(&place.run(&scenario).output().unwrap());
    // A machine that steals processor time makes this fail inconclusive, which is right; it is never a pass.
    assert!(matches!(code, Some(10 | 12)), "exit {code:?}, stderr:\n{stderr}");
    assert!(stdout.contains("p95 < 1us"), "stdout:\n{stdout}");
    place.assert_nothing_left();
}
