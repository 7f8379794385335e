//! What a request costs with Plimsoll's worker, with bare goose, with oha and with wrk, one after the other against one
//! server that answers at once and does nothing, all on this machine's processors; and how long the answers took, as the
//! two that measure from the intended time say it.
//!
//! `cargo bench --bench generators [-- RATE…]`. oha comes from `cargo install oha --locked`, wrk from `apt-get install wrk`;
//! `OHA=PROGRAM` and `WRK=PROGRAM` name one that is not in the path. What is not there is said and left out.
//!
//! The worker does what it does in a run: paces, makes each request from templates, signs its token, records its times and
//! fate, keeps the ledger, and reports to goose. The others send one fixed request of the same size. goose and wrk know no
//! intended times: they send as fast as answers come (goose with its throttle at a rate, too).

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends by panicking")]
#![expect(clippy::print_stdout, reason = "its results go to stdout")]

mod support;

use std::ffi::OsString;
use std::process::{Command, Output};
use std::sync::Arc;

use goose::config::GooseConfiguration;
use goose::prelude::*;
use nix::sys::resource::{UsageWho, getrusage};
use plimsoll::scenario::Arrivals;
use support::{QUANTILES, Server, USERS, plan, run_worker, serve_if_asked};

/// How long each measurement takes, in seconds.
const SECONDS: u64 = 8;
/// How often all of them are made, in turn: what the machine does meanwhile meets everyone.
const ROUNDS: usize = 2;

/// The argument that makes this program bare goose.
const BARE_GOOSE: &str = "bare-goose";

/// A request of the size that the worker's have.
const PATH: &str = "/v1/orgs/123456/revenues";
const BODY: &str = r#"{"amount_cents":12345,"category":"rooms","property":"5b4a6bbc-e7e4-8b15-a6a0-4f0c4d3e8f51"}"#;
const HEADERS: [(&str, &str); 3] = [
    (
        "authorization",
        "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJvcmciOjEyMzQ1NiwiaWF0IjoxNzYwMDAwMDAwLCJleHAiOjE3NjAwMDM2MDB9.0123456789012345678901234567890123456789012",
    ),
    ("idempotency-key", "5b4a6bbc-e7e4-8b15-a6a0-4f0c4d3e8f51"),
    ("content-type", "application/json"),
];

fn main() {
    serve_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == BARE_GOOSE) {
        return be_goose(&args[1], args[2].parse().unwrap());
    }
    let mut rates: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if rates.is_empty() {
        rates = vec![10_000, 25_000];
    }
    let server = Server::start();
    println!("generator             requests/s  its µs/request  server's µs/request");
    for _ in 0..ROUNDS {
        measure("goose, flat out", &server, || goose(&server.url, 0));
        measure("wrk, flat out", &server, || wrk(&server.url));
        measure("oha, flat out", &server, || oha(&server.url, None));
        for &rate in &rates {
            measure(&format!("plimsoll, {rate}/s"), &server, || worker(&server.url, rate));
            measure(&format!("goose, {rate}/s"), &server, || goose(&server.url, rate));
            measure(&format!("oha, {rate}/s"), &server, || oha(&server.url, Some(rate)));
        }
    }
}

/// What a generator did.
struct Done {
    requests: u64,
    cpu_us: f64,
    /// More to print, line by line.
    details: Vec<String>,
}

fn measure(name: &str, server: &Server, run: impl FnOnce() -> Result<Done, String>) {
    let before_us = server.cpu_us();
    match run() {
        Ok(done) => {
            let each = |cpu_us: f64| cpu_us / done.requests as f64;
            println!(
                "{name:<22} {:>9} {:>15.1} {:>20.1}",
                done.requests / SECONDS,
                each(done.cpu_us),
                each(server.cpu_us() - before_us),
            );
            done.details.iter().for_each(|line| println!("    {line}"));
        }
        Err(why) => println!("{name:<22} not measured: {why}"),
    }
}

/// Evenly spaced arrivals, as oha's are.
fn worker(url: &str, rate: u64) -> Result<Done, String> {
    let plan = plan(rate as f64, SECONDS, Arrivals::Constant, url);
    let measured = tokio::runtime::Runtime::new().unwrap().block_on(run_worker(&plan, |_, _| {}));
    let mut details = vec![format!("{} dropped {QUANTILES}", measured.dropped())];
    let times = measured.times();
    details.extend(times.iter().map(|(name, quantiles)| format!("{name:<9} {quantiles}")));
    Ok(Done { requests: measured.sent(), cpu_us: measured.cpu_us, details })
}

/// Bare goose, in a process of its own; 0 is without a throttle.
fn goose(url: &str, rate: u64) -> Result<Done, String> {
    let program = std::env::current_exe().unwrap().into();
    let (output, _) = run(program, &[BARE_GOOSE.into(), url.into(), rate.to_string()])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Goose itself says things first ("All 256 users launched."); ours is the last line.
    let ours = text.lines().last().unwrap_or_default();
    let figures: Vec<f64> = ours.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [requests, cpu_us] = figures[..] else { return Err(format!("goose said {text:?}")) };
    Ok(Done { requests: requests as u64, cpu_us, details: Vec::new() })
}

