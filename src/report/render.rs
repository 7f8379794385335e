//! Every file of a report.

use super::model::Report;
use super::{html, json, junit, markdown};

/// The files of a report by name, for the session to write beside the archive.
pub fn render_all(report: &Report) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("report.html", html::render(report).into_bytes()),
        ("result.json", json::render(report).into_bytes()),
        ("junit.xml", junit::render(report).into_bytes()),
        ("summary.md", markdown::render(report).into_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Yardstick;
    use crate::gates::fixture::{healthy, scenario, times};
    use crate::gates::{CheckState, judge};
    use crate::report::fixture::{Variant, report};
    use crate::report::{COLUMNS_MAX, Colour, LINES_MAX, render_console};
    use crate::scenario::Steps;
    use crate::units::Micros;

    #[test]
    fn every_variant_renders_the_same_files_twice() {
        for variant in Variant::ALL {
            let files = render_all(&report(variant));
            let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, ["report.html", "result.json", "junit.xml", "summary.md"]);
            assert_eq!(files, render_all(&report(variant)), "{}", variant.name());
        }
    }

    #[test]
    fn what_the_gates_judged_is_what_every_file_says() {
        let (record, scenario) = (healthy(), scenario(&["p95 < 500ms", "cache_hit_ratio > 99.9%"]));
        let judgement = judge(&record, &scenario);
        let files = render_all(&Report::new(&record, &scenario, &judgement));
        let text = |index: usize| String::from_utf8(files[index].1.clone()).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text(1)).unwrap();
        assert_eq!(document["verdict"], "fail");
        assert_eq!(document["gates"].as_array().unwrap().len(), judgement.gates.len());
        assert_eq!(document["gates"][0]["gate"], "cache_hit_ratio > 99.9%");
        assert_eq!(document["gates"][0]["observed"], document["signals"]["cache_hit_ratio"]);
        assert_eq!(document["validity"].as_array().unwrap().len(), judgement.validity.len());
        assert!(document["load"]["offered_per_s"].as_f64().unwrap() > 0.0);
        let name = "cache_hit_ratio &gt; 99.9%";
        assert!(text(0).contains(name) && text(2).contains(name));
        assert!(text(3).contains("| **FAIL** | `cache_hit_ratio > 99.9%`"));
    }

    /// The healthy run in four steps, of which the third breaks, beside a yardstick.
    fn in_steps() -> Report {
        let mut record = healthy();
        for second in &mut record.load.operations[1].seconds[15..19] {
            second.response = times(vec![900_000; 200]);
        }
        record.yardstick = Some(Yardstick {
            by: "pgbench".to_owned(),
            clients: 32,
            seconds: 10,
            transactions_per_s: Some(40.0),
            problem: None,
        });
        let mut scenario =
            scenario(&["p95 < 500ms", "event_rate >= 97%", "held_event_rate >= 90/s"]);
        scenario.load.steps = Some(Steps {
            percents: vec![100, 200, 300, 400],
            each: Micros::from_secs(5),
            settle: Micros::from_secs(1),
        });
        Report::new(&record, &scenario, &judge(&record, &scenario))
    }

    #[test]
    fn a_load_in_steps_says_in_every_file_what_held_and_what_broke() {
        let report = in_steps();
        let files = render_all(&report);
        let text = |index: usize| String::from_utf8(files[index].1.clone()).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text(1)).unwrap();
        assert_eq!((&document["schema"], &document["verdict"]), (&1.into(), &"pass".into()));
        insta::assert_snapshot!(
            "json_steps",
            serde_json::to_string_pretty(&serde_json::json!({
                "gates": document["gates"], "saturation": document["saturation"],
                "steps": document["steps"], "yardstick": document["yardstick"],
            }))
            .unwrap()
        );
        insta::assert_snapshot!(
            "console_steps",
            render_console(&report, "report.html", Colour::Plain)
        );
        insta::assert_snapshot!("markdown_steps", text(3));
        let page = text(0);
        for expected in [
            "<section id=\"steps\">",
            "steps-rates-title",
            "steps-p95-title",
            "Yardstick: 2.5 times pgbench",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert!(page.matches("<td class=\"word\"><span class=\"pass\">held</span>").count() == 2);
        let cases: Vec<String> = text(2).split("<testcase ").map(str::to_owned).collect();
        let step =
            |number: usize| cases.iter().find(|c| c.contains(&format!("step {number} ("))).unwrap();
        assert!(!step(2).contains("<skipped") && step(3).contains("<skipped"));
        assert!(step(3).contains("broke: p95 &lt; 500ms"), "{}", step(3));
        assert!(!text(2).contains("<failure"), "the run passes");
    }

    #[test]
    fn other_loads_say_nothing_of_steps() {
        for variant in Variant::ALL {
            for (name, bytes) in render_all(&report(variant)) {
                let text = String::from_utf8(bytes).unwrap();
                for word in ["id=\"steps\"", "\"steps\"", "saturation", "ardstick"] {
                    assert!(!text.contains(word), "{name} of {}: {word}", variant.name());
                }
            }
        }
    }

    #[test]
    fn however_many_steps_there_are_they_fit_a_screen() {
        let mut report = in_steps();
        let figures = report.climb.as_mut().unwrap();
        figures.climb.steps = figures.climb.steps.iter().cycle().take(100).cloned().collect();
        figures.steps = figures.steps.iter().cycle().take(100).cloned().collect();
        report.gates = report.gates.iter().cycle().take(30).cloned().collect();
        report.headline = "many words ".repeat(100);
        for check in &mut report.validity {
            check.state = CheckState::Red;
        }
        let screen = render_console(&report, "report.html", Colour::Plain);
        assert!(screen.lines().count() <= LINES_MAX, "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{screen}");
    }

    #[test]
    #[ignore = "writes the reports of the fixtures for people to look at"]
    fn reports_of_the_fixtures_to_look_at() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report-fixtures");
        for variant in Variant::ALL {
            let dir = dir.join(variant.name());
            std::fs::create_dir_all(&dir).unwrap();
            for (name, bytes) in render_all(&report(variant)) {
                std::fs::write(dir.join(name), bytes).unwrap();
            }
        }
    }
}
