//! Whether memory grows with the length of a run: holds a rate and prints, for each minute, what the worker and the session
//! that drives it have resident. The session is this process; the server is another one.
//!
//! `cargo bench --bench soak [-- MINUTES [RATE [ORGANISATIONS]]]`: 2 minutes of 5,000/s for 1,000,000 organisations unless
//! told otherwise.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends by panicking")]
#![expect(clippy::print_stdout, reason = "its results go to stdout")]

mod support;

use std::num::NonZeroU64;

use plimsoll::scenario::Arrivals;
use support::{Server, plan, resident_mb_of, run_worker, serve_if_asked};

fn main() {
    serve_if_asked();
    let mut told = std::env::args().filter_map(|arg| arg.parse::<u64>().ok());
    let mut next = |otherwise| told.next().unwrap_or(otherwise);
    let (minutes, rate, organisations) = (next(2), next(5_000), next(1_000_000));
    let (server, runtime) = (Server::start(), tokio::runtime::Runtime::new().unwrap());
    let mut plan = plan(rate as f64, minutes * 60, Arrivals::Poisson, &server.url);
    plan.scenario.population.organisations = NonZeroU64::new(organisations).unwrap();
    println!("{minutes} min of {rate} requests/s for {organisations} organisations");
    println!("second  worker MB  session MB");
    let measured = runtime.block_on(run_worker(&plan, |worker, second| {
        if second == 10 || second % 60 == 59 {
            let (its, ours) = (resident_mb_of(worker), resident_mb_of(std::process::id()));
            println!("{second:>6} {its:>10.1} {ours:>11.1}");
        }
    }));
    println!("{} requests sent, {} dropped", measured.sent(), measured.dropped());
}
