//! Topics and subscriptions on a real PostgreSQL: every message at least once, in order, whatever happens on the way.

use reference_backend::pubsub::{Topic, publish};
use serde_json::json;
use sqlx::Connection;

use crate::common::{Cluster, org};

#[tokio::test]
async fn a_message_exists_once_its_transaction_is_committed_and_never_leaves_a_hole() {
    let cluster = Cluster::start().await;
    let mut one = cluster.admin("plimsoll_event_store").await;
    let data = json!({"n": 1});
    let mut given_up = one.begin().await.unwrap();
    let topic = Topic::RealtimeUpdates;
    assert_eq!(publish(&mut given_up, topic, org(1), &data).await.unwrap(), 1);
    given_up.rollback().await.unwrap();

    // Two at once: the second waits for the first to commit.
    let mut first = one.begin().await.unwrap();
    assert_eq!(publish(&mut first, topic, org(1), &data).await.unwrap(), 1);
    let mut other = cluster.admin("plimsoll_event_store").await;
    let second =
        tokio::spawn(async move { publish(&mut other, topic, org(2), &json!({"n": 2})).await });
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap(), 2);

    let elsewhere = Topic::BalanceCorrections;
    assert_eq!(publish(&mut one, elsewhere, org(1), &data).await.unwrap(), 1);
    assert!(publish(&mut one, Topic::FinanceEvents, org(1), &data).await.is_err());
}
