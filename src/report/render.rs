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
    use crate::gates::fixture::{healthy, scenario};
    use crate::gates::judge;
    use crate::report::fixture::{Variant, report};

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
