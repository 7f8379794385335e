//! The replica share, proven from both sides: what the backend says it sent, and what each Postgres says it ran.

use super::answer::{green, grey, red_for};
use super::proof::{agree, is_telling, stretch};
use crate::archive::Record;
use crate::gates::show::show;
use crate::gates::signals::increase;
use crate::gates::verdict::{Undermines, Unit, ValidityCheck};
use crate::scenario::{Scenario, Target};

const TOLD: &str = "backend_reads_total";
const RAN: &str = "pg_statements_calls_total";

/// Read statements per server: the backend's counters against `pg_stat_statements` of its reading role.
pub(super) fn replica_share_proven(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "replica share proven by Postgres";
    let Target::Reference(target) = &scenario.target else {
        return grey(CHECK, "the target's databases are not ours to look into");
    };
    let replicas = (1..=target.replicas).map(|number| format!("replica-{number}"));
    let servers: Vec<String> = std::iter::once("primary".to_owned()).chain(replicas).collect();
    let Some(stretch) = stretch(record, [TOLD, RAN]) else {
        return grey(CHECK, format!("{TOLD} and {RAN} were not both read"));
    };
    let seconds = stretch.end() - stretch.start();
    let rose = |of: String| increase(&record.timeline, &of, *stretch.start(), *stretch.end());
    let mut total = [0.0, 0.0];
    let mut primary = [0.0, 0.0];
    for server in &servers {
        let told = rose(format!(r#"{TOLD}{{source=~"replica|primary",server="{server}"}}"#));
        let ran = rose(format!(r#"{RAN}{{server="{server}",role="app_ro",kind="read"}}"#));
        let sides = match (told, ran) {
            (None, None) => continue,
            // One side counts and the other has never heard of it: zero is what it says.
            (told, ran) => [told.unwrap_or(0.0), ran.unwrap_or(0.0)],
        };
        if !agree(sides[0], sides[1], seconds) {
            let detail =
                format!("{server}: the backend counts {} reads, Postgres {}", sides[0], sides[1]);
            return red_for(Undermines::Signals, CHECK, detail);
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
    let detail = format!("{} by the backend, {} by Postgres", share(0), share(1));
    if is_telling(total[0], seconds) {
        green(CHECK, detail)
    } else {
        grey(CHECK, format!("{detail}: too few reads, or over too short a time, to prove anything"))
    }
}
