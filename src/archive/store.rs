//! A run's directory: written under another name beside it, synced, renamed. Whole, or absent.
//!
//! ```text
//! record.json     all facts but the following two
//! timeline.json   what was observed
//! latency.hlog    every distribution of times
//! scenario.toml   the scenario as run
//! manifest.json   schema, and name, length and sha256 of every file
//! …               whatever was rendered: can be made again, and replaced
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::distribution::Distribution;
use super::hlog::{HlogError, restore_hlog, write_hlog};
use super::manifest::{Damage, FileEntry, MANIFEST, Manifest, SCHEMA};
use super::partial::{PartialDirectory, check_writable};
use super::record::Record;
use super::timeline::Timeline;

const RECORD: &str = "record.json";
const TIMELINE: &str = "timeline.json";
const LATENCY: &str = "latency.hlog";
const SCENARIO: &str = "scenario.toml";

/// Why a run's directory could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is something of that name.
    #[error("create {}: it exists already\nhelp: choose another --out, or move it away: a run is never overwritten", .0.display())]
    Exists(PathBuf),
    /// Nothing can be made there.
    #[error("create a directory in {}: {source}\nhelp: choose an --out in a directory that you may write to", parent.display())]
    Create {
        /// Where.
        parent: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {}: {source}\nhelp: see whether the disk is full", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("read {}: {source}\nhelp: restore it from a copy, or run again", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory without a manifest.
    #[error("read {}: not the directory of a run: it has no {MANIFEST}\nhelp: name a directory that `plimsoll run` wrote, like reports/<run-id>", .0.display())]
    NotARun(PathBuf),
    /// A file is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A file that the manifest does not list, though every run has one.
    #[error("read {}: the manifest does not list {name}\nhelp: restore {MANIFEST} from a copy, or run again", dir.display())]
    Unlisted {
        /// The run's directory.
        dir: PathBuf,
        /// The file.
        name: &'static str,
    },
    /// Written by a release that knows more.
    #[error("read {}: written with schema {found}, this release reads up to {SCHEMA}\nhelp: use the release of plimsoll that made the run, or a newer one", dir.display())]
    Newer {
        /// The run's directory.
        dir: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// A file that has the right checksum and cannot be understood.
    #[error("read {}: {detail}\nhelp: report this as a defect: the file is as it was written", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The latencies could not be written or read.
    #[error(transparent)]
    Latencies(#[from] HlogError),
    /// A rendered file with a name that is taken or leaves the directory.
    #[error(
        "write {0:?}: not the name of a rendered file\nhelp: use a plain file name other than those of the record"
    )]
    Name(String),
}

/// A run's directory in the making. Dropped without [`RunDirectory::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct RunDirectory {
    out: PathBuf,
    partial: PartialDirectory,
}

impl RunDirectory {
    /// Makes sure, before anything runs, that `out` is free and can be written.
    pub fn create(out: &Path) -> Result<Self, ArchiveError> {
        refuse_existing(out)?;
        let parent = parent_of(out);
        let failed = |source| ArchiveError::Create { parent: parent.to_owned(), source };
        let name = out.file_name().ok_or_else(|| ArchiveError::Exists(out.to_owned()))?;
        let partial = PartialDirectory::create(parent, name).map_err(failed)?;
        Ok(Self { out: out.to_owned(), partial })
    }

    /// Whether [`RunDirectory::create`] would find its place, and in which directory that is; makes nothing.
    pub fn check(out: &Path) -> Result<PathBuf, ArchiveError> {
        refuse_existing(out)?;
        let parent = parent_of(out);
        let failed = |source| ArchiveError::Create { parent: parent.to_owned(), source };
        check_writable(parent).map_err(failed)
    }

