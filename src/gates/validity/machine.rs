//! Was the machine ours? Time taken by neighbours is added to every figure.

use super::answer::{amber, green, grey, red};
use crate::archive::Record;
use crate::gates::show::show;
use crate::gates::signals::{increase, per_second};
use crate::gates::verdict::{Bias, Unit, ValidityCheck};
use crate::scenario::{Scenario, Target};

/// Share of the machine's processor time that the hypervisor may take on average.
const STEAL_MEAN_MAX: f64 = 0.01;
/// The same in any one second.
const STEAL_SECOND_MAX: f64 = 0.05;

/// Processor time that the hypervisor gave to others (`steal` in `/proc/stat`).
pub(super) fn steal(record: &Record) -> ValidityCheck {
    const CHECK: &str = "processor time stolen";
    let cores = record.environment.cores;
    let stolen = per_second(&record.timeline, "host_steal_seconds_total", record.window);
    let worst = stolen.iter().copied().max_by(f64::total_cmp);
    let (Some(worst), true) = (worst, cores > 0) else {
        return grey(CHECK, "not measured");
    };
    let mean = stolen.iter().sum::<f64>() / stolen.len() as f64 / cores as f64;
    let worst = worst / cores as f64;
    let detail = format!(
        "{} on average, {} in the worst second",
        show(mean, Unit::Ratio),
        show(worst, Unit::Ratio)
    );
    if mean > STEAL_MEAN_MAX || worst > STEAL_SECOND_MAX {
        red(CHECK, Bias::LooksWorse, detail)
    } else {
        green(CHECK, detail)
    }
}

/// Share of the machine's processor time that may be in use over the window.
const BUSY_MAX: f64 = 0.95;

/// How busy the machine was. Where generator and servers share it, each waits for the other, and the system looks worse
/// than it would alone; response times include that wait, so this is worth knowing and takes nothing away.
pub(super) fn busy(record: &Record) -> ValidityCheck {
    const CHECK: &str = "machine's processor time";
    let rose =
        |of: &str| increase(&record.timeline, of, record.window.warm_up_s, record.window.end());
    let all = rose("host_cpu_seconds_total");
    let idle = rose(r#"host_cpu_seconds_total{mode=~"idle|iowait"}"#);
    let (Some(all), Some(idle)) = (all.filter(|all| *all > 0.0), idle) else {
        return grey(CHECK, "not measured");
    };
    let busy = 1.0 - idle / all;
    let detail = format!("{} in use over the window", show(busy, Unit::Ratio));
    if busy > BUSY_MAX {
        amber(CHECK, format!("{detail}: response times include the wait for a processor"))
    } else {
        green(CHECK, detail)
    }
}

/// A generator on the target's machine takes processor time from it; that it is on another cannot be told.
pub(super) fn apart_from_the_target(scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "generator apart from the target";
    match &scenario.target {
        Target::Reference(_) => {
            amber(CHECK, "generator and servers share one machine, so capacity is understated")
        }
        Target::Http(http) if is_loopback(&http.url) => {
            amber(CHECK, format!("the target is on this machine: {}", http.url))
        }
        // An address does not say where it leads: a name, a proxy or an address of this machine's own looks alike.
        Target::Http(http) => {
            grey(CHECK, format!("whether {} is on this machine cannot be told", http.url))
        }
    }
}

fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let four = host.split('.').filter(|part| part.parse::<u8>().is_ok()).count() == 4;
    host.eq_ignore_ascii_case("localhost") || host == "::1" || (four && host.starts_with("127."))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        for url in [
            "http://localhost",
            "http://LOCALHOST:8080/a",
            "http://127.0.0.1:80",
            "http://127.9.9.9",
            "http://[::1]:80/x",
            "http://user:pw@127.0.0.1/",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://example.org",
            "http://10.0.0.1/127.0.0.1",
            "http://localhost.org",
            "http://127.example.org",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
