//! Replicas: copied from the primary, started, awaited until they stream.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;

use super::directory::StackDirectory;
use super::error::StackError;
use super::postgres::{self, Server, Site, endpoint};
use super::settings::Role;
use super::wait::{Seen, TimedOut, wait_for};
use crate::units::ByteSize;

/// How often the primary is asked how far the replicas are.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// Copies a stopped primary to all its replicas-to-be: a cold backup, with nothing to wait for and nothing to recover.
pub(super) async fn copy(
    site: &Site,
    directory: &StackDirectory,
    primary: &Path,
) -> Result<Vec<PathBuf>, StackError> {
    let mut copies = Vec::new();
    for place in 1..=site.sizing.replicas {
        let replica = endpoint(site, place);
        let data = directory.make_data(&replica.name, &site.account)?;
        postgres::copy(site, primary, &data, &format!("to {}", replica.name)).await?;
        let link = format!(
            "primary_conninfo = {}\nprimary_slot_name = {}\n",
            quoted(&conninfo(site, &replica.name)),
            quoted(&slot(&replica.name)),
        );
        site.write_owned(&data.join("postgresql.auto.conf"), &link)?;
        site.write_owned(&data.join("standby.signal"), "")?;
        copies.push(data);
    }
    Ok(copies)
}

/// How a replica finds the primary. The name of the application is what `pg_stat_replication` knows the replica by.
fn conninfo(site: &Site, replica: &str) -> String {
    let primary = endpoint(site, 0);
    let sockets = site.sockets.display().to_string().replace('\\', r"\\").replace('\'', r"\'");
    format!(
        "host='{sockets}' port={} user={} application_name={replica}",
        primary.port, primary.superuser,
    )
}

/// A value of a configuration file.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

/// Starts the replicas on their copies of the primary, side by side, and waits until each streams and has replayed what the
/// primary has now.
pub(super) async fn replicate(
    site: &Site,
    primary: &Server,
    copies: Vec<PathBuf>,
    wal_compression: &str,
) -> Result<Vec<Server>, StackError> {
    let starts = (1..).zip(copies).map(|(place, data)| async move {
        let replica = endpoint(site, place);
        // Nothing has been removed since the copy: the primary has not made a checkpoint yet.
        reserve_wal(primary, &slot(&replica.name)).await?;
        Server::start(site, replica, data, Role::Replica, wal_compression).await
    });
    let replicas = try_join_all(starts).await?;
    stream(site, primary, &replicas).await?;
    Ok(replicas)
}

/// Name of a replica's slot, which may hold no hyphen.
fn slot(replica: &str) -> String {
    replica.replace('-', "_")
}

/// Makes a slot that holds the WAL from now on.
async fn reserve_wal(primary: &Server, slot: &str) -> Result<(), StackError> {
    primary
        .ask("make a replication slot", |mut connection| async move {
            sqlx::query(
                "SELECT pg_create_physical_replication_slot($1, immediately_reserve => true)",
            )
            .bind(slot)
            .execute(&mut connection)
            .await
            .map(drop)
        })
        .await
}

async fn stream(site: &Site, primary: &Server, replicas: &[Server]) -> Result<(), StackError> {
    if replicas.is_empty() {
        return Ok(());
    }
    let streaming = wait_for(site.limits.catch_up, ASK_INTERVAL, || async {
        let behind = behind(primary, replicas).await?;
        Ok(if behind.is_empty() { Seen::Done(()) } else { Seen::NotYet(behind.join("; ")) })
    });
    streaming.await?.map_err(|TimedOut { limit, last }| {
        let first = replicas.iter().find(|replica| last.starts_with(replica.name()));
        let evidence = first.unwrap_or(&replicas[0]).evidence();
        StackError::ReplicaBehind { limit, last, evidence }
    })
}

/// The replicas that have not replayed everything, each with its state as the primary sees it.
async fn behind(primary: &Server, replicas: &[Server]) -> Result<Vec<String>, StackError> {
    let connected: Vec<(String, String, i64)> = primary
        .ask("ask for the state of the replicas", |mut connection| async move {
            sqlx::query_as(
                "SELECT application_name, state,
                        pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, '0/0'))::bigint
                 FROM pg_stat_replication",
            )
            .fetch_all(&mut connection)
            .await
        })
        .await?;
    let state = |replica: &Server| {
        let name = replica.name();
        let Some((_, state, bytes)) = connected.iter().find(|(found, ..)| found == name) else {
            return Some(format!("{name} is not connected"));
        };
        let bytes = ByteSize::new(u64::try_from(*bytes).unwrap_or(0));
        let caught_up = state == "streaming" && bytes.get() == 0;
        (!caught_up).then(|| format!("{name} is in state {state}, {bytes} behind"))
    };
    Ok(replicas.iter().filter_map(state).collect())
}
