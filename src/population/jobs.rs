//! Statements that do not depend on each other, a few at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connect::{Server, execute};
use super::copy::processors;
use super::error::PopulationError;

/// A statement, where it runs, and what it does.
#[derive(Debug)]
pub(super) struct Job {
    database: &'static str,
    act: String,
    sql: String,
}

impl Job {
    pub(super) fn new(
        database: &'static str,
        act: impl Into<String>,
        sql: impl Into<String>,
    ) -> Self {
        Self { database, act: act.into(), sql: sql.into() }
    }
}

/// Runs all jobs, one per processor at a time, and stops at the first that fails.
pub(super) async fn run_jobs(
    server: &Server,
    jobs: Vec<Job>,
    stop: &CancellationToken,
) -> Result<(), PopulationError> {
    let queue = Arc::new(Mutex::new(VecDeque::from(jobs)));
    let mut workers = JoinSet::new();
    for _ in 0..processors() {
        let (server, queue) = (server.clone(), Arc::clone(&queue));
        workers.spawn(async move {
            let take = || queue.lock().expect("no job panics with the queue locked").pop_front();
            while let Some(job) = take() {
                let mut connection = server.connect(job.database).await?;
                execute(&mut connection, job.sql)
                    .await
                    .map_err(PopulationError::during(job.act, job.database))?;
            }
            Ok::<_, PopulationError>(())
        });
    }
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(PopulationError::Cancelled),
            worker = workers.join_next() => match worker {
                Some(outcome) => outcome??,
                None => return Ok(()),
            }
        }
    }
}
