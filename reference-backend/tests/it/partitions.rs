//! Migration and the partition manager on a real PostgreSQL.

use chrono::Months;
use sqlx::{Connection, Executor};

use crate::common::{Cluster, today};
use reference_backend::config::Partitions;
use reference_backend::db::{Database, Databases, migrate};
use reference_backend::partitioning::{self, Horizon, Month, PartitionError};

async fn horizon(cluster: &Cluster) -> Horizon {
    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let horizon = partitioning::horizon(db.write(Database::Finance), today()).await.unwrap();
    db.close().await;
    horizon
}

#[tokio::test]
async fn migrating_again_changes_nothing_but_adds_months() {
    let cluster = Cluster::start().await;
    let month = Month::of(today());
    let end = month.plus(4).first_day();
    assert_eq!(horizon(&cluster).await, Horizon { first: month.minus(2).first_day(), end });
    migrate(&cluster.config(""), 5, today()).await.unwrap();
    migrate(&cluster.config(""), 5, today()).await.unwrap();
    assert_eq!(horizon(&cluster).await, Horizon { first: month.minus(5).first_day(), end });

    let db = Databases::connect(&cluster.config("").database).await.unwrap();
    let later = today() + Months::new(12);
    let missing = partitioning::horizon(db.write(Database::Finance), later).await;
    assert!(matches!(missing, Err(PartitionError::CurrentMonthMissing { .. })), "{missing:?}");
    db.close().await;
}

#[tokio::test]
async fn a_locked_table_is_tried_again_and_then_told() {
    let cluster = Cluster::start().await;
    let mut holder = cluster.admin("plimsoll_finance").await;
    let mut maker = cluster.admin("plimsoll_finance").await;
    let mut config: Partitions = cluster.config("").partitions;
    (config.lock_timeout_ms.0, config.lock_tries) = (20, 2);
    let next = Month::of(today()).plus(4);

    let mut transaction = holder.begin().await.unwrap();
    transaction
        .execute("LOCK TABLE expenses_partitioned IN SHARE UPDATE EXCLUSIVE MODE")
        .await
        .unwrap();
    let refused = partitioning::create(&mut maker, next, next, &config).await;
    assert!(matches!(refused, Err(PartitionError::Locked { tries: 2, .. })), "{refused:?}");
    transaction.rollback().await.unwrap();

    // The table that was not locked has its partition already; only the other one is missing.
    let made = partitioning::create(&mut maker, next, next, &config).await.unwrap();
    assert_eq!(made, [next.partition_of("expenses_partitioned")]);
    let again = partitioning::create(&mut maker, next, next, &config).await.unwrap();
    assert_eq!(again, Vec::<String>::new());
}
