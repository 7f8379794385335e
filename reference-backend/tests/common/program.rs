//! `reference-backend serve` as a process of its own, which can be killed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use super::Cluster;

/// A running program; killed at the end, also when a test panics.
pub(crate) struct Program {
    child: Child,
    settings: TempDir,
    pub(crate) url: String,
}

impl Program {
    /// Starts it and waits until it listens; what it said on standard error if it ended instead.
    pub(crate) fn start(
        cluster: &Cluster,
        more: &str,
        services: &str,
        secret: &str,
    ) -> Result<Self, String> {
        let mut program = Self::spawn(cluster, more, services, secret);
        let mut line = String::new();
        let stdout = program.child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        match serde_json::from_str::<serde_json::Value>(&line) {
            Ok(told) => {
                program.url = told["url"].as_str().unwrap().to_owned();
                Ok(program)
            }
            Err(_) => Err(program.ended().1),
        }
    }

    /// Starts it without waiting.
    fn spawn(cluster: &Cluster, more: &str, services: &str, secret: &str) -> Self {
        let settings = tempfile::tempdir().unwrap();
        let file = settings.path().join("backend.toml");
        let socket = cluster.config("").database.primary.host;
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[database.primary]\nhost = \"{socket}\"\nport = 5432\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        // To a file: nobody reads it while the program runs.
        let log = std::fs::File::create(settings.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_reference-backend"))
            .args(["serve", "--services", services, "--config"])
            .arg(&file)
            .env("PLIMSOLL_BACKEND_TOKEN_SECRET", secret)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, settings, url: String::new() }
    }

    /// Waits for its end: how it ended, and what it said.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let mut log = String::new();
        let file = std::fs::File::open(self.settings.path().join("log"));
        file.unwrap().read_to_string(&mut log).unwrap();
        (status, log)
    }

    /// SIGKILL: nothing of it is finished.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
