//! The yardstick: how many events a second the same servers take from PostgreSQL's own pgbench, each in one plain statement.
//!
//! What a client would write that has no backend: one transaction for each event, which stores the event, remembers its
//! command, and adds it to the balance of its day. On the same cluster in the same session, durable as the settings have it,
//! copied to the same replicas; in a database of its own, which is dropped afterwards.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::lifecycle::{Ready, Stack};
use super::postgres::{Server, Site};
use crate::archive::Yardstick;
use crate::scenario::Skew;

const PROGRAM: &str = "pgbench";
const CLIENTS: u32 = 32;
const SECONDS: u32 = 10;
/// Over which pgbench may be late to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// The exponents that pgbench's `random_zipfian` takes.
const ZIPF: std::ops::RangeInclusive<f64> = 1.001..=1000.0;

const CREATE: &str = "CREATE DATABASE plimsoll_yardstick";
const DROP: &str = "DROP DATABASE IF EXISTS plimsoll_yardstick WITH (FORCE)";
const DATABASE: &str = "plimsoll_yardstick";

/// What the backend writes for an event, without what it needs for itself: no shards, no versions, no partitions.
const TABLES: &str = "
CREATE TABLE events (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id      bigint      NOT NULL,
    property_id uuid        NOT NULL,
    event_type  smallint    NOT NULL,
    command_id  uuid        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    data        jsonb       NOT NULL
);
CREATE TABLE commands (
    org_id      bigint NOT NULL,
    command_id  uuid   NOT NULL,
    position    bigint NOT NULL,
    PRIMARY KEY (org_id, command_id)
);
CREATE TABLE balances (
    org_id        bigint NOT NULL,
    day           date   NOT NULL,
    revenue_cents bigint NOT NULL,
    entries       bigint NOT NULL,
    PRIMARY KEY (org_id, day)
);
";

const STATEMENT: &str = "\
\\set amount random(100, 500000)
WITH event AS (
    INSERT INTO events (org_id, property_id, event_type, command_id, data)
    VALUES (:org::bigint, gen_random_uuid(), 1, gen_random_uuid(),
            jsonb_build_object('amount_cents', :amount::bigint, 'category', 'rooms'))
    RETURNING org_id, position, command_id
), command AS (
    INSERT INTO commands (org_id, command_id, position)
    SELECT org_id, command_id, position FROM event
)
INSERT INTO balances AS known (org_id, day, revenue_cents, entries)
SELECT org_id, current_date, :amount::bigint, 1 FROM event
ON CONFLICT (org_id, day) DO UPDATE
SET revenue_cents = known.revenue_cents + EXCLUDED.revenue_cents, entries = known.entries + 1;
";

impl Stack<Ready> {
    /// Measures the yardstick on the primary, with the population's organisations as busy as in the scenario. What goes wrong is
    /// part of what is found: the run it stands beside is over and whole.
    pub async fn yardstick(&self, organisations: u64, busy: Skew) -> Yardstick {
        let (site, primary) = self.site_and_primary();
        let (transactions_per_s, problem) = match measure(site, primary, organisations, busy).await
        {
            Ok(rate) => (Some(rate), None),
            Err(problem) => (None, Some(problem)),
        };
        Yardstick {
            by: PROGRAM.to_owned(),
            clients: CLIENTS,
            seconds: SECONDS,
            transactions_per_s,
            problem,
        }
    }
}

/// Transactions per second, or why there are none.
async fn measure(
    site: &Site,
    primary: &Server,
    organisations: u64,
    busy: Skew,
) -> Result<f64, String> {
    let program = site.binaries.program(PROGRAM);
    if !program.is_file() {
        let place = site.binaries.directory().display();
        return Err(format!(
            "no {PROGRAM} in {place}; install what your system calls postgresql-contrib or postgresql"
        ));
    }
    let failed = |error: super::error::StackError| error.to_string();
    primary.execute("clear the yardstick's database away", DROP).await.map_err(failed)?;
    primary.execute("make the yardstick's database", CREATE).await.map_err(failed)?;
    let measured = bench(site, primary, organisations, busy).await;
    let dropped = primary.execute("drop the yardstick's database", DROP).await.map_err(failed);
    let rate = measured?;
    dropped.map(|()| rate)
}

