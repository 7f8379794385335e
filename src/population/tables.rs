//! The tables that the population fills, column by column, and their rows in both forms that matter: binary COPY and
//! checksum. Pure.
//!
//! A row's checksum chains Postgres' own hash functions over its columns in order, each seeded with the one before;
//! a table's is the sum over its rows, so it does not depend on their order. The same expression runs in SQL.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use uuid::Uuid;

use super::pg_hash::{hash_bytes, hash_i32, hash_i64};
use crate::postgres::copy_format;
use crate::postgres::database::{EVENT_STORE, FINANCE, HOSPITALITY, READ_MODELS, SHARED};

/// A table of the population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableId {
    Organisations,
    Users,
    Properties,
    Revenues,
    Expenses,
    Balances,
    Summaries,
    Snapshots,
    Staff,
    Tasks,
    Reservations,
}

/// Where a table is and what it holds.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) id: TableId,
    pub(super) database: &'static str,
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Column)],
    /// The column whose sum stands for the table's money.
    pub(super) cents: Option<&'static str>,
}

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Int2,
    Int4,
    Int8,
    Uuid,
    Text,
    Char,
    Date,
    Timestamp,
    Jsonb,
}

use Column::{Char, Date, Int2, Int4, Int8, Jsonb, Text, Timestamp};

/// Columns of revenues and expenses.
const ENTRY: &[(&str, Column)] = &[
    ("org_id", Int8),
    ("date", Date),
    ("id", Column::Uuid),
    ("property_id", Column::Uuid),
    ("category", Text),
    ("amount_cents", Int8),
    ("recorded_at", Timestamp),
];

/// Every table, in the order of [`TableId`].
pub(super) const TABLES: [Table; 11] = [
    Table {
        id: TableId::Organisations,
        database: SHARED,
        name: "organisations",
        columns: &[
            ("org_id", Int8),
            ("name", Text),
            ("size_class", Text),
            ("country", Char),
            ("currency", Char),
            ("version", Int4),
            ("created_at", Timestamp),
        ],
        cents: None,
    },
    Table {
        id: TableId::Users,
        database: SHARED,
        name: "users",
        columns: &[
            ("org_id", Int8),
            ("user_id", Column::Uuid),
            ("name", Text),
            ("email", Text),
            ("role", Text),
            ("created_at", Timestamp),
        ],
        cents: None,
    },
    Table {
        id: TableId::Properties,
        database: HOSPITALITY,
        name: "properties",
        columns: &[
            ("org_id", Int8),
            ("property_id", Column::Uuid),
            ("name", Text),
            ("city", Text),
            ("rooms", Int4),
            ("created_at", Timestamp),
        ],
        cents: None,
    },
    Table {
        id: TableId::Revenues,
        database: FINANCE,
        name: "revenues_partitioned",
        columns: ENTRY,
        cents: Some("amount_cents"),
    },
    Table {
        id: TableId::Expenses,
        database: FINANCE,
        name: "expenses_partitioned",
        columns: ENTRY,
        cents: Some("amount_cents"),
    },
    Table {
        id: TableId::Balances,
        database: FINANCE,
        name: "daily_cash_balances_partitioned",
        columns: &[
            ("org_id", Int8),
            ("property_id", Column::Uuid),
            ("date", Date),
            ("opening_cents", Int8),
            ("revenue_cents", Int8),
            ("expense_cents", Int8),
            ("closing_cents", Int8),
        ],
        cents: Some("closing_cents"),
    },
    Table {
        id: TableId::Summaries,
        database: READ_MODELS,
        name: "finance_summaries",
        columns: &[
            ("org_id", Int8),
            ("property_id", Column::Uuid),
            ("revenue_cents", Int8),
            ("expense_cents", Int8),
            ("entry_count", Int8),
            ("last_entry_date", Date),
            ("version", Int4),
            ("doc", Jsonb),
        ],
        cents: Some("revenue_cents"),
    },
    Table {
        id: TableId::Snapshots,
        database: EVENT_STORE,
        name: "snapshots",
        columns: &[
            ("org_id", Int8),
            ("aggregate_type", Int2),
            ("aggregate_id", Column::Uuid),
            ("version", Int4),
            ("state_schema_version", Int2),
            ("state", Jsonb),
            ("taken_at", Timestamp),
        ],
        cents: None,
    },
    Table {
        id: TableId::Staff,
        database: HOSPITALITY,
        name: "staff",
        columns: &[
            ("org_id", Int8),
            ("id", Column::Uuid),
            ("property_id", Column::Uuid),
            ("name", Text),
            ("role", Text),
            ("created_at", Timestamp),
            ("updated_at", Timestamp),
        ],
        cents: None,
    },
    Table {
        id: TableId::Tasks,
        database: HOSPITALITY,
        name: "tasks",
        columns: &[
            ("org_id", Int8),
            ("id", Column::Uuid),
            ("property_id", Column::Uuid),
            ("title", Text),
            ("assignee_id", Column::Uuid),
            ("due_at", Timestamp),
            ("created_at", Timestamp),
            ("updated_at", Timestamp),
        ],
        cents: None,
    },
    Table {
        id: TableId::Reservations,
        database: HOSPITALITY,
        name: "reservations",
        columns: &[
            ("org_id", Int8),
            ("id", Column::Uuid),
            ("property_id", Column::Uuid),
            ("guest_name", Text),
            ("arrival", Date),
            ("departure", Date),
            ("amount_cents", Int8),
            ("created_at", Timestamp),
            ("updated_at", Timestamp),
        ],
        cents: Some("amount_cents"),
    },
];

