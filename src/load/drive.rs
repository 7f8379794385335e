//! The session's side of a worker: starts it, gives it its plan, and takes in what it tells.
//!
//! However the worker ends, what it had told until then is kept: a worker that died, fell silent or talks nonsense is a
//! finding about the run ([`WorkerEnd::Lost`]), not an error of the session. Nothing here waits without a limit.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::sync::CancellationToken;

use super::account::{Account, Driven};
use super::frame::{Frame, LEAD_MS, Order, WorkerPlan};
use super::tally::Tally;
use crate::archive::{GooseCount, LoadRecord, WorkerEnd};

/// How long a worker may take until its users are up.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a worker may say nothing: it owes a frame every second.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a worker may take to end, once it is done or has been told to.
const EXIT_WITHIN: Duration = Duration::from_secs(2);
/// Longest frame, in bytes.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// How many of its last lines on stderr are quoted when a worker is lost.
const LAST_WORDS: usize = 12;

/// Why there was no worker at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program could not be started.
    #[error(
        "start the load worker {program}: {source}\nhelp: the worker is plimsoll itself; check that the file is still there and may be executed"
    )]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What happens while a worker is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveEvent {
    /// The worker's users are up.
    Ready {
        /// The worker's process.
        pid: u32,
    },
    /// Second 0 is fixed.
    Started {
        /// When it is; still to come.
        at: Instant,
    },
    /// About a second of load is over.
    Second(Progress),
}

/// Two ways to end a load before its schedule does.
#[derive(Debug, Clone, Default)]
pub struct Reins {
    /// Ends the worker at once: what it had not told is lost.
    pub abandon: CancellationToken,
    /// Cuts the schedule: nothing more is sent, and all that was is waited for.
    pub stop: CancellationToken,
}

/// What the worker told about one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The second of the axis, or of the draining after it.
    pub second: usize,
    /// Requests answered as expected.
    pub ok: u64,
    /// Requests that failed or timed out.
    pub failed: u64,
    /// Arrivals that could not be sent in time.
    pub dropped: u64,
    /// Commands acknowledged.
    pub acknowledged: u64,
}

/// Starts `program args…` as the worker of a plan and stays with it until it has ended, or is ended by the
/// reins. `on_event` is shown all that was told until then.
pub async fn drive(
    program: &Path,
    args: &[impl AsRef<OsStr>],
    plan: &WorkerPlan,
    mut on_event: impl FnMut(DriveEvent, &LoadRecord),
    reins: &Reins,
) -> Result<Driven, LoadError> {
    let mut account = Account::new(plan);
    let (mut child, mut pipe) = Pipe::open(program, args)
        .map_err(|source| LoadError::Start { program: program.to_owned(), source })?;
    let pid = child.id().unwrap_or_default();
    let outcome = pipe.converse(pid, plan, &mut account, &mut on_event, reins).await;
    let (last_words, said_all) = (pipe.last_words, outcome.is_ok());
    // Closing stdin tells the worker that the session is gone.
    drop((pipe.orders, pipe.frames));
    let status = end(&mut child, said_all).await;
    let (goose, worker) = match outcome {
        Ok(goose) => (Some(goose), WorkerEnd::Finished),
        Err(what) => {
            let last_words = timeout(EXIT_WITHIN, last_words).await;
            let last_words = last_words.ok().and_then(Result::ok).unwrap_or_default();
            (None, WorkerEnd::Lost { detail: lost(&what, &account, status, &last_words) })
        }
    };
    Ok(account.close(goose, worker))
}

/// Sees the worker out; kills it when it does not go.
async fn end(child: &mut Child, willing: bool) -> Option<ExitStatus> {
    if let Ok(Ok(status)) = timeout(EXIT_WITHIN, child.wait()).await {
        return Some(status);
    }
    if willing {
        tracing::warn!("the load worker was done but did not end; killing it");
    }
    // An error means that it has ended meanwhile.
    let _ = child.kill().await;
    None
}

/// What happened, with the worker's last words.
fn lost(what: &str, account: &Account, status: Option<ExitStatus>, last_words: &str) -> String {
    let (open, all) = account.open();
    let end = status.map_or("killed by the session".to_owned(), |status| status.to_string());
    let mut detail =
        format!("{what}\n{open} of {all} arrivals are unaccounted for; end of the worker: {end}");
    if !last_words.is_empty() {
        detail.push_str("\nits last words:\n");
        detail.push_str(last_words);
    }
    detail
}

/// The three streams of a worker.
struct Pipe {
    orders: ChildStdin,
    frames: FramedRead<ChildStdout, LinesCodec>,
    last_words: JoinHandle<String>,
}

