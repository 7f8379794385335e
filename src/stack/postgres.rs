//! One Postgres server: its data, its process, its connection.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;

use super::account::Account;
use super::binaries::PostgresBinaries;
use super::error::{StackError, ToolFailure};
use super::incidents::Incidents;
use super::process::{Launch, Process, run_tool};
use super::settings::{HOST_BASED_AUTHENTICATION, REPORTED, Role, Sizing, configuration};
use super::spec::Limits;
use super::wait::{Seen, TimedOut, wait_for};
use crate::archive::PostgresSetting;
use crate::postgres::connect_options;
use crate::scenario::{PostgresEndpoint, ProcessGroup};

/// Superuser of the cluster.
pub(super) const SUPERUSER: &str = "postgres";
/// Role under which the servers are observed.
pub(super) const MONITOR_ROLE: &str = "plimsoll_monitor";
/// Port of the primary; replicas follow. With no network address it only tells sockets apart.
pub(super) const FIRST_PORT: u16 = 5432;
/// How often a starting server is tried.
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// What all servers of a stack share.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) binaries: PostgresBinaries,
    pub(super) account: Account,
    /// The stack's directory: where tools run.
    pub(super) directory: PathBuf,
    pub(super) sockets: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) sizing: Sizing,
    pub(super) limits: Limits,
    pub(super) incidents: Incidents,
}

impl Site {
    /// A command of the servers' user, with nothing of our environment that could steer it.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.directory).env("LC_ALL", "C").env("TZ", "UTC");
        for kept in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        self.account.apply(&mut command);
        command
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.log_dir.join(format!("{name}.log"))
    }

    /// Runs a Postgres tool; its log has its name.
    pub(super) async fn run(
        &self,
        tool: &str,
        log: &str,
        limit: Duration,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<Result<(), ToolFailure>, StackError> {
        let mut command = self.command(self.binaries.program(tool));
        arguments(&mut command);
        run_tool(tool, command, &self.log(log), limit).await
    }

    pub(super) fn write_owned(&self, path: &Path, text: &str) -> Result<(), StackError> {
        fs::write(path, text).map_err(|source| StackError::Io {
            act: "write",
            path: path.to_owned(),
            source,
        })?;
        self.account.own(path)
    }
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) endpoint: PostgresEndpoint,
    pub(super) data: PathBuf,
    process: Process,
    limits: Limits,
}

impl Server {
    /// Writes the server's settings, starts it on its data, and waits until it accepts connections.
    pub(super) async fn start(
        site: &Site,
        endpoint: PostgresEndpoint,
        data: PathBuf,
        role: Role,
        wal_compression: &str,
    ) -> Result<Self, StackError> {
        let PostgresEndpoint { name, port, .. } = &endpoint;
        let settings =
            configuration(name, role, site.sizing, &site.sockets, *port, wal_compression);
        site.write_owned(&data.join("postgresql.conf"), &settings)?;
        site.write_owned(&data.join("pg_hba.conf"), HOST_BASED_AUTHENTICATION)?;
        let mut command = site.command(site.binaries.program("postgres"));
        command.arg("-D").arg(&data);
        let process = Process::start(Launch {
            name: name.clone(),
            command,
            log: site.log(name),
            stdout: None,
            // Immediate shutdown: the server ends its own children, and leaves recovery to a next start.
            abrupt: Signal::SIGQUIT,
            incidents: Some(site.incidents.clone()),
        })?;
        let server = Self { endpoint, data, process, limits: site.limits };
        server.accepts_connections().await?;
        Ok(server)
    }

    pub(super) fn name(&self) -> &str {
        &self.endpoint.name
    }

    pub(super) fn process_group(&self) -> ProcessGroup {
        ProcessGroup { name: self.name().to_owned(), pid: self.process.pid() }
    }

    pub(super) fn evidence(&self) -> super::log::Evidence {
        self.process.evidence()
    }

    /// Ends the server. Killed if that takes too long.
    pub(super) async fn stop(self, shutdown: Shutdown) -> Result<PathBuf, StackError> {
        let limit = self.limits.server_stop;
        match self.process.stop(shutdown.signal(), limit).await {
            Some(status) if status.success() => Ok(self.data.clone()),
            Some(status) => Err(StackError::ServerDied {
                server: self.name().to_owned(),
                status,
                evidence: self.evidence(),
            }),
            None => Err(StackError::ServerNotStopped {
                server: self.name().to_owned(),
                limit,
                evidence: self.evidence(),
            }),
        }
    }

