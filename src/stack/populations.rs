//! Populations that are kept for later runs: the data directory of a stopped primary, under a name made of everything that
//! shapes it.
//!
//! ```text
//! <state>/populations/lock            held by who adds or removes
//!                     <digest>/lock   held, shared, by who copies from it
//!                              population.json
//!                              data/
//!                     partial-<pid>/  not whole yet; whoever holds the lock may remove it
//! ```
//!
//! An entry is written under another name, forced to disk and renamed, so one that is there is whole, whatever killed
//! its maker. It is never written to again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::account::Account;
use super::directory::{io_error, lock, make, make_state_directory};
use super::error::StackError;
use super::postgres::{self, Site};
use super::preflight::disk_free;
use crate::units::ByteSize;

const FOLDER: &str = "populations";
const LOCK: &str = "lock";
const DATA: &str = "data";
const DESCRIPTION: &str = "population.json";
const PARTIAL: &str = "partial-";
/// How many digits of the digest name an entry: enough that no two ever meet.
const DIGITS: usize = 32;

/// Everything that shapes a population. Equal keys, equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulationKey(Vec<(String, String)>);

impl PopulationKey {
    /// From names and values.
    pub fn new<'a>(parts: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        Self(parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn digest(&self) -> String {
        let mut sha = Sha256::new();
        for (name, value) in &self.0 {
            sha.update(format!("{name}={value}\n"));
        }
        let hex: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        hex[..DIGITS].to_owned()
    }
}

/// What an entry says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    key: Vec<(String, String)>,
    wal_compression: String,
    bytes: u64,
}

/// A kept population, as a list of them shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Population {
    /// Its name.
    pub id: String,
    /// What shapes it.
    pub key: Vec<(String, String)>,
    /// Its data on disk.
    pub size: ByteSize,
    /// When a run last started from it, or made it.
    pub used: SystemTime,
    /// Where it is.
    pub path: PathBuf,
}

/// A kept population that nobody removes while this is held.
#[derive(Debug)]
pub(super) struct KeptPopulation {
    data: PathBuf,
    description: Description,
    _lock: File,
}

impl KeptPopulation {
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn wal_compression(&self) -> &str {
        &self.description.wal_compression
    }
}

/// What became of the wish to keep a population.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// It is kept now, or was before.
    Kept(ByteSize),
    /// There is no room for it.
    NoRoom {
        /// What it takes.
        needed: ByteSize,
        /// What there is, by the limit and the disk.
        room: ByteSize,
    },
}

/// The folder of kept populations below a state directory.
#[derive(Debug)]
pub struct Populations(PathBuf);

impl Populations {
    /// Those below a state directory.
    pub fn below(state: &Path) -> Self {
        Self(state.join(FOLDER))
    }

