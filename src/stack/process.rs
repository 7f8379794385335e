//! A child process that cannot outlive us.
//!
//! Each child has a guardian thread, which starts it, waits for it and ends only after it. The kernel's
//! parent-death signal is bound to the *thread* that starts a child, so that thread must not be one that comes
//! and goes (an executor's workers do). Dropping a [`Process`] ends the child before it returns.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use procfs::process::Stat;
use tokio::sync::watch;

use super::error::{StackError, ToolFailure};
use super::guard::tie_to_spawner;
use super::incidents::{Death, Incidents};
use super::log::{self, Evidence};

/// How long a drop waits for its signal to work before it kills, and then for the kill.
const DROP_PATIENCE: Duration = Duration::from_secs(5);
/// How long what is left of a child's process group may take to be gone once it is killed.
const GROUP_PATIENCE: Duration = Duration::from_secs(1);

/// What to start, and how it ends.
pub(super) struct Launch {
    /// `primary`, `initdb` …
    pub(super) name: String,
    /// Program, arguments, environment and user.
    pub(super) command: Command,
    /// Takes what the child writes to stderr, and to stdout unless that has a file of its own.
    pub(super) log: PathBuf,
    /// Takes stdout, if it is to be read.
    pub(super) stdout: Option<File>,
    /// Ends the child when we are killed, and when the [`Process`] is dropped.
    pub(super) abrupt: Signal,
    /// Who is told when it ends unasked; nobody is for tools, whose end is awaited.
    pub(super) incidents: Option<Incidents>,
}

/// A running child. Dropping it ends the child, abruptly.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    log: PathBuf,
    pid: Pid,
    abrupt: Signal,
    life: Arc<Mutex<Life>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    guardian: Option<JoinHandle<()>>,
}

/// A process id may be signalled only while this says that the child is not reaped: afterwards the number may be
/// somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// Asked to end: its end is no incident.
    Ending,
    Reaped,
}