    /// Asks the server something as the superuser, on a connection of its own, within the limit of a statement.
    pub(super) async fn ask<T, F>(
        &self,
        act: &'static str,
        question: impl FnOnce(PgConnection) -> F,
    ) -> Result<T, StackError>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        let limit = self.limits.statement;
        let answer = async { question(self.try_connect().await?).await };
        let server = || self.name().to_owned();
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => {
                answer.map_err(|source| StackError::Sql { act, server: server(), source })
            }
            Err(_) => Err(StackError::Unanswered {
                act,
                server: server(),
                limit,
                evidence: self.evidence(),
            }),
        }
    }

    /// Has the server do something that answers nothing of interest.
    pub(super) async fn execute(
        &self,
        act: &'static str,
        statement: &'static str,
    ) -> Result<(), StackError> {
        self.ask(act, |mut connection| async move {
            sqlx::raw_sql(statement).execute(&mut connection).await.map(drop)
        })
        .await
    }

    /// What the server itself says of its settings.
    pub(super) async fn settings(&self) -> Result<Vec<PostgresSetting>, StackError> {
        let rows = self.ask("read the settings", |mut connection| async move {
            sqlx::query_as(
                "SELECT name, current_setting(name)
                 FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
                 JOIN pg_settings USING (name) ORDER BY place",
            )
            .bind(REPORTED.map(str::to_owned).to_vec())
            .fetch_all(&mut connection)
            .await
        });
        let rows: Vec<(String, String)> = rows.await?;
        let server = self.name();
        let setting = |(name, value)| PostgresSetting { server: server.to_owned(), name, value };
        Ok(rows.into_iter().map(setting).collect())
    }

    /// Settings that are other for a role or in a database: `SHOW` in a session of ours does not tell them. As they were
    /// written; those of the primary are the replicas' too.
    pub(super) async fn overrides(&self) -> Result<Vec<PostgresSetting>, StackError> {
        let rows = self.ask("read the settings of roles and databases", |mut connection| async move {
            sqlx::query_as(
                "SELECT concat_ws(', ', 'role ' || rolname, 'database ' || datname),
                        split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
                 FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS entry
                 LEFT JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase
                 WHERE split_part(entry, '=', 1) = ANY ($1::text[]) ORDER BY 1, 2",
            )
            .bind(REPORTED.map(str::to_owned).to_vec())
            .fetch_all(&mut connection)
            .await
        });
        let rows: Vec<(String, String, String)> = rows.await?;
        let server = |whose: String| match whose.as_str() {
            "" => format!("{}, all roles", self.name()),
            whose => format!("{}, {whose}", self.name()),
        };
        let setting = |(whose, name, value)| PostgresSetting { server: server(whose), name, value };
        Ok(rows.into_iter().map(setting).collect())
    }

    async fn accepts_connections(&self) -> Result<(), StackError> {
        let up = wait_for(self.limits.server_start, TRY_INTERVAL, || async {
            Ok(match self.try_connect().await {
                Ok(_) => Seen::Done(()),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        });
        match up.await? {
            Ok(()) => Ok(()),
            Err(TimedOut { limit, last }) => Err(StackError::ServerNotUp {
                server: self.name().to_owned(),
                limit,
                last,
                evidence: self.evidence(),
            }),
        }
    }

    async fn try_connect(&self) -> sqlx::Result<PgConnection> {
        connect_options(&self.endpoint, &self.endpoint.superuser, "stack")
            .database("postgres")
            .connect()
            .await
    }
}

/// The endpoint of the server with this place: 0 is the primary, 1 the first replica.
pub(super) fn endpoint(site: &Site, place: u8) -> PostgresEndpoint {
    PostgresEndpoint {
        name: if place == 0 { "primary".to_owned() } else { format!("replica-{place}") },
        socket_dir: site.sockets.clone(),
        port: FIRST_PORT + u16::from(place),
        superuser: SUPERUSER.to_owned(),
        monitor_role: MONITOR_ROLE.to_owned(),
    }
}

/// Makes an empty cluster. Nothing is forced to disk yet: [`sync`] does that once, when everything is in it.
pub(super) async fn initialise(site: &Site, data: &Path) -> Result<(), StackError> {
    let initdb = site.run("initdb", "initdb", site.limits.tool, |command| {
        command.arg("--pgdata").arg(data).args([
            "--username",
            SUPERUSER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
            "--no-instructions",
        ]);
    });
    initdb.await?.map_err(|failure| StackError::Initdb { failure })
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Sessions are ended, everything is written: what stays behind is whole.
    Fast,
    /// Ended at once. For data that is about to be removed: writing it out first would only keep the disk busy.
    Immediate,
}

impl Shutdown {
    fn signal(self) -> Signal {
        match self {
            Self::Fast => Signal::SIGINT,
            Self::Immediate => Signal::SIGQUIT,
        }
    }
}

/// Forces a stopped cluster to disk: what was written without fsync, and nothing else left for the run to write.
pub(super) async fn sync(site: &Site, data: &Path, limit: Duration) -> Result<(), StackError> {
    let sync = site.run("initdb", "initdb", limit, |command| {
        command.arg("--pgdata").arg(data).arg("--sync-only");
    });
    sync.await?.map_err(|failure| StackError::Sync { failure })
}

/// Copies a stopped cluster into an empty directory that belongs to the servers' user, and forces the copy to disk: what is
/// left in memory would be written while the system is measured. Where the file system can, the copy
/// shares its blocks with the original until either changes.
pub(super) async fn copy(
    site: &Site,
    from: &Path,
    to: &Path,
    what: &str,
) -> Result<(), StackError> {
    let log = format!("copy-{}", to.file_name().unwrap_or_default().to_string_lossy());
    let mut command = site.command("cp");
    command.arg("-a");
    #[cfg(target_os = "linux")]
    command.arg("--reflink=auto");
    command.arg("--").arg(from.join(".")).arg(to);
    let copied = run_tool("cp", command, &site.log(&log), site.limits.copy).await?;
    copied.map_err(|failure| StackError::Copy { what: what.to_owned(), failure })?;
    // A run that copied leaves no log of it.
    let _ = fs::remove_file(site.log(&log));
    sync(site, to, site.limits.copy).await
}

/// Creates what the harness itself needs in a new cluster, and says which WAL compression this server is built with.
pub(super) async fn prepare(primary: &Server) -> Result<&'static str, StackError> {
    primary
        .execute(
            "create the monitor role",
            "CREATE ROLE plimsoll_monitor LOGIN IN ROLE pg_monitor, pg_read_all_data",
        )
        .await?;
    primary
        .execute("create the extension", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        .await?;
    let lz4: bool = primary
        .ask("read the settings", |mut connection| async move {
            sqlx::query_scalar(
                "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'wal_compression'",
            )
            .fetch_one(&mut connection)
            .await
        })
        .await?;
    Ok(if lz4 { "lz4" } else { "pglz" })
}