    /// All of them, the one used last first. What is not whole is not shown.
    pub fn list(&self) -> Result<Vec<Population>, StackError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.0)(error)),
        };
        let mut found: Vec<Population> =
            entries.flatten().filter_map(|e| shown(e.path())).collect();
        found.sort_by_key(|population| std::cmp::Reverse(population.used));
        Ok(found)
    }

    /// Removes one by its name, or the beginning of it; false when a run is copying it.
    pub async fn remove(&self, population: &Population) -> Result<bool, StackError> {
        let _lock = lock(&self.0.join(LOCK)).await?;
        remove(&population.path)
    }

    /// The population of a key, if it is kept.
    pub(super) fn find(
        &self,
        key: &PopulationKey,
        account: &Account,
    ) -> Result<Option<KeptPopulation>, StackError> {
        let path = self.0.join(key.digest());
        let Some(description) = read(&path).filter(|found| found.key == key.0) else {
            return Ok(None);
        };
        let file = File::options().write(true).open(path.join(LOCK));
        let file = file.map_err(io_error("open the lock", &path.join(LOCK)))?;
        if file.try_lock_shared().is_err() || !path.join(DATA).is_dir() {
            // It is being removed.
            return Ok(None);
        }
        let data = path.join(DATA);
        let owner = fs::metadata(&data).map_err(io_error("look at", &data))?.uid();
        if owner != account.uid() {
            return Ok(None);
        }
        // Its time of change says when it was used last.
        file.set_modified(SystemTime::now()).map_err(io_error("touch", &path.join(LOCK)))?;
        Ok(Some(KeptPopulation { data, description, _lock: file }))
    }

    /// Copies a stopped primary's data, when it fits into `limit` and on the disk beside what `site` still needs there. The
    /// populations that were not used for longest make room.
    pub(super) async fn keep(
        &self,
        site: &Site,
        key: &PopulationKey,
        data: &Path,
        wal_compression: &str,
        limit: ByteSize,
    ) -> Result<Keeping, StackError> {
        make_state_directory(&self.0)?;
        let _lock = lock(&self.0.join(LOCK)).await?;
        self.remove_partial()?;
        let needed = size_of(data).map_err(io_error("measure", data))?;
        let path = self.0.join(key.digest());
        if read(&path).is_some() {
            return Ok(Keeping::Kept(ByteSize::new(needed)));
        }
        let room = self.make_room(needed, limit.get(), u64::from(site.sizing.replicas))?;
        if room < needed {
            let (needed, room) = (ByteSize::new(needed), ByteSize::new(room));
            return Ok(Keeping::NoRoom { needed, room });
        }
        let partial = self.0.join(format!("{PARTIAL}{}", std::process::id()));
        make(&partial, 0o711)?;
        let copy = partial.join(DATA);
        make(&copy, 0o700)?;
        site.account.own(&copy)?;
        postgres::copy(site, data, &copy, "to be kept").await?;
        let description = Description {
            key: key.0.clone(),
            wal_compression: wal_compression.to_owned(),
            bytes: needed,
        };
        write_synced(&partial.join(LOCK), b"")?;
        let text = serde_json::to_vec_pretty(&description).expect("texts and a number");
        write_synced(&partial.join(DESCRIPTION), &text)?;
        if path.exists() {
            // Of an older form, which cannot be read.
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
        fs::rename(&partial, &path).map_err(io_error("rename", &partial))?;
        let folder = File::open(&self.0).and_then(|folder| folder.sync_all());
        folder.map_err(io_error("force to disk", &self.0))?;
        Ok(Keeping::Kept(ByteSize::new(needed)))
    }

    /// Removes old populations until `needed` bytes fit; says how many fit then.
    fn make_room(&self, needed: u64, limit: u64, replicas: u64) -> Result<u64, StackError> {
        let mut kept = self.list()?;
        loop {
            let used: u64 = kept.iter().map(|population| population.size.get()).sum();
            // The run itself is about to copy its replicas, and to write.
            let reserved = needed.saturating_mul(replicas + 1);
            let free = disk_free(&self.0).unwrap_or(0).saturating_sub(reserved);
            let room = limit.saturating_sub(used).min(free);
            if room >= needed || needed > limit {
                return Ok(room);
            }
            let Some(oldest) = kept.pop() else { return Ok(room) };
            if remove(&oldest.path)? {
                tracing::info!(path = %oldest.path.display(), "removed to make room for another population");
            }
        }
    }

    fn remove_partial(&self) -> Result<(), StackError> {
        for entry in fs::read_dir(&self.0).map_err(io_error("list", &self.0))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_dir_all(entry.path()).map_err(io_error("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Removes an entry unless somebody copies from it; its description first, so that half of one is never taken for whole.
fn remove(path: &Path) -> Result<bool, StackError> {
    let file = File::options().write(true).open(path.join(LOCK));
    let file = file.map_err(io_error("open the lock", &path.join(LOCK)))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
    }
    let description = path.join(DESCRIPTION);
    fs::remove_file(&description).map_err(io_error("remove", &description))?;
    fs::remove_dir_all(path).map_err(io_error("remove", path))?;
    Ok(true)
}

fn read(path: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(path.join(DESCRIPTION)).ok()?).ok()
}

fn shown(path: PathBuf) -> Option<Population> {
    let id = path.file_name()?.to_str()?.to_owned();
    if id.starts_with(PARTIAL) {
        return None;
    }
    let Description { key, bytes, .. } = read(&path)?;
    let used = fs::metadata(path.join(LOCK)).and_then(|found| found.modified()).ok()?;
    Some(Population { id, key, size: ByteSize::new(bytes), used, path })
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StackError> {
    use std::io::Write;
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", path))
}

/// Bytes that a directory takes on disk.
fn size_of(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let (path, found) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        bytes += if found.is_dir() { size_of(&path)? } else { found.blocks() * 512 };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u64) -> PopulationKey {
        PopulationKey::new([("seed", seed.to_string()), ("organisations", "7".to_owned())])
    }

    /// An entry as `keep` leaves it, of a number of bytes, used some seconds ago.
    fn entry(
        populations: &Populations,
        key: &PopulationKey,
        bytes: u64,
        seconds_ago: u64,
    ) -> PathBuf {
        let path = populations.0.join(key.digest());
        fs::create_dir_all(path.join(DATA)).unwrap();
        let description =
            Description { key: key.0.clone(), wal_compression: "lz4".to_owned(), bytes };
        fs::write(path.join(DESCRIPTION), serde_json::to_vec(&description).unwrap()).unwrap();
        let lock = File::create(path.join(LOCK)).unwrap();
        let used = SystemTime::now() - std::time::Duration::from_secs(seconds_ago);
        lock.set_modified(used).unwrap();
        path
    }

    fn populations() -> (tempfile::TempDir, Populations) {
        let home = tempfile::tempdir().unwrap();
        let populations = Populations::below(home.path());
        (home, populations)
    }

    #[test]
    fn any_part_makes_another_key() {
        assert_eq!(key(1).digest(), key(1).digest());
        assert_ne!(key(1).digest(), key(2).digest());
        assert_eq!(key(1).digest().len(), DIGITS);
    }

    #[test]
    fn only_what_is_whole_and_ours_is_found() {
        let (_home, populations) = populations();
        assert!(populations.list().unwrap().is_empty());
        let whole = entry(&populations, &key(1), 5, 100);
        let half = entry(&populations, &key(2), 5, 0);
        fs::remove_file(half.join(DESCRIPTION)).unwrap();
        fs::create_dir(populations.0.join("partial-1")).unwrap();
        // A digest that meets another key's by accident, or by hand.
        let other = entry(&populations, &key(3), 5, 0);
        let swapped = fs::read(whole.join(DESCRIPTION)).unwrap();
        fs::write(other.join(DESCRIPTION), swapped).unwrap();

        let find = |n| populations.find(&key(n), &Account::Own).unwrap();
        assert_eq!(find(1).unwrap().data(), whole.join(DATA));
        assert!(find(2).is_none() && find(3).is_none() && find(4).is_none());
        let listed = populations.list().unwrap();
        assert!(listed.iter().all(|population| population.path != half));
        let used = listed.iter().find(|p| p.path == whole).unwrap().used;
        assert!(used.elapsed().unwrap().as_secs() < 60, "finding it is using it");
    }

    #[tokio::test]
    async fn what_is_being_copied_stays() {
        let (_home, populations) = populations();
        let path = entry(&populations, &key(1), 5, 0);
        let held = populations.find(&key(1), &Account::Own).unwrap();
        let listed = populations.list().unwrap().remove(0);
        assert!(!populations.remove(&listed).await.unwrap());
        assert!(path.join(DATA).is_dir());
        drop(held);
        assert!(populations.remove(&listed).await.unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let (_home, populations) = populations();
        let old = entry(&populations, &key(1), 40, 1_000);
        let newer = entry(&populations, &key(2), 40, 10);
        assert_eq!(populations.make_room(20, 100, 0).unwrap(), 20);
        assert!(old.exists());
        assert_eq!(populations.make_room(50, 100, 0).unwrap(), 60);
        assert!(!old.exists() && newer.exists());
        assert!(populations.make_room(101, 100, 0).unwrap() < 101, "it never fits");
        assert!(newer.exists(), "nothing is removed in vain");
    }
}
