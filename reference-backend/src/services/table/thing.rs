//! What a row must say of itself to be created, changed and refused in one way.

use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::db::Database;
use crate::domain::{OrgId, Version};
use crate::gateway::Problem;

/// A row of a tenant's table, as clients see it.
pub(in crate::services) trait Thing:
    for<'r> FromRow<'r, PgRow> + Serialize + Send + Unpin + 'static
{
    /// Where its table is.
    const DATABASE: Database;
    /// What refusals call it.
    const NOUN: &'static str;
    /// The statement that reads the row `$2` of the organisation `$1`.
    const ONE: &'static str;

    /// Counts the changes, from 1; always 1 where nobody can expect a version.
    fn version(&self) -> Version {
        Version::FIRST
    }

    /// Why this row cannot take a change that its version allows: what follows "the room ".
    fn state(&self) -> &'static str {
        "is not in a state for this"
    }

    /// The refusal for a constraint of the table, by its name; none where breaking it is the server's fault.
    fn broken(_constraint: &str) -> Option<Problem> {
        None
    }

    /// 404, with the same words whether it is another organisation's or nobody's.
    fn missing(org: OrgId, id: impl std::fmt::Display) -> Problem {
        Problem::not_found(format!("organisation {org} has no {} {id}", Self::NOUN))
    }
}

/// A thing that clients create, under an id of their choosing.
pub(in crate::services) trait Created: Thing {
    /// The statement that reads the column `creation` of the row `$2` of the organisation `$1`.
    const CREATION: &'static str;

    /// Where `insert` adds nothing to an organisation that has as many as it may: what its client is told.
    const FULL: Option<&'static str> = None;

    /// The `Idempotency-Key` of its create.
    fn id(&self) -> Uuid;
}

/// The time of a create, as the database can keep it.
pub(in crate::services) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// 404 for a property that is another organisation's, or nobody's.
pub(in crate::services) fn no_property() -> Problem {
    Problem::not_found("the organisation has no such property")
}

/// What a failed write means to its client.
pub(super) fn refusal<T: Thing>(error: &sqlx::Error) -> Problem {
    let Some(found) = error.as_database_error() else { return error.into() };
    if let Some(problem) = found.constraint().and_then(T::broken) {
        return problem;
    }
    // Two writes that waited for each other; the server ended this one.
    if found.code().is_some_and(|code| matches!(&*code, "40001" | "40P01")) {
        return Problem::unavailable("another write was in the way; try again");
    }
    error.into()
}
