//! Populations that are kept for later runs: the data directory of a stopped primary, under a name made of everything that
//! shapes it.
//!
//! ```text
//! <state>/populations/lock            held while room is made, and while an entry gets its name or loses it
//!                     <digest>/lock   held, shared, by who copies from it
//!                              population.json
//!                              data/
//!                     partial-<…>/    not whole yet, or no more; its own lock is held by who writes or removes it
//! ```
//!
//! An entry is written under another name, forced to disk and renamed, so one that is there is whole, whatever killed
//! its maker. It is never written to again. It is removed the other way round: renamed, then deleted.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::account::Account;
use super::directory::{io_error, lock, make, make_state_directory};
use super::error::StackError;
use super::partial::{Held, Partial, discard, is_partial, seize};
use super::postgres::{self, Site};
use super::preflight::disk_free;
use super::tree::{Tally, tally};
use crate::units::ByteSize;

const FOLDER: &str = "populations";
pub(super) const LOCK: &str = "lock";
const DATA: &str = "data";
const DESCRIPTION: &str = "population.json";
/// How long an entry that somebody holds for himself is waited for. Whoever does is looking whether to remove it.
const HOLD_PATIENCE: Duration = Duration::from_secs(2);
const HOLD_PAUSE: Duration = Duration::from_millis(20);
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
    /// On disk.
    bytes: u64,
    /// What must be there for it to be whole. Entries of earlier releases do not tell.
    #[serde(default)]
    contents: Option<Contents>,
}

/// How much is in a server's data, to be told from what is left of it when files are lost or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    files: u64,
    bytes: u64,
}

impl From<Tally> for Contents {
    fn from(tally: Tally) -> Self {
        Self { files: tally.files, bytes: tally.bytes }
    }
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

/// A population that nobody uses, held so that nobody begins to.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) population: Population,
    held: Held,
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

    /// Removes one; false when a run is copying it.
    pub async fn remove(&self, population: &Population) -> Result<bool, StackError> {
        let _lock = lock(&self.0.join(LOCK)).await?;
        let Some(held) = seize(&population.path)? else { return Ok(!population.path.exists()) };
        discard(&population.path, held)?;
        Ok(true)
    }

    /// Removes what never became whole, or is no more, and nobody holds.
    pub async fn remove_leftovers(&self) -> Result<(), StackError> {
        if !self.0.exists() {
            return Ok(());
        }
        let top = lock(&self.0.join(LOCK)).await?;
        let mut chosen = Vec::new();
        for path in self.unfinished() {
            chosen.extend(Partial::adopt(path)?);
        }
        drop(top);
        tokio::task::spawn_blocking(move || drop(chosen)).await.expect("removing does not panic");
        Ok(())
    }

    /// What [`Self::remove_leftovers`] would remove.
    pub(super) fn leftovers(&self) -> Vec<PathBuf> {
        let is_free =
            |path: &PathBuf| !path.join(LOCK).exists() || !matches!(seize(path), Ok(None));
        self.unfinished().filter(is_free).collect()
    }

