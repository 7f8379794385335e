//! The stack's directory: made closed, locked while its owner lives, removed by the next run if its owner was killed.
//!
//! ```text
//! /var/tmp/plimsoll-<uid>/      the state directory; its lock is held while directories are made or removed
//!   <run>/                      one stack; its lock is held, by flock, for as long as its owner lives
//!     primary/ replica-1/ …     data, owned by the servers' user, closed to others
//!     s/                        sockets, likewise
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::time::{Instant, sleep};

use super::account::Account;
use super::error::StackError;
use super::leftovers::remove_stale;
use super::tree::remove_tree;
use crate::ids::RunId;

/// Names the state directory.
const DIRECTORY_VARIABLE: &str = "PLIMSOLL_STATE_DIR";
/// Of a state directory, and of a stack's: held by whoever may change it.
/// Named after us, because only directories that hold one are ever removed.
pub(super) const LOCK: &str = ".plimsoll-lock";
/// Marks a directory that is to stay although its owner is gone.
pub(super) const KEPT: &str = "kept";
/// How long a lock that is about to be released is tried for. A kill releases its locks only once the last
/// process that was forked by the killed one has started its program or ended.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// Longest path of a socket, in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// Where stacks keep their data: `PLIMSOLL_STATE_DIR`, else `/var/tmp/plimsoll-<uid>`, because `/tmp` and
/// `$XDG_RUNTIME_DIR` are often memory, and a database measured there is measured without a disk.
pub fn state_directory() -> PathBuf {
    match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(format!("/var/tmp/plimsoll-{}", geteuid())),
    }
}

/// The directory of one stack. Dropping it removes it, unless it is to be left.
#[derive(Debug)]
pub(super) struct StackDirectory {
    path: PathBuf,
    leave: bool,
    _lock: File,
}

impl StackDirectory {
    /// Removes what killed runs have left below `state`, and makes a directory for `run`.
    pub(super) async fn claim(
        state: &Path,
        run: &RunId,
        account: &Account,
    ) -> Result<Self, StackError> {
        let state = &std::path::absolute(state).map_err(io_error("find", state))?;
        make_state_directory(state)?;
        account.may_enter(state)?;
        let path = state.join(run.as_str());
        if path.exists() {
            // Of the same name, so it must go first: wait for its owner, who may be about to end. Nobody else is kept waiting.
            let waited = lock(&path.join(LOCK)).await.map(drop);
            // It may have been removed meanwhile, lock and all.
            if path.exists() {
                waited?;
            }
        }
        remove_stale(state).await?;
        let _state_lock = lock(&state.join(LOCK)).await?;
        make(&path, 0o711)?;
        let directory = Self { _lock: lock(&path.join(LOCK)).await?, path, leave: false };
        directory.check_socket_paths()?;
        make(&directory.sockets(), 0o700)?;
        account.own(&directory.sockets())?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the servers' sockets are.
    pub(super) fn sockets(&self) -> PathBuf {
        self.path.join("s")
    }

    /// Makes an empty directory for a server's data.
    pub(super) fn make_data(&self, server: &str, account: &Account) -> Result<PathBuf, StackError> {
        let data = self.path.join(server);
        make(&data, 0o700)?;
        account.own(&data)?;
        Ok(data)
    }

    /// Leaves the directory to be looked at, until the next run removes it.
    pub(super) fn leave(&mut self) {
        self.leave = true;
    }

    /// Leaves the directory for good: later runs do not remove it either.
    pub(super) fn keep(&mut self) -> Result<PathBuf, StackError> {
        let marker = self.path.join(KEPT);
        File::create(&marker).map_err(io_error("mark as kept", &marker))?;
        self.leave = true;
        Ok(self.path.clone())
    }

    fn check_socket_paths(&self) -> Result<(), StackError> {
        let directory = self.sockets();
        let bytes = directory.join(".s.PGSQL.65535").as_os_str().len();
        if bytes > SOCKET_PATH_MAX {
            return Err(StackError::SocketPathTooLong { directory, bytes });
        }
        Ok(())
    }
}

impl Drop for StackDirectory {
    fn drop(&mut self) {
        if !self.leave
            && let Err(error) = remove_tree(&self.path, LOCK)
        {
            tracing::warn!(path = %self.path.display(), %error, "the stack's directory was not removed");
        }
    }
}

/// Makes the state directory, or checks that an existing one is ours alone: anybody may have made it first.
pub(super) fn make_state_directory(state: &Path) -> Result<(), StackError> {
    let problem = |problem: &str| {
        Err(StackError::StateDirectory { directory: state.to_owned(), problem: problem.to_owned() })
    };
    if let Some(parent) = state.parent() {
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
    }
    match make(state, 0o711) {
        Err(StackError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = fs::symlink_metadata(state).map_err(io_error("look at", state))?;
    if !found.is_dir() {
        return problem("it is not a directory");
    }
    if found.uid() != geteuid().as_raw() {
        return problem(&format!("it belongs to the user with id {}", found.uid()));
    }
    if found.permissions().mode() & 0o022 != 0 {
        return problem("other users may write into it");
    }
    Ok(())
}

/// Takes a lock, trying again while somebody else holds it. The lock is released when the file is closed, also
/// by the death of the process.
pub(super) async fn lock(path: &Path) -> Result<File, StackError> {
    let file = open_lock(path)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StackError::Locked { path: path.to_owned(), limit: LOCK_PATIENCE });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
        }
    }
}

