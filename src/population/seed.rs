//! Builds a population: the one place that sequences its stages.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::copy::{Copying, refuse_rows};
use super::error::PopulationError;
use super::generate::Generator;
use super::indexes;
use super::jobs::{Job, run_jobs};
use super::partitions::Layout;
use super::rows::Tallies;
use super::tables::TABLES;
use super::verify::{compare, tally};
use crate::scenario::{PopulationSpec, PostgresEndpoint};

/// How far a seed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Rows sent to the server so far.
    pub rows_done: u64,
    /// Rows in the end: exact for small populations, else within about a percent.
    pub rows_total: u64,
}

/// What a seed does, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Rows are generated and copied.
    Copy,
    /// Secondary indexes are built.
    Index,
    /// Statistics for the planner are gathered.
    Analyse,
    /// What the databases hold is compared with what was generated.
    Verify,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "copying rows",
            Self::Index => "building indexes",
            Self::Analyse => "gathering statistics",
            Self::Verify => "verifying",
        })
    }
}

/// A population that stands and has been verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Seeded {
    /// Rows over all tables.
    pub rows: u64,
    /// Rows of each table.
    pub per_table: Vec<(&'static str, u64)>,
    /// Wall-clock time of each stage, in seconds.
    pub stages: Vec<(Stage, f64)>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

/// How often progress is told while rows are copied.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Organisations from which the number of rows of a large population is estimated.
const SAMPLE: NonZeroU64 = NonZeroU64::new(5000).expect("not zero");

/// Builds the population in the databases of `endpoint`, which must be migrated and empty, and verifies it.
///
/// Opens one connection per leaf partition at once: about 50 at twelve months of history, 75 at twenty-four.
pub async fn seed(
    spec: &PopulationSpec,
    seed: u64,
    anchor: NaiveDate,
    endpoint: &PostgresEndpoint,
    mut progress: impl FnMut(Progress),
    cancel: &CancellationToken,
) -> Result<Seeded, PopulationError> {
    let server = Server::new(endpoint);
    let generator = Arc::new(Generator::new(seed, spec.organisations, spec.history_months, anchor));
    let (first, end) = generator.span();
    let layout = Arc::new(Layout::read(&server, first, end).await?);
    layout.check_hashes(spec.organisations.get())?;
    refuse_anything(&server).await?;
    let mut clock = Clock::start();

    let mut now = Progress {
        stage: Stage::Copy,
        rows_done: 0,
        rows_total: rows_total(&generator, &layout).await?,
    };
    let dropped = indexes::drop_secondary(&server).await?;
    let copied = copy(&server, &generator, &layout, &mut now, &mut progress, cancel).await;
    let tallies = match copied {
        Ok(tallies) => tallies,
        Err(cause) => {
            restore_indexes(&server, &dropped).await;
            return Err(cause);
        }
    };
    clock.lap(Stage::Copy);
    let mut enter = |stage| progress(Progress { stage, ..now });
    enter(Stage::Index);
    indexes::rebuild(&server, &dropped, cancel).await?;
    clock.lap(Stage::Index);
    enter(Stage::Analyse);
    analyse(&server, cancel).await?;
    clock.lap(Stage::Analyse);
    enter(Stage::Verify);
    tokio::select! {
        () = cancel.cancelled() => return Err(PopulationError::Cancelled),
        outcome = compare(&server, &tallies) => outcome?,
    }
    clock.lap(Stage::Verify);
    Ok(Seeded {
        rows: sum_rows(&tallies),
        per_table: TABLES.iter().zip(&tallies).map(|(t, tally)| (t.name, tally.rows)).collect(),
        seconds: clock.stages.iter().map(|(_, seconds)| seconds).sum(),
        stages: clock.stages,
    })
}

/// Every table, and the event store, must be empty before anything is touched.
async fn refuse_anything(server: &Server) -> Result<(), PopulationError> {
    for table in &TABLES {
        let mut connection = server.connect(table.database).await?;
        refuse_rows(&mut connection, table, table.name).await?;
        if table.name == "snapshots" {
            refuse_rows(&mut connection, table, "events").await?;
        }
    }
    Ok(())
}

/// After a failed copy the tables are empty again, and a second attempt must find them as they were.
async fn restore_indexes(server: &Server, dropped: &[indexes::Dropped]) {
    if let Err(error) = indexes::rebuild(server, dropped, &CancellationToken::new()).await {
        tracing::warn!(%error, "secondary indexes are missing: this stack must not be used again");
    }
}

async fn copy(
    server: &Server,
    generator: &Arc<Generator>,
    layout: &Arc<Layout>,
    now: &mut Progress,
    progress: &mut impl FnMut(Progress),
    cancel: &CancellationToken,
) -> Result<Tallies, PopulationError> {
    let mut copy = Copying::start(server, generator, layout, cancel.child_token());
    let rows_done = copy.rows_done();
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    let finish = copy.finish();
    tokio::pin!(finish);
    loop {
        tokio::select! {
            outcome = &mut finish => {
                now.rows_done = rows_done.load(Ordering::Relaxed);
                return outcome;
            }
            _ = tick.tick() => {
                now.rows_done = rows_done.load(Ordering::Relaxed);
                progress(*now);
            }
        }
    }
}

async fn analyse(server: &Server, cancel: &CancellationToken) -> Result<(), PopulationError> {
    let job = |table: &super::tables::Table| {
        let sql = format!("ANALYZE {}", table.name);
        Job::new(table.database, format!("analyse {}", table.name), sql)
    };
    run_jobs(server, TABLES.iter().map(job).collect(), cancel).await
}

async fn rows_total(
    generator: &Arc<Generator>,
    layout: &Arc<Layout>,
) -> Result<u64, PopulationError> {
    let (all, sample) = (generator.organisations(), generator.organisations().min(SAMPLE));
    let (generator, layout) = (Arc::clone(generator), Arc::clone(layout));
    let counted =
        tokio::task::spawn_blocking(move || tally(&generator, &layout, Some(sample))).await?;
    Ok(sum_rows(&counted) * all.get() / sample.get())
}

fn sum_rows(tallies: &Tallies) -> u64 {
    tallies.iter().map(|tally| tally.rows).sum()
}

/// Times the stages.
struct Clock {
    last: Instant,
    stages: Vec<(Stage, f64)>,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), stages: Vec::new() }
    }

    fn lap(&mut self, stage: Stage) {
        self.stages.push((stage, self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}