impl Process {
    /// Starts a child under a guardian of its own.
    pub(super) fn start(mut launch: Launch) -> Result<Self, StackError> {
        let program = PathBuf::from(launch.command.get_program());
        let Launch { name, log, abrupt, .. } = &launch;
        let (name, log, abrupt) = (name.clone(), log.clone(), *abrupt);
        let error = |source| StackError::Spawn { what: name.clone(), program, source };
        if let Err(source) = redirect(&mut launch) {
            return Err(StackError::Io { act: "write the log", path: log, source });
        }
        let life = Arc::new(Mutex::new(Life::Running));
        let (exit_sender, exit) = watch::channel(None);
        let (pid_sender, pid_receiver) = mpsc::sync_channel(1);
        let guardian = std::thread::Builder::new().name(format!("guard-{name}")).spawn({
            let life = Arc::clone(&life);
            move || match start_tied(&mut launch) {
                Ok(child) => {
                    let _ = pid_sender.send(Ok(pid_of(&child)));
                    guard(child, launch, &life, &exit_sender);
                }
                Err(source) => {
                    let _ = pid_sender.send(Err(source));
                }
            }
        });
        let guardian = match guardian {
            Ok(guardian) => guardian,
            Err(source) => return Err(error(source)),
        };
        let pid =
            pid_receiver.recv().expect("the guardian answers before it ends").map_err(error)?;
        Ok(Self { name, log, pid, abrupt, life, exit, guardian: Some(guardian) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Its last words so far.
    pub(super) fn evidence(&self) -> Evidence {
        Evidence::of(&self.log)
    }

    /// Waits for its end. Safe to drop and call again.
    pub(super) async fn ended(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let status =
            exit.wait_for(Option::is_some).await.expect("the guardian sends before it ends");
        status.expect("waited for")
    }

    /// Asks it to end and waits; if it has not ended within `limit`, kills it and returns `None`.
    pub(super) async fn stop(&self, signal: Signal, limit: Duration) -> Option<ExitStatus> {
        self.signal(signal);
        match tokio::time::timeout(limit, self.ended()).await {
            Ok(status) => Some(status),
            Err(_) => {
                tracing::warn!(process = self.name, ?limit, "did not stop in time: killing it");
                self.kill();
                self.ended().await;
                None
            }
        }
    }

    /// Sends a signal after which its end is no incident.
    fn signal(&self, signal: Signal) {
        let mut life = lock(&self.life);
        // One that is dead already was not asked, though its guardian has not come to say so.
        if *life == Life::Running && !is_dead(self.pid) {
            *life = Life::Ending;
        }
        if *life == Life::Ending {
            let _ = kill(self.pid, signal);
        }
    }

    /// Kills it and everything below it. What is below is listed first: it is nobody's afterwards.
    fn kill(&self) {
        let below = descendants(self.pid);
        self.signal(Signal::SIGKILL);
        for pid in below {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn has_ended_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.exit.borrow().is_none() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.abrupt);
        if !self.has_ended_within(DROP_PATIENCE) {
            self.kill();
            self.has_ended_within(DROP_PATIENCE);
        }
        // A child that even a kill does not end (a disk that hangs) must not hang us as well.
        if self.exit.borrow().is_some()
            && let Some(guardian) = self.guardian.take()
        {
            let _ = guardian.join();
        }
    }
}

/// Runs a tool to its end; dropping the future kills it.
pub(super) async fn run_tool(
    name: &str,
    command: Command,
    log: &Path,
    limit: Duration,
) -> Result<Result<(), ToolFailure>, StackError> {
    let tool = name.to_owned();
    let process = Process::start(Launch {
        name: tool.clone(),
        command,
        log: log.to_owned(),
        stdout: None,
        abrupt: Signal::SIGKILL,
        incidents: None,
    })?;
    Ok(match tokio::time::timeout(limit, process.ended()).await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ToolFailure::Failed { tool, status, evidence: process.evidence() }),
        Err(_) => Err(ToolFailure::TimedOut { tool, limit, evidence: process.evidence() }),
    })
}

fn redirect(launch: &mut Launch) -> std::io::Result<()> {
    let log = log::open(&launch.log)?;
    let stdout = match launch.stdout.take() {
        Some(file) => file,
        None => log.try_clone()?,
    };
    launch.command.stdin(Stdio::null()).stdout(stdout).stderr(log);
    Ok(())
}

fn start_tied(launch: &mut Launch) -> std::io::Result<Child> {
    tie_to_spawner(&mut launch.command, launch.abrupt);
    launch.command.spawn()
}

/// Waits for the child's end, clears away what is left of its process group, reaps it, tells whom it concerns.
fn guard(
    mut child: Child,
    launch: Launch,
    life: &Mutex<Life>,
    exit: &watch::Sender<Option<ExitStatus>>,
) {
    let pid = pid_of(&child);
    // The dead child is left unreaped until the lock is held: its number, and its group's, stay ours until then.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        == Err(nix::errno::Errno::EINTR)
    {}
    let mut life = lock(life);
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait().expect("our own child, reaped by nobody else");
    let unasked = *life == Life::Running;
    *life = Life::Reaped;
    drop(life);
    wait_until_empty(pid);
    if unasked && let Some(incidents) = &launch.incidents {
        let evidence = Evidence::of(&launch.log);
        incidents.report(Death { what: launch.name, status, evidence });
    }
    exit.send_replace(Some(status));
}

/// Waits for a killed process group to be gone: a kill takes its time.
fn wait_until_empty(group: Pid) {
    let deadline = Instant::now() + GROUP_PATIENCE;
    while killpg(group, None).is_ok() && lives_in(group) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether any process of a group lives. The dead stay in it until the system's first process reaps them, which
/// that of a container may never do.
fn lives_in(group: Pid) -> bool {
    all_stats().any(|stat| stat.pgrp == group.as_raw() && stat.state != 'Z')
}

/// Whether an unreaped child of ours has ended.
fn is_dead(pid: Pid) -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), look), Ok(WaitStatus::StillAlive))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn lock(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All processes of the system now.
fn all_stats() -> impl Iterator<Item = Stat> {
    let processes = procfs::process::all_processes().into_iter().flatten();
    processes.filter_map(|process| process.ok()?.stat().ok())
}

/// Everything that descends from a process now.
fn descendants(root: Pid) -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = all_stats().map(|stat| (stat.pid, stat.ppid)).collect();
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn launch(directory: &Path, script: &str) -> Launch {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Launch {
            name: "child".to_owned(),
            command,
            log: directory.join("child.log"),
            stdout: None,
            abrupt: Signal::SIGKILL,
            incidents: Some(Incidents::default()),
        }
    }

    fn is_gone(pid: Pid) -> bool {
        !all_stats().any(|stat| stat.pid == pid.as_raw() && stat.state != 'Z')
    }

    /// Waits until a child has written a line to its log.
    fn first_line(process: &Process) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(line) = process.evidence().last_lines.first() {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "the child writes nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_dropped_child_is_gone_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let process =
            Process::start(launch(directory.path(), "sleep 1000 & echo $!; wait")).unwrap();
        let grandchild = Pid::from_raw(first_line(&process).parse().unwrap());
        let child = process.pid;
        assert!(!is_gone(child) && !is_gone(grandchild));
        drop(process);
        assert!(is_gone(child) && is_gone(grandchild));
    }

    #[tokio::test]
    async fn an_end_unasked_is_told_with_its_last_words_and_one_asked_for_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let asked =
            launch(directory.path(), "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done");
        let incidents = asked.incidents.clone().unwrap();
        let asked = Process::start(asked).unwrap();
        first_line(&asked);
        let status = asked.stop(Signal::SIGTERM, Duration::from_secs(10)).await;
        assert!(status.is_some_and(|status| status.success()));
        assert_eq!(incidents.so_far(), []);

        let unasked = launch(directory.path(), "echo no disk left; exit 7");
        let incidents = unasked.incidents.clone().unwrap();
        let unasked = Process::start(unasked).unwrap();
        let death = incidents.first_death().await;
        assert_eq!(death.status.code(), Some(7));
        assert!(death.evidence.mentions("no disk left"));
        // Dropped after its death: nobody asked for that.
        drop(unasked);
        assert_eq!(incidents.so_far().len(), 1);
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_request_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo up; while :; do sleep 0.01; done";
        let process = Process::start(launch(directory.path(), script)).unwrap();
        first_line(&process);
        let status = process.stop(Signal::SIGTERM, Duration::from_millis(50)).await;
        assert_eq!(status, None);
        assert!(is_gone(process.pid));
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_ended_and_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo reading; sleep 1000"]);
        let log = directory.path().join("tool.log");
        let limit = Duration::from_millis(500);
        let failure = run_tool("tool", command, &log, limit).await.unwrap().unwrap_err();
        let expected = format!(
            "tool did not end within 500ms\n  last lines of {}:\n    | reading",
            log.display()
        );
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let missing =
            Launch { command: Command::new("/nowhere/backend"), ..launch(directory.path(), "") };
        let error = Process::start(missing).unwrap_err().to_string();
        assert!(error.starts_with("start child (/nowhere/backend): "), "{error}");
        assert!(error.ends_with("help: there is no such program: check the path"), "{error}");
    }

    #[test]
    fn a_tied_child_ends_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = Command::new("/bin/sleep");
            command.arg("1000");
            tie_to_spawner(&mut command, Signal::SIGKILL);
            command.spawn().unwrap()
        })
        .join()
        .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(Signal::SIGKILL as i32)
        );
    }
}
