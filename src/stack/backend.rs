//! The backend: a program that migrates the databases and serves HTTP. Known by its command line, one configuration
//! file, one line on stdout and its health route, so that any release of it will do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::error::StackError;
use super::log::Evidence;
use super::postgres::{SUPERUSER, Server, Site};
use super::process::{Launch, Process, run_tool};
use super::spec::{BackendProgram, StackSpec};
use super::wait::{Seen, TimedOut, wait_for};
use crate::archive::Incident;
use crate::scenario::{MetricsEndpoint, PostgresEndpoint, ProcessGroup, backend_processes};

/// Version of the backend's schema that population and audit know.
pub const BACKEND_SCHEMA: u64 = 2;
/// Name of its first process in incidents and process groups; [`backend_processes`] names the further ones.
const BACKEND: &str = "backend";
/// Environment variable that gives the backend its key.
const SECRET_VARIABLE: &str = "PLIMSOLL_BACKEND_TOKEN_SECRET";
/// Length of the key before encoding, in bytes.
const SECRET_BYTES: usize = 32;
/// How long a backend may take to say what its databases look like.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(10);
/// How much of an answer an error quotes.
const QUOTED_CHARS_MAX: usize = 300;
/// How often a starting backend is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// A process of the backend that serves and says that it is ready.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub(super) url: String,
    /// As it announced it.
    pub(super) version: String,
    process: Process,
    stop_limit: Duration,
}

/// Its one line on stdout.
#[derive(Debug, Deserialize)]
struct Announcement {
    event: String,
    url: String,
    schema: u64,
    version: String,
}

#[derive(Serialize)]
struct Config<'a> {
    server: ServerConfig,
    database: DatabaseConfig<'a>,
    objects: ObjectsConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<ServicesConfig>,
}

/// Where all processes keep what is no row.
#[derive(Serialize)]
struct ObjectsConfig {
    directory: PathBuf,
}

/// What the process passes on, and where.
#[derive(Serialize)]
struct ServicesConfig {
    urls: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ServerConfig {
    listen: String,
}

#[derive(Serialize)]
struct DatabaseConfig<'a> {
    admin_user: &'a str,
    primary: Address<'a>,
    replicas: Vec<NamedAddress<'a>>,
}

#[derive(Serialize)]
struct Address<'a> {
    host: &'a Path,
    port: u16,
}

#[derive(Serialize)]
struct NamedAddress<'a> {
    name: &'a str,
    host: &'a Path,
    port: u16,
}

/// Creates the backend's databases, roles and tables on the primary.
pub(super) async fn migrate(
    site: &Site,
    spec: &StackSpec,
    primary: &Server,
) -> Result<(), StackError> {
    let config = write_config(site, BACKEND, None, &primary.endpoint, &[], BTreeMap::new())?;
    let mut command = command(&spec.backend, "migrate", &config);
    command.args(["--history-months", &spec.history_months.to_string()]);
    let outcome = run_tool("migrate", command, &site.log("migrate"), site.limits.tool).await?;
    outcome.map_err(|failure| StackError::Migrate { failure })
}

/// The processes of a backend: the first takes every request; all check tokens of one key.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) all: Vec<Backend>,
    pub(super) secret: SecretString,
}

impl Backends {
    /// Starts every process and waits until it listens, has the schema that we know, and is ready. The first comes last, as
    /// it has to be told where the others are.
    pub(super) async fn start(
        site: &Site,
        spec: &StackSpec,
        primary: &Server,
        replicas: &[Server],
    ) -> Result<Self, StackError> {
        let replicas: Vec<_> = replicas.iter().map(|replica| &replica.endpoint).collect();
        let secret = new_secret()?;
        let launch = async |name: &str, port, hosted: &[String], urls| {
            let config = write_config(site, name, port, &primary.endpoint, &replicas, urls)?;
            let mut command = command(&spec.backend, "serve", &config);
            if !hosted.is_empty() {
                command.arg("--services").arg(hosted.join(","));
            }
            command.env(SECRET_VARIABLE, secret.expose_secret());
            Backend::start(site, spec, name, command).await
        };
        let (mut further, mut urls) = (Vec::new(), BTreeMap::new());
        for (name, hosted) in names(spec).into_iter().skip(1).zip(&spec.backend_split) {
            let backend = launch(&name, None, hosted, BTreeMap::new()).await?;
            urls.extend(hosted.iter().map(|service| (service.clone(), backend.url.clone())));
            further.push(backend);
        }
        let mut all = vec![launch(BACKEND, spec.backend_port, &[], urls).await?];
        all.append(&mut further);
        Ok(Self { all, secret })
    }

