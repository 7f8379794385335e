//! The choice of a server for reads, with a real replica.

use std::time::{Duration, Instant};

use reference_backend::db::{Database, Databases, Freshness, Lsn};

use crate::common::{Cluster, Replica};

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Who answers a read.
async fn server(db: &Databases, freshness: Freshness) -> &'static str {
    let mut reader = db.read(Database::Shared, freshness);
    let query = || sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM organisations");
    reader.fetch_all(query).await.unwrap();
    reader.source().server()
}

async fn written(cluster: &Cluster) -> Lsn {
    let mut admin = cluster.admin("plimsoll_shared").await;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS noise (n int); INSERT INTO noise VALUES (1)")
        .execute(&mut admin)
        .await
        .unwrap();
    let bytes = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint";
    Lsn::from_bytes(sqlx::query_scalar(bytes).fetch_one(&mut admin).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_follow_the_replicas_health_and_position() {
    let cluster = Cluster::start().await;
    let mut replica = Replica::of(&cluster).await;
    let config = cluster.config(&format!(
        "[[database.replicas]]\nname = \"replica-1\"\nhost = \"{0}\"\nport = {1}\n\
         [[database.replicas]]\nname = \"replica-2\"\nhost = \"{0}\"\nport = 1\n\
         [database.replica_choice]\nlag_max_ms = 600000\n",
        replica.socket().display(),
        replica.port(),
    ));
    // replica-2 never answers; the backend starts all the same.
    let db = Databases::connect(&config.database).await.unwrap();
    until("replica-1 is healthy", || db.healthy_replicas() == ["replica-1"]).await;
    assert_eq!(server(&db, Freshness::Any).await, "replica-1");
    assert_eq!(server(&db, Freshness::Any).await, "replica-1");
    assert_eq!(server(&db, Freshness::Newest).await, "primary");

    // A replica that stands still shows no later write, but may still answer who needs none.
    let mut on_replica = replica.admin().await;
    sqlx::raw_sql("SELECT pg_wal_replay_pause()").execute(&mut on_replica).await.unwrap();
    let lsn = written(&cluster).await;
    assert_eq!(server(&db, Freshness::AtLeast(lsn)).await, "primary");
    assert_eq!(server(&db, Freshness::Any).await, "replica-1");
    sqlx::raw_sql("SELECT pg_wal_replay_resume()").execute(&mut on_replica).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while server(&db, Freshness::AtLeast(lsn)).await != "replica-1" {
        assert!(Instant::now() < deadline, "the replica never counted as caught up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(on_replica);

    // Killed in the middle: the read is answered all the same, and the replica is left out until it is back.
    replica.kill();
    assert_eq!(server(&db, Freshness::Any).await, "primary");
    until("replica-1 is left out", || db.healthy_replicas().is_empty()).await;
    assert_eq!(server(&db, Freshness::Any).await, "primary");
    replica.start().await;
    until("replica-1 is back", || db.healthy_replicas() == ["replica-1"]).await;
    db.close().await;
}