    /// What has no name yet, or lost it; and what earlier releases removed by half.
    fn unfinished(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|e| e.path());
        let half = |path: &Path| path.join(LOCK).is_file() && !path.join(DESCRIPTION).exists();
        entries.filter(move |path| path.is_dir() && (is_partial(path) || half(path)))
    }

    /// Removes populations that nobody uses until `needed` is free on the disk, or none if not even all of them would do: those
    /// not used for longest first, and the one that is `wanted` last. Gives back what it removed.
    pub async fn make_way(
        &self,
        needed: ByteSize,
        wanted: Option<&PopulationKey>,
    ) -> Result<Vec<Population>, StackError> {
        if self.list()?.is_empty() {
            return Ok(Vec::new());
        }
        let _top = lock(&self.0.join(LOCK)).await?;
        let room = |_, unseen| disk_free(&self.0).unwrap_or(0).saturating_add(unseen);
        let (_, removed) = evict(self.idle(wanted)?, needed.get(), room)?;
        Ok(removed)
    }

    /// Populations that nobody uses, the one not used for longest first and the one that is `wanted` last.
    pub(super) fn idle(&self, wanted: Option<&PopulationKey>) -> Result<Vec<Idle>, StackError> {
        let mut kept = self.list()?;
        kept.reverse();
        kept.sort_by_key(|population| wanted.is_some_and(|key| key.0 == population.key));
        let held = kept
            .into_iter()
            .map(|population| Ok(seize(&population.path)?.map(|held| Idle { population, held })));
        held.filter_map(Result::transpose).collect()
    }

    /// The population of a key, if it is kept and whole.
    pub(super) async fn find(
        &self,
        key: &PopulationKey,
        account: &Account,
    ) -> Result<Option<KeptPopulation>, StackError> {
        let path = self.0.join(key.digest());
        let Some(description) = read(&path).filter(|found| found.key == key.0) else {
            return Ok(None);
        };
        let Some(file) = hold(&path).await? else { return Ok(None) };
        let data = path.join(DATA);
        let owner = fs::metadata(&data).map_err(io_error("look at", &data))?.uid();
        if owner != account.uid() {
            return Ok(None);
        }
        let found = tally(&data).map_err(io_error("look at", &data))?;
        if description.contents.is_some_and(|expected| expected != found.into()) {
            tracing::warn!(path = %path.display(), "a kept population is not what was kept, and is removed");
            drop(file);
            if let Some(held) = seize(&path)? {
                discard(&path, held)?;
            }
            return Ok(None);
        }
        // Its time of change says when it was used last.
        file.set_modified(SystemTime::now()).map_err(io_error("touch", &path.join(LOCK)))?;
        Ok(Some(KeptPopulation { data, description, _lock: file }))
    }

    /// Copies a stopped primary's data, when it fits into `limit` and on the disk beside what `site` still needs there. The
    /// populations that were not used for longest make room. Others may keep theirs meanwhile.
    pub(super) async fn keep(
        &self,
        site: &Site,
        key: &PopulationKey,
        data: &Path,
        wal_compression: &str,
        limit: ByteSize,
    ) -> Result<Keeping, StackError> {
        make_state_directory(&self.0)?;
        let found = tally(data).map_err(io_error("measure", data))?;
        let description = Description {
            key: key.0.clone(),
            wal_compression: wal_compression.to_owned(),
            bytes: found.on_disk,
            contents: Some(found.into()),
        };
        let begun = self.begin(site, &description, limit).await?;
        let partial = match begun {
            Ok(partial) => partial,
            Err(keeping) => return Ok(keeping),
        };
        let copy = partial.path().join(DATA);
        make(&copy, 0o700)?;
        site.account.own(&copy)?;
        postgres::copy(site, data, &copy, "to be kept").await?;
        self.finish(key, partial).await?;
        Ok(Keeping::Kept(ByteSize::new(found.on_disk)))
    }

    /// A place to write an entry to, described already; or why there is none.
    async fn begin(
        &self,
        site: &Site,
        description: &Description,
        limit: ByteSize,
    ) -> Result<Result<Partial, Keeping>, StackError> {
        self.remove_leftovers().await?;
        let _top = lock(&self.0.join(LOCK)).await?;
        let needed = description.bytes;
        if read(&self.0.join(PopulationKey(description.key.clone()).digest())).is_some() {
            return Ok(Err(Keeping::Kept(ByteSize::new(needed))));
        }
        let room = self.make_room(needed, limit.get(), u64::from(site.sizing.replicas))?;
        if room < needed {
            let (needed, room) = (ByteSize::new(needed), ByteSize::new(room));
            return Ok(Err(Keeping::NoRoom { needed, room }));
        }
        // A stack's directory has a name of its own, also where process ids repeat.
        let run = site.directory.file_name().unwrap_or_default().to_string_lossy();
        let partial = Partial::make(&self.0, &run)?;
        let text = serde_json::to_vec_pretty(description).expect("texts and numbers");
        write_synced(&partial.path().join(DESCRIPTION), &text)?;
        Ok(Ok(partial))
    }

    /// Gives an entry its name, unless somebody else was faster.
    async fn finish(&self, key: &PopulationKey, partial: Partial) -> Result<(), StackError> {
        let _top = lock(&self.0.join(LOCK)).await?;
        let path = self.0.join(key.digest());
        if read(&path).is_some() {
            return Ok(());
        }
        if path.exists() {
            // Of an older form, which cannot be read.
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
        partial.rename(&path)?;
        let folder = File::open(&self.0).and_then(|folder| folder.sync_all());
        folder.map_err(io_error("force to disk", &self.0))
    }

    /// Removes old populations until `needed` bytes fit; says how many fit then, or would at most.
    fn make_room(&self, needed: u64, limit: u64, replicas: u64) -> Result<u64, StackError> {
        let kept = self.list()?.into_iter().map(|population| population.size.get());
        // What others are writing now will be there, too.
        let written = self.unfinished().filter_map(|path| Some(read(&path)?.bytes));
        let used: u64 = kept.chain(written).sum();
        // The run itself is about to copy its replicas, and to write.
        let reserved = needed.saturating_mul(replicas + 1);
        let room = |removed: u64, unseen: u64| {
            let free = disk_free(&self.0).unwrap_or(0).saturating_add(unseen);
            limit.saturating_sub(used - removed).min(free.saturating_sub(reserved))
        };
        if room(0, 0) >= needed {
            return Ok(room(0, 0));
        }
        let (room, _) = evict(self.idle(None)?, needed, room)?;
        Ok(room)
    }
}

