//! The backend as several processes: the real program, started with a configuration of its own, killed with the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reference_backend::config::Config;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::http_server::{SECRET, bearer};

/// A running process of the program.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    client: reqwest::Client,
    _settings: NamedTempFile,
}

impl Process {
    /// Starts to serve; `services` as on the command line.
    pub(crate) fn serve(config: &Config, services: &str) -> Self {
        let settings = NamedTempFile::new().unwrap();
        let mut tree = toml::Table::try_from(config).unwrap();
        // Chosen by a variable, not by the file.
        tree.remove("environment");
        std::fs::write(settings.path(), tree.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_reference-backend"));
        command.arg("serve").arg("--config").arg(settings.path()).args(["--services", services]);
        Self::start(command, settings)
    }

    /// Starts the stand-in for the channel manager.
    pub(crate) fn ota_stub() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reference-backend"));
        command.arg("ota-stub");
        Self::start(command, NamedTempFile::new().unwrap())
    }

    /// Starts a command that says on its first line where it listens.
    fn start(mut command: Command, settings: NamedTempFile) -> Self {
        let mut child = command
            .env("PLIMSOLL_BACKEND_TOKEN_SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).expect("the line that says where it listens");
        let url = line["url"].as_str().unwrap().to_owned();
        Self { child, url, client: reqwest::Client::new(), _settings: settings }
    }

    pub(crate) fn request(&self, method: Method, org: i64, path: &str) -> RequestBuilder {
        let url = format!("{}/v1/orgs/{org}{path}", self.url);
        self.client.request(method, url).bearer_auth(bearer(org, 3600))
    }

    /// The value of a series, 0 if it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text =
            reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks until the answer is as wanted.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ask().await {
        assert!(Instant::now() < deadline, "{what} did not come to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
