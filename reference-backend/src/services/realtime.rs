//! `realtime`: what happens in an organisation, pushed to its browsers as server-sent events.
//!
//! ```text
//! event: ready          first of all; its id is where the stream begins
//! event: entry          a revenue or an expense was booked
//! event: notification   there is something to know     event: correction   figures were put right     event: update   else
//! event: reset          more was missed than is read back: load the page anew, and go on from this id
//! event: end            {"reason": "slow" | "closing" | "expired"}; a browser comes back by itself, and where it was
//! ```
//! The id of each is a place in both logs, so a stream that is resumed after it misses nothing and repeats nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Realtime;
use crate::db::{Database, Freshness, Reader};
use crate::domain::OrgId;
use crate::events::events_of;
use crate::gateway::{App, OrgPath, PageTenant, Problem, Refusals};
use crate::pubsub::{Mark, Next, Place, Refused, Seat, Topic, Update};

const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(listen))
}

/// The token of a browser, whose `EventSource` cannot send an `Authorization` header.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its shape matters")]
struct TokenParam {
    /// The bearer token.
    access_token: Option<String>,
}

/// Where the stream goes on.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape matters")]
struct LastEventId {
    /// The id of the last event that was received: the stream goes on after it. Browsers send it by themselves.
    #[param(rename = "Last-Event-ID", pattern = "^[0-9]{1,18}[.][0-9]{1,18}$")]
    last_event_id: Option<String>,
}

/// One event of the stream, by the fields of its lines.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only its shape matters")]
struct StreamedEvent {
    /// Where to go on: what a browser sends as `Last-Event-ID`.
    id: Option<String>,
    /// `ready`, `entry`, `notification` and so on.
    event: Option<String>,
    /// JSON.
    data: Option<String>,
    /// Milliseconds to wait before coming back.
    retry: Option<u64>,
}

/// What happens in the organisation from now on, as server-sent events. Never ends by itself before the token does.
#[utoipa::path(get, path = "/v1/orgs/{org}/realtime", tag = "realtime", params(OrgPath, TokenParam, LastEventId),
    responses((status = 200, body = StreamedEvent, content_type = "text/event-stream"), Refusals))]
async fn listen(
    tenant: PageTenant,
    headers: HeaderMap,
    State(app): State<Arc<App>>,
) -> Result<Response, Problem> {
    let last = last_event_id(&headers)?;
    // Joined before reading back: what is committed from here on comes through the seat.
    let (seat, now) = app.realtime.join(tenant.org)?;
    let settings = app.realtime.settings();
    let (begin, missed) = match last {
        None => (now, Some(VecDeque::new())),
        Some(last) => (last, read_back(&app, tenant.org, last, settings.resume_updates_max).await?),
    };
    let stream = match missed {
        Some(missed) => Stream::new(seat, begin, "ready", missed, tenant.expires_at, settings),
        None => Stream::new(seat, now, "reset", VecDeque::new(), tenant.expires_at, settings),
    };
    let mut response = Sse::new(stream::unfold(stream, Stream::step)).into_response();
    // Proxies of the nginx kind would else hold events back until a buffer is full.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(unbuffered, HeaderValue::from_static("no"));
    Ok(response)
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::unavailable(match refused {
            Refused::Full => "this process has as many streams as it may",
            Refused::OrganisationFull => "the organisation has as many streams as it may",
            Refused::Closed => "the process is stopping",
        })
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Mark>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let mark = id.to_str().ok().and_then(|text| text.parse().ok());
    let refused = || Problem::malformed("the header Last-Event-ID is not an id of this stream");
    mark.map(Some).ok_or_else(refused)
}

const MESSAGES: &str = "\
    SELECT position, data FROM topic_messages \
    WHERE topic = $1 AND org_id = $2 AND position > $3 ORDER BY position LIMIT $4";

