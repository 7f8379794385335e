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
