//! The channel manager that a run plays beside the reference backend: it is called, it is watched, it is slow where it is
//! told to be, and it goes with the run.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Place, result, signal, texts};

/// Three organisations: in the warm-up, every property is connected many times over.
fn scenario(target: &str) -> String {
    format!(
        r#"
name = "channel"
seed = 11
population = {{ organisations = 3, history_months = 1 }}
target = {{ kind = "reference", replicas = 0, {target} }}
load = {{ warm_up = "3s", measure = "4s" }}

[[operation]]
name = "connect"
service = "ota"
rate = "30/s"
request = {{ method = "PUT", path = "/v1/orgs/{{org}}/ota/connections/{{property}}", json = {{ hotel_code = "{{property}}", rate_cents = 9_900, push_days = 7 }} }}

[[operation]]
name = "push"
service = "ota"
rate = "15/s"
request = {{ method = "POST", path = "/v1/orgs/{{org}}/ota/exchanges", headers = {{ Idempotency-Key = "{{uuid}}" }}, json = {{ property = "{{property}}", kind = "push" }} }}
expect = {{ status = 201 }}

[[operation]]
name = "cash position"
service = "cash"
rate = "30/s"
request = {{ path = "/v1/orgs/{{org}}/cash/position" }}

[gates.operation]
"cash position" = ["error_rate < 5%"]
"#
    )
}

/// What became of an operation's arrivals: answered well, and not.
fn outcome(place: &Place, operation: &str) -> (u64, u64) {
    let result = result(&place.out());
    let all = result["operations"].as_array().unwrap();
    let of = all.iter().find(|one| one["name"] == operation).unwrap();
    let count = |what: &str| of[what].as_u64().unwrap();
    (count("ok"), count("errors") + count("timeouts") + count("dropped"))
}

/// Last values of the timeline's series of a name, each with the labels that tell them apart.
fn series(place: &Place, name: &str) -> Vec<(Value, f64)> {
    let text = fs::read(place.out().join("timeline.json")).unwrap();
    let timeline: Value = serde_json::from_slice(&text).unwrap();
    let all = timeline["series"].as_array().unwrap().iter().filter(|one| one["name"] == name);
    let last = |one: &Value| {
        let values = one["values"].as_array().unwrap();
        (one["labels"].clone(), values.iter().rev().find_map(Value::as_f64).unwrap())
    };
    all.map(last).collect()
}

/// Names of the groups of processes whose use of the processor is on record.
fn groups(place: &Place) -> Vec<String> {
    let all = series(place, "process_cpu_seconds_total").into_iter();
    all.map(|(labels, _)| labels["group"].as_str().unwrap().to_owned()).collect()
}

/// The log of a process of the only run, if there is one.
fn log(place: &Place, process: &str) -> Option<String> {
    let run = fs::read_dir(place.path("state/logs")).ok()?.next().unwrap().unwrap().path();
    fs::read_to_string(run.join(format!("{process}.log"))).ok()
}

#[test]
fn it_is_called_by_the_process_that_hosts_the_service_and_watched() {
    let place = Place::new();
    let mut command = place.run(&scenario("channel_manager = true"));
    let output = command.args(["--split", "cash", "--split", "ota", "--keep-stack"]).output();
    let (code, stdout, stderr) = texts(&output.unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    place.assert_nothing_left();

    let (pushed, _) = outcome(&place, "push");
    assert!(pushed > 20, "answered with an exchange that was made: {pushed}");
    // Pulls are made by schedule: a run across their minute counts those as well.
    let made = series(&place, "backend_ota_exchanges_total");
    let done =
        |(labels, _): &&(Value, f64)| labels["kind"] == "push" && labels["outcome"] == "done";
    let (labels, count) = made.iter().find(done).unwrap_or_else(|| panic!("{made:?}"));
    assert_eq!(labels["process"], "backend-3", "by its process");
    assert!(*count >= pushed as f64, "{count} of {pushed}");

    // It counts for itself: what the service says that it asked, it was asked.
    let said = log(&place, "channel-manager").expect("kept with the stack");
    let calls = said.rsplit_once("calls=").and_then(|(_, rest)| rest.split(' ').next());
    let calls: u64 = calls.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    assert!(calls as f64 >= *count, "{said}");
    assert!(groups(&place).contains(&"channel-manager".to_owned()), "{:?}", groups(&place));

    let written = fs::read_to_string(place.out().join("scenario.toml")).unwrap();
    assert!(written.contains("channel_manager = { delay = "), "{written}");
    let conditions = fs::read_to_string(place.out().join("report.html")).unwrap();
    assert!(conditions.contains("beside a channel manager (delay 0us, error rate 0%)"));
}

#[test]
fn without_the_key_there_is_none_and_the_service_says_so() {
    let place = Place::new();
    let mut command = place.run(&scenario("channel_manager = false"));
    let (code, stdout, stderr) = texts(&command.arg("--keep-stack").output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    let (pushed, not) = outcome(&place, "push");
    assert!(pushed == 0 && not > 20, "{pushed} pushed, {not} not");
    assert!(outcome(&place, "connect").0 > 50, "the service is there all the same");
    assert!(!groups(&place).contains(&"channel-manager".to_owned()), "{:?}", groups(&place));
    assert_eq!(log(&place, "channel-manager"), None);
    let failures = result(&place.out())["failures"].to_string();
    assert!(failures.contains("503"), "{failures}");
    place.assert_nothing_left();
}

/// Each call outlasts the backend's patience: all of them fail, and soon none is made any more.
#[test]
fn one_that_does_not_answer_troubles_nobody_else() {
    let place = Place::new();
    let scenario = scenario("channel_manager = { delay = \"30s\" }");
    let (code, stdout, stderr) = texts(&place.run(&scenario).output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    let (pushed, not) = outcome(&place, "push");
    assert!(pushed == 0 && not > 20, "{pushed} pushed, {not} not");
    assert!(outcome(&place, "connect").0 > 50, "its own service answers what needs no call");
    let (read, unread) = outcome(&place, "cash position");
    assert!(read > 50 && unread == 0, "{read} read, {unread} not");
    place.assert_clean();
}

#[test]
fn its_death_is_an_incident_and_it_does_not_outlive_a_killed_run() {
    let place = Place::new();
    let scenario = scenario("channel_manager = true").replace("\"4s\"", "\"8s\"");
    let mut run = place.start(&mut place.run(&scenario));
    run.wait_for_stderr("replicate");
    place.wait_for_process(" worker");
    signal(place.wait_for_process("ota-stub"), Signal::SIGKILL);
    assert_eq!(run.wait(), Some(12), "we cannot know what it would have been like with it");
    let incidents = result(&place.out())["incidents"].to_string();
    assert!(incidents.contains("channel-manager"), "{incidents}");
    place.assert_nothing_left();

    let place = Place::new();
    let mut run = place.start(&mut place.run(&scenario));
    run.wait_for_stderr("replicate");
    place.wait_for_process("ota-stub");
    place.wait_for_process(" worker");
    signal(run.pid(), Signal::SIGKILL);
    assert_eq!(run.wait(), None);
    place.assert_nothing_left();
}
