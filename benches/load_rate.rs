//! What the generator itself costs, and how punctual it is: processor time per request and the distribution of its times at
//! rising rates, against a server that answers at once and does nothing. It shares this machine's processors.
//!
//! `cargo bench --bench load_rate [-- RATE…]`; `PLIMSOLL_WORKER=PROGRAM` measures another build's worker.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends by panicking")]
#![expect(clippy::print_stdout, reason = "its results go to stdout")]

mod support;

use plimsoll::scenario::Arrivals;
use support::{QUANTILES, Server, plan, run_worker, serve_if_asked};

/// How long each rate is held, in seconds.
const SECONDS: u64 = 10;

fn main() {
    serve_if_asked();
    let mut rates: Vec<f64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if rates.is_empty() {
        rates = vec![1_000.0, 5_000.0, 10_000.0, 25_000.0];
    }
    let (server, runtime) = (Server::start(), tokio::runtime::Runtime::new().unwrap());
    for rate in rates {
        let plan = plan(rate, SECONDS, Arrivals::Poisson, &server.url);
        let measured = runtime.block_on(run_worker(&plan, |_, _| {}));
        println!(
            "{rate} requests/s asked for: {} sent/s, {} dropped, {:.1} µs of processor time per request",
            measured.sent() / SECONDS,
            measured.dropped(),
            measured.cpu_us / measured.sent() as f64,
        );
        println!("              {QUANTILES}");
        for (name, quantiles) in measured.times() {
            println!("    {name:<9} {quantiles}");
        }
    }
}