pub(super) fn open_lock(path: &Path) -> Result<File, StackError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.map_err(io_error("open the lock", path))
}

pub(super) fn make(path: &Path, mode: u32) -> Result<(), StackError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io_error("make", path))?;
    // Once more, for the mask of new files does not apply to this.
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(io_error("set the permissions of", path))
}

pub(super) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StackError {
    let path = path.to_owned();
    move |source| StackError::Io { act, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    async fn claim(state: &Path, run: &str) -> Result<StackDirectory, StackError> {
        StackDirectory::claim(state, &run.parse().unwrap(), &Account::Own).await
    }

    /// What a killed run leaves: files, and a lock that nobody holds.
    fn leave_behind(state: &Path, run: &str) -> PathBuf {
        let stack = state.join(run);
        fs::create_dir_all(stack.join("primary/base")).unwrap();
        fs::write(stack.join("primary/base/1"), "rows").unwrap();
        fs::write(stack.join(LOCK), "").unwrap();
        stack
    }

    #[tokio::test]
    async fn what_a_killed_run_left_goes_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let live = claim(&state, "live").await.unwrap();
        let dead = leave_behind(&state, "dead");
        let same_name = leave_behind(&state, "next");
        let kept = leave_behind(&state, "kept");
        fs::write(kept.join(KEPT), "").unwrap();
        fs::create_dir(state.join("not-ours")).unwrap();
        let next = claim(&state, "next").await.unwrap();
        assert!(!dead.exists());
        assert!(!same_name.join("primary").exists());
        assert!(live.sockets().exists());
        assert!(kept.join("primary/base/1").exists());
        assert!(state.join("not-ours").exists());
        drop(next);
        assert!(!state.join("next").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_owner_is_waited_for_and_then_named() {
        let home = tempfile::tempdir().unwrap();
        let owner = claim(home.path(), "run").await.unwrap();
        let error = claim(home.path(), "run").await.unwrap_err();
        assert!(
            matches!(&error, StackError::Locked { path, .. } if *path == owner.path().join(LOCK))
        );
        assert!(owner.sockets().exists());
    }

    #[tokio::test]
    async fn a_lock_that_is_released_meanwhile_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let owner = claim(home.path(), "run").await.unwrap();
        let release = async {
            sleep(Duration::from_millis(30)).await;
            drop(owner);
        };
        let (next, ()) = tokio::join!(claim(home.path(), "run"), release);
        assert!(next.unwrap().sockets().exists());
    }

    #[tokio::test]
    async fn a_state_directory_that_others_control_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let link = home.path().join("link");
        symlink(home.path(), &link).unwrap();
        for (state, problem) in [(open, "other users may write"), (link, "not a directory")] {
            let error = claim(&state, "run").await.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made_in_it() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("deep".repeat(20));
        let error = claim(&state, "run").await.unwrap_err();
        assert!(matches!(error, StackError::SocketPathTooLong { bytes, .. } if bytes > 107));
        assert!(!state.join("run").exists());
    }
}
