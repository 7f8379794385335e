//! The backend: a program that migrates the databases and serves HTTP. Known by its command line, one configuration
//! file, one line on stdout and its health route, so that any release of it will do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::error::StackError;
use super::postgres::{SUPERUSER, Server, Site};
use super::process::run_tool;
use super::program::{self, Program};
use super::spec::{BackendProgram, StackSpec};
use crate::archive::Incident;
use crate::scenario::{MetricsEndpoint, PostgresEndpoint, backend_processes};

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

#[derive(Serialize)]
struct Config<'a> {
    server: ServerConfig,
    database: DatabaseConfig<'a>,
    objects: ObjectsConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<ServicesConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ota: Option<OtaConfig<'a>>,
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

/// The outside system that it calls.
#[derive(Serialize)]
struct OtaConfig<'a> {
    channel_manager_url: &'a str,
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

/// What every process is told of where others are. Each may come to call the channel manager: the one that hosts `ota` for a
/// request, any for the regular exchange, which one of them runs.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) primary: &'a Server,
    pub(super) replicas: &'a [Server],
    /// Address of the channel manager, if there is one.
    pub(super) channel_manager: Option<&'a str>,
}

/// Creates the backend's databases, roles and tables on the primary.
pub(super) async fn migrate(
    site: &Site,
    spec: &StackSpec,
    primary: &Server,
) -> Result<(), StackError> {
    let around = Surroundings { primary, replicas: &[], channel_manager: None };
    write_config(site, BACKEND, None, &around, BTreeMap::new())?;
    let mut command = command(site, spec, "migrate", BACKEND);
    command.args(["--history-months", &spec.history_months.to_string()]);
    let outcome = run_tool("migrate", command, &site.log("migrate"), site.limits.tool).await?;
    outcome.map_err(|failure| StackError::Migrate { failure })
}

/// The processes of a backend: the first takes every request; all check tokens of one key.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) all: Vec<Program>,
    pub(super) secret: SecretString,
}

impl Backends {
    /// Starts every process and waits until it listens, has the schema that we know, and is ready. The first comes last, as
    /// it has to be told where the others are.
    pub(super) async fn start(
        site: &Site,
        spec: &StackSpec,
        around: Surroundings<'_>,
    ) -> Result<Self, StackError> {
        let secret = new_secret()?;
        let launch = async |name: &str, port, hosted: &[String], urls| {
            write_config(site, name, port, &around, urls)?;
            let mut command = command(site, spec, "serve", name);
            if !hosted.is_empty() {
                command.arg("--services").arg(hosted.join(","));
            }
            command.env(SECRET_VARIABLE, secret.expose_secret());
            serve(site, spec, name, command).await
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
    pub(super) fn first(&self) -> &Program {
        &self.all[0]
    }

    /// Where their figures are.
    pub(super) fn metrics(&self) -> Vec<MetricsEndpoint> {
        let of = |process: &Program| MetricsEndpoint {
            process: process.name.clone(),
            url: format!("{}/metrics", process.url),
        };
        self.all.iter().map(of).collect()
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

/// Starts a process and waits until it has said that it has the schema that we know, and that it is ready.
async fn serve(
    site: &Site,
    spec: &StackSpec,
    name: &str,
    command: Command,
) -> Result<Program, StackError> {
    let process = Program::start(site, name, command).await?;
    if process.schema != BACKEND_SCHEMA {
        return Err(StackError::BackendSchema {
            found: process.schema,
            expected: BACKEND_SCHEMA,
            program: spec.backend.program.clone(),
        });
    }
    process.ready().await?;
    Ok(process)
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

/// How a process is called.
pub(super) fn command(site: &Site, spec: &StackSpec, act: &str, name: &str) -> Command {
    let mut command = program::command(&spec.backend, act);
    command.arg("--config").arg(config_path(site, name));
    command
}

fn config_path(site: &Site, name: &str) -> PathBuf {
    site.directory.join(format!("{name}.toml"))
}

fn write_config(
    site: &Site,
    process: &str,
    port: Option<u16>,
    around: &Surroundings<'_>,
    urls: BTreeMap<String, String>,
) -> Result<(), StackError> {
    let primary = &around.primary.endpoint;
    let replicas = around.replicas.iter().map(|replica| &replica.endpoint);
    let replicas = replicas.map(|PostgresEndpoint { name, socket_dir, port, .. }| NamedAddress {
        name,
        host: socket_dir,
        port: *port,
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
        ota: around.channel_manager.map(|url| OtaConfig { channel_manager_url: url }),
    };
    let path = config_path(site, process);
    let text =
        toml::to_string(&config).expect("paths are UTF-8: they were made from a checked run id");
    fs::write(&path, text).map_err(|source| StackError::Io { act: "write", path, source })
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
}
