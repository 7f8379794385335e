//! Entries of the folder of populations that are not whole: being written, or being removed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{io_error, make};
use super::error::StackError;
use super::populations::{LOCK, is_at};
use super::tree::remove_tree;

const PARTIAL: &str = "partial-";

/// Whether a path is that of an entry that is not whole.
pub(super) fn is_partial(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL))
}

/// An entry's lock, held for oneself alone.
#[derive(Debug)]
pub(super) struct Held {
    _lock: File,
}

/// An entry that is not whole. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    _lock: Held,
    whole: bool,
}

impl Partial {
    /// Makes a new one, whose lock is held. To be called under the folder's lock.
    pub(super) fn make(folder: &Path, name: &str) -> Result<Self, StackError> {
        let path = folder.join(format!("{PARTIAL}{name}"));
        make(&path, 0o711)?;
        let lock = hold_new(&path)?;
        Ok(Self { path, _lock: lock, whole: false })
    }

    /// Takes over one that nobody holds. To be called under the folder's lock.
    pub(super) fn adopt(path: PathBuf) -> Result<Option<Self>, StackError> {
        if !path.join(LOCK).exists() {
            // Its maker was killed before it had one, or is of an earlier release and holds the folder's.
            File::create(path.join(LOCK)).map_err(io_error("make the lock", &path))?;
        }
        let lock = seize(&path)?;
        Ok(lock.map(|lock| Self { path, _lock: lock, whole: false }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it an entry of that name: it is whole.
    pub(super) fn rename(mut self, path: &Path) -> Result<(), StackError> {
        fs::rename(&self.path, path).map_err(io_error("rename", &self.path))?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.whole
            && let Err(error) = remove_tree(&self.path, LOCK)
        {
            tracing::warn!(path = %self.path.display(), %error, "half a population was not removed");
        }
    }
}

fn hold_new(path: &Path) -> Result<Held, StackError> {
    let file = File::create(path.join(LOCK)).map_err(io_error("make the lock", path))?;
    file.try_lock().map_err(|error| io_error("lock", path)(error.into()))?;
    Ok(Held { _lock: file })
}

/// Holds an entry for oneself alone; nothing when somebody else holds it, or it is gone.
pub(super) fn seize(path: &Path) -> Result<Option<Held>, StackError> {
    let lock = path.join(LOCK);
    let file = match File::options().write(true).open(&lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open the lock", &lock)(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(is_at(&file, &lock).then_some(Held { _lock: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &lock)(source)),
    }
}

/// Removes an entry that is held. It loses its name first, so that half of it is never taken for whole, and whatever ends the
/// removal, the next run goes on with it.
pub(super) fn discard(path: &Path, held: Held) -> Result<(), StackError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let removed = path.with_file_name(format!("{PARTIAL}removed-{name}"));
    if removed.exists() {
        remove_tree(&removed, LOCK).map_err(io_error("remove", &removed))?;
    }
    fs::rename(path, &removed).map_err(io_error("rename", path))?;
    let done = remove_tree(&removed, LOCK).map_err(io_error("remove", &removed));
    drop(held);
    done
}
