//! The lifecycle: `provision` → [`Stack<Seeding>`] → `finish` → [`Stack<Seeded>`] → `open` → [`Stack<Ready>`] → `stop`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::backend::{self, Backends, Surroundings};
use super::channel_manager::{self, CHANNEL_MANAGER};
use super::directory::StackDirectory;
use super::error::StackError;
use super::incidents::{Death, Incidents};
use super::populations::{Keeping, KeptPopulation, PopulationKey, Populations};
use super::postgres::{self, Server, Shutdown, Site};
use super::preflight::{disk_free, memory_total};
use super::program::{self, Program};
use super::replica;
use super::settings::{Role, Sizing};
use super::spec::StackSpec;
use crate::archive::{Incident, PostgresSetting};
use crate::scenario::{LiveTarget, PostgresEndpoint};
use crate::units::ByteSize;

/// Servers of a size that suits small machines, when the machine does not tell its memory.
const MEMORY_UNKNOWN_BYTES: u64 = 4 << 30;

/// How long after a failure a death that explains it may still be reported.
const DEATH_PATIENCE: Duration = Duration::from_millis(250);

/// A stack in one state of its life. Dropping it ends every process at once and removes its directory; its logs
/// stay. To end it in order, [`Stack::stop`] it.
#[derive(Debug)]
pub struct Stack<State> {
    // Dropped in this order: the processes before the directory under them.
    state: State,
    core: Core,
}

/// A primary without durability, to be filled.
#[derive(Debug)]
pub struct Seeding {
    primary: Server,
    wal_compression: &'static str,
}

/// The data of a primary, filled, durable and stopped: what can be copied.
#[derive(Debug)]
pub struct Seeded {
    data: PathBuf,
    wal_compression: String,
}

/// A durable primary, replicas that stream from it, a backend that serves, and a channel manager if one is wanted.
#[derive(Debug)]
pub struct Ready {
    live: LiveTarget,
    // Dropped in this order: clients before servers.
    backends: Backends,
    channel_manager: Option<Program>,
    replicas: Vec<Server>,
    primary: Server,
}

/// How a stack ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopped {
    /// Everything unasked that happened in its life, its end included. Empty after a clean one.
    pub incidents: Vec<Incident>,
    /// The directory with its data, if that was to be kept or there were incidents.
    pub directory: Option<PathBuf>,
}

#[derive(Debug)]
struct Core {
    spec: StackSpec,
    site: Site,
    cancel: CancellationToken,
    directory: StackDirectory,
}

impl Stack<Seeding> {
    /// Makes a cluster, starts its primary for seeding and has the backend create its databases.
    pub async fn provision(spec: StackSpec, cancel: CancellationToken) -> Result<Self, StackError> {
        const ACT: &str = "provision the stack";
        let mut core = Core::claim(spec, cancel, ACT).await?;
        let outcome = core.supervise(ACT, provision(&core)).await;
        core.settle(outcome).map(|state| Self { state, core })
    }

    /// Where the population is copied to.
    pub fn primary(&self) -> &PostgresEndpoint {
        &self.state.primary.endpoint
    }

    /// Makes what was seeded durable, and stops the primary.
    pub async fn finish(self) -> Result<Stack<Seeded>, StackError> {
        let Self { state, mut core } = self;
        let outcome = core.supervise("finish the population", finish(&core, state)).await;
        core.settle(outcome).map(|state| Stack { state, core })
    }
}

impl Stack<Seeded> {
    /// A stack whose primary is a population that was kept; nothing if none of this key was.
    pub async fn restore(
        spec: StackSpec,
        key: &PopulationKey,
        cancel: CancellationToken,
    ) -> Result<Option<Self>, StackError> {
        const ACT: &str = "restore the population";
        let kept = Populations::below(&spec.directory).find(key, &Account::choose()?).await?;
        let Some(kept) = kept else { return Ok(None) };
        let mut core = Core::claim(spec, cancel, ACT).await?;
        let outcome = core.supervise(ACT, restore(&core, &kept)).await;
        core.settle(outcome).map(|state| Some(Self { state, core }))
    }

    /// Keeps a copy for later runs, within `limit`; says why not when there is no room for it.
    pub async fn keep(
        &mut self,
        key: &PopulationKey,
        limit: ByteSize,
    ) -> Result<Keeping, StackError> {
        let populations = Populations::below(&self.core.spec.directory);
        let (data, wal_compression) = (&self.state.data, &self.state.wal_compression);
        let keeping = populations.keep(&self.core.site, key, data, wal_compression, limit);
        self.core.supervise("keep the population", keeping).await
    }

    /// Copies the replicas, starts all servers, what is played beside the backend, and the backend.
    pub async fn open(self) -> Result<Stack<Ready>, StackError> {
        let Self { state, mut core } = self;
        let outcome = core.supervise("open the stack", open(&core, state)).await;
        core.settle(outcome).map(|state| Stack { state, core })
    }
}

