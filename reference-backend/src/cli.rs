//! The commands of the program. The only place that writes to standard output: one line when `serve` listens, or what
//! another command was asked for.

mod partitions;
mod projections;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::Utc;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Environment, Logs, Settings, Sources, token_secret_from_env};
use crate::db;
use crate::gateway;
use crate::jobs::JobsCommand;
use crate::ota::{self, Behaviour};
use crate::pubsub::SubscriptionsCommand;
use crate::services::Service;
use crate::telemetry::{Metrics, init_logs};

/// The schema version that the harness compares with its own.
const SCHEMA: u32 = 2;

/// What to do.
#[derive(Debug, Clone, Args)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
    /// Which overlay goes over the defaults: development, staging or production [default: $BACKEND_ENVIRONMENT, else
    /// development]
    #[arg(long, global = true, value_name = "NAME")]
    environment: Option<Environment>,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Answer requests until SIGTERM or SIGINT.
    Serve(Serve),
    /// Make databases, roles, tables and partitions; can be repeated.
    Migrate(Migrate),
    /// Look at the settings.
    Config(ConfigCommand),
    /// Look at scheduled jobs, or run one.
    Jobs(JobsCommand),
    /// Look at subscriptions and their dead letters, deliver these again, or let them go.
    Subscriptions(SubscriptionsCommand),
    /// Tables that follow the events: build them anew.
    Projections(projections::Command),
    /// Monthly partitions: what there is, what is wrong, make, drop.
    Partitions(partitions::Command),
    /// Print what shapes the databases of this release: its schema version and every migration
    Schema,
    /// Stand in for the outside channel manager, as slow and as broken as told.
    OtaStub(OtaStub),
}

#[derive(Debug, Clone, Args)]
struct Serve {
    /// Settings over the defaults; BACKEND__SECTION__SETTING variables are above both.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Services to host, by their names in /v1/services. By default all but those of `services.urls`;
    /// `health` always.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    services: Vec<Service>,
}

#[derive(Debug, Clone, Args)]
struct Migrate {
    /// Settings over the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Months of partitions before the current one.
    #[arg(long, value_name = "N", default_value_t = 12)]
    history_months: u32,
}

