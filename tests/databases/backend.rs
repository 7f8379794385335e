//! What a correct backend leaves in the databases, written by hand: some commands, their events and their projections.

use chrono::{Days, NaiveDate};
use plimsoll::archive::{LedgerEntry, Outcome};
use plimsoll::ids::{CommandId, OrgId, RunId};
use plimsoll::population::Population;
use uuid::Uuid;

use crate::cluster::{Cluster, anchor};
use crate::population::{SEED, spec};

/// Books `commands` commands on the busiest organisations and returns what their client was told.
pub(crate) async fn book(cluster: &Cluster, organisations: u64, commands: u64) -> Vec<LedgerEntry> {
    let mut ledger = Vec::new();
    for n in 0..commands {
        let booking = Booking::nth(n, organisations, commands);
        booking.book(cluster).await;
        ledger.push(booking.told(Outcome::Acknowledged));
    }
    let read = |projection: &str| {
        format!(
            "INSERT INTO projection_checkpoints SELECT '{projection}', shard, position \
             FROM (VALUES {}) p (shard, position)",
            checkpoint_values(&ledger),
        )
    };
    cluster.execute("plimsoll_finance", &read("finance")).await;
    cluster.execute("plimsoll_read_models", &read("finance-summary")).await;
    ledger
}

/// A revenue more, whose client has given up.
pub(crate) struct Late(Booking);

impl Late {
    pub(crate) fn after(organisations: u64, commands: u64) -> Self {
        Self(Booking { kind: 1, ..Booking::nth(commands, organisations, commands + 1) })
    }

    pub(crate) fn told(&self) -> LedgerEntry {
        self.0.told(Outcome::Unknown)
    }

    /// Books it with its projections.
    pub(crate) async fn book(&self, cluster: &Cluster) {
        self.0.book(cluster).await;
        let shard = self.0.org.get() % 8;
        let read = format!(
            "UPDATE projection_checkpoints SET position = position + 1 WHERE shard = {shard}"
        );
        for database in ["plimsoll_finance", "plimsoll_read_models"] {
            assert_eq!(cluster.execute(database, &read).await, 1);
        }
    }
}

/// Events that each shard took: `(0, 12), (1, 9) …`.
fn checkpoint_values(ledger: &[LedgerEntry]) -> String {
    let count = |shard| ledger.iter().filter(|entry| entry.org.get() % 8 == shard).count();
    let values: Vec<_> = (0..8).map(|shard| format!("({shard}, {})", count(shard))).collect();
    values.join(", ")
}

struct Booking {
    command: CommandId,
    org: OrgId,
    property: Uuid,
    /// 0 is an expense.
    kind: u64,
    cents: u64,
    date: NaiveDate,
}

impl Booking {
    /// The `n`th of so many commands.
    fn nth(n: u64, organisations: u64, commands: u64) -> Self {
        let population = Population::new(&spec(organisations), SEED, anchor());
        let org = population.pick(n as f64 / commands as f64);
        Self {
            command: CommandId::derive("audit".parse::<RunId>().unwrap().namespace(), n),
            org,
            property: population.property(org, 0.3),
            kind: n % 3,
            cents: 100 + n,
            date: anchor() + Days::new(n * 20 / commands),
        }
    }

    fn told(&self, outcome: Outcome) -> LedgerEntry {
        LedgerEntry { command: self.command, org: self.org, outcome }
    }

    async fn book(&self, cluster: &Cluster) {
        let Self { org, property, cents, date, .. } = self;
        let command = self.command.uuid();
        let (event_type, table, name, category) = match self.kind {
            0 => (2, "expenses", "expense", "supplies"),
            _ => (1, "revenues", "revenue", "rooms"),
        };
        let shard = org.get() % 8;
        let event = format!(
            "WITH e AS (
                INSERT INTO events
                SELECT {shard}, (SELECT coalesce(max(position), 0) + 1 FROM events WHERE shard = {shard}), {org}, 1,
                       '{property}', greatest(s.version, (SELECT max(version) FROM events
                                                          WHERE org_id = {org} AND aggregate_id = '{property}')) + 1,
                       {event_type}, 1, '{command}', now(),
                       '{{\"amount_cents\": {cents}, \"category\": \"{category}\", \"date\": \"{date}\"}}'
                FROM snapshots s WHERE s.org_id = {org} AND s.aggregate_id = '{property}' RETURNING *)
             INSERT INTO append_dedup
             SELECT org_id, command_id, shard, aggregate_type, aggregate_id, version, position, 1 FROM e"
        );
        assert_eq!(cluster.execute("plimsoll_event_store", &event).await, 1);
        let (revenue, expense) = if event_type == 1 { (*cents, 0) } else { (0, *cents) };
        let rows = format!(
            "INSERT INTO {table}_partitioned
             VALUES ({org}, '{date}', '{command}', '{property}', '{category}', {cents}, now());
             INSERT INTO daily_cash_balances_partitioned
             SELECT {org}, '{property}', '{date}', opening, {revenue}, {expense}, opening + {revenue} - {expense}
             FROM (SELECT coalesce((SELECT closing_cents FROM daily_cash_balances_partitioned WHERE org_id = {org}
                   AND property_id = '{property}' AND date < '{date}' ORDER BY date DESC LIMIT 1), 0) AS opening) o
             ON CONFLICT (org_id, property_id, date) DO UPDATE
             SET revenue_cents = daily_cash_balances_partitioned.revenue_cents + {revenue},
                 expense_cents = daily_cash_balances_partitioned.expense_cents + {expense},
                 closing_cents = daily_cash_balances_partitioned.closing_cents + {revenue} - {expense}"
        );
        cluster.execute("plimsoll_finance", &rows).await;
        let summary = format!(
            "UPDATE finance_summaries SET {name}_cents = {name}_cents + {cents}, entry_count = entry_count + 1,
                 version = version + 1, last_entry_date = '{date}',
                 doc = CASE WHEN doc->'{name}_categories' ? '{category}' THEN doc ELSE
                       jsonb_insert(doc, '{{{name}_categories,0}}', '\"{category}\"') END
             WHERE org_id = {org} AND property_id = '{property}'"
        );
        assert_eq!(cluster.execute("plimsoll_read_models", &summary).await, 1);
    }
}
