//! The client of the channel manager's API.
//!
//! ```text
//! PUT /hotels/{code}/availability   {"days": [{date, available, rate_cents}]}
//! GET /hotels/{code}/bookings?after=N&limit=L   → {"bookings": […], "next": N, "more": bool}
//! ```

use bytes::{Bytes, BytesMut};
use chrono::NaiveDate;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{self, BaseUrl};
use crate::resilience::{self, Dependency, Entered};

/// Bookings asked for at once.
pub(super) const PAGE: usize = 200;
/// A longer answer is not read to its end.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The label of its metrics.
const NAME: &str = "channel-manager";

/// The outside channel manager, behind all that keeps its faults its own.
#[derive(Debug)]
pub struct ChannelManager {
    base: BaseUrl,
    client: Client,
    dependency: Dependency,
}

/// Why a call gave no answer.
pub(crate) type CallError = resilience::CallError<Failure>;

/// How the channel manager failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it could not be reached")]
    Transport(#[from] reqwest::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("its answer is not as agreed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// An answer: what was asked for, or that it will never be given.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Given(T),
    Refused(StatusCode),
}

/// What is for sale on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DayForSale {
    pub(super) date: NaiveDate,
    pub(super) available: i32,
    pub(super) rate_cents: i64,
}

/// The days of a push.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Availability {
    pub(super) days: Vec<DayForSale>,
}

/// A page of a hotel's bookings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bookings {
    /// Each is looked at alone, so that one that is wrong does not hold up the others.
    pub(super) bookings: Vec<Value>,
    /// Place to go on from.
    pub(super) next: i64,
    pub(super) more: bool,
}

/// A booking or its present state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Booking {
    pub(super) reference: String,
    pub(super) guest_name: String,
    pub(super) arrival: NaiveDate,
    pub(super) departure: NaiveDate,
    pub(super) status: BookingStatus,
    pub(super) amount_cents: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BookingStatus {
    Booked,
    Cancelled,
}

impl ChannelManager {
    /// None where no URL is configured.
    ///
    /// # Errors
    /// When the system gives no means to make HTTP requests.
    pub fn new(settings: &config::Ota) -> reqwest::Result<Option<Self>> {
        let Some(base) = settings.channel_manager_url.clone() else { return Ok(None) };
        let client = Client::builder()
            // Where it would send us, nobody has looked at.
            .redirect(Policy::none())
            .connect_timeout(settings.calls.connect_timeout_ms.duration())
            .build()?;
        let dependency = Dependency::new(NAME, &settings.calls);
        Ok(Some(Self { base, client, dependency }))
    }

    /// A place for one exchange; refuses at once where its calls would be.
    pub(super) fn enter(&self) -> Result<Session<'_>, CallError> {
        Ok(Session { manager: self, entered: self.dependency.enter()? })
    }
}

/// The calls of one exchange.
#[derive(Debug)]
pub(super) struct Session<'a> {
    manager: &'a ChannelManager,
    entered: Entered<'a>,
}

impl Session<'_> {
    /// Tells what is for sale.
    pub(super) async fn push(
        &self,
        hotel: &str,
        availability: &Availability,
    ) -> Result<Answer<()>, CallError> {
        let url = format!("{}/hotels/{hotel}/availability", self.manager.base);
        let body = serde_json::to_vec(availability).expect("dates and numbers");
        let request = || self.manager.client.put(&url).body(body.clone());
        self.call(|| with_type(request()), |_| Ok(())).await
    }

    /// Asks for bookings behind a place in the hotel's list.
    pub(super) async fn pull(
        &self,
        hotel: &str,
        after: i64,
    ) -> Result<Answer<Bookings>, CallError> {
        let base = &self.manager.base;
        let url = format!("{base}/hotels/{hotel}/bookings?after={after}&limit={PAGE}");
        let parse = |body: Bytes| Ok(serde_json::from_slice(&body)?);
        self.call(|| self.manager.client.get(&url), parse).await
    }

    /// Both calls can be repeated: a push says what is, and a pull changes nothing there.
    async fn call<T: Send + 'static>(
        &self,
        request: impl Fn() -> RequestBuilder,
        parse: fn(Bytes) -> Result<T, Failure>,
    ) -> Result<Answer<T>, CallError> {
        let attempt = || {
            let sent = request().send();
            async move {
                let answer = sent.await?;
                let status = answer.status();
                if status.is_success() {
                    return parse(read(answer).await?).map(Answer::Given);
                }
                // It understood and says no: it is not broken, and asking again is no use.
                let refuses = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
                if refuses { Ok(Answer::Refused(status)) } else { Err(Failure::Status(status)) }
            }
        };
        self.entered.call(true, |_| true, attempt).await
    }
}

fn with_type(request: RequestBuilder) -> RequestBuilder {
    request.header(reqwest::header::CONTENT_TYPE, "application/json")
}

async fn read(mut answer: reqwest::Response) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
