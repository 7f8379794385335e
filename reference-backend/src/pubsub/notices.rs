//! The subscriber `notifications`, and notices of dead letters: what an organisation should know becomes a row that it finds in
//! its list, and an update for the browsers that are open.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::catalogue::NOTIFICATIONS;
use super::{HandleError, Message, Subscriber, Topic, publish};
use crate::db::{Database, Databases};
use crate::domain::{OrgId, RecordedEvent};

/// Time between two looks for dead letters that nobody was told of.
const LOOK: Duration = Duration::from_secs(1);

/// What an organisation is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Derived from the cause: a cause that is told twice is one notification.
    pub(crate) id: Uuid,
    /// Which sort, for filters and icons.
    pub(crate) kind: &'static str,
    /// One line.
    pub(crate) title: String,
    /// The rest.
    pub(crate) body: String,
}

const INSERT: &str = "\
    INSERT INTO notifications (org_id, id, kind, title, body) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT DO NOTHING";

/// Keeps a notice, and publishes it with the transaction of `event_store`. Told again, it is published again and kept once.
pub(crate) async fn notify(
    db: &Databases,
    event_store: &mut PgConnection,
    org: OrgId,
    notice: &Notice,
) -> sqlx::Result<()> {
    let Notice { id, kind, title, body } = notice;
    sqlx::query(INSERT)
        .bind(org.get())
        .bind(id)
        .bind(kind)
        .bind(title)
        .bind(body)
        .execute(db.write(Database::Shared))
        .await?;
    let data =
        json!({"type": "notification", "id": id, "kind": kind, "title": title, "body": body});
    publish(event_store, Topic::RealtimeUpdates, org, &data).await?;
    Ok(())
}

/// Tells organisations of entries from an amount up.
#[derive(Debug)]
pub(crate) struct LargeEntries {
    pub(crate) db: Databases,
    pub(crate) cents: i64,
}

impl LargeEntries {
    async fn tell(&self, event: &RecordedEvent) -> Result<(), HandleError> {
        let mut connection = self.db.write(Database::EventStore).acquire().await?;
        Ok(notify(&self.db, &mut connection, event.org, &of_large_entry(event)).await?)
    }
}

impl Subscriber for LargeEntries {
    fn name(&self) -> &'static str {
        NOTIFICATIONS
    }

    fn topic(&self) -> Topic {
        Topic::FinanceEvents
    }

    fn wants(&self, event: &RecordedEvent) -> bool {
        event.event.entry().amount.cents() >= self.cents
    }

    fn handle<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), HandleError>> {
        Box::pin(async move {
            match message.event() {
                Some(event) => self.tell(event).await,
                None => Err(HandleError::Reject("not an event".to_owned())),
            }
        })
    }
}

fn of_large_entry(event: &RecordedEvent) -> Notice {
    let entry = event.event.entry();
    let cents = entry.amount.cents();
    let what = match event.event.type_name() {
        "revenue_recorded" => "revenue",
        _ => "expense",
    };
    Notice {
        id: Uuid::new_v5(&event.command.uuid(), b"large-entry"),
        kind: "large-entry",
        title: format!("A large {what}: {}.{:02}", cents / 100, cents % 100),
        body: format!(
            "Booked under {} for {} in property {}.",
            entry.category, entry.date, event.property
        ),
    }
}

/// Tells the organisation's browsers, after a repair, which figures to load anew.
#[derive(Debug)]
pub(super) struct Announced<S> {
    pub(super) repair: S,
    pub(super) db: Databases,
}

impl<S: Subscriber> Subscriber for Announced<S> {
    fn name(&self) -> &'static str {
        self.repair.name()
    }

    fn topic(&self) -> Topic {
        self.repair.topic()
    }

    fn handle<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), HandleError>> {
        Box::pin(async move {
            self.repair.handle(message).await?;
            let told = json!({"type": "correction", "of": message.data()});
            let mut connection = self.db.write(Database::EventStore).acquire().await?;
            publish(&mut connection, Topic::RealtimeUpdates, message.org, &told).await?;
            Ok(())
        })
    }
}

/// A dead letter that nobody was told of: id, organisation, subscription, shard, position.
type Unnoticed = (i64, i64, String, i16, i64);

/// Locked while its notice is written, so that two processes do not both tell.
const UNNOTICED: &str = "\
    SELECT id, org_id, subscription, shard, position FROM dead_letters \
    WHERE noticed_at IS NULL ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED";

/// Tells organisations of messages that were given up, until told to stop.
pub(super) async fn tell_of_dead_letters(db: Databases, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = tell_of_some(&db).await {
            warn!(%error, "organisations could not be told of dead letters");
        }
    }
}

async fn tell_of_some(db: &Databases) -> sqlx::Result<()> {
    let mut transaction = db.write(Database::EventStore).begin().await?;
    let letters: Vec<Unnoticed> = sqlx::query_as(UNNOTICED).fetch_all(&mut *transaction).await?;
    if letters.is_empty() {
        return transaction.rollback().await;
    }
    for (_, org, subscription, shard, position) in &letters {
        let org = OrgId::new(*org).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let notice = of_dead_letter(subscription, *shard, *position);
        notify(db, &mut transaction, org, &notice).await?;
    }
    let ids: Vec<i64> = letters.iter().map(|(id, ..)| *id).collect();
    sqlx::query("UPDATE dead_letters SET noticed_at = now() WHERE id = ANY($1)")
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

fn of_dead_letter(subscription: &str, shard: i16, position: i64) -> Notice {
    let cause = format!("dead-letter/{subscription}/{shard}/{position}");
    Notice {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, cause.as_bytes()),
        kind: "dead-letter",
        title: "Something could not be finished".to_owned(),
        body: format!(
            "`{subscription}` gave up on one of your messages (number {position}). It is kept, and someone will look at it."
        ),
    }
}
