//! Secondary indexes and foreign keys: dropped before the rows come, made again after them from their own definitions. Sorting
//! all keys once is cheaper than finding a place for each, and so is one join than a look-up for each row; and a table
//! that is referred to could not be truncated alone.
//!
//! Primary keys stay. Building them afterwards would save about a quarter of the copy, since rows arrive nearly in their
//! order already; but a seed that is killed would leave tables that accept a row twice.

use sqlx::Row as _;

use super::connect::{Server, execute};
use super::error::PopulationError;
use super::jobs::{Job, run_jobs};
use super::tables::TABLES;
use tokio_util::sync::CancellationToken;

/// An index of a table, and those of its leaves that hang on it.
#[derive(Debug)]
struct Index {
    name: String,
    definition: String,
    leaves: Vec<(String, String)>,
}

/// What was dropped of one table.
#[derive(Debug)]
pub(super) struct Dropped {
    database: &'static str,
    indexes: Vec<Index>,
    /// Statements that make the foreign keys again.
    keys: Vec<String>,
}

/// Foreign keys of a table and to it: how each is dropped, and made again.
const FOREIGN_KEYS: &str = "
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS undo,
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS redo
    FROM pg_constraint
    WHERE contype = 'f' AND conparentid = 0 AND (conrelid = $1::regclass OR confrelid = $1::regclass)
    ORDER BY 1";

/// Indexes of a table that enforce nothing, each with its leaves' (names quoted as needed).
const SECONDARY: &str = "
    SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition,
           array(SELECT h.inhrelid::regclass::text FROM pg_inherits h
                 WHERE h.inhparent = i.indexrelid ORDER BY h.inhrelid) AS leaf_names,
           array(SELECT pg_get_indexdef(h.inhrelid) FROM pg_inherits h
                 WHERE h.inhparent = i.indexrelid ORDER BY h.inhrelid) AS leaf_definitions
    FROM pg_index i
    WHERE i.indrelid = $1::regclass AND NOT i.indisunique AND NOT i.indisexclusion
    ORDER BY 1";

/// Drops the secondary indexes and the foreign keys of all tables of the population.
pub(super) async fn drop_secondary(server: &Server) -> Result<Vec<Dropped>, PopulationError> {
    let mut dropped = Vec::new();
    for table in &TABLES {
        let mut connection = server.connect(table.database).await?;
        let during =
            || PopulationError::during(format!("drop indexes of {}", table.name), table.database);
        let rows = sqlx::query(SECONDARY)
            .bind(table.name)
            .fetch_all(&mut connection)
            .await
            .map_err(during())?;
        let indexes: Vec<Index> = rows.iter().map(read).collect();
        for index in &indexes {
            execute(&mut connection, format!("DROP INDEX {}", index.name))
                .await
                .map_err(during())?;
        }
        let keys: Vec<(String, String)> = sqlx::query_as(FOREIGN_KEYS)
            .bind(table.name)
            .fetch_all(&mut connection)
            .await
            .map_err(during())?;
        for (undo, _) in &keys {
            execute(&mut connection, undo.clone()).await.map_err(during())?;
        }
        let keys = keys.into_iter().map(|(_, redo)| redo).collect();
        dropped.push(Dropped { database: table.database, indexes, keys });
    }
    Ok(dropped)
}

fn read(row: &sqlx::postgres::PgRow) -> Index {
    let (names, definitions): (Vec<String>, Vec<String>) =
        (row.get("leaf_names"), row.get("leaf_definitions"));
    Index {
        name: row.get("name"),
        definition: row.get("definition"),
        leaves: names.into_iter().zip(definitions).collect(),
    }
}

/// Builds them again, several at once.
pub(super) async fn rebuild(
    server: &Server,
    dropped: &[Dropped],
    stop: &CancellationToken,
) -> Result<(), PopulationError> {
    // A partitioned index's definition says ON ONLY: made first it is empty, and becomes valid with its last leaf.
    let (mut roots, mut leaves, mut attach) = (Vec::new(), Vec::new(), Vec::new());
    let mut keys = Vec::new();
    for Dropped { database, indexes, keys: statements } in dropped {
        keys.extend(
            statements.iter().map(|sql| Job::new(database, "make a foreign key".to_owned(), sql)),
        );
        for index in indexes {
            let job = |sql: &str| Job::new(database, format!("build {}", index.name), sql);
            roots.push(job(&index.definition));
            for (leaf, definition) in &index.leaves {
                leaves.push(job(definition));
                attach.push(job(&format!("ALTER INDEX {} ATTACH PARTITION {leaf}", index.name)));
            }
        }
    }
    for jobs in [roots, leaves, attach] {
        run_jobs(server, jobs, stop).await?;
    }
    // One after another: each locks two tables.
    for key in keys {
        run_jobs(server, vec![key], stop).await?;
    }
    Ok(())
}
