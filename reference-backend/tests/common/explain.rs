//! How the server runs the statements that the backend really sends: its own record of each plan (`auto_explain`), without
//! costs, for snapshots. A copy of a statement in a test would soon be another statement.

use std::time::{Duration, Instant};

use super::Cluster;

/// A plan as the server logged it.
#[derive(Debug, Clone)]
struct Logged {
    statement: String,
    plan: String,
}

impl Cluster {
    /// Sessions that begin from now on log their plans. Call it before the backend starts.
    pub(crate) async fn log_plans(&self) {
        let mut admin = self.admin("postgres").await;
        // ALTER SYSTEM takes only settings that it knows, and no transaction.
        for statement in [
            "LOAD 'auto_explain'",
            "ALTER SYSTEM SET session_preload_libraries = 'auto_explain'",
            "ALTER SYSTEM SET auto_explain.log_min_duration = 0",
            "ALTER SYSTEM SET log_line_prefix = ''",
            "SELECT pg_reload_conf()",
        ] {
            sqlx::raw_sql(statement).execute(&mut admin).await.unwrap();
        }
    }

    /// Brings what the planner knows of a database up to date: counts, values, and which pages are visible to all.
    pub(crate) async fn analyze(&self, database: &str) {
        let mut admin = self.admin(database).await;
        sqlx::raw_sql("VACUUM ANALYZE").execute(&mut admin).await.unwrap();
    }

    /// The plan of the last statement whose text contains `needle`.
    pub(crate) fn last_plan(&self, needle: &str) -> String {
        self.plan(needle).unwrap_or_else(|| panic!("no plan of {needle:?} was logged"))
    }

    /// The same, of a statement that the backend will send by itself.
    pub(crate) async fn next_plan(&self, needle: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.plan(needle).is_none() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.last_plan(needle)
    }

    fn plan(&self, needle: &str) -> Option<String> {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
        let found = logged(&log).into_iter().rfind(|logged| logged.statement.contains(needle));
        found.map(|found| found.plan)
    }
}

/// The plans of a log. Each is a line that ends in `plan:`, and the lines after it that begin with a tab.
fn logged(log: &str) -> Vec<Logged> {
    let mut found = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with(" plan:") {
            continue;
        }
        let mut statement = String::new();
        let mut plan = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
            match line.strip_prefix("\tQuery Text: ") {
                Some(text) => text.clone_into(&mut statement),
                None => plan.push(without_costs(&line[1..])),
            }
        }
        found.push(Logged { statement, plan: plan.join("\n") });
    }
    found
}

/// `Index Scan using a on b  (cost=0.28..8.30 rows=1 width=4)` without what is in the brackets.
fn without_costs(line: &str) -> String {
    line.split("  (cost=").next().unwrap_or(line).to_owned()
}
