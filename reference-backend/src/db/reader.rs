//! A read: runs on the chosen server, is counted where it ran, and goes elsewhere if that server fails: to one other replica,
//! then to the primary, where only so many of such reads run at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::future::BoxFuture;
use metrics::{counter, histogram};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::{self, QueryAs};
use sqlx::{Error, Execute, FromRow};
use tokio::sync::SemaphorePermit;
use tracing::debug;

use super::choice::{Reason, choose};
use super::fault::Fault;
use super::lanes::{Lane, Planning};
use super::pools::Inner;
use super::replicas::Replica;
use super::{Database, Freshness, Lsn, Source};

/// Replicas that may fail one read before the primary is asked.
const REPLICAS_TRIED_MAX: usize = 2;

/// Reads of one request from one database. Statements stay on the server chosen at the start, unless it fails.
#[derive(Debug)]
pub struct Reader {
    inner: Arc<Inner>,
    database: Database,
    planning: Planning,
    freshness: Freshness,
    turn: usize,
    /// Index of the replica, or why it is the primary.
    route: Result<usize, Reason>,
    source: Source,
    as_of: Lsn,
    /// Replicas that failed this reader, or let no read through.
    passed_over: Vec<usize>,
    failures: usize,
}

type Query<T> = QueryAs<'static, Postgres, T, PgArguments>;
type Attempt<R> = BoxFuture<'static, Result<R, Error>>;

impl Reader {
    pub(super) fn new(inner: Arc<Inner>, database: Database, freshness: Freshness) -> Self {
        let turn = match inner.replicas.len() {
            0 => 0,
            _ => inner.turn.fetch_add(1, Ordering::Relaxed),
        };
        let mut reader = Self {
            inner,
            database,
            planning: Planning::AsFit,
            freshness,
            turn,
            route: Err(Reason::None),
            source: Source::Primary,
            as_of: Lsn::default(),
            passed_over: Vec::new(),
            failures: 0,
        };
        reader.choose();
        reader
    }

    /// For statements that look into many partitions whatever their values: planned once for each connection. To plan one anew
    /// takes ten times as long as to run it, and a plan made while the current month was all but empty reads that month
    /// from end to end.
    pub fn planned_once(mut self) -> Self {
        self.planning = Planning::Once;
        self
    }

    /// The server that answered the last statement, or will answer the first.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// A place in the primary's log: the rows show every commit before it, and maybe later ones.
    pub fn as_of(&self) -> Lsn {
        self.as_of
    }

