//! What the generator itself costs, and how punctual it is: send lag and processor time per request at rising rates,
//! against a server that answers at once and does nothing. It shares this machine's processors.
//!
//! `cargo bench --bench load_rate [-- RATE…]`

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends by panicking")]
#![expect(clippy::print_stdout, reason = "its results go to stdout")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;

use chrono::NaiveDate;
use plimsoll::archive::{Distribution, WorkerEnd};
use plimsoll::load::{Auth, DriveEvent, PROTOCOL, Shard, WorkerPlan, drive};
use plimsoll::scenario::{
    Arrivals, Expect, GateRules, LoadSpec, Method, Operation, PopulationSpec, ReferenceTarget,
    RequestSpec, Scenario, Skew, Target,
};
use plimsoll::units::{Micros, Rate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long each rate is held, in seconds.
const SECONDS: u64 = 10;

fn main() {
    let mut rates: Vec<f64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if rates.is_empty() {
        rates = vec![1_000.0, 5_000.0, 10_000.0, 25_000.0];
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!(
        "rate/s   sent/s  dropped  lag p50 µs  p99 µs   max µs  service p50 µs  CPU µs/request"
    );
    for rate in rates {
        runtime.block_on(measure(rate));
    }
}

async fn measure(rate: f64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(answer_everyone(listener));
    let (mut pid, mut cpu_us) = (0, 0.0);
    let on_event = |event| match event {
        DriveEvent::Ready { pid: its } => pid = its,
        DriveEvent::Started { .. } => cpu_us = -cpu_us_of(pid),
        // The last whole second: the worker is still there.
        DriveEvent::Second(progress) if progress.second as u64 == SECONDS - 1 => {
            cpu_us += cpu_us_of(pid);
        }
        DriveEvent::Second(_) => {}
    };
    let (program, cancel) = (Path::new(env!("CARGO_BIN_EXE_plimsoll")), CancellationToken::new());
    let driven = drive(program, &["worker"], &plan(rate, &url), on_event, &cancel).await.unwrap();
    server.abort();
    assert_eq!(driven.record.worker, WorkerEnd::Finished);

    let seconds = &driven.record.operations[0].seconds;
    let lag = Distribution::merged(driven.record.seconds.iter().map(|second| &second.lag));
    let service = Distribution::merged(seconds.iter().map(|second| &second.service));
    let sent: u64 = seconds.iter().map(|second| second.sent).sum();
    println!(
        "{rate:>6.0} {:>8} {:>8} {:>11} {:>7} {:>8} {:>15} {:>15.1}",
        sent / SECONDS,
        seconds.iter().map(|second| second.dropped).sum::<u64>(),
        lag.value_at_quantile(0.5),
        lag.value_at_quantile(0.99),
        lag.max(),
        service.value_at_quantile(0.5),
        cpu_us / sent as f64,
    );
}

/// Processor time that a process has used, in µs.
fn cpu_us_of(pid: u32) -> f64 {
    let process = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap();
    let stat = process.stat().unwrap();
    (stat.utime + stat.stime) as f64 * 1e6 / procfs::ticks_per_second() as f64
}

async fn answer_everyone(listener: TcpListener) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(answer(connection));
    }
}

/// The least that is an HTTP server: every request fits one read, every answer is the same.
async fn answer(mut connection: TcpStream) {
    let mut request = [0; 4096];
    while let Ok(1..) = connection.read(&mut request).await {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        if connection.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Events for organisations of a skewed population, with signed tokens: what a request costs in earnest.
fn plan(rate: f64, url: &str) -> WorkerPlan {
    let json = serde_json::json!({ "property": "{property}", "amount_cents": "{amount}", "category": "{category}" });
    let operation = Operation {
        name: "record".into(),
        service: None,
        rate: Rate::per_second(rate).unwrap(),
        request: RequestSpec {
            method: Method::Post,
            path: "/v1/orgs/{org}/revenues".into(),
            headers: BTreeMap::new(),
            json: Some(json),
        },
        expect: Expect { status: vec![201], body_contains: None },
        event: true,
    };
    let scenario = Scenario {
        name: "rate".into(),
        title: "Rate".into(),
        seed: 7,
        population: PopulationSpec {
            organisations: NonZeroU64::new(1_000_000).unwrap(),
            history_months: 12,
            busy: Skew::Zipf { exponent: 1.05 },
        },
        target: Target::Reference(ReferenceTarget { replicas: 0, port: None, split: Vec::new() }),
        load: LoadSpec {
            arrivals: Arrivals::Poisson,
            warm_up: Micros::from_secs(0),
            measure: Micros::from_secs(SECONDS),
            in_flight_max: 256,
            timeout: Micros::from_secs(2),
        },
        operations: vec![operation],
        gates: GateRules::default(),
    };
    WorkerPlan {
        protocol: PROTOCOL,
        scenario,
        run: "rate".parse().unwrap(),
        base_url: url.to_owned(),
        auth: Auth::Organisation { secret: "a secret of thirty-two characters".into() },
        shard: Shard::WHOLE,
        today: NaiveDate::from_ymd_opt(2026, 3, 14).unwrap(),
    }
}