/// Days from year 1 to 2000-01-01, from which Postgres counts.
const EPOCH_DAYS: i32 = 730_120;
/// Microseconds from 1970 to 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Hashed in place of a date that is null.
const NO_DATE: i32 = i32::MIN;

impl Table {
    /// The table of an id.
    pub(super) fn of(id: TableId) -> &'static Self {
        &TABLES[id as usize]
    }

    /// `COPY` of the columns above into one of the table's leaves (already quoted).
    pub(super) fn copy_into(&self, leaf: &str) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        // FREEZE: rows are born visible to all and need no vacuum. It requires the truncation before it.
        format!("COPY {leaf} ({}) FROM STDIN (FORMAT binary, FREEZE)", columns.join(", "))
    }

    /// Query for the table's [`Tally`], of which the two sums are texts. Needs the time zone UTC.
    pub(super) fn tally_query(&self) -> String {
        let checksum = self.columns.iter().fold("0".to_owned(), |seed, (name, column)| {
            let (function, value) = match column {
                Int2 => ("hashint2extended", (*name).to_owned()),
                Int4 => ("hashint4extended", (*name).to_owned()),
                Int8 => ("hashint8extended", (*name).to_owned()),
                Column::Uuid => ("uuid_hash_extended", (*name).to_owned()),
                Text => ("hashtextextended", (*name).to_owned()),
                Char | Jsonb => ("hashtextextended", format!("{name}::text")),
                Date => {
                    ("hashint4extended", format!("coalesce({name} - date '2000-01-01', {NO_DATE})"))
                }
                Timestamp => ("timestamp_hash_extended", format!("{name}::timestamp")),
            };
            format!("{function}({value}, {seed})")
        });
        let cents = self.cents.unwrap_or("0::bigint");
        format!(
            "SELECT count(*), coalesce(sum({cents}), 0)::text, coalesce(sum({checksum}), 0)::text FROM {}",
            self.name
        )
    }
}

/// What a table holds, in three numbers that do not depend on the order of its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) rows: u64,
    /// Sum of the table's money column, in cents.
    pub(super) cents: i128,
    /// Sum of the rows' checksums.
    pub(super) checksum: i128,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.cents += other.cents;
        self.checksum += other.checksum;
    }
}

/// Writes one row to a COPY stream and computes its checksum on the way.
pub(super) struct Row<'a> {
    bytes: &'a mut Vec<u8>,
    hash: u64,
}

impl<'a> Row<'a> {
    /// Begins a row of a table.
    pub(super) fn of(table: &Table, bytes: &'a mut Vec<u8>) -> Self {
        copy_format::begin_row(table.columns.len(), bytes);
        Self { bytes, hash: 0 }
    }

    fn field(&mut self, bytes: &[u8]) {
        copy_format::field(bytes, self.bytes);
    }

    pub(super) fn int2(mut self, value: i16) -> Self {
        self.field(&value.to_be_bytes());
        self.hash = hash_i32(value.into(), self.hash);
        self
    }

    pub(super) fn int4(mut self, value: i32) -> Self {
        self.field(&value.to_be_bytes());
        self.hash = hash_i32(value, self.hash);
        self
    }

    pub(super) fn int8(mut self, value: i64) -> Self {
        self.field(&value.to_be_bytes());
        self.hash = hash_i64(value, self.hash);
        self
    }

    pub(super) fn uuid(mut self, value: Uuid) -> Self {
        self.field(value.as_bytes());
        self.hash = hash_bytes(value.as_bytes(), self.hash);
        self
    }

    pub(super) fn text(mut self, value: &str) -> Self {
        self.field(value.as_bytes());
        self.hash = hash_bytes(value.as_bytes(), self.hash);
        self
    }

    /// A document, written as Postgres would print it.
    pub(super) fn jsonb(mut self, value: &str) -> Self {
        copy_format::jsonb(value, self.bytes);
        self.hash = hash_bytes(value.as_bytes(), self.hash);
        self
    }

    pub(super) fn date(self, value: NaiveDate) -> Self {
        self.int4(value.num_days_from_ce() - EPOCH_DAYS)
    }

    pub(super) fn optional_date(mut self, value: Option<NaiveDate>) -> Self {
        match value {
            Some(date) => self.date(date),
            None => {
                copy_format::null(self.bytes);
                self.hash = hash_i32(NO_DATE, self.hash);
                self
            }
        }
    }

    pub(super) fn timestamp(self, value: DateTime<Utc>) -> Self {
        self.int8(value.timestamp_micros() - EPOCH_MICROS)
    }

    /// Ends the row; `cents` is its part of the table's money.
    pub(super) fn end(self, cents: i64) -> Tally {
        Tally { rows: 1, cents: cents.into(), checksum: self.hash.cast_signed().into() }
    }
}
