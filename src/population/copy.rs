//! Streams the rows into the leaves: one generator thread per processor, one COPY per leaf, all at once.
//!
//! Each leaf is truncated and filled in one transaction, so with `wal_level = minimal` its rows are never written to
//! the log, and they are frozen from birth. All transactions stay open until the last row has been taken: a failure
//! before that leaves every table empty. Chunks travel through bounded channels, so memory does not grow with the
//! population.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connect::{Server, execute};
use super::error::PopulationError;
use super::generate::Generator;
use super::partitions::{Layout, Leaf};
use super::rows::{RowWriter, Sink, Tallies};
use super::tables::Table;
use crate::ids::OrgId;
use crate::postgres::copy_format;

/// Organisations that a thread takes at a time: few enough that a leaf's rows arrive nearly in the order of its key.
const BLOCK: u64 = 128;
/// Bytes of a chunk, about.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait for one leaf.
const CHUNKS_WAITING: usize = 4;

/// Whole rows of one leaf.
struct Chunk {
    bytes: Vec<u8>,
    rows: u64,
}

/// A copy under way.
pub(super) struct Copying {
    feeders: JoinSet<Option<Tallies>>,
    streams: JoinSet<Result<PgConnection, PopulationError>>,
    /// Rows that the server has been sent.
    rows_done: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Copying {
    /// Opens one COPY per leaf, and begins to generate.
    pub(super) fn start(
        server: &Server,
        generator: &Arc<Generator>,
        layout: &Arc<Layout>,
        stop: CancellationToken,
    ) -> Self {
        let rows_done = Arc::new(AtomicU64::new(0));
        let mut streams = JoinSet::new();
        let mut senders = Vec::with_capacity(layout.leaves.len());
        for leaf in &layout.leaves {
            let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
            senders.push(sender);
            streams.spawn(fill(server.clone(), leaf.clone(), chunks, Arc::clone(&rows_done)));
        }
        let next = Arc::new(AtomicU64::new(0));
        let mut feeders = JoinSet::new();
        for _ in 0..processors() {
            let feeder = Feeder {
                generator: Arc::clone(generator),
                layout: Arc::clone(layout),
                next: Arc::clone(&next),
                buffers: Buffers::new(senders.clone()),
                stop: stop.clone(),
            };
            feeders.spawn_blocking(|| feeder.run());
        }
        Self { feeders, streams, rows_done, stop }
    }

    /// Counts the rows that the server has been sent.
    pub(super) fn rows_done(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rows_done)
    }

    /// Waits for the end and commits. On failure nothing is committed, and all threads have stopped.
    pub(super) async fn finish(&mut self) -> Result<Tallies, PopulationError> {
        let outcome = self.drain().await;
        self.stop.cancel();
        self.streams.shutdown().await;
        while self.feeders.join_next().await.is_some() {}
        let (tallies, connections) = outcome?;
        let mut commits = JoinSet::new();
        for mut connection in connections {
            commits.spawn(async move {
                execute(&mut connection, "COMMIT".to_owned()).await?;
                connection.close().await
            });
        }
        while let Some(committed) = commits.join_next().await {
            committed?.map_err(PopulationError::during("commit the population", "the cluster"))?;
        }
        Ok(tallies)
    }

