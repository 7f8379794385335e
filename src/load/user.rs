//! What a user does with an arrival: send it if there is still time, judge the answer, record both.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::desk::Desk;
use super::exchange::{Answer, Exchange, exchange};
use super::frame::WorkerPlan;
use super::line::{Dialer, Line};
use super::pacer::expired;
use super::recorder::{Fate, Recorder, Sample};
use super::release::Clock;
use super::request::{RequestError, Requests};
use super::schedule::Arrival;
use super::template::Directory;
use crate::archive::Outcome;
use crate::ids::OrgId;
use crate::scenario::Operation;

/// What all users share.
pub(crate) struct Shared {
    pub(crate) operations: Vec<Operation>,
    pub(crate) recorder: Recorder,
    /// Where arrivals are had.
    pub(crate) desk: Desk,
    /// Set before the first arrival is due.
    pub(crate) clock: OnceLock<Clock>,
    requests: Requests,
    dialer: Arc<Dialer>,
    timeout: Duration,
}

/// A request that was sent: what goose has to know of it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) response: Duration,
    /// When its user was free again, in µs from second 0 of the run's axis.
    pub(crate) done_us: u64,
    pub(crate) exchange: Exchange,
}

impl Shared {
    pub(crate) fn new(
        plan: &WorkerPlan,
        directory: Box<dyn Directory>,
    ) -> Result<Self, RequestError> {
        let users = plan.scenario.load.in_flight_max as usize;
        let requests = Requests::new(plan, directory)?;
        let dialer = Dialer::new(requests.server()).map_err(RequestError::Tls)?;
        Ok(Self {
            operations: plan.scenario.operations.clone(),
            recorder: Recorder::new(users),
            desk: Desk::new(users),
            clock: OnceLock::new(),
            requests,
            dialer: Arc::new(dialer),
            timeout: plan.scenario.load.timeout.into(),
        })
    }

    /// A connection to come, for one user.
    pub(crate) fn line(&self) -> Line {
        Line::new(Arc::clone(&self.dialer))
    }

    /// Deals with an arrival to the end; `None` when it came too late to be sent. The user has been free since `free_us`.
    pub(crate) async fn serve(
        &self,
        user: usize,
        line: &mut Line,
        free_us: u64,
        arrival: Arrival,
    ) -> Option<Sent> {
        let clock = *self.clock.get().expect("the clock is set before the first arrival is due");
        let timeout_us = u64::try_from(self.timeout.as_micros()).unwrap_or(u64::MAX);
        if expired(arrival.intended_us, clock.now_us(), timeout_us) {
            self.recorder.record(user, sample(&arrival, Fate::Dropped, None));
            return None;
        }
        let prepared = self.requests.prepare(&arrival);
        let operation = &self.operations[arrival.operation];
        self.recorder.sending();
        let sent_us = clock.now_us();
        let (exchange, org) = match prepared {
            Ok(ready) => {
                let expect = &operation.expect;
                let exchange = exchange(line, ready.request, expect, self.timeout).await;
                (exchange, Some(ready.org))
            }
            // Every operation was rendered once before the start, so this is an odd value: an error of this arrival.
            Err(error) => {
                tracing::warn!(%error, arrival = arrival.index, "could not make the request");
                (Exchange::failed(Answer::Error, "could not make the request"), None)
            }
        };
        let done_us = clock.now_us();
        self.recorder.done();
        let told =
            org.filter(|_| operation.event).map(|org| (org, exchange.outcome(&operation.expect)));
        let fate = Fate::Sent { free_us, sent_us, done_us, exchange };
        self.recorder.record(user, sample(&arrival, fate, told));
        let response = Duration::from_micros(done_us - arrival.intended_us);
        Some(Sent { response, done_us, exchange })
    }
}

fn sample(arrival: &Arrival, fate: Fate, told: Option<(OrgId, Outcome)>) -> Sample {
    Sample {
        arrival: arrival.index,
        operation: arrival.operation,
        intended_us: arrival.intended_us,
        fate,
        told,
    }
}
