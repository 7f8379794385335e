//! What killed runs have left below the state directory: found, told, removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::directory::{KEPT, LOCK, io_error, lock, make_state_directory, open_lock};
use super::error::StackError;
use super::populations::Populations;
use super::tree::{remove_tree, tally};
use crate::units::ByteSize;

/// Where logs are kept below the state directory, a directory for each run.
pub const LOGS: &str = "logs";
/// How long the logs of a run that failed are kept.
const LOGS_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long the servers of a killed run are given to end.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);

/// What a run would find below the state directory that it may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaimable {
    /// What killed runs have left: the next run removes it before it asks for room.
    pub leftovers: ByteSize,
    /// Kept populations that no run is copying: they go when the disk lacks room.
    pub populations: ByteSize,
}

/// Removes what killed runs have left, so that it stands in nobody's way: directories of stacks, populations that never
/// became whole, logs that are old. A run does this before it asks what the machine has to offer.
pub async fn reclaim(state: &Path) -> Result<(), StackError> {
    let state = &std::path::absolute(state).map_err(io_error("find", state))?;
    make_state_directory(state)?;
    remove_stale(state).await?;
    if let Err(error) = Populations::below(state).remove_leftovers().await {
        tracing::warn!(%error, "what is left of populations was not removed");
    }
    remove_old_logs(state, SystemTime::now());
    Ok(())
}

/// What [`reclaim`] and a lack of room would remove. Changes nothing.
pub fn reclaimable(state: &Path) -> Reclaimable {
    let populations = Populations::below(state);
    let stale = candidates(state).into_iter().filter(|path| unheld(&path.join(LOCK)));
    let left = stale.chain(populations.leftovers());
    let bytes = left.filter_map(|path| tally(&path).ok()).map(|tally| tally.on_disk).sum();
    let idle = populations.idle(None).unwrap_or_default();
    Reclaimable {
        leftovers: ByteSize::new(bytes),
        populations: ByteSize::new(idle.iter().map(|one| one.population.size.get()).sum()),
    }
}

/// Whether a lock is there, and nobody holds it.
fn unheld(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Directories of stacks that are not there for good.
fn candidates(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let is_stack = |path: &PathBuf| path.join(LOCK).is_file() && !path.join(KEPT).exists();
    entries.map(|entry| entry.path()).filter(is_stack).collect()
}

/// Removes the directories whose owners are gone. What cannot be removed is no reason not to run: it is said.
///
/// The state's lock is held only while they are chosen. A chosen one's own lock is held until it is gone, so nobody else
/// touches it, and nobody who wants another one waits.
pub(super) async fn remove_stale(state: &Path) -> Result<(), StackError> {
    let state_lock = lock(&state.join(LOCK)).await?;
    let mut chosen = Vec::new();
    for path in candidates(state) {
        let file = open_lock(&path.join(LOCK))?;
        if file.try_lock().is_ok() {
            chosen.push((path, file));
        }
    }
    drop(state_lock);
    for (path, file) in chosen {
        tracing::info!(path = %path.display(), "removing what a killed run left");
        end_orphans(&path).await;
        // With its lock, which goes last: an interrupted removal is continued by the next run.
        let removal = move || {
            let removed = remove_tree(&path, LOCK);
            drop(file);
            removed.map_err(|error| (path, error))
        };
        let removed = tokio::task::spawn_blocking(removal).await;
        if let Err((path, error)) = removed.expect("removing files does not panic") {
            tracing::warn!(path = %path.display(), %error, "not removed");
        }
    }
    Ok(())
}

/// Removes the logs of failed runs that nobody will look at any more. Those of a stack that is still there stay with it.
fn remove_old_logs(state: &Path, now: SystemTime) {
    for entry in fs::read_dir(state.join(LOGS)).into_iter().flatten().flatten() {
        let written = entry.metadata().and_then(|found| found.modified());
        let age = written.ok().and_then(|written| now.duration_since(written).ok());
        if age.is_some_and(|age| age > LOGS_KEPT) && !state.join(entry.file_name()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits until no server runs in a stack's directory. The kernel has told them to end; one that does not is killed.
async fn end_orphans(stack: &Path) {
    let deadline = Instant::now() + ORPHAN_PATIENCE;
    loop {
        let orphans = servers_in(stack);
        if orphans.is_empty() {
            return;
        }
        let signal = if Instant::now() < deadline { Signal::SIGQUIT } else { Signal::SIGKILL };
        for pid in orphans {
            let _ = kill(pid, signal);
        }
        sleep(Duration::from_millis(100)).await;
        if Instant::now() > deadline + ORPHAN_PATIENCE {
            return;
        }
    }
}

/// Live processes whose command line names a data directory of this stack. A pid file alone proves nothing: its
/// number may be another process's by now.
fn servers_in(stack: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(stack) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let data = entry.path();
            let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
            let pid: i32 = text.lines().next()?.trim().parse().ok()?;
            let arguments = procfs::process::Process::new(pid).ok()?.cmdline().ok()?;
            let runs_here = arguments.iter().any(|argument| Path::new(argument) == data);
            runs_here.then_some(Pid::from_raw(pid))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a killed run leaves: files, and a lock that nobody holds.
    fn leave_behind(state: &Path, run: &str) -> PathBuf {
        let stack = state.join(run);
        fs::create_dir_all(stack.join("primary/base")).unwrap();
        fs::write(stack.join("primary/base/1"), "rows".repeat(10_000)).unwrap();
        fs::write(stack.join(LOCK), "").unwrap();
        stack
    }

    #[tokio::test]
    async fn what_can_be_reclaimed_is_told_first_and_gone_afterwards() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        assert_eq!(reclaimable(&state).leftovers, ByteSize::new(0));
        let dead = leave_behind(&state, "dead");
        let live = leave_behind(&state, "live");
        let _lock = lock(&live.join(LOCK)).await.unwrap();
        let told = reclaimable(&state).leftovers.get();
        assert_eq!(told, tally(&dead).unwrap().on_disk);
        assert!(dead.exists(), "telling changes nothing");
        reclaim(&state).await.unwrap();
        assert!(!dead.exists() && live.join("primary").exists());
        assert_eq!(reclaimable(&state).leftovers, ByteSize::new(0));
    }

    #[tokio::test]
    async fn old_logs_go_unless_their_stack_is_there() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path();
        for run in ["old", "old-and-kept", "new"] {
            fs::create_dir_all(state.join(LOGS).join(run)).unwrap();
            fs::write(state.join(LOGS).join(run).join("primary.log"), "died").unwrap();
        }
        fs::create_dir(state.join("old-and-kept")).unwrap();
        let later = SystemTime::now() + LOGS_KEPT + Duration::from_secs(60);
        File::open(state.join(LOGS).join("new")).unwrap().set_modified(later).unwrap();
        remove_old_logs(state, later);
        let there = |run: &str| state.join(LOGS).join(run).exists();
        assert!(!there("old") && there("old-and-kept") && there("new"));
    }
}