#[derive(Debug, Clone, Args)]
struct ConfigCommand {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Debug, Clone, Subcommand)]
enum ConfigAction {
    /// Print the settings in force, each with its origin. Secrets are not shown.
    Show {
        /// Settings over the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct OtaStub {
    /// Address and port; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[command(flatten)]
    behaviour: Behaviour,
}

/// Runs a command to its end: 0, or 1 with a message on standard error.
#[expect(clippy::print_stderr, reason = "the program's own voice")]
pub fn run(command: Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime
        .map_err(|error| anyhow::anyhow!("start the runtime: {error}"))
        .and_then(|runtime| runtime.block_on(dispatch(command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    let load = |file: Option<&Path>| -> anyhow::Result<Config> {
        Ok(Sources::of_process(command.environment, file)?.load()?)
    };
    match command.action {
        Action::Serve(serve) => {
            let sources = Sources::of_process(command.environment, serve.config.as_deref())?;
            self::serve(&serve, sources).await
        }
        Action::Migrate(migrate) => {
            let config = load(migrate.config.as_deref())?;
            init_logs(&config.logs)?;
            let today = Utc::now().date_naive();
            Ok(db::migrate(&config, migrate.history_months, today).await?)
        }
        Action::Projections(projections) => {
            projections::run(&load(projections.config.as_deref())?, &projections).await
        }
        Action::Schema => {
            let lines = std::iter::once(format!("schema {SCHEMA}")).chain(db::migrations());
            let text: String = lines.map(|line| line + "\n").collect();
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Action::Partitions(command) => partitions::run(command, load).await,
        Action::Config(ConfigCommand { action: ConfigAction::Show { config, json } }) => {
            let sources = Sources::of_process(command.environment, config.as_deref())?;
            let text =
                if json { format!("{:#}\n", sources.show_json()?) } else { sources.show_toml()? };
            Ok(std::io::stdout().write_all(text.as_bytes())?)
        }
        Action::Jobs(jobs) => {
            let config = load(jobs.config.as_deref())?;
            init_logs(&config.logs)?;
            Ok(std::io::stdout().write_all(jobs.run(&config).await?.as_bytes())?)
        }
        Action::Subscriptions(subscriptions) => {
            let config = load(subscriptions.config.as_deref())?;
            init_logs(&config.logs)?;
            Ok(std::io::stdout().write_all(subscriptions.run(&config).await?.as_bytes())?)
        }
        Action::OtaStub(OtaStub { listen, behaviour }) => {
            // It is no part of the backend, and has no settings.
            init_logs(&Logs { filter: "info".to_owned(), json: false })?;
            let stop = CancellationToken::new();
            let answering = ota::stub(listen, behaviour, stop.clone(), announcing(&stop));
            tokio::select! {
                answered = answering => Ok(answered?),
                failed = until_told(&stop) => Ok(failed?),
            }
        }
    }
}

async fn serve(command: &Serve, sources: Sources) -> anyhow::Result<()> {
    let settings = Settings::load(sources)?;
    let secret = token_secret_from_env()?;
    init_logs(&settings.current().config.logs)?;
    let metrics = Metrics::install()?;
    let elsewhere = settings.current().config.services.urls.clone();
    let rest = Service::ALL.into_iter().filter(|service| !elsewhere.contains_key(service));
    let mut hosted: Vec<Service> =
        if command.services.is_empty() { rest.collect() } else { command.services.clone() };
    // Whoever started a process must be able to ask it how it is.
    if !hosted.contains(&Service::Health) {
        hosted.push(Service::Health);
    }
    let stop = CancellationToken::new();
    let announcing = announcing(&stop);
    let served = gateway::serve(&settings, &secret, &hosted, metrics, stop.clone(), announcing);
    tokio::select! {
        served = served => Ok(served?),
        failed = until_told(&stop) => Ok(failed?),
        failed = reload_on_hangup(&settings) => Ok(failed?),
    }
}

/// Stops at a signal; an error at the second, because what was in flight is cut off.
async fn until_told(stop: &CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut either = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    either().await;
    tracing::info!("stopping: finishing what is in flight; a second signal ends at once");
    stop.cancel();
    either().await;
    Err(std::io::Error::other("finish what was in flight: told to end at once"))
}

fn announcing(stop: &CancellationToken) -> impl FnOnce(SocketAddr) + use<> {
    let stop = stop.clone();
    move |address| {
        if let Err(error) = announce(&mut std::io::stdout().lock(), address) {
            // Nobody can learn the address: there is no one to serve.
            tracing::error!(%error, "standard output is closed; stopping");
            stop.cancel();
        }
    }
}

/// Each SIGHUP reads the settings again. Ends only when the signal cannot be had.
async fn reload_on_hangup(settings: &Settings) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        match settings.reload() {
            Ok(changed) if changed.is_empty() => tracing::info!("settings read again: no change"),
            Ok(changed) => tracing::info!(
                epoch = settings.current().epoch,
                changed = changed.join(", "),
                "settings changed"
            ),
            Err(error) => tracing::error!(%error, "settings not changed"),
        }
    }
    Ok(())
}

/// The one line that says where requests are accepted.
fn announce(out: &mut impl Write, address: SocketAddr) -> std::io::Result<()> {
    writeln!(
        out,
        r#"{{"event":"listening","url":"http://{address}","schema":{SCHEMA},"version":"{}"}}"#,
        env!("CARGO_PKG_VERSION")
    )?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_is_as_agreed() {
        let mut line = Vec::new();
        announce(&mut line, "127.0.0.1:4711".parse().unwrap()).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"event\":\"listening\",\"url\":\"http://127.0.0.1:4711\",\"schema\":2,\"version\":\"0.1.0\"}\n"
        );
    }
}
