//! The README's tables are true: every setting of `config/default.toml` with its default, and every metric of the source.
//! `README_UPDATE=1` writes the settings anew; the meanings of metrics are written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- settings: written by tests/it/readme.rs -->\n";
const END: &str = "<!-- end of settings -->\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The table of settings: what stands in the comments above a setting or, where there are none, above its neighbour.
fn settings_table(defaults: &str) -> String {
    let mut table =
        String::from("| setting | default | live | what it does |\n|---|---|---|---|\n");
    let (mut section, mut comment) = (String::new(), Vec::new());
    let (mut about, mut last) = (String::new(), String::new());
    for line in defaults.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text.to_owned());
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            // What stands above a section is about its first settings, unless they say more.
            about = comment.join(" ");
            comment.clear();
        } else if let Some((name, value)) = line.split_once(" = ") {
            if !comment.is_empty() {
                about = comment.join(" ");
                comment.clear();
            }
            let (value, live) = match value.strip_suffix(" # live") {
                Some(value) => (value, "yes"),
                None => (value, ""),
            };
            let told = if about == last && !about.is_empty() { "as above" } else { &about };
            let told = told.replace('|', "\\|");
            let _ = writeln!(table, "| `{section}.{name}` | `{value}` | {live} | {told} |");
            last.clone_from(&about);
        } else {
            // What stands apart, before a blank line, is about the whole file.
            comment.clear();
        }
    }
    table
}

#[test]
fn every_setting_stands_in_the_readme_with_its_default() {
    let table = settings_table(&read("config/default.toml"));
    let readme = read("README.md");
    let begin = readme.find(BEGIN).unwrap() + BEGIN.len();
    let end = readme.find(END).unwrap();
    if std::env::var_os("README_UPDATE").is_some() {
        let updated = format!("{}{table}{}", &readme[..begin], &readme[end..]);
        std::fs::write(root().join("README.md"), updated).unwrap();
        return;
    }
    let (mut found, mut expected) = (readme[begin..end].lines(), table.lines());
    loop {
        match (found.next(), expected.next()) {
            (None, None) => return,
            (found, expected) => {
                assert_eq!(found, expected, "README_UPDATE=1 cargo test readme:: writes it anew");
            }
        }
    }
}

#[test]
fn the_table_of_settings_leaves_none_out() {
    let defaults = read("config/default.toml");
    let tree: toml::Table = defaults.parse().unwrap();
    let table = settings_table(&defaults);
    let mut names = Vec::new();
    leaves("", &tree, &table, &mut names);
    assert!(names.len() > 60);
    for name in names {
        assert!(table.contains(&format!("| `{name}` |")), "{name} is not in the table");
    }
}

/// Names of settings; a table that is written as one value is one setting.
fn leaves(section: &str, tree: &toml::Table, shown: &str, found: &mut Vec<String>) {
    for (name, value) in tree {
        let name = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        match value {
            toml::Value::Table(inner) if !shown.contains(&format!("| `{name}` |")) => {
                leaves(&name, inner, shown, found);
            }
            _ => found.push(name),
        }
    }
}

/// A metric as the source makes it, or as the README has it.
#[derive(Debug, PartialEq, Eq)]
struct Metric {
    /// Empty where the source does not name it in the macro that makes it.
    kind: String,
    labels: BTreeSet<String>,
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a macro call, from behind its opening bracket to the closing one.
fn arguments(text: &str) -> &str {
    let mut depth = 1_usize;
    let end = text.find(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &text[..end.unwrap_or(text.len())]
}

fn quoted(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

fn metrics_of_the_source() -> BTreeMap<String, Metric> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut found: BTreeMap<String, Metric> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for (at, _) in text.match_indices("\"backend_") {
            let name = quoted(&text[at..]).unwrap();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.chars().all(plain) {
                let unknown = Metric { kind: String::new(), labels: BTreeSet::new() };
                found.entry(name.to_owned()).or_insert(unknown);
            }
        }
        for kind in ["counter", "gauge", "histogram"] {
            for (at, call) in text.match_indices(&format!("{kind}!(")) {
                let arguments = arguments(&text[at + call.len()..]);
                let Some(name) = quoted(arguments).filter(|name| name.starts_with("backend_"))
                else {
                    continue;
                };
                let labels = arguments.split("=>").map(|before| before.rsplit('"').nth(1));
                let count = arguments.matches("=>").count();
                let labels = labels.take(count).flatten().map(str::to_owned).collect();
                found.insert(name.to_owned(), Metric { kind: kind.to_owned(), labels });
            }
        }
    }
    found
}

/// Rows like `` | `backend_reads_total` | counter | source, server | Reads … | ``.
fn metrics_of_the_readme() -> BTreeMap<String, Metric> {
    let readme = read("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `backend_"));
    let metric = |row: &str| {
        let mut cells = row.split(" | ");
        let name = format!("backend_{}", cells.next().unwrap().trim_end_matches('`'));
        let kind = cells.next().unwrap().to_owned();
        let labels = cells.next().unwrap().split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim().to_owned()).filter(|l| l != "–").collect();
        assert!(cells.next().is_some_and(|meaning| meaning.len() > 10), "{name}: no meaning");
        (name, Metric { kind, labels })
    };
    rows.map(metric).collect()
}

#[test]
fn every_metric_stands_in_the_readme_and_none_that_is_not() {
    let (source, readme) = (metrics_of_the_source(), metrics_of_the_readme());
    assert!(source.len() > 30, "found only {} metrics", source.len());
    let missing: Vec<_> = source.keys().filter(|name| !readme.contains_key(*name)).collect();
    assert!(missing.is_empty(), "no row in the README: {missing:#?}");
    let gone: Vec<_> = readme.keys().filter(|name| !source.contains_key(*name)).collect();
    assert!(gone.is_empty(), "in the README alone: {gone:#?}");
    for (name, made) in source.iter().filter(|(_, made)| !made.kind.is_empty()) {
        assert_eq!(&readme[name], made, "{name}: the README's row differs");
    }
}
