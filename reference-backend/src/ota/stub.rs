//! A stand-in for the channel manager, to be made slow or broken while it runs. Each push books one room more, so that there
//! is something to pull.
//!
//! ```text
//! GET /hotels/{code}/availability                 what was pushed last
//! GET /control                                    → {"delay_ms", "fail_ratio", "calls", "failed", "in_flight", "in_flight_max"}
//! PUT /control   {"delay_ms"?, "fail_ratio"?}     the same, and in_flight_max begins anew; who waits, waits by the new delay
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{Days, NaiveDate, Utc};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::channel_manager::{Availability, Booking, BookingStatus, Bookings, DayForSale, PAGE};

/// How the stub behaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Args)]
pub struct Behaviour {
    /// Time that each answer takes, in ms.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub delay_ms: u64,
    /// Share of calls answered 500, from 0 to 1, spread evenly.
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = ratio)]
    pub fail_ratio: f64,
}

fn ratio(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

#[derive(Debug)]
struct Stub {
    behaviour: watch::Sender<Behaviour>,
    state: Mutex<Seen>,
}

/// What there is to know about it.
#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    /// What of the failures is due: at 1, the next call fails.
    failure_due: f64,
    hotels: HashMap<String, Hotel>,
}

/// What it knows of a hotel.
#[derive(Debug, Default)]
struct Hotel {
    for_sale: Vec<DayForSale>,
    booked: i64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Counts {
    calls: u64,
    failed: u64,
    in_flight: u64,
    in_flight_max: u64,
}

/// Answers until `stop`; `listening` is told the address.
///
/// # Errors
/// When the address is taken.
pub async fn stub(
    listen: SocketAddr,
    behaviour: Behaviour,
    stop: CancellationToken,
    listening: impl FnOnce(SocketAddr),
) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    listening(listener.local_addr()?);
    let stub = Arc::new(Stub { behaviour: watch::Sender::new(behaviour), state: Mutex::default() });
    let hotels = Router::new()
        .route("/hotels/{code}/availability", get(for_sale).put(availability))
        .route("/hotels/{code}/bookings", get(bookings))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&stub), behave));
    let routes = hotels.route("/control", get(control).put(change)).with_state(Arc::clone(&stub));
    let ended = tokio::select! {
        ended = axum::serve(listener, routes).into_future() => ended,
        // Who still waits for an answer waits for a stand-in.
        () = stop.cancelled() => Ok(()),
    };
    let Counts { calls, failed, in_flight_max, .. } = stub.state().counts;
    tracing::info!(calls, failed, in_flight_max, "ended: what it was asked");
    ended
}

impl Stub {
    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; counted off when it is answered or given up.
struct InFlight(Arc<Stub>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().counts.in_flight -= 1;
    }
}