/// Removes populations one after the other until there is `needed` room, or none when not even all of them would make it.
/// `room` is what there is once so many bytes are removed, so many of which the disk does not show as free yet.
fn evict(
    idle: Vec<Idle>,
    needed: u64,
    room: impl Fn(u64, u64) -> u64,
) -> Result<(u64, Vec<Population>), StackError> {
    let all = idle.iter().map(|one| one.population.size.get()).sum();
    if room(all, all) < needed {
        return Ok((room(all, all), Vec::new()));
    }
    let (mut bytes, mut removed) = (0, Vec::new());
    for Idle { population, held } in idle {
        if room(bytes, 0) >= needed {
            break;
        }
        discard(&population.path, held)?;
        tracing::info!(path = %population.path.display(), "removed to make room");
        bytes += population.size.get();
        removed.push(population);
    }
    Ok((room(bytes, 0), removed))
}

/// Holds an entry, so that nobody removes it; nothing when somebody has, or is about to.
async fn hold(path: &Path) -> Result<Option<File>, StackError> {
    let lock = path.join(LOCK);
    let deadline = Instant::now() + HOLD_PATIENCE;
    loop {
        let file = match File::options().write(true).open(&lock) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open the lock", &lock)(error)),
        };
        match file.try_lock_shared() {
            // What was opened may have been removed before it was locked, and another put in its place.
            Ok(()) => return Ok(is_at(&file, &lock).then_some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(HOLD_PAUSE).await,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock)(source)),
        }
    }
}

/// Whether an open file is still the one of that name.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|open| fs::metadata(path).is_ok_and(|named| same(&open, &named)))
}

fn read(path: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(path.join(DESCRIPTION)).ok()?).ok()
}

