//! A directory in the making, beside the place that it will have: locked while its owner lives, removed by the next
//! run if its owner was killed. Knows nothing of what is written into it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Held, by flock, for as long as the owner lives. Named after us, because only directories that hold one are ever
/// removed.
const LOCK: &str = ".plimsoll-lock";
/// Ends the name of a directory in the making.
const SUFFIX: &str = ".partial";

/// A directory in the making; dropped, it is removed.
#[derive(Debug)]
pub(super) struct PartialDirectory {
    dir: TempDir,
    _lock: File,
}

impl PartialDirectory {
    /// Makes one in `parent`, for a directory that will be called `name`, and removes what killed runs left there.
    pub(super) fn create(parent: &Path, name: &OsStr) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        remove_stale(parent)?;
        loop {
            let dir = tempfile::Builder::new()
                .prefix(&format!(".{}.", name.to_string_lossy()))
                .suffix(SUFFIX)
                // A run is meant to be shared; the user's umask narrows this.
                .permissions(Permissions::from_mode(0o777))
                .tempdir_in(parent)?;
            let path = dir.path().join(LOCK);
            let lock = File::create_new(&path)?;
            lock.lock()?;
            // Another run may have taken it for a dead one's before the lock was held.
            if path.exists() {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives it its name.
    pub(super) fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(self.path(), to)?;
        // The name that it would remove is gone.
        let _ = self.dir.keep();
        fs::remove_file(to.join(LOCK))
    }
}

/// Removes the directories in the making whose owners are gone. What cannot be removed is no reason not to run.
fn remove_stale(parent: &Path) -> io::Result<()> {
    for path in fs::read_dir(parent)?.flatten().map(|entry| entry.path()) {
        if is_partial(&path)
            && let Ok(lock) = File::options().write(true).open(path.join(LOCK))
            && lock.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "what a killed run left was not removed");
        }
    }
    Ok(())
}

fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Not through a link: what it leads to is not ours.
    name.starts_with('.') && name.ends_with(SUFFIX) && !path.is_symlink()
}

/// Whether a directory could be made at `path`: the nearest one above it that exists is a directory to write to.
pub(super) fn check_writable(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let existing = absolute.ancestors().find(|above| above.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a directory", existing.display()),
        ));
    }
    nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)?;
    Ok(existing.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(parent: &Path) -> PartialDirectory {
        PartialDirectory::create(parent, OsStr::new("run")).unwrap()
    }

    #[test]
    fn what_a_killed_run_left_goes_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let live = create(home.path());
        let dead = home.path().join(".other.x1.partial");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        fs::write(dead.join("record.json"), "{").unwrap();
        let foreign = home.path().join(".download.partial");
        fs::create_dir(&foreign).unwrap();
        let next = create(home.path());
        assert!(!dead.exists());
        assert!(foreign.exists(), "it does not hold our lock");
        assert!(live.path().exists() && next.path().exists());
    }

    #[test]
    fn dropped_it_leaves_nothing_and_renamed_it_leaves_no_lock() {
        let home = tempfile::tempdir().unwrap();
        drop(create(home.path()));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        let out = home.path().join("out");
        create(home.path()).rename(&out).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(out).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_found_before_anything_is_made() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check_writable(&home.path().join("a/b")).unwrap(), home.path());
        let error = check_writable(&file.join("out")).unwrap_err();
        assert!(error.to_string().contains("file is not a directory"), "{error}");
        assert!(!home.path().join("a").exists());
    }
}