    /// All rows of a statement. `query` makes it anew for a try on another server.
    pub async fn fetch_all<T>(&mut self, query: impl Fn() -> Query<T>) -> Result<Vec<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let found = self.run(|lane| {
            let query = plain(query());
            Box::pin(async move {
                let mut lane = lane.borrow().await?;
                let found = query?.fetch_all(lane.connection()).await;
                lane.done(found.as_ref().err());
                found
            })
        });
        found.await?.iter().map(T::from_row).collect()
    }

    /// The first row of a statement, if any. `query` makes it anew for a try on another server.
    pub async fn fetch_optional<T>(
        &mut self,
        query: impl Fn() -> Query<T>,
    ) -> Result<Option<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let found = self.run(|lane| {
            let query = plain(query());
            Box::pin(async move {
                let mut lane = lane.borrow().await?;
                let found = query?.fetch_optional(lane.connection()).await;
                lane.done(found.as_ref().err());
                found
            })
        });
        found.await?.as_ref().map(T::from_row).transpose()
    }

    async fn run<R: Send + 'static>(
        &mut self,
        attempt: impl Fn(Arc<Lane>) -> Attempt<R>,
    ) -> Result<R, Error> {
        let start = Instant::now();
        let inner = Arc::clone(&self.inner);
        loop {
            let index = match self.route {
                Ok(index) => index,
                Err(reason) => {
                    let _room = self.room_on_primary(&inner, reason)?;
                    let lane = inner.primary.of(self.database, self.planning);
                    let mut found = attempt(Arc::clone(lane)).await;
                    // It may have restarted while the connection was idle; the second try takes a new one.
                    if found.as_ref().is_err_and(broke) {
                        found = attempt(Arc::clone(lane)).await;
                    }
                    return self.count(start, found);
                }
            };
            let replica = &inner.replicas[index];
            let lane = Arc::clone(replica.lanes.of(self.database, self.planning));
            match replica.ask(attempt(lane)).await {
                None => self.pass_over(index, replica, "open"),
                Some(Err(error)) => match Fault::of(&error) {
                    None => return Err(error),
                    Some(fault) => {
                        debug!(%error, "{} did not answer a read; asking another", replica.name);
                        self.failures += 1;
                        self.pass_over(index, replica, fault.label());
                    }
                },
                found => return self.count(start, found.expect("the other arm")),
            }
        }
    }

    fn pass_over(&mut self, index: usize, replica: &Replica, cause: &'static str) {
        counter!("backend_read_retries_total", "server" => replica.name, "cause" => cause)
            .increment(1);
        self.passed_over.push(index);
        self.choose();
    }

    fn choose(&mut self) {
        let inner = &self.inner;
        // Before the choice: what the server has by now, it will have later.
        let written = Lsn::from_raw(inner.written.load(Ordering::Relaxed));
        let observed = inner.replicas.iter().map(Replica::observed);
        let limits = **inner.limits.load();
        self.route = choose(observed, limits, self.freshness, self.turn, &self.passed_over);
        if self.failures >= REPLICAS_TRIED_MAX {
            self.route = Err(Reason::Failed);
        }
        if self.failures > 0 {
            self.route = self.route.map_err(|_| Reason::Failed);
        }
        (self.source, self.as_of) = match self.route {
            Ok(index) => {
                let replica = &inner.replicas[index];
                (Source::Replica(replica.name), replica.observed().replayed)
            }
            Err(_) => (Source::Primary, written),
        };
    }

    /// What the replicas cannot answer must not sink the primary, which alone takes the writes: above the cap a read is
    /// refused at once, as if no connection had become free.
    fn room_on_primary<'a>(
        &self,
        inner: &'a Inner,
        reason: Reason,
    ) -> Result<Option<SemaphorePermit<'a>>, Error> {
        if !reason.is_fallback() {
            return Ok(None);
        }
        inner.fallback.try_acquire().map(Some).map_err(|_| {
            counter!("backend_reads_shed_total", "database" => self.database.label()).increment(1);
            Error::PoolTimedOut
        })
    }

    /// Counts a statement that a server answered; one that failed ran nowhere, as `pg_stat_statements` sees it too.
    fn count<T>(&self, start: Instant, found: Result<T, Error>) -> Result<T, Error> {
        if found.is_ok() {
            counter!(
                "backend_reads_total",
                "source" => self.source.label(),
                "server" => self.source.server(),
                "reason" => self.route.err().unwrap_or(Reason::None).label()
            )
            .increment(1);
            let seconds = start.elapsed().as_secs_f64();
            histogram!("backend_db_query_duration_seconds", "database" => self.database.label(), "kind" => "read")
                .record(seconds);
        }
        found
    }
}

/// The statement without the type of its rows: they are decoded once they are here, and not while a connection is held.
fn plain<T: Send>(
    mut query: Query<T>,
) -> Result<query::Query<'static, Postgres, PgArguments>, Error> {
    let arguments = query.take_arguments().map_err(Error::Encode)?.unwrap_or_default();
    Ok(sqlx::query_with(query.sql(), arguments))
}

/// Whether a connection broke, rather than that there was none.
fn broke(error: &Error) -> bool {
    Fault::of(error) == Some(Fault::Server) && !matches!(error, Error::PoolTimedOut)
}
