//! The worker: the body of `plimsoll worker`. Told a plan on stdin, it sends the plan's arrivals and reports on stdout.
//!
//! It needs no arguments, leaves no files, and ends when its session does: stdin closes then, however the session ended.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::engine::{EngineError, attack};
use super::frame::{Frame, LEAD_MS, Order, PROTOCOL, WorkerPlan};
use super::release::{Clock, release};
use super::schedule::Schedule;
use super::tally::Tallier;
use super::template::Directory;
use super::user::Shared;

/// Open files of a worker that are no connections: pipes, the runtime's, and some to spare.
const FILES_BESIDE_CONNECTIONS: u64 = 64;

/// How many requests per second one thread is trusted with.
const RATE_PER_THREAD: f64 = 25_000.0;

/// Why a worker ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The pipe to the session is closed.
    #[error("the session is gone")]
    SessionGone,
    /// The session said something else than expected.
    #[error(
        "expected {expected} on stdin, found {found}\nhelp: plimsoll worker is started by plimsoll run, not by hand"
    )]
    Order {
        /// What should have come.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// The session speaks another version.
    #[error(
        "the session speaks version {theirs} of the worker protocol, this worker version {PROTOCOL}\nhelp: run session and workers from the same release"
    )]
    Protocol {
        /// Version of the session.
        theirs: u32,
    },
    /// The plan's population or requests cannot be made.
    #[error("carry out the plan: {0}")]
    Plan(String),
    /// The system does not allow a connection for every user.
    #[error(
        "open {needed} files: the limit is {hard}\nhelp: raise it (ulimit -Hn), or lower load.in_flight_max"
    )]
    OpenFiles {
        /// Connections and the worker's own files.
        needed: u64,
        /// The hard limit.
        hard: u64,
    },
    /// The generator itself failed.
    #[error("{0}\nhelp: this is a defect of plimsoll; the worker's log has more")]
    Generator(String),
    /// The system refused something.
    #[error("{act}: {source}")]
    System {
        /// What was tried.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Works off one plan. `directory` makes the population that the plan speaks of.
///
/// Takes over the process's stdin and stdout: whatever else prints to stdout (goose does) goes to stderr from now on.
pub fn work(
    directory: impl FnOnce(&WorkerPlan) -> Result<Box<dyn Directory>, String>,
) -> Result<(), WorkerError> {
    let out = Frames::over_stdout()?;
    let outcome = carry_out(&listen()?, &out, directory);
    if let Err(error) = &outcome {
        // The session may be what is gone; the error is returned as well.
        let _ = out.send(&Frame::Failed { message: error.to_string() });
    }
    outcome
}

fn carry_out(
    orders: &Orders,
    out: &Arc<Frames>,
    directory: impl FnOnce(&WorkerPlan) -> Result<Box<dyn Directory>, String>,
) -> Result<(), WorkerError> {
    let plan = match orders.0.recv() {
        Ok(Ok(Order::Plan(plan))) => plan,
        other => return Err(unexpected("a plan", other)),
    };
    if plan.protocol != PROTOCOL {
        return Err(WorkerError::Protocol { theirs: plan.protocol });
    }
    allow_open_files(plan.scenario.load.in_flight_max)?;
    let directory = directory(&plan).map_err(WorkerError::Plan)?;
    let shared = Shared::new(&plan, directory).map_err(|e| WorkerError::Plan(e.to_string()))?;
    let runtime = runtime(&plan)
        .map_err(|source| WorkerError::System { act: "start the runtime", source })?;
    let outcome = runtime.block_on(run(&plan, Arc::new(shared), orders, out));
    // Requests that are still in flight belong to nobody.
    runtime.shutdown_background();
    outcome
}

/// As few threads as carry the plan's rate: one that waits for everything at once wakes up least, and what it sends stays in
/// one cache. Another would only take turns with the server when both share a machine.
fn runtime(plan: &WorkerPlan) -> io::Result<tokio::runtime::Runtime> {
    let rate = plan.scenario.rate_max();
    let wanted = (rate / plan.shard.count as f64 / RATE_PER_THREAD).ceil() as usize;
    let threads = wanted.clamp(1, thread::available_parallelism().map_or(1, Into::into));
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

/// A connection is an open file: without this, many users look like a server that does not accept them.
fn allow_open_files(users: u32) -> Result<(), WorkerError> {
    let needed = u64::from(users) + FILES_BESIDE_CONNECTIONS;
    let failed =
        |errno: nix::Error| WorkerError::System { act: "allow open files", source: errno.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if hard < needed {
        return Err(WorkerError::OpenFiles { needed, hard });
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).map_err(failed)
}

/// From the first user to the last frame.
async fn run(
    plan: &WorkerPlan,
    shared: Arc<Shared>,
    orders: &Orders,
    out: &Arc<Frames>,
) -> Result<(), WorkerError> {
    let (all_up, ready) = flume::bounded(1);
    let users = plan.scenario.load.in_flight_max as usize;
    let attack = attack(Arc::clone(&shared), &plan.base_url, users, all_up);
    tokio::pin!(attack);

    tokio::select! {
        ended = &mut attack => return Err(ended_early(ended)),
        order = orders.0.recv_async() => return Err(unexpected("nothing before the users are up", order)),
        _ = ready.recv_async() => out.send(&Frame::Ready)?,
    }
    tokio::select! {
        ended = &mut attack => return Err(ended_early(ended)),
        order = orders.0.recv_async() => match order {
            Ok(Ok(Order::Go)) => {}
            other => return Err(unexpected("go", other)),
        },
    }
    let clock = start(&shared, out)?;
    let keeper = {
        let (shared, shard) = (Arc::clone(&shared), plan.shard);
        let arrivals = Schedule::new(&plan.scenario).filter(move |a| shard.takes(a));
        tokio::spawn(async move { release(Box::new(arrivals), clock, &shared.desk).await })
    };
    let (finished, until_finished) = flume::bounded::<()>(0);
    let reporter = {
        let (shared, out) = (Arc::clone(&shared), Arc::clone(out));
        spawn("reporter", move || report(&shared, clock, &out, &until_finished))?
    };
    let kept = kept(keeper);
    tokio::pin!(kept);
    let goose = loop {
        tokio::select! {
            ended = &mut attack => break ended.map_err(|e: EngineError| WorkerError::Generator(e.to_string()))?,
            order = orders.0.recv_async() => stop(order, &shared, out)?,
            failed = &mut kept => return Err(failed),
        }
    };
    drop(finished);
    let arrivals = join(reporter)??;
    out.send(&Frame::Done { goose, arrivals })
}

/// The only order after `go`: cuts the schedule and says where.
fn stop(
    order: Result<Result<Order, String>, flume::RecvError>,
    shared: &Shared,
    out: &Frames,
) -> Result<(), WorkerError> {
    const EXPECTED: &str = "nothing after go but stop, once the load has begun";
    match order {
        Ok(Ok(Order::Stop)) => match shared.desk.stop() {
            Some(second) => out.send(&Frame::Stopped { second }),
            None => Err(unexpected(EXPECTED, Ok(Ok(Order::Stop)))),
        },
        other => Err(unexpected(EXPECTED, other)),
    }
}

/// What became of the keeper, unless it did its work: then the users have theirs still to do.
async fn kept(keeper: tokio::task::JoinHandle<io::Result<()>>) -> WorkerError {
    match keeper.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(source)) => WorkerError::System { act: "wait for the next arrival", source },
        Err(_) => WorkerError::Generator("the keeper panicked".to_owned()),
    }
}

/// Fixes second 0 and says so.
fn start(shared: &Shared, out: &Frames) -> Result<Clock, WorkerError> {
    let lead = Duration::from_millis(LEAD_MS);
    let clock = Clock::new(Instant::now() + lead);
    let origin = SystemTime::now() + lead;
    shared.clock.set(clock).expect("a worker starts once");
    let since_epoch = origin.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let unix_us = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
    out.send(&Frame::Started { unix_us })?;
    Ok(clock)
}

/// Sends what was recorded at the end of every second, and once more when `finished` closes. Returns how many arrivals
/// that was.
fn report(
    shared: &Shared,
    clock: Clock,
    out: &Frames,
    finished: &flume::Receiver<()>,
) -> Result<u64, WorkerError> {
    let mut tallier = Tallier::new();
    let mut arrivals = 0;
    for second in 0.. {
        let boundary = clock.at((second as u64 + 1) * 1_000_000);
        let ended = finished.recv_deadline(boundary) == Err(flume::RecvTimeoutError::Disconnected);
        // The peak first: a request that is sent in between belongs to the next second.
        let peak = shared.recorder.take_peak();
        let tally = tallier.tally(shared.recorder.collect(), second, peak);
        arrivals += tally.arrivals();
        out.send(&Frame::Second(tally))?;
        if ended {
            break;
        }
    }
    Ok(arrivals)
}

/// What the session says, read by a thread of its own; closed when stdin is.
struct Orders(flume::Receiver<Result<Order, String>>);

fn listen() -> Result<Orders, WorkerError> {
    let (heard, orders) = flume::bounded(1);
    spawn("orders", move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            // The line may hold a secret: say where it is wrong, not what it says.
            let order = serde_json::from_str(&line)
                .map_err(|e| format!("a line that is no order (column {})", e.column()));
            if heard.send(order).is_err() {
                return;
            }
        }
    })?;
    Ok(Orders(orders))
}