    /// Writes everything and gives the directory its name. `rendered` are file names with their content.
    pub fn finish(
        self,
        record: &Record,
        scenario_text: &str,
        rendered: &[(&str, Vec<u8>)],
    ) -> Result<PathBuf, ArchiveError> {
        let dir = self.partial.path();
        let mut files = vec![
            write_listed(dir, RECORD, &to_json(&facts(record), dir, RECORD)?, false)?,
            write_listed(dir, TIMELINE, &to_json(&record.timeline, dir, TIMELINE)?, false)?,
            write_listed(dir, LATENCY, &write_hlog(&record.load, &record.run.started_at)?, false)?,
            write_listed(dir, SCENARIO, scenario_text.as_bytes(), false)?,
        ];
        for (name, content) in rendered {
            check_name(name)?;
            files.push(write_listed(dir, name, content, true)?);
        }
        write_manifest(dir, files)?;
        // A rename onto an empty directory would succeed.
        refuse_existing(&self.out)?;
        let failed = |source| ArchiveError::Write { file: self.out.clone(), source };
        self.partial.rename(&self.out).map_err(failed)?;
        sync_dir(parent_of(&self.out))?;
        Ok(self.out)
    }
}

/// A run's record and the text of its scenario, every file held against the manifest. Rendered files are not looked at:
/// they can be made again.
pub fn read_run(dir: &Path) -> Result<(Record, String), ArchiveError> {
    let manifest = read_manifest(dir)?;
    let mut record: Record = parse(dir, RECORD, &read_listed(dir, &manifest, RECORD)?)?;
    record.timeline = parse(dir, TIMELINE, &read_listed(dir, &manifest, TIMELINE)?)?;
    restore_hlog(&mut record.load, &read_listed(dir, &manifest, LATENCY)?)?;
    let scenario = String::from_utf8(read_listed(dir, &manifest, SCENARIO)?).map_err(|error| {
        ArchiveError::Parse { file: dir.join(SCENARIO), detail: error.to_string() }
    })?;
    Ok((record, scenario))
}

/// Replaces the rendered files of a run by others, each at one stroke, and the manifest last. A crash in between leaves a
/// run that can be read and rendered again.
pub fn replace_rendered(dir: &Path, rendered: &[(&str, Vec<u8>)]) -> Result<(), ArchiveError> {
    let manifest = read_manifest(dir)?;
    rendered.iter().try_for_each(|(name, _)| check_name(name))?;
    let (old, mut files): (Vec<_>, Vec<_>) =
        manifest.files.into_iter().partition(|file| file.rendered);
    for (name, content) in rendered {
        replace_file(dir, name, content)?;
        files.push(FileEntry::new(name, content, true));
    }
    let manifest = Manifest { schema: manifest.schema, files };
    replace_file(dir, MANIFEST, &to_json(&manifest, dir, MANIFEST)?)?;
    for stale in old.iter().filter(|file| !rendered.iter().any(|(name, _)| *name == file.name)) {
        // The name comes from a file that anyone may have edited.
        check_name(&stale.name)?;
        let file = dir.join(&stale.name);
        match fs::remove_file(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ArchiveError::Write { file, source });
            }
            _ => {}
        }
    }
    sync_dir(dir)
}

/// The record without what has a file of its own.
fn facts(record: &Record) -> Record {
    let mut facts = Record { timeline: Timeline::default(), ..record.clone() };
    for second in facts.load.operations.iter_mut().flat_map(|operation| &mut operation.seconds) {
        second.response = Distribution::default();
        second.service = Distribution::default();
    }
    for second in &mut facts.load.seconds {
        second.lag = Distribution::default();
        second.own_lag = Distribution::default();
    }
    facts
}