    /// The process that takes every request.
    pub(super) fn first(&self) -> &Backend {
        &self.all[0]
    }

    /// Asks all to drain and end, first the one that passes requests on.
    pub(super) async fn stop(self) -> Vec<Incident> {
        let mut incidents = Vec::new();
        for backend in self.all {
            incidents.extend(backend.stop().await.err());
        }
        incidents
    }
}

/// What the processes are called.
pub(super) fn names(spec: &StackSpec) -> Vec<String> {
    backend_processes(spec.backend_split.len())
}

/// What the backend says of the shape of its databases; nothing from a release that does not say.
pub async fn backend_schema(backend: &BackendProgram) -> Option<String> {
    let mut command = tokio::process::Command::new(&backend.program);
    command.args(&backend.args).arg("schema").kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(SCHEMA_PATIENCE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && text.starts_with("schema ")).then_some(text)
}

impl Backend {
    async fn start(
        site: &Site,
        spec: &StackSpec,
        name: &str,
        command: Command,
    ) -> Result<Self, StackError> {
        let stdout = site.directory.join(format!("{name}.stdout"));
        let attempt = Attempt { site, command: shown(&command), stdout: &stdout };
        let process = Process::start(Launch {
            name: name.to_owned(),
            command,
            log: site.log(name),
            stdout: Some(create(&stdout)?),
            abrupt: Signal::SIGKILL,
            incidents: Some(site.incidents.clone()),
        })?;
        let announced = attempt.announcement(&process).await?;
        if announced.schema != BACKEND_SCHEMA {
            return Err(StackError::BackendSchema {
                found: announced.schema,
                expected: BACKEND_SCHEMA,
                program: spec.backend.program.clone(),
            });
        }
        let url = announced.url.trim_end_matches('/').to_owned();
        attempt.ready(&process, &url).await?;
        let (name, stop_limit) = (name.to_owned(), site.limits.backend_stop);
        Ok(Self { name, url, version: announced.version, process, stop_limit })
    }

    pub(super) fn process_group(&self) -> ProcessGroup {
        ProcessGroup { name: self.name.clone(), pid: self.process.pid() }
    }

    pub(super) fn metrics(&self) -> MetricsEndpoint {
        MetricsEndpoint { process: self.name.clone(), url: format!("{}/metrics", self.url) }
    }

    /// Asks it to drain and end. It may fail to: that is an incident, and the servers are stopped all the same.
    async fn stop(self) -> Result<(), Incident> {
        let problem = match self.process.stop(Signal::SIGTERM, self.stop_limit).await {
            Some(status) if status.success() => return Ok(()),
            Some(status) => format!("asked to stop, it ended with {status}"),
            None => format!("it did not drain within {:?}, so it was killed", self.stop_limit),
        };
        let detail = format!("{problem}\n{}", self.process.evidence());
        Err(Incident { second: None, what: self.name, detail })
    }
}

/// One start of the backend, for the errors it may end in.
struct Attempt<'a> {
    site: &'a Site,
    command: String,
    stdout: &'a Path,
}

