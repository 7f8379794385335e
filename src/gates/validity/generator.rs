//! Was the generator fit to make the load? A late or starved generator adds to response times.

use hdrhistogram::Histogram;

use super::answer::{amber, green, grey, red};
use crate::archive::Record;
use crate::gates::figure::{FigureName, Span};
use crate::gates::figures::{Part, RequestFigures};
use crate::gates::judge::own_signals;
use crate::gates::rule::Rule;
use crate::gates::show::show;
use crate::gates::signals::per_second;
use crate::gates::verdict::{Bias, Unit, ValidityCheck};
use crate::scenario::Scenario;

/// Send lag that is never worth a red light, in µs.
const LAG_FLOOR_US: f64 = 1_000.0;
/// Share of the tightest gated latency that send lag may take.
const LAG_SHARE: f64 = 0.05;
/// Share of the machine's processors that the generator may use in its busiest second.
const CPU_SHARE_MAX: f64 = 0.8;

/// p99 of the generator's own lag against max(1 ms, 5 % of the tightest gated latency). A request that waited for a free
/// user waited for the system: that is no fault of the measurement, and its response time has it.
pub(super) fn send_lag(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "send lag";
    let run = RequestFigures::of(record, Part::Run);
    if run.send_lag.is_empty() {
        return grey(CHECK, "no send lag was recorded");
    }
    // An older archive does not have the generator's own: then all of it is taken for its own.
    let own = if run.own_lag.is_empty() { &run.send_lag } else { &run.own_lag };
    let p99_us = |lag: &Histogram<u64>| lag.value_at_quantile(0.99) as f64;
    let p99 = p99_us(own);
    let limit = tightest_latency_us(scenario).map(|us| (us * LAG_SHARE).max(LAG_FLOOR_US));
    let shown = format!(
        "the generator's own p99 {}; with waits for a free user {}",
        show(p99, Unit::Us),
        show(p99_us(&run.send_lag), Unit::Us)
    );
    match limit {
        None => green(CHECK, format!("{shown}; no gate on latency that it could disturb")),
        Some(limit) => {
            let detail = format!("{shown}; its own may be {} at most", show(limit, Unit::Us));
            if p99 > limit { red(CHECK, Bias::LooksWorse, detail) } else { green(CHECK, detail) }
        }
    }
}

/// The smallest upper bound of any gate on response or service time, in µs.
fn tightest_latency_us(scenario: &Scenario) -> Option<f64> {
    let own = own_signals(&scenario.target);
    let gates = &scenario.gates;
    let texts = gates.all.iter().chain(&gates.each_operation).chain(&gates.each_service);
    let bound = |text: &String| {
        let rule = Rule::parse(text, &own).ok()?;
        let timed = matches!(rule.figure, FigureName::Time(Span::Response | Span::Service, _));
        (timed && rule.comparison.is_upper_bound()).then_some(rule.limit)
    };
    texts.chain(gates.operation.values().flatten()).filter_map(bound).min_by(f64::total_cmp)
}

/// At the cap arrivals wait for answers, as in a closed model, even if none is dropped in the end.
pub(super) fn in_flight_cap(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "cap on requests in flight";
    let cap = u64::from(scenario.load.in_flight_max);
    let window = record.window.measured();
    let seconds = record.load.seconds.iter().take(window.end).skip(window.start);
    match seconds.map(|second| second.in_flight_max).max() {
        None => grey(CHECK, "no second of load was recorded"),
        Some(most) if most >= cap => amber(
            CHECK,
            format!("reached: {most} of {cap}; response times include the wait for a free user"),
        ),
        Some(most) => green(CHECK, format!("at most {most} of {cap} in flight")),
    }
}

/// The generator's busiest second as a share of the machine. It has threads on every processor, so no single
/// one tells.
pub(super) fn cpu(record: &Record) -> ValidityCheck {
    const CHECK: &str = "generator's processor time";
    let cores = record.environment.cores;
    let used = per_second(
        &record.timeline,
        r#"process_cpu_seconds_total{group="generator"}"#,
        record.window,
    );
    let busiest = used.iter().copied().max_by(f64::total_cmp);
    let (Some(busiest), true) = (busiest, cores > 0) else {
        return grey(CHECK, "not measured");
    };
    let mean = used.iter().sum::<f64>() / used.len() as f64;
    let share = |seconds: f64| show(seconds / cores as f64, Unit::Ratio);
    let detail = format!(
        "{} of {cores} processors in its busiest second, {} on average",
        share(busiest),
        share(mean)
    );
    if busiest / cores as f64 > CPU_SHARE_MAX {
        red(CHECK, Bias::LooksWorse, detail)
    } else {
        green(CHECK, detail)
    }
}

/// A build without optimisation is several times slower, the bundled backend with it.
pub(super) fn optimised_build(record: &Record) -> ValidityCheck {
    const CHECK: &str = "optimised build";
    if record.environment.optimised {
        green(CHECK, "built with optimisation")
    } else {
        red(CHECK, Bias::LooksWorse, "a debug build; build with --release")
    }
}