fn shown(path: PathBuf) -> Option<Population> {
    if is_partial(&path) {
        return None;
    }
    let id = path.file_name()?.to_str()?.to_owned();
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
        let description = Description {
            key: key.0.clone(),
            wal_compression: "lz4".to_owned(),
            bytes,
            contents: None,
        };
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

    #[tokio::test]
    async fn only_what_is_whole_and_ours_is_found() {
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

        let unlocked = entry(&populations, &key(5), 5, 0);
        fs::remove_file(unlocked.join(LOCK)).unwrap();

        let find = async |n| populations.find(&key(n), &Account::Own).await.unwrap();
        assert_eq!(find(1).await.unwrap().data(), whole.join(DATA));
        for n in 2..=5 {
            assert!(find(n).await.is_none(), "{n}");
        }
        let listed = populations.list().unwrap();
        assert!(listed.iter().all(|population| population.path != half));
        let used = listed.iter().find(|p| p.path == whole).unwrap().used;
        assert!(used.elapsed().unwrap().as_secs() < 60, "finding it is using it");
    }

    #[tokio::test]
    async fn what_is_being_copied_stays() {
        let (_home, populations) = populations();
        let path = entry(&populations, &key(1), 5, 0);
        let held = populations.find(&key(1), &Account::Own).await.unwrap();
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

    #[tokio::test]
    async fn what_is_in_use_takes_its_room_and_nothing_goes_for_too_little() {
        let (_home, populations) = populations();
        let used = entry(&populations, &key(1), 60, 1_000);
        let idle = entry(&populations, &key(2), 30, 10);
        let _held = populations.find(&key(1), &Account::Own).await.unwrap().unwrap();
        assert_eq!(populations.make_room(50, 100, 0).unwrap(), 40, "what there would be at most");
        assert!(idle.exists(), "40 are too few whether it goes or not");
        assert_eq!(populations.make_room(40, 100, 0).unwrap(), 40);
        assert!(used.exists() && !idle.exists());
    }

    #[tokio::test]
    async fn a_run_that_lacks_disk_gets_that_of_others_before_its_own() {
        let (_home, populations) = populations();
        let all = ByteSize::new(u64::MAX);
        assert!(populations.make_way(all, None).await.unwrap().is_empty());
        let wanted = entry(&populations, &key(1), 1 << 50, 1_000);
        let other = entry(&populations, &key(2), 1 << 50, 10);
        assert!(populations.make_way(all, Some(&key(1))).await.unwrap().is_empty(), "in vain");
        let free = disk_free(&populations.0).unwrap();
        let more = ByteSize::new(free + (1 << 49));
        let removed = populations.make_way(more, Some(&key(1))).await.unwrap();
        // Such bytes were never there to become free, so it goes on to the last.
        let paths: Vec<_> = removed.iter().map(|population| population.path.clone()).collect();
        assert_eq!(paths, [other, wanted]);
    }

    #[tokio::test]
    async fn what_was_lost_from_a_kept_population_is_seen() {
        let (_home, populations) = populations();
        let path = entry(&populations, &key(1), 5, 0);
        fs::write(path.join(DATA).join("1"), "rows").unwrap();
        let mut description = read(&path).unwrap();
        description.contents = Some(Contents { files: 1, bytes: 4 });
        fs::write(path.join(DESCRIPTION), serde_json::to_vec(&description).unwrap()).unwrap();
        assert!(populations.find(&key(1), &Account::Own).await.unwrap().is_some());
        fs::write(path.join(DATA).join("1"), "row").unwrap();
        assert!(populations.find(&key(1), &Account::Own).await.unwrap().is_none());
        assert!(!path.exists(), "the next run makes it anew");
    }

    #[tokio::test]
    async fn what_nobody_writes_to_any_more_goes_and_what_somebody_does_stays() {
        let (_home, populations) = populations();
        let whole = entry(&populations, &key(1), 5, 0);
        let half_removed = entry(&populations, &key(2), 5, 0);
        fs::remove_file(half_removed.join(DESCRIPTION)).unwrap();
        let left = populations.0.join("partial-7");
        fs::create_dir(&left).unwrap();
        let live = Partial::make(&populations.0, "live").unwrap();
        let other = Partial::make(&populations.0, "other").unwrap();
        assert_eq!(populations.leftovers().len(), 2);
        populations.remove_leftovers().await.unwrap();
        assert!(!half_removed.exists() && !left.exists());
        assert!(whole.exists() && live.path().exists());
        let path = other.path().to_owned();
        drop(other);
        assert!(!path.exists(), "a copy that is given up leaves nothing");
    }

    #[test]
    fn a_file_that_another_replaced_is_not_at_its_name() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(LOCK);
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        File::create(&path).unwrap();
        assert!(!is_at(&file, &path));
    }
}
