//! Starts the program in a place of its own and looks for what it left running.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A scenario small enough for a test: five seconds of load on two hundred organisations and one replica.
pub(crate) const TINY: &str = r#"
name = "tiny"
title = "Two hundred organisations"
seed = 11
population = { organisations = 200, history_months = 2, busy = "zipf 1.05" }
target = { kind = "reference", replicas = 1 }

[load]
arrivals = "poisson"
warm_up = "1s"
measure = "4s"

[[operation]]
name = "record revenue"
service = "revenues"
rate = "30/s"
request = { method = "POST", path = "/v1/orgs/{org}/revenues", json = { property = "{property}", amount_cents = "{amount}", category = "{category}", date = "{date}" } }
expect = { status = 201 }
event = true

[[operation]]
name = "cash position"
service = "cash"
rate = "30/s"
request = { method = "GET", path = "/v1/orgs/{org}/cash/position" }

[gates]
all = ["p95 < 5s", "error_rate < 5%", "event_rate > 10/s"]
"#;

/// Longest that any run of a test may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(150);

/// A place for one test: its own state directory, scenario and results.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("plimsoll-e2e-").tempdir().unwrap();
        // Postgres runs as another user when we are root, and must be able to pass through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        fs::set_permissions(dir.path().join("state"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The program, to be started in this place.
    pub(crate) fn plimsoll(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.current_dir(self.dir.path()).env("PLIMSOLL_STATE_DIR", self.path("state"));
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// `run` of a scenario text, results in `out`.
    pub(crate) fn run(&self, scenario: &str) -> Command {
        let path = self.write("scenario.toml", scenario);
        let mut command = self.plimsoll();
        command.arg("run").arg(path).arg("--out").arg(self.out());
        command
    }

    /// Starts a command whose output goes to files, so that the test can watch it run.
    pub(crate) fn start(&self, command: &mut Command) -> Running {
        let file = |name: &str| fs::File::create(self.path(name)).unwrap();
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Running { child, stderr: self.path("stderr") }
    }

    /// Processes that belong to this place: by their environment, their command line or where they are. Each alone
    /// would miss some: Postgres gets a cleared environment, and its children rewrite their command lines.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let mark = self.dir.path().display().to_string();
        let carries = |file: PathBuf| {
            fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&mark))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| !is_zombie(*pid))
            .filter(|pid| {
                let dir = Path::new("/proc").join(pid.to_string());
                let is_here = fs::read_link(dir.join("cwd"))
                    .is_ok_and(|cwd| cwd.starts_with(self.dir.path()));
                is_here || carries(dir.join("environ")) || carries(dir.join("cmdline"))
            })
            .map(|pid| (pid, command_line(pid)))
            .collect()
    }

    /// The first process whose command line contains `text`, waiting for it to appear.
    pub(crate) fn wait_for_process(&self, text: &str) -> i32 {
        wait_until(&format!("a process with {text:?}"), || {
            self.processes().into_iter().find(|(_, line)| line.contains(text)).map(|(pid, _)| pid)
        })
    }

    /// Fails unless every process that the program started has ended.
    pub(crate) fn assert_nothing_left(&self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            if self.processes().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("left running: {:#?}", self.processes());
    }

    /// Fails unless, besides, nothing is left on disk: no stack's directory, and no results in the making.
    pub(crate) fn assert_clean(&self) {
        self.assert_nothing_left();
        assert_eq!(self.stacks(), Vec::<PathBuf>::new(), "directories of stacks");
        assert_eq!(self.partials(), Vec::<PathBuf>::new(), "results in the making");
    }

    /// Directories of stacks.
    pub(crate) fn stacks(&self) -> Vec<PathBuf> {
        let others = ["logs", "populations"].map(std::ffi::OsStr::new);
        let is_other = |path: &PathBuf| path.file_name().is_some_and(|name| others.contains(&name));
        let is_stack = |path: &PathBuf| path.is_dir() && !is_other(path);
        entries(&self.path("state")).filter(is_stack).collect()
    }

    /// Where the servers of the only stack have their sockets.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.stacks().pop().unwrap().join("s")
    }

    /// Ports of its servers.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let port = |path: PathBuf| path.to_str()?.rsplit_once(".PGSQL.")?.1.parse().ok();
        entries(&self.sockets()).filter_map(port).collect()
    }

    /// Results in the making.
    pub(crate) fn partials(&self) -> Vec<PathBuf> {
        let is_partial = |path: &PathBuf| path.to_string_lossy().ends_with(".partial");
        entries(self.dir.path()).filter(is_partial).collect()
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path())
}

/// A program under watch.
pub(crate) struct Running {
    pub(crate) child: Child,
    stderr: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until the stage has begun, judged by the stage before it having been reported as done.
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.stderr().contains(text) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before {text:?} was seen:\n{}", self.stderr());
            }
            assert!(begun.elapsed() < PATIENCE, "never saw {text:?} in:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Exit code, or `None` when a signal ended it.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if begun.elapsed() > PATIENCE {
                signal(self.pid(), nix::sys::signal::Signal::SIGTERM);
                panic!("hung; its last words:\n{}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Polls until there is an answer.
pub(crate) fn wait_until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Exit code and the two outputs of a finished program, as text.
pub(crate) fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A result's JSON.
pub(crate) fn result(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("result.json")).unwrap()).unwrap()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
