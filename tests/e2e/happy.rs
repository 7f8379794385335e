//! The main job on a small scale, and the offline report.

use std::fs;

use crate::support::{Place, TINY, result, texts};

const FILES: [&str; 7] = [
    "report.html",
    "result.json",
    "junit.xml",
    "summary.md",
    "latency.hlog",
    "scenario.toml",
    "timeline.json",
];

#[test]
fn a_run_leaves_every_file_and_its_report_can_be_made_again() {
    let place = Place::new();
    let (code, stdout, stderr) = texts(&place.run(TINY).output().unwrap());
    // A noisy machine may make a run inconclusive; it must not make it fail.
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    assert!(stdout.lines().count() <= 40, "more than a screen:\n{stdout}");
    let before: Vec<Vec<u8>> = FILES.map(|file| fs::read(place.out().join(file)).unwrap()).into();
    let json = result(&place.out());
    assert!(
        json["audit"].as_array().unwrap().iter().all(|check| check["state"] != "red"),
        "{json:#}"
    );
    assert!(json["load"]["ok"].as_u64().unwrap() > 100);
    place.assert_clean();

    let again = place.plimsoll().arg("report").arg(place.out()).output().unwrap();
    let (code_again, _, stderr) = texts(&again);
    assert_eq!(code_again, code, "judged again, the same verdict\n{stderr}");
    for (file, before) in FILES.iter().zip(before) {
        assert_eq!(fs::read(place.out().join(file)).unwrap(), before, "{file} changed");
    }

    let hlog = place.out().join("latency.hlog");
    let text = fs::read(&hlog).unwrap();
    fs::write(&hlog, &text[..text.len() / 2]).unwrap();
    let (code, _, stderr) =
        texts(&place.plimsoll().arg("report").arg(place.out()).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(stderr.contains("latency.hlog"), "stderr:\n{stderr}");
}

#[test]
fn a_split_backend_holds_what_one_process_holds() {
    let place = Place::new();
    let mut command = place.run(TINY);
    command.args(["--split", "revenues,expenses", "--split", "cash,read-models"]);
    let (code, stdout, stderr) = texts(&command.output().unwrap());
    assert!(matches!(code, Some(0 | 12)), "exit {code:?}\n{stdout}\n{stderr}");
    let json = result(&place.out());
    assert_eq!(json["load"]["errors"], 0, "{json:#}");
    // What a client was told by one process is in the store that another writes, and the reads of all are counted together.
    let red = |check: &serde_json::Value| check["state"] == "red";
    assert!(!json["audit"].as_array().unwrap().iter().any(red), "{json:#}");
    assert!(json["load"]["ok"].as_u64().unwrap() > 100);
    place.assert_clean();
}
