//! One exchange: a push of what is for sale, or a pull of bookings, and its record. Known by the client's id, so that a retry
//! of one that was done is answered from the record.

use chrono::{DateTime, SubsecRound, Utc};
use metrics::counter;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::channel_manager::{Answer, Availability, CallError, ChannelManager, Session};
use super::rows::{self, Connection};
use crate::db::{Databases, WriteToken};
use crate::domain::OrgId;

/// Pages of one pull; what is left is for the next.
const PAGES_MAX: usize = 10;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Availability and rates, to the channel manager.
    Push,
    /// Bookings, from it.
    Pull,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Done,
    /// The channel manager does not take it, and would not the next time.
    Refused,
    /// The channel manager failed; the same key tries again.
    Failed,
}

/// An exchange as it is on record.
#[derive(Debug, Clone, FromRow, Serialize, ToSchema)]
pub(crate) struct Exchange {
    pub(crate) id: Uuid,
    pub(crate) property_id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    /// Days pushed, or bookings pulled.
    pub(crate) items: i32,
    /// What there is to say about it.
    pub(crate) detail: String,
    pub(crate) began_at: DateTime<Utc>,
    pub(crate) ended_at: DateTime<Utc>,
}

/// Which exchange is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) org: OrgId,
    pub(crate) id: Uuid,
    pub(crate) property: Uuid,
    pub(crate) kind: Kind,
}

/// Why there was no exchange, or none that was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("the property has no connection")]
    NoConnection,
    #[error("the connection is not enabled")]
    NotEnabled,
    #[error("the id was used for another exchange")]
    OtherWithId,
    #[error("call the channel manager: {0}")]
    Call(#[from] CallError),
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
}

/// What an exchange did.
struct Effect {
    outcome: Outcome,
    items: usize,
    detail: String,
}

/// Makes the exchange, unless it was made before.
///
/// # Errors
/// When the channel manager is not to be asked now, nothing is read or recorded; when it fails, the failure is recorded.
pub(crate) async fn exchange(
    databases: &Databases,
    manager: &ChannelManager,
    wanted: Wanted,
) -> Result<(Exchange, WriteToken), ExchangeError> {
    let session = manager.enter()?;
    let (connection, earlier) = rows::look_up(databases, wanted).await?;
    if let Some(earlier) = earlier {
        if (earlier.property_id, earlier.kind) != (wanted.property, wanted.kind) {
            return Err(ExchangeError::OtherWithId);
        }
        if earlier.outcome != Outcome::Failed {
            let token = rows::token(databases).await?;
            return Ok((earlier, token));
        }
    }
    let connection = connection.ok_or(ExchangeError::NoConnection)?;
    if !connection.enabled {
        return Err(ExchangeError::NotEnabled);
    }
    let began_at = Utc::now().trunc_subsecs(6);
    let made = match wanted.kind {
        Kind::Push => push(databases, &session, wanted, &connection).await,
        Kind::Pull => pull(databases, &session, wanted, &connection).await,
    };
    let effect = match &made {
        Ok(effect) => effect,
        Err(ExchangeError::Call(error)) => &Effect {
            outcome: Outcome::Failed,
            items: 0,
            detail: format!("the channel manager: {error}"),
        },
        Err(_) => return Err(made.err().expect("it is an error")),
    };
    let recorded = record(databases, wanted, began_at, effect).await?;
    made.map(|_| recorded)
}

async fn record(
    databases: &Databases,
    wanted: Wanted,
    began_at: DateTime<Utc>,
    effect: &Effect,
) -> Result<(Exchange, WriteToken), ExchangeError> {
    let exchange = Exchange {
        id: wanted.id,
        property_id: wanted.property,
        kind: wanted.kind,
        outcome: effect.outcome,
        items: i32::try_from(effect.items).unwrap_or(i32::MAX),
        detail: effect.detail.clone(),
        began_at,
        ended_at: Utc::now().trunc_subsecs(6),
    };
    let (kind, outcome) = (exchange.kind.label(), exchange.outcome.label());
    counter!("backend_ota_exchanges_total", "kind" => kind, "outcome" => outcome).increment(1);
    counter!("backend_ota_items_total", "kind" => kind).increment(effect.items as u64);
    rows::record(databases, wanted.org, exchange).await
}

async fn push(
    databases: &Databases,
    session: &Session<'_>,
    wanted: Wanted,
    connection: &Connection,
) -> Result<Effect, ExchangeError> {
    let days = rows::for_sale(databases, wanted, connection).await?;
    let items = days.len();
    let answer = session.push(&connection.hotel_code, &Availability { days }).await?;
    Ok(match answer {
        Answer::Given(()) => Effect { outcome: Outcome::Done, items, detail: String::new() },
        Answer::Refused(status) => refused(status),
    })
}

async fn pull(
    databases: &Databases,
    session: &Session<'_>,
    wanted: Wanted,
    connection: &Connection,
) -> Result<Effect, ExchangeError> {
    let (mut place, mut items, mut unusable) = (connection.pulled_to, 0, 0);
    for _ in 0..PAGES_MAX {
        let page = match session.pull(&connection.hotel_code, place).await? {
            Answer::Given(page) => page,
            Answer::Refused(status) => return Ok(refused(status)),
        };
        let bookings = rows::usable(&page.bookings);
        // Backwards would be for ever.
        let forward = page.next > place;
        place = place.max(page.next);
        if !rows::take_in(databases, wanted, connection, &bookings, place).await? {
            let detail =
                "ended early: the property was connected to another hotel meanwhile".into();
            return Ok(Effect { outcome: Outcome::Done, items, detail });
        }
        unusable += page.bookings.len() - bookings.len();
        items += bookings.len();
        if !page.more || !forward {
            break;
        }
    }
    let detail =
        if unusable == 0 { String::new() } else { format!("{unusable} bookings were not usable") };
    Ok(Effect { outcome: Outcome::Done, items, detail })
}

fn refused(status: reqwest::StatusCode) -> Effect {
    let detail = format!("the channel manager refused it: {status}");
    Effect { outcome: Outcome::Refused, items: 0, detail }
}

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}