fn refuse_existing(out: &Path) -> Result<(), ArchiveError> {
    // A dangling link is something, too.
    match fs::symlink_metadata(out) {
        Ok(_) => Err(ArchiveError::Exists(out.to_owned())),
        Err(_) => Ok(()),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A rendered file is a plain name and none of the record's.
fn check_name(name: &str) -> Result<(), ArchiveError> {
    let taken = [RECORD, TIMELINE, LATENCY, SCENARIO, MANIFEST].contains(&name);
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    if plain && !taken { Ok(()) } else { Err(ArchiveError::Name(name.to_owned())) }
}

fn to_json(value: &impl serde::Serialize, dir: &Path, name: &str) -> Result<Vec<u8>, ArchiveError> {
    serde_json::to_vec(value)
        .map_err(|error| ArchiveError::Write { file: dir.join(name), source: error.into() })
}

fn parse<T: DeserializeOwned>(dir: &Path, name: &str, content: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(content)
        .map_err(|error| ArchiveError::Parse { file: dir.join(name), detail: error.to_string() })
}

fn write_listed(
    dir: &Path,
    name: &str,
    content: &[u8],
    rendered: bool,
) -> Result<FileEntry, ArchiveError> {
    write_synced(&dir.join(name), content)?;
    Ok(FileEntry::new(name, content, rendered))
}

fn write_manifest(dir: &Path, files: Vec<FileEntry>) -> Result<(), ArchiveError> {
    let manifest = Manifest { schema: SCHEMA, files };
    write_synced(&dir.join(MANIFEST), &to_json(&manifest, dir, MANIFEST)?)?;
    sync_dir(dir)
}

fn write_synced(file: &Path, content: &[u8]) -> Result<(), ArchiveError> {
    let write = || {
        let mut open = File::create(file)?;
        open.write_all(content)?;
        open.sync_all()
    };
    write().map_err(|source| ArchiveError::Write { file: file.to_owned(), source })
}

/// Readers see the old file or the new one, never a part.
fn replace_file(dir: &Path, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
    let partial = dir.join(format!(".{name}.partial"));
    write_synced(&partial, content)?;
    let file = dir.join(name);
    fs::rename(&partial, &file).map_err(|source| ArchiveError::Write { file, source })
}

/// A rename survives a crash once its directory is on disk.
fn sync_dir(dir: &Path) -> Result<(), ArchiveError> {
    File::open(dir)
        .and_then(|open| open.sync_all())
        .map_err(|source| ArchiveError::Write { file: dir.to_owned(), source })
}

fn read_manifest(dir: &Path) -> Result<Manifest, ArchiveError> {
    /// What every schema has, whatever else it has.
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let file = dir.join(MANIFEST);
    let content = fs::read(&file).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ArchiveError::NotARun(dir.to_owned())
        }
        _ => ArchiveError::Read { file, source },
    })?;
    let Versioned { schema } = parse_manifest(dir, &content)?;
    if schema > SCHEMA {
        return Err(ArchiveError::Newer { dir: dir.to_owned(), found: schema });
    }
    parse_manifest(dir, &content)
}

/// The manifest has no checksum, so one that cannot be understood is damaged rather than a defect.
fn parse_manifest<T: DeserializeOwned>(dir: &Path, content: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(content)
        .map_err(|error| ArchiveError::Read { file: dir.join(MANIFEST), source: error.into() })
}