async fn bench(
    site: &Site,
    primary: &Server,
    organisations: u64,
    busy: Skew,
) -> Result<f64, String> {
    let script = site.directory.join("yardstick.sql");
    let tables = site.directory.join("yardstick-tables.sql");
    let write = |path: &PathBuf, text: &str| {
        site.write_owned(path, text).map_err(|error| error.to_string())
    };
    write(&tables, TABLES)?;
    write(&script, &format!("{}{STATEMENT}", choose(organisations, busy)))?;
    // pgbench makes the tables, too: one transaction of a script without any other.
    run(site, primary, "yardstick-tables", |arguments| {
        arguments
            .args(["--transactions=1", "--client=1", "--protocol=simple", "--file"])
            .arg(&tables);
    })
    .await?;
    let log = "yardstick";
    run(site, primary, log, |arguments| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        arguments
            .arg(format!("--client={CLIENTS}"))
            .arg(format!("--jobs={}", threads.min(CLIENTS as usize)))
            .arg(format!("--time={SECONDS}"))
            .args(["--protocol=prepared", "--file"])
            .arg(&script);
    })
    .await?;
    let path = site.log(log);
    let told = fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    rate_in(&told)
        .ok_or_else(|| format!("{PROGRAM} told no rate; what it said is in {}", path.display()))
}

async fn run(
    site: &Site,
    primary: &Server,
    log: &str,
    further: impl FnOnce(&mut std::process::Command),
) -> Result<(), String> {
    let limit = Duration::from_secs(SECONDS.into()) + PATIENCE;
    let endpoint = &primary.endpoint;
    let ended = site.run(PROGRAM, log, limit, |arguments| {
        arguments.arg("--no-vacuum").arg("--host").arg(&endpoint.socket_dir);
        arguments.arg(format!("--port={}", endpoint.port));
        arguments.arg(format!("--username={}", endpoint.superuser));
        further(arguments);
        arguments.arg(DATABASE);
    });
    match ended.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The line that picks an organisation as the scenario does.
fn choose(organisations: u64, busy: Skew) -> String {
    match busy {
        Skew::Zipf { exponent } if ZIPF.contains(&exponent) && organisations > 1 => {
            format!("\\set org random_zipfian(1, {organisations}, {exponent})\n")
        }
        Skew::Zipf { .. } | Skew::Uniform => format!("\\set org random(1, {organisations})\n"),
    }
}

/// `tps = 4321.098765 (without initial connection time)`: the last, should a log have been continued.
fn rate_in(told: &str) -> Option<f64> {
    let mut rates = told.lines().filter_map(|line| line.trim().strip_prefix("tps = "));
    let rate: f64 = rates.next_back()?.split_whitespace().next()?.parse().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_last_that_was_told_and_never_zero() {
        let told = "number of transactions actually processed: 48211\nlatency average = 7.962 ms\n\
                    initial connection time = 41.3 ms\ntps = 4019.173221 (without initial connection time)\n";
        assert_eq!(rate_in(told), Some(4019.173221));
        assert_eq!(rate_in(&format!("tps = 1.0 (x)\n{told}")), Some(4019.173221));
        for nothing in
            ["", "tps = 0.000000 (without initial connection time)", "tps = nan", "no tps = 5"]
        {
            assert_eq!(rate_in(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn organisations_are_as_busy_as_in_the_scenario_where_pgbench_can() {
        let zipf = |exponent| choose(500, Skew::Zipf { exponent });
        assert_eq!(zipf(1.05), "\\set org random_zipfian(1, 500, 1.05)\n");
        assert_eq!(
            zipf(0.8),
            "\\set org random(1, 500)\n",
            "pgbench takes no exponent below 1.001"
        );
        assert_eq!(choose(7, Skew::Uniform), "\\set org random(1, 7)\n");
    }
}
