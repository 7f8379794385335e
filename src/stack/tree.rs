//! Directories as trees of files: how much is in them, and their removal.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often a removal is tried, and how long after each.
const REMOVAL_ATTEMPTS: u32 = 10;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// What is in a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Files that are no directories.
    pub(super) files: u64,
    /// Bytes in them.
    pub(super) bytes: u64,
    /// Bytes that they take on disk.
    pub(super) on_disk: u64,
}

/// Counts what is in a tree.
pub(super) fn tally(path: &Path) -> io::Result<Tally> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = Tally::default();
    for entry in fs::read_dir(path)? {
        let (path, found) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        let part = match found.is_dir() {
            true => tally(&path)?,
            false => Tally { files: 1, bytes: found.len(), on_disk: found.blocks() * 512 },
        };
        sum.files += part.files;
        sum.bytes += part.bytes;
        sum.on_disk += part.on_disk;
    }
    Ok(sum)
}

/// Removes a tree, the file `last` at its top after all else. Tries again for a while: a tool that was killed may still be
/// writing its last file.
pub(super) fn remove_tree(path: &Path, last: &str) -> io::Result<()> {
    let mut attempts = 1..=REMOVAL_ATTEMPTS;
    loop {
        let removed = remove_contents(path, last).and_then(|()| fs::remove_dir_all(path));
        if removed.is_ok() || attempts.next().is_none() {
            return removed;
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
}

fn remove_contents(path: &Path, last: &str) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != last {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_goes_all_the_way_down_and_a_removal_too() {
        let home = tempfile::tempdir().unwrap();
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/one"), "12345").unwrap();
        fs::write(tree.join("lock"), "").unwrap();
        let Tally { files, bytes, .. } = tally(&tree).unwrap();
        assert_eq!((files, bytes), (2, 5));
        remove_tree(&tree, "lock").unwrap();
        assert!(!tree.exists());
    }
}
