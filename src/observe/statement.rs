//! Whether a statement that Postgres has counted reads or writes. Pure.

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StatementKind {
    /// `SELECT`, or `WITH` that changes nothing.
    Read,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`, or `WITH` that holds one.
    Write,
    /// Anything else: `SET`, `BEGIN` …
    Other,
}

impl StatementKind {
    /// From the text of a statement as `pg_stat_statements` keeps it, constants already taken out.
    pub(super) fn of(query: &str) -> Self {
        let query = without_leading_comments(query).to_ascii_lowercase();
        let mut words = query
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty());
        let writes = |word: &str| matches!(word, "insert" | "update" | "delete" | "merge");
        match words.next() {
            Some("select") => Self::Read,
            Some("with") if words.any(writes) => Self::Write,
            Some("with") => Self::Read,
            Some(word) if writes(word) => Self::Write,
            _ => Self::Other,
        }
    }

    /// As the label `kind`.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

/// Queries kept in files begin with a comment that says what they are for.
fn without_leading_comments(mut query: &str) -> &str {
    loop {
        query = query.trim_start();
        let rest = match query.get(..2) {
            Some("--") => query.split_once('\n').map(|(_, rest)| rest),
            Some("/*") => query.split_once("*/").map(|(_, rest)| rest),
            _ => return query,
        };
        match rest {
            Some(rest) => query = rest,
            None => return "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart_by_what_they_do() {
        use StatementKind::{Other, Read, Write};
        for (query, expected) in [
            ("SELECT a FROM updates", Read),
            ("select updated_at, \"delete\" from t for update", Read),
            ("(SELECT 1) UNION (SELECT 2)", Read),
            ("-- Updates nothing.\n/* insert */ SELECT 1", Read),
            ("WITH a AS (SELECT insert_count FROM t) SELECT * FROM a", Read),
            ("WITH a AS (INSERT INTO t VALUES ($1) RETURNING id) SELECT id FROM a", Write),
            ("\n  insert into t select * from u", Write),
            ("UPDATE t SET a = $1", Write),
            ("DELETE FROM t", Write),
            ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", Write),
            ("SET statement_timeout = 5", Other),
            ("BEGIN", Other),
            ("-- only a comment", Other),
            ("", Other),
        ] {
            assert_eq!(StatementKind::of(query), expected, "{query}");
        }
    }
}
