//! Were the servers what the scenario says, all the time, and were they made to keep what they acknowledged?

use super::answer::{amber, green, grey, red, red_for};
use crate::archive::{AuditState, Incident, PostgresSetting, Record};
use crate::gates::verdict::{Bias, Undermines, ValidityCheck};
use crate::scenario::{Scenario, Target};

/// Settings without which a commit may be lost, and the values that keep it.
const DURABLE: [(&str, &[&str]); 3] = [
    ("fsync", &["on"]),
    ("synchronous_commit", &["on", "remote_apply", "remote_write", "local"]),
    ("full_page_writes", &["on"]),
];

/// What should not have happened, and which way it pushes.
pub(super) fn incidents(record: &Record) -> ValidityCheck {
    const CHECK: &str = "no incidents";
    let told = |incident: &Incident| {
        let at = incident.second.map_or_else(String::new, |s| format!(" at second {s}"));
        format!("{}{at}: {}", incident.what, incident.detail)
    };
    // A process that dies in the warm-up is missing in the window; one that dies after it is not.
    let end = record.window.end();
    let matters = |incident: &&Incident| {
        incident.second.is_none_or(|second| second < end) && !is_outage_of_a_reading(incident)
    };
    let within: Vec<&Incident> = record.incidents.iter().filter(matters).collect();
    let Some(first) = within.first() else {
        return match record.incidents.first() {
            None => green(CHECK, "nothing died and nothing failed"),
            Some(other) => amber(CHECK, told(other)),
        };
    };
    let bias = joint_bias(within.iter().map(|incident| incident.what.as_str()));
    let more = match within.len() {
        1 => String::new(),
        count => format!("; and {} more", count - 1),
    };
    let detail = format!("{}{more}", told(first));
    // An observer that was lost saw nothing, and troubled nobody.
    if within.iter().all(|incident| incident.what == "observer") {
        red_for(Undermines::Signals, CHECK, detail)
    } else {
        red(CHECK, bias, detail)
    }
}

/// Readings that failed for a while left gaps: how much that matters is for the check of those to say.
fn is_outage_of_a_reading(incident: &Incident) -> bool {
    let what = incident.what.as_str();
    matches!(what, "metrics" | "/proc")
        || what.starts_with("statistics of ")
        || what.starts_with("metrics of ")
}

/// A backend or primary that dies under load is the system's own failure: a fail stands whatever else happened, but
/// what the system was spared while it was down proves no pass. A replica that dies leaves a weaker system than the scenario
/// says, but one that no longer has to keep that replica up to date and shows no lag of it: neither verdict stands.
/// Anything else leaves us without knowledge.
fn joint_bias<'a>(mut died: impl Iterator<Item = &'a str>) -> Bias {
    match died.any(Incident::is_of_the_system) {
        true => Bias::LooksBetter,
        false => Bias::Unknown,
    }
}

/// A server that does not flush its commits is faster than any that may be trusted.
pub(super) fn durable(record: &Record, scenario: &Scenario) -> ValidityCheck {
    const CHECK: &str = "durability settings";
    if !matches!(scenario.target, Target::Reference(_)) {
        return grey(CHECK, "the target's databases are not ours to look into");
    }
    let environment = &record.environment;
    let asked = [
        (&environment.postgres_settings, "before the load"),
        (&environment.postgres_settings_after, "after the load"),
    ];
    for (settings, when) in asked {
        if let Some(setting) = settings.iter().find(|setting| is_unsafe(setting)) {
            let detail =
                format!("{} = {} on {}, {when}", setting.name, setting.value, setting.server);
            return red(CHECK, Bias::LooksBetter, detail);
        }
    }
    for (settings, when) in asked {
        let told = |name: &str| settings.iter().any(|s| s.name == name && s.server == "primary");
        if let Some((name, _)) = DURABLE.iter().find(|(name, _)| !told(name)) {
            return grey(CHECK, format!("the primary did not tell its {name} {when}"));
        }
    }
    // What a session sets for itself alone, no other session sees.
    let detail = "fsync, synchronous_commit and full_page_writes are on for new sessions, before the load and after it";
    green(CHECK, detail)
}

fn is_unsafe(setting: &PostgresSetting) -> bool {
    let known = DURABLE.iter().find(|(name, _)| *name == setting.name);
    known.is_some_and(|(_, values)| !values.contains(&setting.value.as_str()))
}

/// Whether what was acknowledged was looked for afterwards. A red audit fails the run by itself, so it has no bias.
pub(super) fn audited(record: &Record) -> ValidityCheck {
    const CHECK: &str = "audit";
    let with = |state: AuditState| record.audit.iter().find(|check| check.state == state);
    if record.audit.is_empty() {
        return grey(CHECK, "no audit was made: durability is not proven");
    }
    if let Some(check) = with(AuditState::Red) {
        let detail = format!("{}: {}", check.check, check.detail);
        return ValidityCheck { bias: None, ..red(CHECK, Bias::Unknown, detail) };
    }
    match with(AuditState::Grey) {
        Some(check) => grey(CHECK, format!("not checked: {}: {}", check.check, check.detail)),
        None => green(CHECK, format!("{} checks hold", record.audit.len())),
    }
}
