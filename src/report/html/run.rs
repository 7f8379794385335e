//! The run itself: what went wrong, where the time went, on what it ran, and how to repeat it.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::page::{Section, absent, scroll};
use crate::archive::Environment;
use crate::report::format;
use crate::report::model::Report;
use crate::units::ByteSize;

/// What happened that should not have.
pub(super) fn incidents(report: &Report) -> Section {
    Section {
        id: "incidents",
        title: "Incidents",
        says: "What happened during the run and should not have: a process that died, an observer that failed.".to_owned(),
        body: scroll("Incidents", html! {
            @if report.incidents.is_empty() { p.plain { "None." } } @else {
                table {
                    thead { tr { th.num.slim { "No." } th.num.slim { "Second" } th.slim { "What" } th { "Happened" } } }
                    tbody {
                        @for (number, incident) in (1..).zip(&report.incidents) {
                            tr {
                                td.num { (number) }
                                td.num { @match incident.second { Some(s) => (s), None => span.absent { "unknown" } } }
                                th.word scope="row" { (incident.what) }
                                td { (incident.detail) }
                            }
                        }
                    }
                }
            }
        }),
    }
}

/// Where the wall time went.
pub(super) fn stages(report: &Report) -> Section {
    let total: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
    let mut begun = 0.0;
    let spans = report.stages.iter().map(|stage| {
        let from = share(begun, total);
        begun += stage.seconds;
        (stage, from, share(stage.seconds, total))
    });
    Section {
        id: "stages",
        title: "Stages",
        says: format!("Wall time of the run: {} together.", format::duration_us(total * 1e6)),
        body: scroll(
            "Stages",
            html! {
                @if report.stages.is_empty() { p.plain { (absent()) } } @else {
                    table {
                        thead { tr { th { "Stage" } th.num { "Took" } th { "One after the other, to scale" } } }
                        tbody {
                            @for (stage, from, size) in spans {
                                tr {
                                    th.word scope="row" { (stage.name) }
                                    td.num { (format::duration_us(stage.seconds * 1e6)) }
                                    td style="width:70%" {
                                        span.span aria-hidden="true" { i style={ "--from:" (from) "%;--size:" (size) "%" } {} }
                                    }
                                }
                            }
                        }
                    }
                }
            },
        ),
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole * 1e4).round() / 1e2 } else { 0.0 }
}

/// What was driven, and on what.
pub(super) fn environment(report: &Report) -> Section {
    let machine = &report.environment;
    let conditions = report.conditions.iter().map(|(name, value)| (*name, Some(value.clone())));
    Section {
        id: "environment",
        title: "Conditions and environment",
        says: "Figures of two runs compare only when these agree. Settings are what the running servers reported.".to_owned(),
        body: html! {
            div.pairs {
                (scroll("Conditions", pairs(conditions)))
                (scroll("Environment", pairs(facts(machine))))
            }
            @if !machine.postgres_settings.is_empty() { (scroll("Settings of Postgres", settings(machine))) }
        },
    }
}

fn facts(machine: &Environment) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let build = if machine.optimised {
        "with optimisation"
    } else {
        "without optimisation: the generator is slower than it need be"
    };
    [
        ("Processor", known(&machine.cpu)),
        ("Cores", (machine.cores > 0).then(|| machine.cores.to_string())),
        (
            "Memory",
            (machine.memory_bytes > 0).then(|| ByteSize::new(machine.memory_bytes).to_string()),
        ),
        ("Kernel", known(&machine.kernel)),
        ("Postgres", machine.postgres.clone()),
        ("Backend", machine.backend.clone()),
        ("Commit of plimsoll", machine.commit.clone()),
        ("Plimsoll built", Some(build.to_owned())),
    ]
    .into_iter()
}

fn pairs(rows: impl Iterator<Item = (&'static str, Option<String>)>) -> Markup {
    html! {
        table {
            tbody {
                @for (name, value) in rows {
                    tr {
                        th.word scope="row" { (name) }
                        td { @match value { Some(value) => (value), None => (absent()) } }
                    }
                }
            }
        }
    }
}

/// A row per setting, a column per server: a difference between servers stands out.
fn settings(machine: &Environment) -> Markup {
    let mut servers: Vec<&str> = Vec::new();
    let mut rows: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for setting in &machine.postgres_settings {
        if !servers.contains(&setting.server.as_str()) {
            servers.push(&setting.server);
        }
        rows.entry(&setting.name).or_default().insert(&setting.server, &setting.value);
    }
    html! {
        table {
            thead { tr { th { "Setting" } @for server in &servers { th { (server) } } } }
            tbody {
                @for (name, values) in &rows {
                    tr {
                        th.word scope="row" { (name) }
                        @for server in &servers {
                            td { (setting(values.get(server))) }
                        }
                    }
                }
            }
        }
    }
}

/// An empty value is a value: `listen_addresses` of a server that only a socket leads to.
fn setting(value: Option<&&str>) -> Markup {
    html! {
        @match value {
            Some(&"") => span.absent { "empty" },
            Some(value) => (value),
            None => (absent()),
        }
    }
}

/// How to repeat the run.
pub(super) fn command(report: &Report) -> Section {
    Section {
        id: "repeat",
        title: "Repeat",
        says: "Same seed, same population, same schedule to the microsecond. The scenario as run is in scenario.toml beside this file."
            .to_owned(),
        body: scroll("Command", html! { pre { code { (report.run.command) } } }),
    }
}