    async fn drain(&mut self) -> Result<(Tallies, Vec<PgConnection>), PopulationError> {
        let mut tallies = Tallies::default();
        let mut connections = Vec::new();
        while !(self.feeders.is_empty() && self.streams.is_empty()) {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(PopulationError::Cancelled),
                Some(stream) = self.streams.join_next() => connections.push(stream??),
                Some(feeder) = self.feeders.join_next() => {
                    // A feeder that gave up did so because a stream failed: that stream has the reason.
                    for (sum, part) in tallies.iter_mut().zip(feeder?.unwrap_or_default()) {
                        *sum += part;
                    }
                }
            }
        }
        Ok((tallies, connections))
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Threads that generate, and jobs that run at once.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Fills one leaf, and returns its connection with the transaction open.
async fn fill(
    server: Server,
    leaf: Leaf,
    mut chunks: mpsc::Receiver<Chunk>,
    rows_done: Arc<AtomicU64>,
) -> Result<PgConnection, PopulationError> {
    let table = Table::of(leaf.table);
    let during = || PopulationError::during(format!("fill {}", leaf.name), table.database);
    let mut connection = server.connect(table.database).await?;
    let lock = format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", leaf.name);
    execute(&mut connection, lock).await.map_err(during())?;
    refuse_rows(&mut connection, table, &leaf.name).await?;
    execute(&mut connection, format!("TRUNCATE {}", leaf.name)).await.map_err(during())?;
    let mut copy = connection.copy_in_raw(&table.copy_into(&leaf.name)).await.map_err(during())?;
    copy.send(copy_format::HEADER).await.map_err(during())?;
    while let Some(chunk) = chunks.recv().await {
        copy.send(chunk.bytes).await.map_err(during())?;
        rows_done.fetch_add(chunk.rows, Ordering::Relaxed);
    }
    copy.send(copy_format::TRAILER).await.map_err(during())?;
    copy.finish().await.map_err(during())?;
    Ok(connection)
}

/// Fails if a table, or a leaf of one, holds a row.
pub(super) async fn refuse_rows(
    connection: &mut PgConnection,
    table: &Table,
    name: &str,
) -> Result<(), PopulationError> {
    let query = format!("SELECT EXISTS (SELECT FROM {name})");
    let filled: bool = sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .map_err(PopulationError::during(format!("look into {name}"), table.database))?;
    if filled {
        let (database, table) = (table.database, name.to_owned());
        return Err(PopulationError::NotEmpty { database, table });
    }
    Ok(())
}

/// A thread that generates organisations block by block.
struct Feeder {
    generator: Arc<Generator>,
    layout: Arc<Layout>,
    next: Arc<AtomicU64>,
    buffers: Buffers,
    stop: CancellationToken,
}

impl Feeder {
    /// Generates until there is nothing left; `None` when nobody takes the rows any more.
    fn run(mut self) -> Option<Tallies> {
        let organisations = self.generator.organisations().get();
        let mut writer = RowWriter::new(&self.generator, &self.layout);
        loop {
            let first = self.next.fetch_add(BLOCK, Ordering::Relaxed);
            if first >= organisations {
                break;
            }
            if self.stop.is_cancelled() {
                return None;
            }
            for index in first..(first + BLOCK).min(organisations) {
                writer.organisation(OrgId::from_index(index), &mut self.buffers);
            }
            self.buffers.send_from(CHUNK_BYTES)?;
        }
        self.buffers.send_from(1)?;
        Some(writer.tallies())
    }
}

/// Rows on their way, by leaf.
struct Buffers {
    leaves: Vec<(Chunk, mpsc::Sender<Chunk>)>,
}

impl Buffers {
    fn new(senders: Vec<mpsc::Sender<Chunk>>) -> Self {
        let empty = || Chunk { bytes: Vec::new(), rows: 0 };
        Self { leaves: senders.into_iter().map(|sender| (empty(), sender)).collect() }
    }

    /// Sends every chunk of at least so many bytes; `None` when a receiver is gone.
    fn send_from(&mut self, bytes_min: usize) -> Option<()> {
        for (chunk, sender) in &mut self.leaves {
            if chunk.bytes.len() >= bytes_min {
                let fresh = Chunk { bytes: Vec::with_capacity(chunk.bytes.len() * 5 / 4), rows: 0 };
                sender.blocking_send(std::mem::replace(chunk, fresh)).ok()?;
            }
        }
        Some(())
    }
}

impl Sink for Buffers {
    fn buffer(&mut self, leaf: usize) -> &mut Vec<u8> {
        &mut self.leaves[leaf].0.bytes
    }

    fn row_done(&mut self, leaf: usize) {
        self.leaves[leaf].0.rows += 1;
    }
}
