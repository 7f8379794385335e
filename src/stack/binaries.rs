//! Where PostgreSQL's server programs are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::StackError;

/// Oldest major version that will do.
const MINIMUM_MAJOR: u32 = 15;
/// Names the directory of the programs, before every other place.
const DIRECTORY_VARIABLE: &str = "PLIMSOLL_PG_BIN";
/// What a usable directory holds.
const PROGRAMS: [&str; 2] = ["postgres", "initdb"];

/// A PostgreSQL of version 15 or newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBinaries {
    directory: PathBuf,
    version: Version,
}

/// `15.18`: the major part decides, the whole is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    major: u32,
    text: String,
}

impl PostgresBinaries {
    /// Looks in `PLIMSOLL_PG_BIN` and, if that is not set, in the places where Debian, Fedora and Homebrew put
    /// them (the newest version first), where `pg_config` says, and on `PATH`.
    pub fn find() -> Result<Self, StackError> {
        match env::var_os(DIRECTORY_VARIABLE) {
            Some(directory) => Self::first_usable(vec![directory.into()]),
            None => Self::first_usable(usual_places()),
        }
    }

    /// The programs of one directory.
    pub fn in_directory(directory: &Path) -> Result<Self, StackError> {
        Self::first_usable(vec![directory.to_owned()])
    }

    /// `15.18`, without what a distribution adds.
    pub fn version(&self) -> &str {
        &self.version.text
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn first_usable(places: Vec<PathBuf>) -> Result<Self, StackError> {
        let mut too_old = None;
        let mut looked = Vec::new();
        for directory in places {
            match version_in(&directory) {
                Ok(version) if version.major >= MINIMUM_MAJOR => {
                    return Ok(Self { directory, version });
                }
                Ok(version) => {
                    looked.push(format!("{} (version {})", directory.display(), version.text));
                    too_old.get_or_insert((directory, version.text));
                }
                Err(problem) => looked.push(format!("{} ({problem})", directory.display())),
            }
        }
        Err(match too_old {
            Some((directory, found)) => {
                StackError::PostgresTooOld { found, minimum: MINIMUM_MAJOR, directory }
            }
            None => StackError::PostgresNotFound { minimum: MINIMUM_MAJOR, looked },
        })
    }
}

/// The version of the programs in a directory, or why they are of no use.
fn version_in(directory: &Path) -> Result<Version, String> {
    if let Some(missing) = PROGRAMS.iter().find(|name| !directory.join(name).is_file()) {
        return Err(format!("no {missing}"));
    }
    let postgres = directory.join("postgres");
    let output = Command::new(&postgres)
        .arg("--version")
        .output()
        .map_err(|error| format!("postgres cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Version::parse(&text).ok_or_else(|| format!("postgres --version said {:?}", text.trim()))
}

impl Version {
    /// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or `… 18beta1`.
    fn parse(output: &str) -> Option<Self> {
        let text = output.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
        let digits: &str = text.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self { major: digits.parse().ok()?, text: text.to_owned() })
    }
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    places.extend(versioned("/usr/lib/postgresql", "", "bin"));
    places.extend(versioned("/usr", "pgsql-", "bin"));
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        places.extend(versioned(homebrew, "postgresql@", "bin"));
    }
    places.extend(from_pg_config());
    let path = env::var_os("PATH").unwrap_or_default();
    places.extend(env::split_paths(&path).filter(|place| place.join("postgres").is_file()));
    if places.is_empty() {
        // Nothing but the places themselves to name in the error.
        let looked = ["/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "Homebrew", "PATH"];
        places.extend(looked.map(PathBuf::from));
    }
    places
}

/// `<parent>/<prefix><number>/<leaf>` for every number, highest first.
fn versioned(parent: &str, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(leaf)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim())).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory of programs that all print what `postgres --version` prints.
    fn pretend(version: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            let program = directory.path().join(name);
            fs::write(&program, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"))
                .unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory
    }

    #[test]
    fn versions_are_read_with_what_distributions_add() {
        let parse = |text| Version::parse(text).map(|v| (v.major, v.text));
        assert_eq!(
            parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some((15, "15.18".to_owned()))
        );
        assert_eq!(parse("postgres (PostgreSQL) 18beta1"), Some((18, "18beta1".to_owned())));
        assert_eq!(parse("postgres: command not found"), None);
    }

    #[test]
    fn a_new_enough_server_is_found() {
        let directory = pretend("17.2");
        let found = PostgresBinaries::in_directory(directory.path()).unwrap();
        assert_eq!(found.version(), "17.2");
    }

    #[test]
    fn the_first_usable_place_wins_over_an_older_server() {
        let (old, new) = (pretend("14.9"), pretend("16.1"));
        let places = vec![old.path().to_owned(), new.path().to_owned()];
        assert_eq!(PostgresBinaries::first_usable(places).unwrap().version(), "16.1");
    }

    #[test]
    fn an_old_server_is_refused_by_its_version() {
        let directory = pretend("14.9");
        let error = PostgresBinaries::in_directory(directory.path()).unwrap_err();
        assert!(matches!(&error, StackError::PostgresTooOld { found, .. } if found == "14.9"));
    }

    #[test]
    fn a_missing_server_says_where_it_was_looked_for_and_how_to_get_one() {
        let error = PostgresBinaries::in_directory(Path::new("/nowhere")).unwrap_err().to_string();
        for expected in
            ["/nowhere (no postgres)", "apt install", "dnf install", "brew", "PLIMSOLL_PG_BIN"]
        {
            assert!(error.contains(expected), "{expected:?} must be in: {error}");
        }
    }
}