impl Attempt<'_> {
    /// Waits for the line on stdout. A backend that dies instead is noticed by whoever supervises the start.
    async fn announcement(&self, process: &Process) -> Result<Announcement, StackError> {
        let announced = wait_for(self.site.limits.backend_start, LOOK_INTERVAL, || async {
            let text = fs::read_to_string(self.stdout).unwrap_or_default();
            let Some((line, _)) = text.split_once('\n') else {
                return Ok(Seen::NotYet("it has announced nothing on stdout".to_owned()));
            };
            match serde_json::from_str::<Announcement>(line) {
                Ok(announced) if announced.event == "listening" => Ok(Seen::Done(announced)),
                _ => Err(self.error(
                    process,
                    format!("its first line on stdout is not an announcement: {line}"),
                )),
            }
        });
        announced.await?.map_err(|timed_out| self.timed_out(process, timed_out))
    }

    async fn ready(&self, process: &Process, url: &str) -> Result<(), StackError> {
        let address = format!("{url}/health/ready");
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| self.error(process, error.to_string()))?;
        let ready = wait_for(self.site.limits.backend_start, LOOK_INTERVAL, || async {
            let last = match client.get(&address).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(Seen::Done(())),
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.text().await.unwrap_or_default();
                    let quoted: String = body.chars().take(QUOTED_CHARS_MAX).collect();
                    format!("{address} answered {status}: {quoted}")
                }
                Err(error) => format!("{address}: {error}"),
            };
            Ok(Seen::NotYet(last))
        });
        ready.await?.map_err(|timed_out| self.timed_out(process, timed_out))
    }

    fn timed_out(&self, process: &Process, TimedOut { limit, last }: TimedOut) -> StackError {
        self.error(process, format!("not ready within {limit:?}; last: {last}"))
    }

    fn error(&self, process: &Process, problem: String) -> StackError {
        let (command, evidence) = (self.command.clone(), process.evidence());
        StackError::BackendNotStarted { problem, command, evidence }
    }
}

/// The error of a backend that died before it was ready.
pub(super) fn died_early(
    site: &Site,
    spec: &StackSpec,
    name: &str,
    status: std::process::ExitStatus,
    evidence: Evidence,
) -> StackError {
    let command = shown(&command(&spec.backend, "serve", &config_path(site, name)));
    let problem = format!("it ended with {status} before it was ready");
    StackError::BackendNotStarted { problem, command, evidence }
}

fn command(backend: &BackendProgram, act: &str, config: &Path) -> Command {
    let mut command = Command::new(&backend.program);
    command.args(&backend.args).arg(act).arg("--config").arg(config);
    // Its log is read by people in files.
    command.env("NO_COLOR", "1");
    // libpq's variables would reach around the configuration.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

/// The command as one would type it; without the environment, which holds the key.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn config_path(site: &Site, name: &str) -> PathBuf {
    site.directory.join(format!("{name}.toml"))
}

fn write_config(
    site: &Site,
    process: &str,
    port: Option<u16>,
    primary: &PostgresEndpoint,
    replicas: &[&PostgresEndpoint],
    urls: BTreeMap<String, String>,
) -> Result<PathBuf, StackError> {
    let named = |replica: &&'_ PostgresEndpoint| replica.name.clone();
    let names: Vec<String> = replicas.iter().map(named).collect();
    let replicas = replicas.iter().zip(&names).map(|(replica, name)| NamedAddress {
        name,
        host: &replica.socket_dir,
        port: replica.port,
    });
    let config = Config {
        server: ServerConfig { listen: format!("127.0.0.1:{}", port.unwrap_or(0)) },
        database: DatabaseConfig {
            admin_user: SUPERUSER,
            primary: Address { host: &primary.socket_dir, port: primary.port },
            replicas: replicas.collect(),
        },
        objects: ObjectsConfig { directory: site.directory.join("objects") },
        services: (!urls.is_empty()).then_some(ServicesConfig { urls }),
    };
    let path = config_path(site, process);
    let text =
        toml::to_string(&config).expect("paths are UTF-8: they were made from a checked run id");
    fs::write(&path, text).map_err(|source| StackError::Io {
        act: "write",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn create(path: &Path) -> Result<File, StackError> {
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
    file.map_err(|source| StackError::Io { act: "make", path: path.to_owned(), source })
}

fn new_secret() -> Result<SecretString, StackError> {
    let mut bytes = [0; SECRET_BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| StackError::Io {
        act: "draw a key from",
        path: PathBuf::from("/dev/urandom"),
        source: std::io::Error::other(error),
    })?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_enough_and_never_the_same() {
        let (a, b) = (new_secret().unwrap(), new_secret().unwrap());
        assert!(a.expose_secret().len() >= SECRET_BYTES);
        assert_ne!(a.expose_secret(), b.expose_secret());
    }

    #[test]
    fn the_command_is_shown_without_the_key() {
        let program =
            BackendProgram { program: "/p".into(), args: vec!["reference-backend".into()] };
        let mut command = command(&program, "serve", Path::new("/c.toml"));
        command.env(SECRET_VARIABLE, "secret");
        assert_eq!(shown(&command), "/p reference-backend serve --config /c.toml");
    }
}