/// Slow and broken, as told.
async fn behave(State(stub): State<Arc<Stub>>, request: Request, next: Next) -> Response {
    let mut told = stub.behaviour.subscribe();
    let fails = stub.state().begin(told.borrow().fail_ratio);
    let _in_flight = InFlight(Arc::clone(&stub));
    let begun = Instant::now();
    loop {
        let delay = Duration::from_millis(told.borrow_and_update().delay_ms);
        tokio::select! {
            () = tokio::time::sleep_until(begun + delay) => break,
            Ok(()) = told.changed() => {}
        }
    }
    if fails {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    next.run(request).await
}

impl Seen {
    /// Counts a call in; whether it is to fail.
    fn begin(&mut self, fail_ratio: f64) -> bool {
        let counts = &mut self.counts;
        counts.calls += 1;
        counts.in_flight += 1;
        counts.in_flight_max = counts.in_flight_max.max(counts.in_flight);
        self.failure_due += fail_ratio;
        // Sums of tenths are not exact.
        let fails = self.failure_due > 1.0 - 1e-9;
        if fails {
            self.failure_due -= 1.0;
            self.counts.failed += 1;
        }
        fails
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    delay_ms: u64,
    fail_ratio: f64,
    calls: u64,
    failed: u64,
    in_flight: u64,
    in_flight_max: u64,
}

async fn control(State(stub): State<Arc<Stub>>) -> Json<Shown> {
    let (Behaviour { delay_ms, fail_ratio }, counts) =
        (*stub.behaviour.borrow(), stub.state().counts);
    let Counts { calls, failed, in_flight, in_flight_max } = counts;
    Json(Shown { delay_ms, fail_ratio, calls, failed, in_flight, in_flight_max })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    delay_ms: Option<u64>,
    fail_ratio: Option<f64>,
}

async fn change(State(stub): State<Arc<Stub>>, Json(change): Json<Change>) -> Response {
    if change.fail_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "fail_ratio: expected 0 to 1").into_response();
    }
    stub.behaviour.send_modify(|behaviour| {
        behaviour.delay_ms = change.delay_ms.unwrap_or(behaviour.delay_ms);
        behaviour.fail_ratio = change.fail_ratio.unwrap_or(behaviour.fail_ratio);
    });
    {
        let mut state = stub.state();
        state.counts.in_flight_max = state.counts.in_flight;
        state.failure_due = 0.0;
    }
    control(State(stub)).await.into_response()
}

/// A hotel that the channel manager does not know.
const UNKNOWN: &str = "unknown";

async fn availability(
    State(stub): State<Arc<Stub>>,
    Path(code): Path<String>,
    Json(Availability { days }): Json<Availability>,
) -> Response {
    if code == UNKNOWN {
        return StatusCode::NOT_FOUND.into_response();
    }
    let accepted = days.len();
    let mut state = stub.state();
    let hotel = state.hotels.entry(code).or_default();
    hotel.for_sale = days;
    hotel.booked += 1;
    Json(serde_json::json!({"accepted": accepted})).into_response()
}

/// What was pushed last.
async fn for_sale(State(stub): State<Arc<Stub>>, Path(code): Path<String>) -> Response {
    match stub.state().hotels.get(&code) {
        Some(hotel) => Json(Availability { days: hotel.for_sale.clone() }).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Debug, Deserialize)]
struct Asked {
    after: i64,
    limit: usize,
}

async fn bookings(
    State(stub): State<Arc<Stub>>,
    Path(code): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    if code == UNKNOWN {
        return StatusCode::NOT_FOUND.into_response();
    }
    let booked = stub.state().hotels.get(&code).map_or(0, |hotel| hotel.booked);
    let today = Utc::now().date_naive();
    let numbers = (asked.after.max(0) + 1)..=booked;
    let shown: Vec<_> = numbers.take(asked.limit.min(PAGE)).collect();
    let next = shown.last().copied().unwrap_or(asked.after);
    let shown = shown.into_iter().map(|number| booking(number, today));
    let bookings = shown.map(|booking| serde_json::to_value(booking).expect("plain data"));
    Json(Bookings { bookings: bookings.collect(), next, more: next < booked }).into_response()
}

/// The booking of a number: always the same on a day. Every tenth is the cancellation of the one before.
fn booking(number: i64, today: NaiveDate) -> Booking {
    let cancels = number % 10 == 0;
    let of = if cancels { number - 1 } else { number };
    let ahead = of.unsigned_abs() % 60;
    let nights = 1 + of.unsigned_abs() % 5;
    Booking {
        reference: format!("CM-{of}"),
        guest_name: format!("Guest {of}"),
        arrival: today + Days::new(ahead),
        departure: today + Days::new(ahead + nights),
        status: if cancels { BookingStatus::Cancelled } else { BookingStatus::Booked },
        amount_cents: 9_000 * i64::try_from(nights).unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_spread_evenly() {
        let fails = |ratio: f64| {
            let mut state = Seen::default();
            (0..100).filter(|_| state.begin(ratio)).count()
        };
        assert_eq!([0.0, 0.1, 0.3, 0.5, 1.0].map(fails), [0, 10, 30, 50, 100]);
    }
}
