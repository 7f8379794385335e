//! Scenario files from disk: what is said of bad ones, and that good ones survive being written and read again.

use std::fs;
use std::path::Path;

use plimsoll::scenario::{Place, Placeholder, Scenario, Target, builtin, names};

/// The scenarios of a folder of fixtures, sorted, with the name that messages use.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(folder);
    let entries = fs::read_dir(&root).expect("the folder of fixtures can be read");
    let mut fixtures: Vec<(String, String)> = entries
        .map(|entry| {
            let path = entry.expect("its entries can be read").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a fixture can be read"))
        })
        .collect();
    fixtures.sort();
    fixtures
}

#[test]
fn every_kind_of_bad_input_is_told_with_its_line_and_a_remedy() {
    let fixtures = fixtures("bad");
    assert!(fixtures.len() >= 10, "the fixtures are gone");
    for (name, text) in fixtures {
        match Scenario::parse(&format!("{name}.toml"), &text) {
            Ok(_) => panic!("{name}: a bad scenario was taken for a good one"),
            Err(problems) => insta::assert_snapshot!(name, problems),
        }
    }
}

#[test]
fn a_good_scenario_survives_being_written_and_read_again() {
    let built_in = names().map(|name| builtin(name).unwrap());
    let built_in = built_in.map(|(file, text)| (file.to_owned(), text.to_owned()));
    for (name, text) in fixtures("good").into_iter().chain(built_in) {
        let scenario =
            Scenario::parse(&name, &text).unwrap_or_else(|problems| panic!("{problems}"));
        let written = scenario.to_toml();
        let again = Scenario::parse("written.toml", &written)
            .unwrap_or_else(|problems| panic!("{problems}\n{written}"));
        assert_eq!(again, scenario, "{name}, written as:\n{written}");
    }
}

#[test]
fn a_written_scenario_reads_well() {
    let (name, text) = &fixtures("good")[0];
    insta::assert_snapshot!(Scenario::parse(name, text).unwrap().to_toml());
}

#[test]
fn a_channel_manager_is_slow_and_broken_or_obliging_or_not_there() {
    let read = |name: &str| {
        let all = fixtures("good").into_iter();
        let (name, text) = all.into_iter().find(|(found, _)| found == name).unwrap();
        match Scenario::parse(&name, &text).unwrap().target {
            Target::Reference(target) => target.channel_manager.map(|manager| manager.to_string()),
            Target::Http(_) => panic!("another target"),
        }
    };
    let slow = read("slow_channel_manager").unwrap();
    assert_eq!(slow, "a channel manager (delay 1.5s, error rate 2.5%)");
    let obliging = read("obliging_channel_manager").unwrap();
    assert_eq!(obliging, "a channel manager (delay 0us, error rate 0%)");
    assert_eq!(read("no_channel_manager"), None);
}

#[test]
fn the_reference_shows_a_scenario_that_works_and_names_every_placeholder() {
    let reference = include_str!("../docs/scenarios.md");
    let mut examples =
        reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole = examples.find(|example| example.starts_with("name")).expect("a complete example");
    if let Err(problems) = Scenario::parse("docs/scenarios.md", whole) {
        panic!("{problems}");
    }
    let signals = examples.find(|example| example.starts_with("[target]")).expect("of signals");
    let rest = "name = \"x\"\npopulation.organisations = 1\nload.measure = \"1s\"\n\
                operation = [{ name = \"x\", rate = \"1/s\", request.path = \"/\" }]\n\
                gates.all = [\"query_ms < 5ms\", \"queue_ms_max < 1s\", \"cache_hit_ratio > 50%\"]\n";
    if let Err(problems) = Scenario::parse("docs/scenarios.md", &format!("{rest}{signals}")) {
        panic!("{problems}");
    }
    for placeholder in Placeholder::ALL {
        assert!(reference.contains(&format!("| `{placeholder}` |")), "{placeholder} is missing");
    }
}

#[test]
fn no_damage_to_a_file_is_worse_than_a_problem_on_one_of_its_lines() {
    const JUNK: [&str; 9] =
        ["7", "-1e400", "nan", "\"\"", "\"é{\"", "[]", "[[1]]", "{ x = 2026-01-01 }", "true"];
    let (name, text) = &fixtures("good")[0];
    let lines: Vec<&str> = text.lines().collect();
    let damaged = (0..lines.len()).flat_map(|at| {
        let key = lines[at].split_once(" = ").map(|(key, _)| key);
        let junk = JUNK.into_iter().filter_map(move |junk| Some(format!("{} = {junk}", key?)));
        let lines = &lines;
        junk.chain([String::new()]).map(move |line| {
            let mut damaged = lines.clone();
            damaged[at] = &line;
            damaged.join("\n")
        })
    });
    let cut = (0..text.len()).filter_map(|end| text.get(..end)).map(str::to_owned);
    for file in damaged.chain(cut) {
        if let Err(problems) = Scenario::parse(name, &file) {
            for problem in problems.iter() {
                let Place::Line { line, .. } = problem.place else { panic!("{problem}") };
                assert!(line <= file.lines().count() + 1, "{problem}");
                assert!(!problem.message.contains('\n'), "one line each: {problem}");
            }
        }
    }
}