fn read_listed(
    dir: &Path,
    manifest: &Manifest,
    name: &'static str,
) -> Result<Vec<u8>, ArchiveError> {
    let entry = manifest.files.iter().find(|file| file.name == name);
    let entry = entry.ok_or_else(|| ArchiveError::Unlisted { dir: dir.to_owned(), name })?;
    let file = dir.join(name);
    let content = fs::read(&file).map_err(|source| ArchiveError::Read { file, source })?;
    entry.verify(dir, &content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::archive::{Failure, RarerFailures};
    use crate::gates::fixture::healthy;

    const TOML: &str = "name = \"fixture\"\n";

    fn rendered() -> Vec<(&'static str, Vec<u8>)> {
        vec![("report.html", b"<html>".to_vec()), ("junit.xml", b"<x/>".to_vec())]
    }

    /// A whole run in `<temporary>/run`.
    fn written() -> (TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("run");
        let made =
            RunDirectory::create(&out).unwrap().finish(&healthy(), TOML, &rendered()).unwrap();
        assert_eq!(made, out);
        (home, out)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_is_read_back_equal() {
        let (home, out) = written();
        assert_eq!(read_run(&out).unwrap(), (healthy(), TOML.to_owned()));
        assert_eq!(names(home.path()), ["run"], "nothing is left beside it");
        assert_eq!(
            names(&out),
            [
                "junit.xml",
                "latency.hlog",
                "manifest.json",
                "record.json",
                "report.html",
                "scenario.toml",
                "timeline.json"
            ]
        );
    }

    #[test]
    fn reasons_for_failures_are_kept_and_a_record_without_them_still_loads() {
        let home = tempfile::tempdir().unwrap();
        let mut record = healthy();
        record.load.failures.push(Failure {
            operation: "read summary".to_owned(),
            reason: "connection lost".to_owned(),
            count: 3,
            first_s: 1,
            last_s: 7,
        });
        record.load.rarer_failures = Some(RarerFailures { rows: 2, requests: 2 });
        let out = home.path().join("run");
        RunDirectory::create(&out).unwrap().finish(&record, TOML, &[]).unwrap();
        assert_eq!(read_run(&out).unwrap().0, record);

        let mut older = serde_json::to_value(facts(&record)).unwrap();
        let load = older["load"].as_object_mut().unwrap();
        assert!(load.remove("failures").is_some() && load.remove("rarer_failures").is_some());
        let older: Record = serde_json::from_value(older).unwrap();
        assert_eq!((older.load.failures, older.load.rarer_failures), (Vec::new(), None));
    }

    #[test]
    fn every_float_of_a_timeline_comes_back_exactly() {
        let home = tempfile::tempdir().unwrap();
        let mut record = healthy();
        let odd =
            [0.1 + 0.2, 1.0 / 3.0, 5e-324, 1.797_693_134_862_315_7e308, 122_123_456.789_012_34];
        for (value, odd) in record.timeline.series[0].values.iter_mut().zip(odd) {
            *value = Some(odd);
        }
        let out = home.path().join("run");
        RunDirectory::create(&out).unwrap().finish(&record, TOML, &[]).unwrap();
        assert_eq!(read_run(&out).unwrap().0, record);
    }

    #[test]
    fn a_file_that_was_cut_short_or_changed_is_named() {
        for name in [RECORD, TIMELINE, LATENCY, SCENARIO] {
            let (_home, out) = written();
            let file = out.join(name);
            let whole = fs::read(&file).unwrap();
            fs::write(&file, &whole[..whole.len() - 1]).unwrap();
            let error = read_run(&out).unwrap_err();
            let ArchiveError::Damaged(damage) = &error else { panic!("{name}: {error}") };
            let found = (damage.expected_bytes, damage.found_bytes);
            assert_eq!(found, (whole.len() as u64, whole.len() as u64 - 1));
            assert!(error.to_string().contains(name) && error.to_string().contains("help:"));
            let mut changed = whole.clone();
            changed[whole.len() / 2] ^= 1;
            fs::write(&file, changed).unwrap();
            assert!(matches!(read_run(&out), Err(ArchiveError::Damaged(_))), "{name}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        for name in [RECORD, TIMELINE, LATENCY, SCENARIO] {
            let (_home, out) = written();
            fs::remove_file(out.join(name)).unwrap();
            let error = read_run(&out).unwrap_err();
            assert!(
                matches!(&error, ArchiveError::Read { file, .. } if file.ends_with(name)),
                "{error}"
            );
        }
        let (home, out) = written();
        fs::remove_file(out.join(MANIFEST)).unwrap();
        assert!(matches!(read_run(&out), Err(ArchiveError::NotARun(_))));
        assert!(matches!(read_run(&home.path().join("none")), Err(ArchiveError::NotARun(_))));
    }

    #[test]
    fn a_manifest_that_lists_less_or_is_damaged_is_refused() {
        let (_home, out) = written();
        fs::write(out.join(MANIFEST), r#"{"schema":1,"files":[]}"#).unwrap();
        assert!(matches!(read_run(&out), Err(ArchiveError::Unlisted { name: RECORD, .. })));
        fs::write(out.join(MANIFEST), r#"{"schema":1,"fi"#).unwrap();
        assert!(matches!(read_run(&out), Err(ArchiveError::Read { .. })));
    }

    #[test]
    fn a_newer_schema_says_so() {
        let (_home, out) = written();
        fs::write(out.join(MANIFEST), r#"{"schema":2,"shape":"unheard of"}"#).unwrap();
        let error = read_run(&out).unwrap_err().to_string();
        assert!(error.contains("schema 2, this release reads up to 1"), "{error}");
        assert!(replace_rendered(&out, &rendered()).is_err());
    }

    #[test]
    fn what_exists_is_never_overwritten() {
        let (home, out) = written();
        assert!(matches!(RunDirectory::create(&out), Err(ArchiveError::Exists(dir)) if dir == out));
        let late = home.path().join("late");
        let run = RunDirectory::create(&late).unwrap();
        fs::create_dir(&late).unwrap();
        assert!(matches!(run.finish(&healthy(), TOML, &[]), Err(ArchiveError::Exists(_))));
        assert_eq!(names(&late), [""; 0]);
        let link = home.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(matches!(RunDirectory::create(&link), Err(ArchiveError::Exists(_))));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_at_once() {
        let (_home, out) = written();
        let below_a_file = out.join(RECORD).join("run");
        for bad in [below_a_file.as_path(), Path::new("/proc/self/none/run")] {
            let error = RunDirectory::create(bad).unwrap_err();
            assert!(matches!(error, ArchiveError::Create { .. }), "{error}");
        }
    }

    #[test]
    fn an_interrupted_writing_leaves_nothing_of_the_final_name() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("run");
        drop(RunDirectory::create(&out).unwrap());
        assert_eq!(names(home.path()), [""; 0]);

        let mut record = healthy();
        record.load.operations[1].name = "no_tag".to_owned();
        let run = RunDirectory::create(&out).unwrap();
        assert!(matches!(run.finish(&record, TOML, &[]), Err(ArchiveError::Latencies(_))));
        assert_eq!(names(home.path()), [""; 0]);

        // As after kill -9: no destructor runs.
        let run = RunDirectory::create(&out).unwrap();
        let partial = run.partial.path().to_owned();
        write_synced(&partial.join(RECORD), b"{").unwrap();
        std::mem::forget(run);
        assert!(!out.exists());
        assert!(matches!(read_run(&partial), Err(ArchiveError::NotARun(_))));
    }

    #[test]
    fn rendering_again_replaces_what_was_rendered_alone() {
        let (_home, out) = written();
        let record = fs::read(out.join(RECORD)).unwrap();
        let again = vec![("report.html", b"<html>2".to_vec()), ("new.md", vec![])];
        replace_rendered(&out, &again).unwrap();
        assert_eq!(fs::read(out.join("report.html")).unwrap(), b"<html>2");
        assert!(!out.join("junit.xml").exists() && out.join("new.md").exists());
        assert_eq!(fs::read(out.join(RECORD)).unwrap(), record);
        assert_eq!(read_run(&out).unwrap().0, healthy());
        let manifest = read_manifest(&out).unwrap();
        for entry in &manifest.files {
            entry.verify(&out, &fs::read(out.join(&entry.name)).unwrap()).unwrap();
        }
        assert_eq!(manifest.files.len(), names(&out).len() - 1, "no file is unlisted");
    }

    #[test]
    fn a_rendered_file_cannot_take_the_records_place_or_leave() {
        let (_home, out) = written();
        for name in [RECORD, MANIFEST, "../x", "/tmp/x", "a/b", "", "..", "."] {
            let file = [(name, vec![])];
            assert!(
                matches!(replace_rendered(&out, &file), Err(ArchiveError::Name(_))),
                "{name:?}"
            );
        }
        assert_eq!(read_run(&out).unwrap().0, healthy());
    }

    #[test]
    fn a_changed_report_does_not_lock_the_record() {
        let (_home, out) = written();
        fs::write(out.join("report.html"), "scribbled on").unwrap();
        assert!(read_run(&out).is_ok());
    }
}