/// What an organisation missed since a mark; None if that is too much, no longer kept, or if the mark is from another store.
async fn read_back(
    app: &App,
    org: OrgId,
    mark: Mark,
    limit: usize,
) -> Result<Option<VecDeque<Update>>, Problem> {
    // The primary: a replica may lack what the hub had already handed out when this stream joined.
    let mut reader = app.databases.read(Database::EventStore, Freshness::Newest);
    if !exists(&mut reader, org, mark).await? {
        return Ok(None);
    }
    let most = limit as i64 + 1;
    let events = events_of(&mut reader, org, mark.event, most).await?;
    let messages: Vec<(i64, Value)> = reader
        .fetch_all(|| {
            sqlx::query_as(MESSAGES)
                .bind(Topic::RealtimeUpdates.name())
                .bind(org.get())
                .bind(mark.message)
                .bind(most)
        })
        .await?;
    let messages = messages.iter().map(|(position, data)| Update::of_message(*position, data));
    let missed: VecDeque<Update> = events.iter().map(Update::of_event).chain(messages).collect();
    Ok((missed.len() <= limit).then_some(missed))
}

const EXISTS: &str = "\
    SELECT coalesce((SELECT max(position) FROM events WHERE shard = $1), 0) >= $2 \
    AND (SELECT head >= $4 AND forgotten <= $4 FROM topics WHERE topic = $3)";

/// Whether both logs reach up to a mark, and hold all that came after it.
async fn exists(reader: &mut Reader, org: OrgId, mark: Mark) -> sqlx::Result<bool> {
    let found: Option<(bool,)> = reader
        .fetch_optional(|| {
            sqlx::query_as(EXISTS)
                .bind(crate::events::Shard::of(org).number())
                .bind(mark.event)
                .bind(Topic::RealtimeUpdates.name())
                .bind(mark.message)
        })
        .await?;
    Ok(found.is_some_and(|(reached,)| reached))
}

/// One browser's stream.
struct Stream {
    seat: Seat,
    /// Up to where the browser has been told.
    mark: Mark,
    /// The first event's name, until it is sent.
    opening: Option<&'static str>,
    missed: VecDeque<Update>,
    expires_at: Instant,
    settings: Realtime,
    ended: bool,
}

impl Stream {
    fn new(
        seat: Seat,
        mark: Mark,
        opening: &'static str,
        missed: VecDeque<Update>,
        expires_at: Instant,
        settings: &Realtime,
    ) -> Self {
        let settings = settings.clone();
        Self { seat, mark, opening: Some(opening), missed, expires_at, settings, ended: false }
    }

    /// The next event, and the stream after it; None at the end.
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if self.ended {
            return None;
        }
        let event = match self.opening.take() {
            Some(name) => self
                .named(name, &json!({}).to_string())
                .retry(self.settings.reconnect_ms.duration()),
            None => self.next().await,
        };
        Some((Ok(event), self))
    }

    async fn next(&mut self) -> Event {
        loop {
            let heartbeat = Instant::now() + self.settings.heartbeat_ms.duration();
            let next = match self.missed.pop_front() {
                Some(update) => Next::Update(Arc::new(update)),
                None => self.seat.next(heartbeat.min(self.expires_at)).await,
            };
            match next {
                Next::Update(update) if self.passes(update.place) => {
                    return self.named(update.name, &update.data);
                }
                // Read back already.
                Next::Update(_) => {}
                Next::Quiet(_) if Instant::now() >= self.expires_at => return self.end("expired"),
                Next::Quiet(mark) => {
                    // An id without data is no event for the page, but moves the place to come back to.
                    self.mark.event = mark.event.max(self.mark.event);
                    self.mark.message = mark.message.max(self.mark.message);
                    return Event::default().id(self.mark.to_string()).comment("still here");
                }
                Next::TooSlow => return self.end("slow"),
                Next::Closed => return self.end("closing"),
            }
        }
    }

    /// Whether an update is new to the browser; it then counts as told.
    fn passes(&mut self, place: Place) -> bool {
        let (told, position) = match place {
            Place::Event(position) => (&mut self.mark.event, position),
            Place::Message(position) => (&mut self.mark.message, position),
        };
        let new = position > *told;
        *told = position.max(*told);
        new
    }

    fn named(&self, name: &str, data: &str) -> Event {
        Event::default().id(self.mark.to_string()).event(name).data(data)
    }

    fn end(&mut self, reason: &str) -> Event {
        self.ended = true;
        self.named("end", &json!({ "reason": reason }).to_string())
    }
}
