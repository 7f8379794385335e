//! From facts to files: assembles the record, judges it, renders it, and writes the run's directory.

use std::path::{Path, PathBuf};

use super::error::RunError;
use super::measure::Measured;
use super::plan::Plan;
use crate::archive::{
    ArchiveError, AuditCheck, Environment, Record, RunDirectory, RunInfo, Stage, Yardstick,
    read_run, replace_rendered,
};
use crate::gates::judge;
use crate::report::{Report, render_all};
use crate::scenario::{Problems, Scenario};

/// A judged run and where it lies.
#[derive(Debug)]
pub struct Finished {
    /// What was found.
    pub report: Report,
    /// The run's directory.
    pub directory: PathBuf,
}

/// What the stages of a run found.
pub(super) struct Facts {
    pub(super) measured: Measured,
    pub(super) audit: Vec<AuditCheck>,
    pub(super) environment: Environment,
    pub(super) stages: Vec<Stage>,
    pub(super) yardstick: Option<Yardstick>,
}

/// Why an old run cannot be judged again.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Its directory is not whole, or cannot be written.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// Its scenario is not one that this release understands.
    #[error("{0}")]
    Scenario(#[from] Problems),
}

/// Judges and renders what was found, and makes the run's directory whole.
pub(super) fn conclude(
    plan: &Plan,
    results: RunDirectory,
    facts: Facts,
) -> Result<Finished, RunError> {
    let record = record(plan, facts);
    let report = judged(&record, &plan.scenario);
    let rendered = render_all(&report);
    let directory =
        results.finish(&record, &plan.scenario_text, &rendered).map_err(RunError::Save)?;
    Ok(Finished { report, directory })
}

/// Judges an old run and renders it again; its facts stay untouched.
pub fn render_again(directory: &Path) -> Result<Finished, RenderError> {
    let (record, text) = read_run(directory)?;
    let scenario = Scenario::parse(&directory.join("scenario.toml").display().to_string(), &text)?;
    let report = judged(&record, &scenario);
    replace_rendered(directory, &render_all(&report))?;
    Ok(Finished { report, directory: directory.to_owned() })
}

fn judged(record: &Record, scenario: &Scenario) -> Report {
    Report::new(record, scenario, &judge(record, scenario))
}

/// Everything that was measured, with what the plan says of it.
pub(super) fn record(plan: &Plan, facts: Facts) -> Record {
    let Facts { measured, audit, environment, stages, yardstick } = facts;
    let scenario = &plan.scenario;
    Record {
        run: RunInfo {
            id: plan.id.clone(),
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            seed: scenario.seed,
            organisations: plan.has_stack().then(|| scenario.population.organisations.get()),
            started_at: plan.started_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            command: plan.command.clone(),
        },
        window: measured.window,
        stages,
        load: measured.load,
        timeline: measured.timeline,
        audit,
        incidents: measured.incidents,
        environment,
        yardstick,
    }
}
