//! Finds what a user names: a scenario by path or name, a run by directory or id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::scenario::{builtin, names, nearest};

/// A scenario's text and the name under which its problems are reported.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScenarioText {
    pub(super) file: String,
    pub(super) text: String,
}

/// What a user named and we could not find or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    /// Neither a file nor a known name.
    #[error(
        "no scenario {name:?}: not a file, not in scenarios/\n\
         help: known are {known}; {hint}or give the path of a .toml file"
    )]
    UnknownScenario { name: String, known: String, hint: String },
    /// A file that cannot be read.
    #[error("failed to read {path}: {source}\nhelp: check the path and its permissions")]
    Read { path: PathBuf, source: io::Error },
    /// Neither a directory nor the name of a run.
    #[error("no run at {path}\nhelp: give the directory of a run, or its name in reports/")]
    UnknownRun { path: PathBuf },
}

/// A scenario by path, by name in `scenarios/` of the current directory, or by the name of one that the program carries.
pub(super) fn scenario(name: &str) -> Result<ScenarioText, FindError> {
    let local = Path::new("scenarios").join(format!("{name}.toml"));
    for path in [PathBuf::from(name), local] {
        if path.is_file() {
            let file = path.display().to_string();
            let text =
                fs::read_to_string(&path).map_err(|source| FindError::Read { path, source })?;
            return Ok(ScenarioText { file, text });
        }
    }
    let (file, text) = builtin(name).ok_or_else(|| unknown_scenario(name))?;
    Ok(ScenarioText { file: file.to_owned(), text: text.to_owned() })
}

fn unknown_scenario(name: &str) -> FindError {
    let hint =
        nearest(name, names()).map_or(String::new(), |near| format!("did you mean {near:?}? "));
    let known = names().collect::<Vec<_>>().join(", ");
    FindError::UnknownScenario { name: name.to_owned(), known, hint }
}

/// The directory of a run: as given, or in `reports/`.
pub(super) fn run(path: &Path) -> Result<PathBuf, FindError> {
    [path.to_owned(), Path::new("reports").join(path)]
        .into_iter()
        .find(|candidate| candidate.is_dir())
        .ok_or_else(|| FindError::UnknownRun { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_the_scenario_that_the_program_carries() {
        assert!(scenario("smoke").unwrap().text.contains("name = \"smoke\""));
    }

    #[test]
    fn a_near_miss_is_answered_with_the_near_name() {
        let message = scenario("fase1").unwrap_err().to_string();
        assert!(message.contains("did you mean \"phase1\"?"), "{message}");
    }
}
