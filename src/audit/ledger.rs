//! The client's ledger as a temporary table beside the events.

use sqlx::postgres::PgConnection;

use super::error::AuditError;
use super::server::execute;
use crate::archive::{LedgerEntries, LedgerEntry};
use crate::postgres::copy_format;

/// Bytes sent at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Creates and fills `pg_temp.ledger (command_id, org_id, outcome)`; outcome is 1 = acknowledged, 2 = refused,
/// 3 = unknown.
pub(super) async fn load(
    connection: &mut PgConnection,
    ledger: &LedgerEntries,
) -> Result<(), AuditError> {
    let act = "load the ledger";
    let during = || AuditError::during(act);
    let create = "CREATE TEMP TABLE ledger (command_id uuid, org_id bigint, outcome smallint)";
    execute(connection, act, create).await?;
    let mut copy = connection
        .copy_in_raw("COPY pg_temp.ledger FROM STDIN (FORMAT binary)")
        .await
        .map_err(during())?;
    let mut bytes = copy_format::HEADER.to_vec();
    for entry in ledger.iter() {
        encode(&entry.map_err(AuditError::Ledger)?, &mut bytes);
        if bytes.len() >= CHUNK_BYTES {
            copy.send(bytes.as_slice()).await.map_err(during())?;
            bytes.clear();
        }
    }
    bytes.extend_from_slice(copy_format::TRAILER);
    copy.send(bytes).await.map_err(during())?;
    copy.finish().await.map_err(during())?;
    execute(connection, act, "ANALYZE pg_temp.ledger").await
}

fn encode(entry: &LedgerEntry, bytes: &mut Vec<u8>) {
    let outcome = i16::from(entry.outcome.code());
    copy_format::begin_row(3, bytes);
    copy_format::field(entry.command.uuid().as_bytes(), bytes);
    copy_format::field(&entry.org.as_i64().to_be_bytes(), bytes);
    copy_format::field(&outcome.to_be_bytes(), bytes);
}
