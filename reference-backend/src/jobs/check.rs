//! What the consistency checks have in common: organisations by the page, and findings, which are recorded and published for
//! repair.

use chrono::NaiveDate;
use metrics::counter;
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use crate::db::{Database, Freshness};
use crate::domain::OrgId;
use crate::gateway::App;
use crate::projections::RepairKind;
use crate::pubsub::{Topic, publish};

/// Findings after which a check ends: then something is wrong that no repair by account will put right.
const FINDINGS_MAX: usize = 10_000;

/// An account whose rows are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) org: i64,
    pub(super) property: Uuid,
    /// The first day that is wrong; of a summary, any.
    pub(super) from: NaiveDate,
    pub(super) reason: String,
}

/// What a check has seen and found so far.
#[derive(Debug)]
pub(super) struct Tally {
    kind: RepairKind,
    seen: usize,
    found: usize,
}

const ORGANISATIONS: &str =
    "SELECT org_id FROM organisations WHERE org_id > $1 ORDER BY org_id LIMIT $2";

/// A finding that is open already counts once more.
const RECORD: &str = "\
    INSERT INTO findings (kind, org_id, property_id, from_date, reason) \
    SELECT $1, * FROM unnest($2::bigint[], $3::uuid[], $4::date[], $5::text[]) \
    ON CONFLICT (kind, org_id, property_id) WHERE settled_at IS NULL DO UPDATE SET \
        from_date = least(findings.from_date, EXCLUDED.from_date), reason = EXCLUDED.reason, \
        times = findings.times + 1, last_found_at = clock_timestamp()";

/// The next organisations after one, as many as one statement looks at.
pub(super) async fn organisations(app: &App, after: i64) -> sqlx::Result<Vec<i64>> {
    let mut reader = app.databases.read(Database::Shared, Freshness::Any);
    let most = i64::from(app.config.jobs.check_organisations);
    let query = || sqlx::query_as(ORGANISATIONS).bind(after).bind(most);
    let rows: Vec<(i64,)> = reader.fetch_all(query).await?;
    Ok(rows.into_iter().map(|(org,)| org).collect())
}

impl Tally {
    pub(super) fn new(kind: RepairKind) -> Self {
        Self { kind, seen: 0, found: 0 }
    }

    /// Takes in what a look at some organisations found: recorded first, then published, so that a crash in between leaves
    /// a row to be seen, and the next check publishes again. An error when the check should end.
    pub(super) async fn take(
        &mut self,
        app: &App,
        organisations: usize,
        findings: &[Finding],
    ) -> Result<(), String> {
        self.seen += organisations;
        if findings.is_empty() {
            return Ok(());
        }
        self.found += findings.len();
        let kind = self.kind.name();
        counter!("backend_check_findings_total", "kind" => kind).increment(findings.len() as u64);
        for finding in findings {
            let Finding { org, property, from, reason } = finding;
            warn!(org, %property, %from, kind, "rows are wrong: {reason}");
        }
        record(app, kind, findings).await.map_err(|error| format!("record findings: {error}"))?;
        let published = publish_all(app, kind, findings).await;
        published.map_err(|error| format!("publish findings: {error}"))?;
        if self.found > FINDINGS_MAX {
            return Err(format!("{}; the check ended there", self.summary()));
        }
        Ok(())
    }

    pub(super) fn summary(&self) -> String {
        format!("{} organisations, {} findings", self.seen, self.found)
    }
}

async fn record(app: &App, kind: &str, findings: &[Finding]) -> sqlx::Result<()> {
    let orgs: Vec<i64> = findings.iter().map(|finding| finding.org).collect();
    let properties: Vec<Uuid> = findings.iter().map(|finding| finding.property).collect();
    let days: Vec<NaiveDate> = findings.iter().map(|finding| finding.from).collect();
    let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason.as_str()).collect();
    let record = sqlx::query(RECORD).bind(kind).bind(orgs).bind(properties);
    record.bind(days).bind(reasons).execute(app.databases.write(Database::HealthCheck)).await?;
    Ok(())
}

async fn publish_all(app: &App, kind: &str, findings: &[Finding]) -> sqlx::Result<()> {
    let mut transaction = app.databases.write(Database::EventStore).begin().await?;
    for finding in findings {
        let Ok(org) = OrgId::new(finding.org) else { continue };
        let data = json!({
            "property": finding.property,
            "from": finding.from,
            "kind": kind,
            "reason": finding.reason,
        });
        publish(&mut transaction, Topic::BalanceCorrections, org, &data).await?;
    }
    transaction.commit().await
}
