//! Turns what the generator computes into rows of the tables, leaf by leaf. Pure.

use std::fmt::Write as _;

use super::catalogue::SizeClass;
use super::generate::{Account, EntryKind, Generator, History, Organisation};
use super::generate_front_desk::FrontDesk;
use super::partitions::Layout;
use super::tables::{Row, TABLES, Table, TableId, Tally};
use crate::ids::OrgId;

/// Tallies of all tables, in the order of [`TABLES`].
pub(super) type Tallies = [Tally; TABLES.len()];

/// Takes rows for a leaf of the layout.
pub(super) trait Sink {
    /// Where the bytes of the leaf's next row go.
    fn buffer(&mut self, leaf: usize) -> &mut Vec<u8>;
    /// A row has been written there.
    fn row_done(&mut self, leaf: usize);
}

/// Writes organisations, reusing its memory from one to the next.
pub(super) struct RowWriter<'a> {
    generator: &'a Generator,
    layout: &'a Layout,
    history: History,
    text: String,
    tallies: Tallies,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(generator: &'a Generator, layout: &'a Layout) -> Self {
        Self {
            generator,
            layout,
            history: History::default(),
            text: String::new(),
            tallies: Tallies::default(),
        }
    }

    /// What has been written.
    pub(super) fn tallies(&self) -> Tallies {
        self.tallies
    }

    /// Writes every row of one organisation.
    pub(super) fn organisation(&mut self, org: OrgId, sink: &mut impl Sink) {
        let organisation = self.generator.organisation(org);
        self.description(&organisation, sink);
        self.front_desks(&organisation, sink);
        let mut history = std::mem::take(&mut self.history);
        self.generator.history_into(org, &mut history);
        self.money(org, &history, sink);
        for account in &history.accounts {
            self.account(org, account, sink);
        }
        self.history = history;
    }

    fn row(
        &mut self,
        table: TableId,
        leaf: usize,
        sink: &mut impl Sink,
        write: impl FnOnce(Row<'_>) -> Tally,
    ) {
        self.tallies[table as usize] += write(Row::of(Table::of(table), sink.buffer(leaf)));
        sink.row_done(leaf);
    }

    fn description(&mut self, organisation: &Organisation, sink: &mut impl Sink) {
        let org_id = organisation.id.as_i64();
        self.row(TableId::Organisations, self.layout.whole(TableId::Organisations), sink, |row| {
            row.int8(org_id)
                .text(&organisation.name)
                .text(SizeClass::as_str(organisation.size_class))
                .text(organisation.country)
                .text(organisation.currency)
                .int4(1)
                .timestamp(organisation.created_at)
                .end(0)
        });
        for user in &organisation.users {
            self.row(TableId::Users, self.layout.whole(TableId::Users), sink, |row| {
                row.int8(org_id)
                    .uuid(user.id)
                    .text(&user.name)
                    .text(&user.email)
                    .text(user.role.as_str())
                    .timestamp(user.created_at)
                    .end(0)
            });
        }
        for property in &organisation.properties {
            self.row(TableId::Properties, self.layout.whole(TableId::Properties), sink, |row| {
                row.int8(org_id)
                    .uuid(property.id)
                    .text(&property.name)
                    .text(&property.city)
                    .int4(property.rooms)
                    .timestamp(property.created_at)
                    .end(0)
            });
        }
    }

    fn front_desks(&mut self, organisation: &Organisation, sink: &mut impl Sink) {
        let (org_id, generator) = (organisation.id.as_i64(), self.generator);
        let desks = generator.front_desks(organisation);
        for (property, FrontDesk { staff, task, reservation }) in
            organisation.properties.iter().zip(desks)
        {
            self.row(TableId::Staff, self.layout.whole(TableId::Staff), sink, |row| {
                row.int8(org_id)
                    .uuid(staff.id)
                    .uuid(property.id)
                    .text(&staff.name)
                    .text(staff.role)
                    .timestamp(staff.created_at)
                    .timestamp(staff.created_at)
                    .end(0)
            });
            self.row(TableId::Tasks, self.layout.whole(TableId::Tasks), sink, |row| {
                row.int8(org_id)
                    .uuid(task.id)
                    .uuid(property.id)
                    .text(task.title)
                    .uuid(staff.id)
                    .timestamp(task.due_at)
                    .timestamp(task.created_at)
                    .timestamp(task.created_at)
                    .end(0)
            });
            self.row(
                TableId::Reservations,
                self.layout.whole(TableId::Reservations),
                sink,
                |row| {
                    row.int8(org_id)
                        .uuid(reservation.id)
                        .uuid(property.id)
                        .text(&reservation.guest)
                        .date(reservation.arrival)
                        .date(reservation.departure)
                        .int8(reservation.amount_cents)
                        .timestamp(reservation.created_at)
                        .timestamp(reservation.created_at)
                        .end(reservation.amount_cents)
                },
            );
        }
    }

    fn money(&mut self, org: OrgId, history: &History, sink: &mut impl Sink) {
        let org_id = org.as_i64();
        for entry in &history.entries {
            let table = match entry.kind {
                EntryKind::Revenue => TableId::Revenues,
                EntryKind::Expense => TableId::Expenses,
            };
            self.row(table, self.layout.by_date(table, entry.date), sink, |row| {
                row.int8(org_id)
                    .date(entry.date)
                    .uuid(entry.id)
                    .uuid(entry.property)
                    .text(entry.category)
                    .int8(entry.amount_cents)
                    .timestamp(entry.recorded_at)
                    .end(entry.amount_cents)
            });
        }
        let leaf = self.layout.by_hash(TableId::Balances, org_id);
        for day in &history.balances {
            self.row(TableId::Balances, leaf, sink, |row| {
                row.int8(org_id)
                    .uuid(day.property)
                    .date(day.date)
                    .int8(day.opening_cents)
                    .int8(day.revenue_cents)
                    .int8(day.expense_cents)
                    .int8(day.closing_cents)
                    .end(day.closing_cents)
            });
        }
    }

    fn account(&mut self, org: OrgId, account: &Account, sink: &mut impl Sink) {
        let org_id = org.as_i64();
        let mut text = std::mem::take(&mut self.text);
        summary_doc(account, &mut text);
        self.row(TableId::Summaries, self.layout.whole(TableId::Summaries), sink, |row| {
            row.int8(org_id)
                .uuid(account.property)
                .int8(account.revenue_cents)
                .int8(account.expense_cents)
                .int8(account.entries.into())
                .optional_date(account.last_entry)
                .int4(account.entries)
                .jsonb(&text)
                .end(account.revenue_cents)
        });
        snapshot_state(account, &mut text);
        self.row(TableId::Snapshots, self.layout.whole(TableId::Snapshots), sink, |row| {
            row.int8(org_id)
                .int2(CASH_ACCOUNT)
                .uuid(account.property)
                .int4(account.entries)
                .int2(1)
                .jsonb(&text)
                .timestamp(account.taken_at)
                .end(0)
        });
        self.text = text;
    }
}

/// `aggregate_type` of a cash account in the event store.
const CASH_ACCOUNT: i16 = 1;

/// The summary's document, as Postgres prints it: keys by length, then by letter.
fn summary_doc(account: &Account, text: &mut String) {
    text.clear();
    text.push_str("{\"expense_categories\": ");
    list(account.expense_categories(), text);
    text.push_str(", \"revenue_categories\": ");
    list(account.revenue_categories(), text);
    text.push('}');
}

/// A list of texts that need no escapes.
fn list(names: impl Iterator<Item = &'static str>, text: &mut String) {
    text.push('[');
    for (n, name) in names.enumerate() {
        text.push_str(if n == 0 { "\"" } else { ", \"" });
        text.push_str(name);
        text.push('"');
    }
    text.push(']');
}

fn snapshot_state(account: &Account, text: &mut String) {
    text.clear();
    let Account { entries, expense_cents, revenue_cents, .. } = account;
    write!(
        text,
        "{{\"entries\": {entries}, \"expense_cents\": {expense_cents}, \"revenue_cents\": {revenue_cents}}}"
    )
    .expect("writing to a string cannot fail");
}