fn unexpected(
    expected: &'static str,
    found: Result<Result<Order, String>, flume::RecvError>,
) -> WorkerError {
    let found = match found {
        Err(flume::RecvError::Disconnected) => return WorkerError::SessionGone,
        Ok(Err(found)) => found,
        Ok(Ok(Order::Plan(_))) => "a plan".to_owned(),
        Ok(Ok(Order::Go)) => "go".to_owned(),
        Ok(Ok(Order::Stop)) => "stop".to_owned(),
    };
    WorkerError::Order { expected, found }
}

fn ended_early<T>(ended: Result<T, EngineError>) -> WorkerError {
    WorkerError::Generator(match ended {
        Ok(_) => "the users ended before the first arrival".to_owned(),
        Err(error) => error.to_string(),
    })
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, WorkerError> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map_err(|source| WorkerError::System { act: "start a thread", source })
}

fn join<T>(thread: thread::JoinHandle<T>) -> Result<T, WorkerError> {
    let name = thread.thread().name().unwrap_or("thread").to_owned();
    thread.join().map_err(|_| WorkerError::Generator(format!("the {name} panicked")))
}

/// Where frames go.
struct Frames(Mutex<File>);

impl Frames {
    fn over_stdout() -> Result<Arc<Self>, WorkerError> {
        let failed = |errno: nix::Error| WorkerError::System {
            act: "take over stdout",
            source: errno.into(),
        };
        let ours = nix::unistd::dup(io::stdout()).map_err(failed)?;
        nix::unistd::dup2_stdout(io::stderr()).map_err(failed)?;
        Ok(Arc::new(Self(Mutex::new(File::from(ours)))))
    }

    fn send(&self, frame: &Frame) -> Result<(), WorkerError> {
        let mut line = serde_json::to_vec(frame).expect("a frame is plain data");
        line.push(b'\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&line).map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => WorkerError::SessionGone,
            _ => WorkerError::System { act: "report to the session", source },
        })
    }
}
