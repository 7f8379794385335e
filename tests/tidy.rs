//! The rules of the house, held by reading the source: who may import what, how long a file may be, what a
//! `mod.rs` may hold. The reasons are in ARCHITECTURE.md.

#![expect(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: path from the workspace's root, and its lines without the unit tests at its end.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    /// Lines of code that say `needle`, with their numbers; comments do not count.
    fn code_lines<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        self.lines.iter().enumerate().filter_map(move |(index, line)| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains(needle).then_some((index + 1, line.as_str()))
        })
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Everything under `src/` of both crates, without `#[cfg(test)] mod tests`.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for dir in ["src", "reference-backend/src"] {
        rust_files(&root().join(dir), &mut files);
    }
    files.sort();
    assert!(
        files.len() > 20,
        "found only {} source files: is the layout still the same?",
        files.len()
    );
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(str::to_owned);
        Source {
            path: path.strip_prefix(root()).unwrap().display().to_string(),
            lines: without_unit_tests(lines.collect()),
        }
    };
    files.into_iter().map(read).collect()
}

/// Everything but a `#[cfg(test)] mod tests { … }` at the end; other items for tests alone are code like any other.
fn without_unit_tests(mut lines: Vec<String>) -> Vec<String> {
    let begins = |pair: &[String]| pair[0] == "#[cfg(test)]" && pair[1] == "mod tests {";
    let ends = |line: &String| line == "}";
    if let Some(at) = lines.windows(2).position(begins)
        && lines[at..].iter().position(ends).is_some_and(|end| at + end + 1 == lines.len())
    {
        lines.truncate(at);
    }
    lines
}

#[test]
fn only_the_unit_tests_at_the_end_of_a_file_are_left_out() {
    let kept = |text: &str| without_unit_tests(text.lines().map(str::to_owned).collect()).len();
    assert_eq!(kept("a\n#[cfg(test)]\nmod tests {\n    b\n}"), 1);
    assert_eq!(kept("a\n#[cfg(test)]\nmod tests {\n    b\n}\nfn c() {}"), 6);
    assert_eq!(kept("#[cfg(test)]\nfn b() {\n}\nfn c() {}"), 4);
    assert_eq!(kept("#[cfg(test)]\nmod fixture;\nfn c() {}"), 3);
}

/// Fails with every place where a file outside `owners` says one of `needles`.
fn only_in(owners: &[&str], needles: &[&str], why: &str) {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/") && !s.is_in(owners)) {
        for needle in needles {
            for (number, line) in source.code_lines(needle) {
                problems.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(problems.is_empty(), "{why}\n{}", problems.join("\n"));
}

#[test]
fn every_heavy_crate_has_one_owner() {
    only_in(&["src/load/engine.rs"], &["goose::"], "goose belongs to load/engine.rs");
    only_in(
        &["src/population/", "src/stack/", "src/observe/", "src/audit/", "src/postgres/connect.rs"],
        &["sqlx::"],
        "sqlx belongs to population, stack, observe and audit",
    );
    only_in(&["src/report/"], &["plotters::"], "plotters belongs to report");
    only_in(&["src/cli/"], &["clap::"], "clap belongs to cli");
    only_in(
        &["src/cli/reference_backend.rs"],
        &[
            "use reference_backend::",
            "= reference_backend::",
            ": reference_backend::",
            "(reference_backend::",
        ],
        "the harness knows the backend from outside; only its command imports the crate",
    );
}

#[test]
fn pure_modules_have_no_clock_file_or_socket() {
    const PURE: [&str; 8] = [
        "src/units.rs",
        "src/ids.rs",
        "src/scenario/",
        "src/gates/",
        "src/report/",
        "src/load/schedule.rs",
        "src/load/pacer.rs",
        "src/load/profile.rs",
    ];
    const IMPURE: [&str; 9] = [
        "tokio::",
        "sqlx::",
        "reqwest::",
        "goose::",
        "Instant::now",
        "SystemTime",
        "Utc::now",
        "std::fs",
        "std::net",
    ];
    let pure = |s: &&Source| s.is_in(&PURE) || s.path.starts_with("src/population/generate");
    let sources = sources();
    let mut problems = Vec::new();
    for source in sources.iter().filter(pure) {
        for needle in IMPURE {
            for (number, line) in source.code_lines(needle) {
                problems.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(problems.is_empty(), "pure code took an outside means:\n{}", problems.join("\n"));
}

#[test]
fn the_stages_of_a_run_do_not_import_each_other() {
    const STAGES: [&str; 5] = ["population", "stack", "load", "observe", "audit"];
    let mut problems = Vec::new();
    for source in sources() {
        let Some(own) = STAGES.iter().find(|s| source.path.starts_with(&format!("src/{s}/")))
        else {
            continue;
        };
        for other in STAGES.iter().filter(|stage| *stage != own) {
            for (number, line) in source.code_lines(&format!("crate::{other}")) {
                problems.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(problems.is_empty(), "only `run` and `cli` join the stages:\n{}", problems.join("\n"));
}

#[test]
fn units_and_ids_import_nothing_of_ours() {
    for source in sources().iter().filter(|s| s.is_in(&["src/units.rs", "src/ids.rs"])) {
        assert_eq!(source.code_lines("crate::").count(), 0, "{} imports ours", source.path);
    }
}

#[test]
fn a_mod_file_only_documents_and_re_exports() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|s| s.path.ends_with("/mod.rs")) {
        for (number, line) in source.lines.iter().enumerate() {
            let word = line.trim_start().split(' ').next().unwrap_or_default();
            let item =
                ["fn", "struct", "enum", "impl", "trait", "const", "static", "let", "macro_rules!"];
            if item.contains(&word) || line.contains(" fn ") || line.contains("pub struct ") {
                problems.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(problems.is_empty(), "code in a mod.rs:\n{}", problems.join("\n"));
}

#[test]
fn files_stay_short_enough_to_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines.len() > 500)
        .map(|source| format!("{}: {} lines", source.path, source.lines.len()))
        .collect();
    assert!(long.is_empty(), "more than 500 lines, unit tests apart:\n{}", long.join("\n"));
}

#[test]
fn every_module_opens_with_its_purpose() {
    let bare: Vec<String> = sources()
        .iter()
        .filter(|source| !source.lines.first().is_some_and(|line| line.starts_with("//!")))
        .map(|source| source.path.clone())
        .collect();
    assert!(bare.is_empty(), "no module documentation in:\n{}", bare.join("\n"));
}
