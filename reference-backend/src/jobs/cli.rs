//! `jobs list | run NAME | history [NAME]`: what people ask about jobs. Gives back the text to print.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::Job;
use super::execute::execute;
use super::runs::{Past, Runs};
use super::work::Scope;
use crate::config::Config;
use crate::db::{Database, Databases};
use crate::gateway;
use crate::jobs::IfDied;
use crate::telemetry::Metrics;

/// What to do with jobs.
#[derive(Debug, Clone, Args)]
pub struct JobsCommand {
    /// Settings over the defaults.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    action: JobsAction,
}

#[derive(Debug, Clone, Subcommand)]
enum JobsAction {
    /// Every job, its schedule in UTC, its next instant and its last run.
    List,
    /// Run one now, in this process, unless a run of it is in progress; fails when the run fails.
    Run {
        /// As `list` names it.
        job: Job,
        /// For a check: look at everything, not only at what is recent.
        #[arg(long)]
        all: bool,
    },
    /// The latest runs, the latest first.
    History {
        /// Of one job only.
        job: Option<Job>,
        /// Most runs told of.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

impl JobsCommand {
    /// Does it; the text is for standard output.
    pub async fn run(&self, config: &Config) -> anyhow::Result<String> {
        match &self.action {
            JobsAction::List => list(config, &runs(config).await?).await,
            JobsAction::Run { job, all } => {
                run(config, *job, if *all { Scope::All } else { Scope::Recent }).await
            }
            JobsAction::History { job, limit } => {
                let past = runs(config).await?.history(*job, *limit).await;
                Ok(table(&past.context("read the runs")?))
            }
        }
    }
}

async fn runs(config: &Config) -> anyhow::Result<Runs> {
    let databases = Databases::connect(&config.database).await?;
    Ok(Runs::new(databases.write(Database::HealthCheck).clone()))
}

async fn list(config: &Config, runs: &Runs) -> anyhow::Result<String> {
    let mut text = String::new();
    for job in Job::ALL {
        let schedule = &config.jobs.timing(job).schedule;
        let next = schedule.next_after(Utc::now()).map(short).unwrap_or_default();
        let last = runs.history(Some(job), 1).await.context("read the runs")?;
        let last = last.first().map_or_else(|| "never ran".to_owned(), outcome_of);
        writeln!(text, "{job:<30} {schedule:<16} next {next}  {last}")?;
    }
    Ok(text)
}

async fn run(config: &Config, job: Job, scope: Scope) -> anyhow::Result<String> {
    // It answers no requests, so no token will ever be checked.
    let app = gateway::open(config, &SecretString::default(), &[], Metrics::install()?).await?;
    let runs = Runs::new(app.databases.write(Database::HealthCheck).clone());
    let dead_after = config.jobs.dead_after_ms.duration();
    let stop = CancellationToken::new();
    let given_back = runs.take_over(job, dead_after, IfDied::GiveUp).await;
    if let Some(run) = given_back.context("look at the runs")? {
        // It would be lost otherwise; how it ends is recorded.
        execute(&app, &runs, &run, scope, &stop).await;
    }
    let Some(run) = runs.claim(job, None).await.context("record the run")? else {
        bail!("run {job}: a run of it is in progress\nhelp: `jobs history {job}` says since when");
    };
    let outcome = execute(&app, &runs, &run, scope, &stop).await;
    app.databases.close().await;
    match outcome {
        Some(Ok(detail)) => Ok(format!("{job}: {detail}\n")),
        Some(Err(reason)) => bail!("run {job}: {reason}"),
        None => bail!("run {job}: another process took the run over"),
    }
}

fn table(past: &[Past]) -> String {
    let lines = past.iter().map(|run| {
        let how = if run.by_hand { " by hand" } else { "" };
        let attempts = if run.attempts > 1 { " (taken over)" } else { "" };
        let (at, outcome) = (short(run.scheduled_at), outcome_of(run));
        format!("{:<30} {at}{how}  {outcome}{attempts}  in {}\n", run.job, run.process)
    });
    lines.collect()
}

fn outcome_of(run: &Past) -> String {
    let (Some(finished_at), Some(outcome)) = (run.finished_at, run.outcome.as_deref()) else {
        return format!("running since {}", short(run.started_at));
    };
    let took = (finished_at - run.started_at).num_milliseconds();
    format!("{outcome} in {took} ms: {}", run.detail.as_deref().unwrap_or_default())
}

fn short(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
