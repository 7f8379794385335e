//! Holds what the databases hold against what the generator computed: rows, money and a checksum of every column of
//! every row, per table.

use std::num::NonZeroU64;

use chrono::NaiveDate;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::task::JoinSet;

use super::connect::Server;
use super::error::PopulationError;
use super::generate::Generator;
use super::partitions::Layout;
use super::rows::{RowWriter, Sink, Tallies};
use super::tables::{TABLES, Table, Tally};
use crate::ids::OrgId;
use crate::scenario::{PopulationSpec, PostgresEndpoint};

/// Verifies a population that was seeded before, by computing it again. Nothing may have been written since.
pub async fn verify(
    spec: &PopulationSpec,
    seed: u64,
    anchor: NaiveDate,
    endpoint: &PostgresEndpoint,
) -> Result<(), PopulationError> {
    let generator = Generator::new(seed, spec.organisations, spec.history_months, anchor);
    let server = Server::new(endpoint);
    let (first, end) = generator.span();
    let layout = Layout::read(&server, first, end).await?;
    let expected = tokio::task::spawn_blocking(move || tally(&generator, &layout, None)).await?;
    compare(&server, &expected).await
}

/// What the first `organisations` (or all) come to.
pub(super) fn tally(
    generator: &Generator,
    layout: &Layout,
    organisations: Option<NonZeroU64>,
) -> Tallies {
    let mut writer = RowWriter::new(generator, layout);
    for index in 0..organisations.unwrap_or(generator.organisations()).get() {
        writer.organisation(OrgId::from_index(index), &mut Discard(Vec::new()));
    }
    writer.tallies()
}

/// Compares every table, a few at a time.
pub(super) async fn compare(server: &Server, expected: &Tallies) -> Result<(), PopulationError> {
    let mut queries = JoinSet::new();
    for (table, expected) in TABLES.iter().zip(*expected) {
        let server = server.clone();
        queries.spawn(async move { check(table, expected, tally_of(&server, table).await?) });
    }
    while let Some(outcome) = queries.join_next().await {
        outcome??;
    }
    Ok(())
}

/// Asks the database for a table's tally.
async fn tally_of(server: &Server, table: &'static Table) -> Result<Tally, PopulationError> {
    let mut connection = server.connect(table.database).await?;
    let row = sqlx::query(AssertSqlSafe(table.tally_query()))
        .fetch_one(&mut connection)
        .await
        .map_err(PopulationError::during(format!("verify {}", table.name), table.database))?;
    let sum = |column| {
        let text: String = row.get(column);
        text.parse().expect("Postgres prints whole numbers in digits")
    };
    Ok(Tally { rows: row.get::<i64, _>(0).unsigned_abs(), cents: sum(1), checksum: sum(2) })
}

fn check(table: &Table, expected: Tally, found: Tally) -> Result<(), PopulationError> {
    let money = format!("sum of {}", table.cents.unwrap_or("nothing"));
    let figures = [
        ("rows".to_owned(), i128::from(expected.rows), i128::from(found.rows)),
        (money, expected.cents, found.cents),
        ("checksum".to_owned(), expected.checksum, found.checksum),
    ];
    match figures.into_iter().find(|(_, expected, found)| expected != found) {
        None => Ok(()),
        Some((figure, expected, found)) => {
            Err(PopulationError::Mismatch { table: table.name, figure, expected, found })
        }
    }
}

/// Takes rows that only their tally is wanted of.
struct Discard(Vec<u8>);

impl Sink for Discard {
    fn buffer(&mut self, _leaf: usize) -> &mut Vec<u8> {
        self.0.clear();
        &mut self.0
    }

    fn row_done(&mut self, _leaf: usize) {}
}
