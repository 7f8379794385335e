//! Whether what is measured is right: a real worker against servers whose behaviour is known, because they planted it and
//! took down what they did. No time is asserted but against one that was taken in the same run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod load_support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use hdrhistogram::Histogram;
use load_support::{Server, drive, plan, scenario};
use plimsoll::archive::{Distribution, LoadRecord, WorkerEnd, new_histogram};
use plimsoll::units::Micros;

/// A distribution of times of one operation over all seconds.
fn times(
    record: &LoadRecord,
    operation: usize,
    which: impl Fn(&plimsoll::archive::OperationSecond) -> &Distribution,
) -> Histogram<u64> {
    Distribution::merged(record.operations[operation].seconds.iter().map(which))
}

/// What a server did, in µs by how long it was asked to wait.
type Held = Arc<Mutex<BTreeMap<u64, Histogram<u64>>>>;

/// A server that holds each request for so many ms, and takes down for how long it really did.
async fn server_that_holds() -> (String, Held) {
    let held = Held::default();
    let router = Router::new().route("/hold/{ms}", get(hold)).with_state(Arc::clone(&held));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, held)
}

async fn hold(State(held): State<Held>, Path(ms): Path<u64>) {
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut held = held.lock().unwrap();
    held.entry(ms).or_insert_with(new_histogram).saturating_record(took_us);
}

/// Half of the answers are held for 20 ms, four in ten for 60, the rest for 250. Every percentile must be the server's own: never
/// less, and at most 1 % more than it and what the machine takes for a request that is not held at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_distribution_is_measured_as_it_is() {
    let (url, held) = server_that_holds().await;
    let parts = [("/hold/20", 150.0), ("/hold/60", 120.0), ("/hold/250", 30.0), ("/hold/0", 100.0)];
    let mut scenario = scenario(&parts, 4);
    scenario.load.in_flight_max = 200;
    scenario.load.timeout = Micros::from_secs(20);
    let (driven, _) = drive(&plan(scenario, &url)).await;
    assert_eq!(driven.record.worker, WorkerEnd::Finished);

    let mut truth = held.lock().unwrap();
    let not_held = truth.remove(&0).unwrap();
    let floor_us = times(&driven.record, 3, |second| &second.response).max();
    assert!(not_held.max() <= floor_us);
    let mut planted = new_histogram();
    truth.values().for_each(|histogram| planted.add(histogram).unwrap());
    let mut measured = new_histogram();
    for operation in 0..3 {
        measured.add(times(&driven.record, operation, |second| &second.response)).unwrap();
    }
    assert_eq!((measured.len(), planted.len()), (1_200, 1_200));
    for percentile in [5.0, 25.0, 45.0, 55.0, 75.0, 89.0, 92.0, 99.0] {
        let (is, must_be) =
            (measured.value_at_percentile(percentile), planted.value_at_percentile(percentile));
        let most = must_be + must_be / 100 + floor_us;
        assert!((must_be..=most).contains(&is), "p{percentile}: {is}, not {must_be}..={most} µs");
    }
}

/// One user, 100 arrivals/s over 4 s, and a server that stops for two seconds at the 100th. 200 arrivals wait, evenly from two
/// seconds down to nothing, so a share q beyond one half has a response time of (q − ½) · 4 s; more only by what the one user
/// takes for the queue. Nothing of that is in the service times, but for the one request that met the stall.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_in_the_response_times_as_arithmetic_says_and_not_in_the_service_times() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/stall", 100.0)], 4);
    scenario.load.in_flight_max = 1;
    scenario.load.timeout = Micros::from_secs(20);
    let (driven, _) = drive(&plan(scenario, &server.url)).await;
    assert_eq!(driven.record.worker, WorkerEnd::Finished);

    let response = times(&driven.record, 0, |second| &second.response);
    let service = times(&driven.record, 0, |second| &second.service);
    assert_eq!((response.len(), service.len()), (400, 400));
    // What every request but the one took together: more than that the user was never behind.
    let stall_us = service.max();
    let queue_us = (service.mean() * 400.0) as u64 - stall_us;
    for (percentile, share) in [(60.0, 0.1), (75.0, 0.25), (90.0, 0.4), (95.0, 0.45), (99.0, 0.49)]
    {
        let is = response.value_at_percentile(percentile);
        let must_be = (share * 4e6) as u64;
        // The stall itself lasts as long as the machine makes it, and arrivals are 10 ms apart.
        let least = must_be - must_be / 100 - 10_000;
        let most = must_be + must_be / 100 + stall_us.saturating_sub(2_000_000) + queue_us + 10_000;
        assert!((least..=most).contains(&is), "p{percentile}: {is}, not {least}..={most} µs");
    }
    let second_longest = service.value_at_quantile(399.0 / 400.0);
    assert!(second_longest < stall_us / 2, "one request met the stall: {second_longest} µs");
}