impl Stack<Ready> {
    /// Where everything is.
    pub fn live(&self) -> &LiveTarget {
        &self.state.live
    }

    /// Version of the backend, as it announced it.
    pub fn backend_version(&self) -> &str {
        &self.state.backends.first().version
    }

    /// Where the servers are, and the one that is written to.
    pub(super) fn site_and_primary(&self) -> (&Site, &Server) {
        (&self.core.site, &self.state.primary)
    }

    /// What every server says of its own settings now, and what the primary keeps for single roles and databases.
    pub async fn settings(&self) -> Result<Vec<PostgresSetting>, StackError> {
        let mut settings = self.state.primary.settings().await?;
        settings.extend(self.state.primary.overrides().await?);
        for replica in &self.state.replicas {
            settings.extend(replica.settings().await?);
        }
        Ok(settings)
    }

    /// The same of every server that still answers; what became of the others is told as incidents.
    pub async fn settings_that_are_told(&self) -> Vec<PostgresSetting> {
        let primary = &self.state.primary;
        let mut told = primary.settings().await.unwrap_or_default();
        match primary.overrides().await {
            Ok(overrides) => told.extend(overrides),
            // Without them, the primary's own settings prove nothing.
            Err(_) => told.clear(),
        }
        for replica in &self.state.replicas {
            told.extend(replica.settings().await.unwrap_or_default());
        }
        told
    }

    /// Ends the stack in order: the backend drains, the channel manager ends, the replicas stop, then the primary. Takes as long as the
    /// limits allow, whatever fails on the way.
    pub async fn stop(self) -> Stopped {
        let Self { state, core } = self;
        let Ready { backends, channel_manager, replicas, primary, .. } = state;
        let shutdown = if core.spec.keep { Shutdown::Fast } else { Shutdown::Immediate };
        // Those that died before are reported already.
        let dead = core.site.incidents.so_far();
        let mut failures = backends.stop().await;
        if let Some(channel_manager) = channel_manager {
            failures.extend(channel_manager.stop().await.err());
        }
        let names: Vec<_> =
            replicas.iter().chain([&primary]).map(|s| s.name().to_owned()).collect();
        let mut stops = join_all(replicas.into_iter().map(|replica| replica.stop(shutdown))).await;
        stops.push(primary.stop(shutdown).await);
        failures.extend(names.into_iter().zip(stops).filter_map(|(what, stop)| {
            Some(Incident { second: None, what, detail: stop.err()?.to_string() })
        }));
        failures.retain(|failure| dead.iter().all(|incident| incident.what != failure.what));
        let mut incidents = core.site.incidents.so_far();
        incidents.append(&mut failures);
        let clean = incidents.is_empty();
        let finished = tokio::task::spawn_blocking(move || core.finish(clean)).await;
        let directory = finished.expect("removing files does not panic");
        Stopped { incidents, directory }
    }
}

impl<State> Stack<State> {
    /// Tells of every process that ends unasked, at once: the value is all incidents so far.
    pub fn watch(&self) -> watch::Receiver<Vec<Incident>> {
        self.core.site.incidents.watch()
    }

    /// Every process that has ended unasked so far.
    pub fn incidents(&self) -> Vec<Incident> {
        self.core.site.incidents.so_far()
    }
}

