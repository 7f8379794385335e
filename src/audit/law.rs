//! Laws: statements that must return no row.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::deadline::Deadline;
use super::error::AuditError;
use crate::archive::{AuditCheck, AuditState};

/// Offenders that a detail names.
const NAMED: usize = 3;

/// Something that must be true of a database.
#[derive(Debug)]
pub(super) struct Law {
    /// What must be true.
    pub(super) check: &'static str,
    /// Query for the number of things checked.
    pub(super) counted: &'static str,
    /// Query for whether the law holds: cheaper than looking for offenders, and never true when there is one (but for
    /// one chance in 2⁴⁰). When it says no, the offenders are looked for.
    pub(super) holds: Option<&'static str>,
    /// Query for the offenders: one text column, `what`.
    pub(super) broken: &'static str,
}

/// What a check found.
#[derive(Debug)]
pub(super) struct Finding {
    /// How many things were checked.
    pub(super) count: u64,
    /// How many of them are wrong.
    pub(super) offenders: u64,
    /// The first few of those, or how it went.
    pub(super) named: Vec<String>,
}

impl Law {
    /// Asks the database.
    async fn ask(&self, connection: &mut PgConnection) -> Result<Finding, AuditError> {
        let counted: i64 = sqlx::query_scalar(self.counted)
            .fetch_one(&mut *connection)
            .await
            .map_err(AuditError::during("count"))?;
        if self.surely_holds(connection).await? {
            return Ok(Finding { count: counted.unsigned_abs(), offenders: 0, named: Vec::new() });
        }
        let query = format!(
            "SELECT count(*) OVER () AS offenders, what FROM ({}) broken LIMIT {NAMED}",
            self.broken
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .fetch_all(connection)
            .await
            .map_err(AuditError::during("look for offenders"))?;
        Ok(Finding {
            count: counted.unsigned_abs(),
            offenders: rows.first().map_or(0, |row| row.get::<i64, _>("offenders").unsigned_abs()),
            named: rows.iter().map(|row| row.get("what")).collect(),
        })
    }

    async fn surely_holds(&self, connection: &mut PgConnection) -> Result<bool, AuditError> {
        let Some(query) = self.holds else { return Ok(false) };
        match sqlx::query_scalar(query).fetch_one(connection).await {
            Ok(holds) => Ok(holds),
            Err(error) if is_overflow(&error) => Ok(false),
            Err(error) => Err(AuditError::during("compare sums")(error)),
        }
    }
}

/// Whether a product did not fit its type: so large are only amounts that nobody booked.
fn is_overflow(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "22003")
}

/// Holds a database to its laws, once it is prepared. A law that breaks the connection leaves the ones after it grey.
pub(super) async fn hold(
    laws: &[&Law],
    prepared: Result<PgConnection, AuditError>,
    deadline: Deadline,
) -> Vec<AuditCheck> {
    let mut connection = prepared.map_err(|error| error.to_string());
    let mut checks = Vec::with_capacity(laws.len());
    for law in laws {
        let found = match &mut connection {
            Ok(connection) => deadline.limit(law.ask(connection)).await,
            Err(reason) => Err(AuditError::Earlier(reason.clone())),
        };
        if let Err(error @ AuditError::TimeOut { .. }) = &found {
            // Its answer may still be on the way, so nothing else can be asked here.
            connection = Err(format!("{}: {error}", law.check));
        }
        checks.push(judged(law.check, found));
    }
    checks
}

/// A finding as it is archived.
pub(super) fn judged(check: &str, found: Result<Finding, AuditError>) -> AuditCheck {
    let (state, count, detail) = match found {
        Err(error) => (AuditState::Grey, 0, error.to_string()),
        Ok(Finding { count, offenders: 0, named }) if named.is_empty() => {
            let detail = if count == 0 { "there are none" } else { "none is wrong" };
            (AuditState::Green, count, detail.to_owned())
        }
        Ok(Finding { count, offenders: 0, named }) => (AuditState::Green, count, named.join("; ")),
        Ok(Finding { count, offenders, named }) => {
            let more = if offenders as usize > named.len() { "; …" } else { "" };
            let detail = format!("{offenders} wrong of {count}: {}{more}", named.join("; "));
            (AuditState::Red, count, detail)
        }
    };
    AuditCheck { check: check.to_owned(), state, count, detail }
}
