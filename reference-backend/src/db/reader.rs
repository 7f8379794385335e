//! A read: runs on the chosen server, is counted where it ran, and goes to the primary if a replica fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use metrics::{counter, histogram};
use sqlx::postgres::{PgArguments, PgPool, PgRow, Postgres};
use sqlx::query::QueryAs;
use sqlx::{Error, FromRow};
use tracing::debug;

use super::choice::{Reason, choose};
use super::pools::Inner;
use super::{Database, Freshness, Lsn, Source};

/// Reads of one request from one database. Statements stay on the server chosen at the start, unless it fails.
#[derive(Debug)]
pub struct Reader {
    inner: Arc<Inner>,
    database: Database,
    pool: PgPool,
    source: Source,
    reason: Reason,
    as_of: Lsn,
}

type Query<T> = QueryAs<'static, Postgres, T, PgArguments>;

impl Reader {
    pub(super) fn new(inner: Arc<Inner>, database: Database, freshness: Freshness) -> Self {
        let turn = match inner.replicas.len() {
            0 => 0,
            _ => inner.turn.fetch_add(1, Ordering::Relaxed),
        };
        // Before the choice: what the server has by now, it will have later.
        let written = Lsn::from_raw(inner.written.load(Ordering::Relaxed));
        let observed = inner.replicas.iter().map(super::replicas::Replica::observed);
        let (source, reason, pool, as_of) =
            match choose(observed, **inner.limits.load(), freshness, turn) {
                Ok(index) => {
                    let replica = &inner.replicas[index];
                    let pool = &replica.pools[database.index()];
                    (Source::Replica(replica.name), Reason::None, pool, replica.observed().replayed)
                }
                Err(reason) => {
                    let pool = &inner.primary_read[database.index()];
                    (Source::Primary, reason, pool, written)
                }
            };
        let pool = pool.clone();
        Self { inner, database, pool, source, reason, as_of }
    }

    /// The server that answered the last statement, or will answer the first.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// A place in the primary's log: the rows show every commit before it, and maybe later ones.
    pub fn as_of(&self) -> Lsn {
        self.as_of
    }

    /// All rows of a statement. `query` makes it anew for a second try on the primary.
    pub async fn fetch_all<T>(&mut self, query: impl Fn() -> Query<T>) -> Result<Vec<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let start = Instant::now();
        let mut found = query().fetch_all(&self.pool).await;
        if self.fall_back(found.as_ref().err()) {
            found = query().fetch_all(&self.pool).await;
        }
        self.count(start, found)
    }

    /// The first row of a statement, if any. `query` makes it anew for a second try on the primary.
    pub async fn fetch_optional<T>(
        &mut self,
        query: impl Fn() -> Query<T>,
    ) -> Result<Option<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let start = Instant::now();
        let mut found = query().fetch_optional(&self.pool).await;
        if self.fall_back(found.as_ref().err()) {
            found = query().fetch_optional(&self.pool).await;
        }
        self.count(start, found)
    }

    /// After a failure that is the replica's alone: moves to the primary and says so.
    fn fall_back(&mut self, error: Option<&Error>) -> bool {
        let Some(error) = error.filter(|error| is_servers_fault(error)) else { return false };
        if self.source == Source::Primary {
            return false;
        }
        debug!(%error, server = self.source.server(), "read failed on a replica; asking the primary");
        self.source = Source::Primary;
        self.as_of = Lsn::from_raw(self.inner.written.load(Ordering::Relaxed));
        self.reason = Reason::Unhealthy;
        self.pool = self.inner.primary_read[self.database.index()].clone();
        true
    }

    /// Counts a statement that a server answered; one that failed ran nowhere, as `pg_stat_statements` sees it too.
    fn count<T>(&self, start: Instant, found: Result<T, Error>) -> Result<T, Error> {
        if found.is_ok() {
            counter!(
                "backend_reads_total",
                "source" => self.source.label(),
                "server" => self.source.server(),
                "reason" => self.reason.label()
            )
            .increment(1);
            let seconds = start.elapsed().as_secs_f64();
            histogram!("backend_db_query_duration_seconds", "database" => self.database.label(), "kind" => "read")
                .record(seconds);
        }
        found
    }
}

/// Whether another server might answer: the connection broke, the server is going or coming, or recovery cancelled the read.
fn is_servers_fault(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::Tls(_) => true,
        Error::Database(error) => error.code().is_some_and(|code| {
            // 08: connection; 57P: operator intervention; 53: out of resources; 40001, 40P01: recovery conflict.
            code.starts_with("08")
                || code.starts_with("57P")
                || code.starts_with("53")
                || matches!(&*code, "40001" | "40P01")
        }),
        _ => false,
    }
}