impl Core {
    /// Takes a directory for the stack, once whatever stands in its way is gone.
    async fn claim(
        spec: StackSpec,
        cancel: CancellationToken,
        act: &'static str,
    ) -> Result<Self, StackError> {
        let account = Account::choose()?;
        let directory = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(StackError::Cancelled { act }),
            directory = StackDirectory::claim(&spec.directory, &spec.run, &account) => directory?,
        };
        let site = Site {
            binaries: spec.binaries.clone(),
            account,
            directory: directory.path().to_owned(),
            sockets: directory.sockets(),
            log_dir: spec.log_dir.clone(),
            sizing: Sizing {
                memory_bytes: memory_total().unwrap_or(MEMORY_UNKNOWN_BYTES),
                disk_free_bytes: disk_free(directory.path()).unwrap_or(0),
                replicas: spec.replicas,
            },
            limits: spec.limits,
            incidents: Incidents::default(),
        };
        Ok(Self { spec, site, cancel, directory })
    }

    /// Does a piece of work that any death or a cancellation ends, and with it, as it is dropped, what it started.
    async fn supervise<T>(
        &self,
        act: &'static str,
        work: impl Future<Output = Result<T, StackError>>,
    ) -> Result<T, StackError> {
        let outcome = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(StackError::Cancelled { act }),
            death = self.site.incidents.first_death() => return Err(self.death_error(death)),
            outcome = work => outcome,
        };
        // Work often fails because something died, and learns it first. The death is the better answer.
        match outcome {
            Ok(done) => Ok(done),
            Err(error) => match timeout(DEATH_PATIENCE, self.site.incidents.first_death()).await {
                Ok(death) => Err(self.death_error(death)),
                Err(_) => Err(error),
            },
        }
    }

    fn death_error(&self, Death { what, status, evidence }: Death) -> StackError {
        let command = match what.as_str() {
            CHANNEL_MANAGER => channel_manager::command(&self.spec),
            name if backend::names(&self.spec).contains(&what) => {
                Some(backend::command(&self.site, &self.spec, "serve", name))
            }
            _ => None,
        };
        match command {
            Some(command) => program::died_early(&what, &command, status, evidence),
            None => StackError::ServerDied { server: what, status, evidence },
        }
    }

    /// Leaves the directory of a failed stack to be looked at; that of a cancelled one goes.
    fn settle<T>(&mut self, outcome: Result<T, StackError>) -> Result<T, StackError> {
        if let Err(error) = &outcome
            && !matches!(error, StackError::Cancelled { .. })
        {
            self.directory.leave();
            tracing::warn!(path = %self.directory.path().display(), "left to be looked at until the next run");
        }
        outcome
    }

    /// Keeps or removes what is on disk, once nothing runs. Gives the directory if it is still there.
    fn finish(mut self, clean: bool) -> Option<PathBuf> {
        if self.spec.keep {
            return self.directory.keep().ok();
        }
        if !clean {
            self.directory.leave();
            return Some(self.directory.path().to_owned());
        }
        self.remove_logs();
        None
    }

    fn remove_logs(&self) {
        let site = &self.site;
        let mut names = ["initdb", "migrate", CHANNEL_MANAGER].map(str::to_owned).to_vec();
        names.extend(backend::names(&self.spec));
        for place in 0..=self.spec.replicas {
            names.push(postgres::endpoint(site, place).name);
        }
        for name in names {
            let _ = fs::remove_file(site.log(&name));
        }
        // Goes only if nobody else's files are in it.
        let _ = fs::remove_dir(&site.log_dir);
    }
}

async fn provision(core: &Core) -> Result<Seeding, StackError> {
    let site = &core.site;
    let endpoint = postgres::endpoint(site, 0);
    let data = core.directory.make_data(&endpoint.name, &site.account)?;
    postgres::initialise(site, &data).await?;
    let primary = Server::start(site, endpoint, data, Role::Seeding, "off").await?;
    let wal_compression = postgres::prepare(&primary).await?;
    backend::migrate(site, &core.spec, &primary).await?;
    Ok(Seeding { primary, wal_compression })
}

async fn finish(core: &Core, seeding: Seeding) -> Result<Seeded, StackError> {
    let site = &core.site;
    let Seeding { primary, wal_compression } = seeding;
    let endpoint = primary.endpoint.clone();
    let data = primary.stop(Shutdown::Fast).await?;
    postgres::sync(site, &data, site.limits.server_stop).await?;
    // Once as it will run: only data that a primary with replicas has written can be copied to one.
    let primary = Server::start(site, endpoint, data, Role::Primary, wal_compression).await?;
    primary.execute("checkpoint", "CHECKPOINT").await?;
    let data = primary.stop(Shutdown::Fast).await?;
    Ok(Seeded { data, wal_compression: wal_compression.to_owned() })
}

async fn restore(core: &Core, kept: &KeptPopulation) -> Result<Seeded, StackError> {
    let site = &core.site;
    let data = core.directory.make_data(&postgres::endpoint(site, 0).name, &site.account)?;
    postgres::copy(site, kept.data(), &data, "of a kept population").await?;
    Ok(Seeded { data, wal_compression: kept.wal_compression().to_owned() })
}

async fn open(core: &Core, seeded: Seeded) -> Result<Ready, StackError> {
    let site = &core.site;
    let Seeded { data, wal_compression } = seeded;
    let copies = replica::copy(site, &core.directory, &data).await?;
    let endpoint = postgres::endpoint(site, 0);
    let primary = Server::start(site, endpoint, data, Role::Primary, &wal_compression).await?;
    let replicas = replica::replicate(site, &primary, copies, &wal_compression).await?;
    let channel_manager = channel_manager::start(site, &core.spec).await?;
    let url = channel_manager.as_ref().map(|manager| manager.url.as_str());
    let around = Surroundings { primary: &primary, replicas: &replicas, channel_manager: url };
    let backends = Backends::start(site, &core.spec, around).await?;
    let servers = || std::iter::once(&primary).chain(&replicas);
    let live = LiveTarget {
        base_url: backends.first().url.clone(),
        metrics: backends.metrics(),
        token_secret: Some(backends.secret.clone()),
        postgres: servers().map(|server| server.endpoint.clone()).collect(),
        processes: (backends.all.iter().chain(&channel_manager).map(Program::process_group))
            .chain(servers().map(Server::process_group))
            .collect(),
    };
    Ok(Ready { live, backends, channel_manager, replicas, primary })
}
