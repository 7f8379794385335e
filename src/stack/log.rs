//! Log files of the children, and what of them an error quotes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How many last lines an error quotes.
const QUOTED_LINES: usize = 12;
/// Where in the file those lines are looked for, in bytes from its end.
const QUOTED_BYTES_MAX: u64 = 16 * 1024;

/// Opens the log of a child for appending: a server that is started again continues its file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::options().create(true).append(true).open(path)
}

/// The last words of a process: which log they are in, and its last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The whole log.
    pub log: PathBuf,
    /// Its last lines, oldest first; empty when nothing was written.
    pub last_lines: Vec<String>,
}

impl Evidence {
    /// Reads the end of a log; a log that cannot be read gives no lines, for it must not hide the error it explains.
    pub(super) fn of(log: &Path) -> Self {
        let text = read_end(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = lines.len().saturating_sub(QUOTED_LINES);
        let last_lines = lines[from..].iter().map(|line| (*line).to_owned()).collect();
        Self { log: log.to_owned(), last_lines }
    }

    /// Whether the quoted lines mention `text`.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.last_lines.iter().any(|line| line.contains(text))
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.last_lines.is_empty() {
            return write!(f, "  its log is empty: {}", self.log.display());
        }
        write!(f, "  last lines of {}:", self.log.display())?;
        self.last_lines.iter().try_for_each(|line| write!(f, "\n    | {line}"))
    }
}

fn read_end(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(QUOTED_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_quoted_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("primary.log");
        let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}")).collect();
        fs::write(&log, lines.join("\n\n")).unwrap();
        let evidence = Evidence::of(&log);
        assert_eq!(evidence.last_lines, lines[5_000 - QUOTED_LINES..]);
        assert!(evidence.to_string().ends_with("| line 4999"));
    }

    #[test]
    fn a_missing_log_hides_nothing() {
        let evidence = Evidence::of(Path::new("/nowhere/backend.log"));
        assert_eq!(evidence.to_string(), "  its log is empty: /nowhere/backend.log");
    }
}