fn wrk(url: &str) -> Result<Done, String> {
    let mut args: Vec<String> =
        ["-t1", &format!("-c{USERS}"), &format!("-d{SECONDS}s")].map(str::to_owned).into();
    for (name, value) in HEADERS {
        args.extend(["-H".to_owned(), format!("{name}: {value}")]);
    }
    args.push(format!("{url}{PATH}"));
    let program = std::env::var_os("WRK").unwrap_or_else(|| "wrk".into());
    let (output, cpu_us) =
        run(program, &args).map_err(|why| format!("{why}; apt-get install wrk"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let counted = text.lines().find_map(|line| line.trim().split_once(" requests in"));
    let requests = counted.and_then(|(count, _)| count.parse().ok());
    let requests = requests.ok_or_else(|| format!("wrk said {text:?}"))?;
    Ok(Done { requests, cpu_us, details: Vec::new() })
}

/// At a rate, with times from the intended instants.
fn oha(url: &str, rate: Option<u64>) -> Result<Done, String> {
    let mut args: Vec<String> =
        ["--no-tui", "--output-format", "json", "-z", &format!("{SECONDS}s"), "-m", "POST"]
            .map(str::to_owned)
            .into();
    args.extend(["-c".to_owned(), USERS.to_string(), "-d".to_owned(), BODY.to_owned()]);
    for (name, value) in HEADERS {
        args.extend(["-H".to_owned(), format!("{name}: {value}")]);
    }
    if let Some(rate) = rate {
        args.extend(["-q".to_owned(), rate.to_string(), "--latency-correction".to_owned()]);
    }
    args.push(format!("{url}{PATH}"));
    let program = std::env::var_os("OHA").unwrap_or_else(|| "oha".into());
    let (output, cpu_us) =
        run(program, &args).map_err(|why| format!("{why}; cargo install oha --locked"))?;
    let said: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("oha's answer: {error}"))?;
    let statuses = said["statusCodeDistribution"].as_object();
    let requests =
        statuses.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum::<u64>();
    let us = |value: &serde_json::Value| (value.as_f64().unwrap_or(f64::NAN) * 1e6) as u64;
    let of = |percentile: &str| us(&said["latencyPercentiles"][percentile]);
    let quantiles = format!(
        "response  {:>8} {:>8} {:>8} {:>8} {:>8}",
        of("p50"),
        of("p90"),
        of("p99"),
        of("p99.9"),
        us(&said["summary"]["slowest"]),
    );
    let details = rate.map(|_| quantiles).into_iter().collect();
    Ok(Done { requests, cpu_us, details })
}

/// Runs a program to its end; what it printed, and the processor time of it and what it started, in µs.
fn run(program: OsString, args: &[String]) -> Result<(Output, f64), String> {
    let used_us = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let us = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
        us(usage.user_time()) + us(usage.system_time())
    };
    let before_us = used_us();
    let output = Command::new(&program)
        .args(args)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok((output, used_us() - before_us))
}

/// Goose as its book shows it, but with one client for all users. Prints how many requests it sent and its processor time
/// in µs.
fn be_goose(url: &str, rate: usize) {
    let mut configuration = GooseConfiguration::default();
    configuration.host = Some(url.to_owned());
    configuration.users = Some(USERS as usize);
    configuration.increase_rate = Some("2000".to_owned());
    configuration.run_time = Some(SECONDS.to_string());
    configuration.throttle_requests = Some(rate).filter(|rate| *rate > 0);
    configuration.quiet = 2;
    configuration.no_telnet = true;
    configuration.no_print_metrics = true;
    configuration.no_reset_metrics = true;
    let transaction = Transaction::new(Arc::new(|user| {
        Box::pin(async move {
            let mut request = user.get_request_builder(&GooseMethod::Post, PATH)?.body(BODY);
            for (name, value) in HEADERS {
                request = request.header(name, value);
            }
            let request = GooseRequest::builder().name("record").set_request_builder(request);
            let answer = user.request(request.build()).await?;
            if let Ok(response) = answer.response {
                let _ = response.bytes().await;
            }
            Ok(())
        })
    }));
    let scenario = Scenario::new("load").register_transaction(transaction);
    let attack = GooseAttack::initialize_with_config(configuration)
        .unwrap()
        .set_client_builder_without_cookies(
            goose::client::GooseClientBuilder::new().without_cookies(),
        )
        .unwrap()
        .register_scenario(scenario)
        .execute();
    let metrics = tokio::runtime::Runtime::new().unwrap().block_on(attack).unwrap();
    let count =
        |one: &goose::metrics::GooseRequestMetricAggregate| one.success_count + one.fail_count;
    let requests: usize = metrics.requests.values().map(count).sum();
    println!("{requests} {}", support::cpu_us_of(std::process::id()));
}
