//! The replica share, proven from both sides: what the backend says it sent, and what each Postgres says it ran.

use super::answer::{green, grey, red};
use crate::archive::Record;
use crate::gates::show::show;
use crate::gates::signals::increase;
use crate::gates::verdict::{Bias, Unit, ValidityCheck};
use crate::scenario::{Scenario, Target};

/// How far the two sides may differ, as a share of the larger.
pub(super) const COUNT_TOLERANCE: f64 = 0.001;

/// Whether two counts of the same thing agree: within 0.1 %, and what one second holds. The sides are not
/// read at the same instant: at either end of the window they may be up to half a second apart.
pub(super) fn agree(one: f64, other: f64, seconds: usize) -> bool {
    let larger = one.max(other);
    let of_a_second = larger / seconds.max(1) as f64;
    (one - other).abs() <= COUNT_TOLERANCE * larger + of_a_second.max(1.0)
}

/// Read statements per server: the backend's counters against `pg_stat_statements` of its reading role.
pub(super) fn replica_share_proven(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "replica share proven by Postgres";
    let Target::Reference(target) = &scenario.target else {
        return grey(CHECK, "the target's databases are not ours to look into");
    };
    let replicas = (1..=target.replicas).map(|number| format!("replica-{number}"));
    let servers: Vec<String> = std::iter::once("primary".to_owned()).chain(replicas).collect();
    let rose =
        |of: String| increase(&record.timeline, &of, record.window.warm_up_s, record.window.end());
    for side in ["backend_reads_total", "pg_statements_calls_total"] {
        if rose(side.to_owned()).is_none() {
            return grey(CHECK, format!("{side} was not read"));
        }
    }
    let mut total = [0.0, 0.0];
    let mut primary = [0.0, 0.0];
    for server in &servers {
        let told =
            rose(format!(r#"backend_reads_total{{source=~"replica|primary",server="{server}"}}"#));
        let ran = rose(format!(
            r#"pg_statements_calls_total{{server="{server}",role="app_ro",kind="read"}}"#
        ));
        let sides = match (told, ran) {
            (None, None) => continue,
            // One side counts and the other has never heard of it: zero is what it says.
            (told, ran) => [told.unwrap_or(0.0), ran.unwrap_or(0.0)],
        };
        if !agree(sides[0], sides[1], record.window.measure_s) {
            let detail =
                format!("{server}: the backend counts {} reads, Postgres {}", sides[0], sides[1]);
            return red(CHECK, Bias::Unknown, detail);
        }
        for side in 0..2 {
            total[side] += sides[side];
            if server == "primary" {
                primary[side] = sides[side];
            }
        }
    }
    if total[0] <= 0.0 || total[1] <= 0.0 {
        return grey(CHECK, "no read statements were counted on both sides");
    }
    let share = |side: usize| show(1.0 - primary[side] / total[side], Unit::Ratio);
    green(CHECK, format!("{} by the backend, {} by Postgres", share(0), share(1)))
}
