//! A migrated cluster to copy from: making one takes seconds, copying it tenths. Kept beside the build, under a name made of the
//! migrations and the month (for which there are partitions), so that a change of either makes a new one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::Utc;

/// Where the template for today's migrations is, or has to be put.
pub(super) fn place() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hasher = DefaultHasher::new();
    hash_files(&root.join("migrations"), &mut hasher);
    for code in ["src/db/migrate.rs", "src/partitioning", "config/default.toml"] {
        hash_files(&root.join(code), &mut hasher);
    }
    Utc::now().format("%Y-%m").to_string().hash(&mut hasher);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{:016x}", hasher.finish()))
}

/// Copies a stopped server's directory; whole or not at all.
pub(super) fn copy(from: &Path, to: &Path) {
    let partial = to.with_extension(format!("partial-{}", std::process::id()));
    let copied = Command::new("cp").arg("-a").arg(from).arg(&partial).status().unwrap();
    assert!(copied.success(), "cp -a {} {} failed", from.display(), partial.display());
    if std::fs::rename(&partial, to).is_err() {
        // Another process was first; its copy is as good.
        let _ = std::fs::remove_dir_all(&partial);
    }
}

/// Removes templates of other migrations.
pub(super) fn forget_others(keep: &Path) {
    let found = keep.parent().unwrap().read_dir().into_iter().flatten().flatten();
    for other in found.map(|entry| entry.path()).filter(|path| path != keep) {
        let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("cluster-") {
            let _ = std::fs::remove_dir_all(other);
        }
    }
}

fn hash_files(path: &Path, hasher: &mut DefaultHasher) {
    if path.is_file() {
        return std::fs::read(path).unwrap().hash(hasher);
    }
    let mut within: Vec<PathBuf> =
        path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    within.sort();
    for path in within {
        path.file_name().hash(hasher);
        hash_files(&path, hasher);
    }
}
