//! A load in steps: the first step that does not hold ends it, and the one before is the answer, also when judged again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::runtime::Runtime;

use crate::support::{Place, result, texts};

/// Steps of three seconds at 40, 80, 120 … requests a second after a second at 40, evenly spaced: step 3 begins with
/// arrival 400, and what is judged of it with arrival 520.
const STEP_3: u64 = 400;

/// A service that answers well until arrival 400, and with an error from then on.
fn service() -> (Runtime, String, Arc<AtomicU64>) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU64::new(0));
    let answer = |State(asked): State<Arc<AtomicU64>>, path: axum::http::Uri| async move {
        asked.fetch_add(1, Ordering::SeqCst);
        let arrival = path.path().trim_start_matches('/').parse::<u64>().unwrap();
        if arrival < STEP_3 { StatusCode::CREATED } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let app = Router::new().fallback(answer).with_state(Arc::clone(&asked));
    runtime.spawn(async { axum::serve(listener, app).await });
    (runtime, url, asked)
}

fn scenario(url: &str) -> String {
    format!(
        r#"
name = "steps"
population = {{ organisations = 10 }}
target = {{ url = "{url}" }}

[load]
arrivals = "constant"
warm_up = "1s"
timeout = "2s"
steps = {{ from = "100%", to = "1000%", by = "100%", each = "3s", settle = "1s" }}

[[operation]]
name = "write"
rate = "40/s"
event = true
request = {{ method = "POST", path = "/{{arrival}}" }}
expect = {{ status = 201 }}

[gates]
all = ["error_rate < 10%", "held_event_rate >= 70/s"]
"#
    )
}

#[test]
fn a_step_that_breaks_ends_the_load_and_the_one_before_is_the_answer() {
    let place = Place::new();
    let (_service, url, asked) = service();
    let output = place.run(&scenario(&url)).output().unwrap();
    let (code, stdout, stderr) = texts(&output);
    assert_eq!(code, Some(0), "the rule asks for 70/s, and step 2 carried 80/s\n{stdout}{stderr}");
    let found = result(&place.out());

    let steps = found["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3, "{found:#}");
    assert_eq!(steps[0]["verdict"], "pass", "{found:#}");
    assert_eq!(steps[1]["verdict"], "pass", "{found:#}");
    // A build without optimisation may be slower than the service deserves, and then cannot say that it broke.
    let ended = if cfg!(debug_assertions) { "inconclusive" } else { "fail" };
    assert_eq!(steps[2]["verdict"], ended, "{found:#}");
    assert_eq!(found["saturation"]["steps_held"], 2);
    assert_eq!(found["saturation"]["steps"], 10);
    assert_eq!(found["saturation"]["ended_by"]["step"], 3);
    let held = found["saturation"]["last_held_events_per_s"].as_f64().unwrap();
    assert!((70.0..=90.0).contains(&held), "{held}");
    assert_eq!(found["gates"][0]["gate"], "held_event_rate >= 70/s");
    assert_eq!(found["load"]["offered_per_s"], 80.0, "figures are of the last step that held");
    for told in [&stdout, &stderr] {
        assert!(told.contains("error_rate < 10%"), "{told}");
    }

    // The ten steps come to 6,640 arrivals; three and what was under way come to far fewer.
    let asked = asked.load(Ordering::SeqCst);
    assert!((640..3_000).contains(&asked), "{asked} requests");
    let timeline = std::fs::read(place.out().join("timeline.json")).unwrap();
    let timeline: serde_json::Value = serde_json::from_slice(&timeline).unwrap();
    assert!(
        (10..31).contains(&timeline["seconds"].as_u64().unwrap()),
        "the axis ends with the load"
    );
    place.assert_clean();

    // Judged again from what was kept, it is the same to the letter.
    let files = ["result.json", "report.html", "summary.md", "junit.xml"];
    let read = || files.map(|name| std::fs::read_to_string(place.out().join(name)).unwrap());
    let before = read();
    let output = place.plimsoll().arg("report").arg(place.out()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(before == read());
}

#[test]
fn a_dry_run_shows_the_steps_with_their_rates_and_a_length_is_refused() {
    let place = Place::new();
    let scenario = scenario("http://127.0.0.1:9");
    let output = place.run(&scenario).arg("--dry-run").output().unwrap();
    let (code, stdout, stderr) = texts(&output);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("10 of 3s each") && stdout.contains("1000%  400/s"), "{stdout}");

    let output = place.run(&scenario).args(["--duration", "60s"]).output().unwrap();
    let (code, _, stderr) = texts(&output);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--duration") && stderr.contains("load.steps.each"), "{stderr}");
    place.assert_clean();
}
