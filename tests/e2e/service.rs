//! A service that already runs: what is driven is only reached, what is secret stays where it belongs.

use std::fs;

use axum::Router;
use tokio::runtime::Runtime;

use crate::support::{Place, TINY, texts};

/// A service on a free port, for as long as its runtime is kept.
fn service() -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(|| async { "ok" });
    runtime.spawn(async { axum::serve(listener, app).await });
    (runtime, url)
}

/// A request every other second, for four seconds: the last is sent at second 2.
fn seldom(target: &str) -> String {
    format!(
        r#"
name = "seldom"
population = {{ organisations = 10 }}
target = {{ {target} }}
load = {{ arrivals = "constant", measure = "4s" }}
operation = [{{ name = "read", rate = "30/min", request.path = "/orgs/{{org}}" }}]
gates = {{ all = ["p95 < 5s"] }}
"#
    )
}

#[test]
fn the_axis_is_observed_to_its_end_also_when_the_load_is_done_before() {
    let place = Place::new();
    let (_service, url) = service();
    // The address of the file is never reached: the command line's is driven in its place.
    let scenario = seldom("url = \"http://127.0.0.1:9\"");
    let output = place.run(&scenario).arg("--target").arg(&url).output().unwrap();
    let (code, _, stderr) = texts(&output);
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}, stderr:\n{stderr}");
    let stored = fs::read_to_string(place.out().join("scenario.toml")).unwrap();
    assert!(stored.contains(&url), "{stored}");

    let text = fs::read(place.out().join("timeline.json")).unwrap();
    let timeline: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(timeline["seconds"], 4);
    let series = timeline["series"].as_array().unwrap();
    let of_the_host: Vec<_> =
        series.iter().filter(|one| one["name"] == "host_memory_available_bytes").collect();
    assert_eq!(of_the_host.len(), 1, "{timeline:#}");
    assert!(of_the_host[0]["values"][4].is_number(), "{timeline:#}");
    place.assert_clean();
}

/// What is said of a run that is refused with this exit code, before anything is started.
fn refused(scenario: &str, args: &[&str], exit: i32) -> String {
    let place = Place::new();
    let mut command = place.run(scenario);
    let output = command.args(args).env_remove("NO_SUCH_TOKEN").output().unwrap();
    let (code, _, stderr) = texts(&output);
    assert_eq!(code, Some(exit), "stderr:\n{stderr}");
    assert!(!place.out().exists());
    place.assert_clean();
    stderr
}

#[test]
fn the_reference_backend_is_not_replaced_by_an_address() {
    let said = refused(TINY, &["--target", "http://127.0.0.1:9"], 2);
    assert!(said.contains("--target") && said.contains("target.url"), "{said}");
}

#[test]
fn a_token_is_not_sent_to_another_host() {
    let target = "url = \"http://api.example.com\", bearer_token_env = \"NO_SUCH_TOKEN\"";
    let said = refused(&seldom(target), &["--target", "http://127.0.0.1:9"], 2);
    assert!(said.contains("NO_SUCH_TOKEN") && said.contains("api.example.com"), "{said}");
}

#[test]
fn a_missing_token_is_named_by_a_run_and_by_a_dry_run() {
    let target = "url = \"http://127.0.0.1:9\", bearer_token_env = \"NO_SUCH_TOKEN\"";
    for args in [&["--dry-run"][..], &[]] {
        let said = refused(&seldom(target), args, 2);
        assert!(said.contains("NO_SUCH_TOKEN"), "{said}");
    }
}

#[test]
fn options_for_a_stack_are_refused_where_there_is_none() {
    let said = refused(&seldom("url = \"http://127.0.0.1:9\""), &["--keep-stack"], 2);
    assert!(said.contains("--keep-stack"), "{said}");
}

/// One request at a time, a fiftieth of a second each: 50/s at most, and 400/s are asked for. What was answered was answered
/// well, so the gate would pass; but most of the load never reached the service.
#[test]
fn a_rate_that_cannot_be_offered_is_inconclusive_and_says_why() {
    let place = Place::new();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(|| tokio::time::sleep(std::time::Duration::from_millis(20)));
    runtime.spawn(async { axum::serve(listener, app).await });
    let scenario = format!(
        r#"
name = "too-much"
population = {{ organisations = 10 }}
target = {{ url = "{url}" }}
load = {{ arrivals = "constant", measure = "4s", in_flight_max = 1, timeout = "500ms" }}
operation = [{{ name = "read", rate = "400/s", request.path = "/orgs/{{org}}" }}]
gates = {{ all = ["error_rate < 50%"] }}
"#
    );
    let output = place.run(&scenario).output().unwrap();
    let (code, stdout, stderr) = texts(&output);
    assert_eq!(code, Some(12), "{stdout}{stderr}");
    let text = fs::read(place.out().join("result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(result["verdict"], "inconclusive");
    let said = format!("{stdout}{stderr}");
    assert!(said.contains("dropped"), "{said}");
    place.assert_clean();
}
