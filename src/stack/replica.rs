//! Replicas: copied from the primary, started, awaited until they stream.

use std::time::Duration;

use futures::future::try_join_all;

use super::directory::StackDirectory;
use super::error::StackError;
use super::postgres::{Server, Site, endpoint};
use super::settings::Role;
use super::wait::{Seen, TimedOut, wait_for};
use crate::units::ByteSize;

/// How often the primary is asked how far the replicas are.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// Makes all replicas of a primary, side by side, and waits until each streams and has replayed what the primary
/// has now.
pub(super) async fn replicate(
    site: &Site,
    directory: &StackDirectory,
    primary: &Server,
    wal_compression: &str,
) -> Result<Vec<Server>, StackError> {
    // Before any backup starts. pg_basebackup can make its own slot, but does so after the backup's first
    // checkpoint, and the checkpoint of a backup beside it may remove the WAL in between.
    for place in 1..=site.sizing.replicas {
        reserve_wal(primary, &slot(&endpoint(site, place).name)).await?;
    }
    let copies = (1..=site.sizing.replicas)
        .map(|place| copy(site, directory, primary, place, wal_compression));
    let replicas = try_join_all(copies).await?;
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

async fn copy(
    site: &Site,
    directory: &StackDirectory,
    primary: &Server,
    place: u8,
    wal_compression: &str,
) -> Result<Server, StackError> {
    let replica = endpoint(site, place);
    let data = directory.make_data(&replica.name, &site.account)?;
    // The name of the application is what pg_stat_replication knows the replica by.
    let source = format!(
        "host='{}' port={} user={} application_name={}",
        site.sockets.display().to_string().replace('\\', r"\\").replace('\'', r"\'"),
        primary.endpoint.port,
        primary.endpoint.superuser,
        replica.name,
    );
    let log = format!("{}-base-backup", replica.name);
    let backup = site.run("pg_basebackup", &log, site.limits.base_backup, |command| {
        command.arg("--dbname").arg(source).arg("--pgdata").arg(&data);
        command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]);
        command.args(["--slot", &slot(&replica.name)]);
    });
    backup
        .await?
        .map_err(|failure| StackError::BaseBackup { replica: replica.name.clone(), failure })?;
    Server::start(site, replica, data, Role::Replica, wal_compression).await
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
