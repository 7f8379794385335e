//! The scenarios that an installed binary brings along: the files in `scenarios/`, as they are.

/// File name and text.
const FILES: [(&str, &str); 6] = [
    ("scenarios/smoke.toml", include_str!("../../scenarios/smoke.toml")),
    ("scenarios/channel.toml", include_str!("../../scenarios/channel.toml")),
    ("scenarios/phase1.toml", include_str!("../../scenarios/phase1.toml")),
    ("scenarios/phase2.toml", include_str!("../../scenarios/phase2.toml")),
    ("scenarios/phase3.toml", include_str!("../../scenarios/phase3.toml")),
    ("scenarios/saturation.toml", include_str!("../../scenarios/saturation.toml")),
];

/// The built-in scenario of a name: its file's name, for messages, and its text.
pub fn builtin(name: &str) -> Option<(&'static str, &'static str)> {
    FILES.into_iter().find(|(file, _)| stem(file) == name)
}

/// Names of all built-in scenarios, smallest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().map(|(file, _)| stem(file))
}

fn stem(file: &'static str) -> &'static str {
    file.trim_start_matches("scenarios/").trim_end_matches(".toml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_built_in_scenario_parses_and_is_named_as_its_file() {
        for name in names() {
            let (file, text) = builtin(name).unwrap();
            let scenario =
                Scenario::parse(file, text).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(scenario.name, name);
        }
        assert_eq!(builtin("unheard of"), None);
    }
}
