//! Whose a directory of objects is: that of one PostgreSQL cluster, whose system identifier stands in a file of its own. A
//! process on another cluster finds none of the objects named by its rows, and would sweep them all away.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use uuid::Uuid;

use crate::db::{Database, Databases};

const FILE: &str = "owner";

/// The cluster that the rows are in. Kept by its replicas, and so by whichever of them is promoted.
pub(crate) async fn cluster(databases: &Databases) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT system_identifier::text FROM pg_control_system()")
        .fetch_one(databases.write(Database::Shared))
        .await
}

/// Makes a directory the cluster's own, unless it is another's.
pub(super) fn claim(directory: &Path, cluster: &str) -> io::Result<()> {
    let file = directory.join(FILE);
    let owner = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            write_new(directory, &file, cluster)?;
            fs::read_to_string(&file)?
        }
        read => read?,
    };
    if owner.trim() == cluster {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} says that the objects are those of the PostgreSQL cluster {}, and this is {cluster}; \
         if they were moved here with their databases, remove that file",
        file.display(),
        owner.trim()
    )))
}

/// Writes the file whole, unless another process is first.
fn write_new(directory: &Path, file: &Path, text: &str) -> io::Result<()> {
    let own = directory.join(format!("{FILE}-{}", Uuid::new_v4()));
    let written = fs::File::create_new(&own)
        .and_then(|mut new| new.write_all(text.as_bytes()).and_then(|()| new.sync_all()))
        .and_then(|()| match fs::hard_link(&own, file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = fs::remove_file(&own);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stays_that_of_the_first_cluster() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            claim(directory.path(), "7001").unwrap();
        }
        let refused = claim(directory.path(), "7002").unwrap_err().to_string();
        assert!(refused.contains("7001") && refused.contains("7002"), "{refused}");
        write_new(directory.path(), &directory.path().join(FILE), "7002").unwrap();
        claim(directory.path(), "7001").unwrap();
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }
}