impl Pipe {
    /// Starts the worker in a process group of its own, so that a terminal's Ctrl-C reaches the session alone, which
    /// then decides.
    fn open(program: &Path, args: &[impl AsRef<OsStr>]) -> io::Result<(Child, Self)> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a standard stream is missing");
        let frames = LinesCodec::new_with_max_length(FRAME_BYTES_MAX);
        let pipe = Self {
            orders: child.stdin.take().ok_or_else(missing)?,
            frames: FramedRead::new(child.stdout.take().ok_or_else(missing)?, frames),
            last_words: tokio::spawn(listen(child.stderr.take().ok_or_else(missing)?)),
        };
        Ok((child, pipe))
    }

    /// From the plan to the last frame; an error is why the worker is lost.
    async fn converse(
        &mut self,
        pid: u32,
        plan: &WorkerPlan,
        account: &mut Account,
        on_event: &mut impl FnMut(DriveEvent, &LoadRecord),
        reins: &Reins,
    ) -> Result<GooseCount, String> {
        let Reins { abandon: cancel, stop } = reins;
        self.say(&Order::Plan(Box::new(plan.clone()))).await?;
        match self.next(READY_WITHIN, cancel).await? {
            Frame::Ready => on_event(DriveEvent::Ready { pid }, account.record()),
            other => return Err(misplaced(&other)),
        }
        self.say(&Order::Go).await?;
        match self.next(SILENCE, cancel).await? {
            Frame::Started { unix_us } => {
                on_event(DriveEvent::Started { at: instant_of(unix_us) }, account.record());
            }
            other => return Err(misplaced(&other)),
        }
        let deadline = Instant::now() + longest(plan);
        let (mut second, mut said_stop) = (0, false);
        while Instant::now() <= deadline {
            match self.next(SILENCE, cancel).await? {
                Frame::Second(tally) => {
                    account.add(&tally).map_err(|what| format!("the worker told {what}"))?;
                    let progress = progress(second, &tally);
                    on_event(DriveEvent::Second(progress), account.record());
                    second += 1;
                }
                Frame::Stopped { second } if said_stop => account.cut(second),
                Frame::Done { goose, arrivals } => return settled(account, goose, arrivals),
                other => return Err(misplaced(&other)),
            }
            if stop.is_cancelled() && !said_stop {
                said_stop = true;
                self.say(&Order::Stop).await?;
            }
        }
        Err("the worker went on long after the last arrival".to_owned())
    }

    async fn say(&mut self, order: &Order) -> Result<(), String> {
        let mut line = serde_json::to_vec(order).expect("an order is plain data");
        line.push(b'\n');
        match timeout(SILENCE, self.orders.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            // It has ended; what it said before that is still to be read.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(format!("the worker did not listen for {} s", SILENCE.as_secs())),
        }
    }

    async fn next(
        &mut self,
        within: Duration,
        cancel: &CancellationToken,
    ) -> Result<Frame, String> {
        let line = tokio::select! {
            () = cancel.cancelled() => return Err("interrupted".to_owned()),
            line = timeout(within, self.frames.next()) => line,
        };
        match line {
            Err(_) => Err(format!("the worker said nothing for {} s", within.as_secs())),
            Ok(None) => Err("the worker ended before its work was done".to_owned()),
            Ok(Some(Err(error))) => Err(format!("the worker cannot be read: {error}")),
            Ok(Some(Ok(line))) => match serde_json::from_str(&line) {
                Ok(Frame::Failed { message }) => Err(format!("the worker failed: {message}")),
                Ok(frame) => Ok(frame),
                Err(error) => Err(format!("the worker talks nonsense: {error}")),
            },
        }
    }
}

/// Whether the worker's own sum is what arrived here.
fn settled(account: &Account, goose: GooseCount, arrivals: u64) -> Result<GooseCount, String> {
    match account.open() {
        _ if arrivals != account.told() => Err(format!(
            "the worker told of {arrivals} arrivals, and {} came through",
            account.told()
        )),
        (0, _) => Ok(goose),
        _ => Err("the worker says that it is done and left arrivals out".to_owned()),
    }
}

fn misplaced(frame: &Frame) -> String {
    let name = match frame {
        Frame::Ready => "ready",
        Frame::Started { .. } => "started",
        Frame::Stopped { .. } => "stopped",
        Frame::Second(_) => "second",
        Frame::Done { .. } => "done",
        Frame::Failed { .. } => "failed",
    };
    format!("the worker said {name:?} out of turn")
}

/// Longest time from `started` to `done`: the lead, the axis, a time-out until the last arrival has expired or left,
/// another until it is answered, and as much silence as is allowed.
fn longest(plan: &WorkerPlan) -> Duration {
    let load = &plan.scenario.load;
    let micros = load.warm_up.get() + load.measure.get() + 2 * load.timeout.get();
    Duration::from_micros(micros) + Duration::from_millis(LEAD_MS) + SILENCE
}

/// A time of the wall clock on this process's own clock.
fn instant_of(unix_us: u64) -> Instant {
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us);
    let (now, wall) = (Instant::now(), SystemTime::now());
    match time.duration_since(wall) {
        Ok(ahead) => now + ahead,
        Err(past) => now.checked_sub(past.duration()).unwrap_or(now),
    }
}

fn progress(second: usize, tally: &Tally) -> Progress {
    let mut progress = Progress { second, ok: 0, failed: 0, dropped: 0, acknowledged: 0 };
    for part in &tally.operations {
        progress.ok += part.counts.ok;
        progress.failed += part.counts.errors + part.counts.timeouts;
        progress.dropped += part.counts.dropped;
    }
    progress.acknowledged = tally.seconds.iter().map(|part| part.counts.acknowledged).sum();
    progress
}

/// Passes the worker's log on to ours and keeps its last lines.
async fn listen(stderr: ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = VecDeque::with_capacity(LAST_WORDS);
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!(target: "plimsoll::worker", "{line}");
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}
