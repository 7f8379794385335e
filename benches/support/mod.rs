//! What the benches of the generator share: a server that does nothing, a plan that costs what requests cost in earnest, and
//! what processes have used.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each bench is a program of its own and uses a part of this"
)]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chrono::NaiveDate;
use plimsoll::archive::{Distribution, LoadRecord, WorkerEnd};
use plimsoll::load::{Auth, DriveEvent, Driven, PROTOCOL, Reins, Shard, WorkerPlan, drive};
use plimsoll::scenario::{
    Arrivals, Expect, GateRules, LoadSpec, Method, Operation, PopulationSpec, ReferenceTarget,
    RequestSpec, Scenario, Skew, Target,
};
use plimsoll::units::{Micros, Rate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Users of every generator: most requests in flight at once.
pub(crate) const USERS: u32 = 256;

/// The argument that makes a bench the server of another run of itself.
const SERVE: &str = "serve-requests";

/// A server in a process of its own, so that neither its processor time nor its memory is taken for the generator's. It
/// answers at once and does nothing; it shares this machine's processors.
pub(crate) struct Server {
    pub(crate) url: String,
    process: Child,
}

impl Server {
    /// Starts this program again as the server.
    pub(crate) fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(SERVE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), process }
    }

    /// Processor time used so far, in µs.
    pub(crate) fn cpu_us(&self) -> f64 {
        cpu_us_of(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Is the server, when that is what this process was started for; then it ends with whoever started it.
pub(crate) fn serve_if_asked() {
    if std::env::args().nth(1).as_deref() != Some(SERVE) {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "it holds nothing that has to end well")]
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        std::process::exit(0);
    });
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection));
        }
    });
}

/// The least that is an HTTP server: every request fits one read, every answer is the same.
async fn answer(mut connection: TcpStream) {
    let _ = connection.set_nodelay(true);
    let mut request = [0; 4096];
    while let Ok(1..) = connection.read(&mut request).await {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        if connection.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// What a run of the worker cost and measured.
pub(crate) struct Measured {
    pub(crate) driven: Driven,
    pub(crate) cpu_us: f64,
}

impl Measured {
    pub(crate) fn sent(&self) -> u64 {
        self.driven.record.seconds.iter().map(|second| second.sent).sum()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.driven.record.operations[0].seconds.iter().map(|second| second.dropped).sum()
    }

    /// Response times, service times and send lags, as rows of [`quantiles`].
    pub(crate) fn times(&self) -> [(&'static str, String); 3] {
        let seconds = &self.driven.record.operations[0].seconds;
        let of = |parts: Vec<&Distribution>| quantiles(&Distribution::merged(parts));
        [
            ("response", of(seconds.iter().map(|second| &second.response).collect())),
            ("service", of(seconds.iter().map(|second| &second.service).collect())),
            ("send lag", of(self.driven.record.seconds.iter().map(|s| &s.lag).collect())),
        ]
    }
}

/// The heading over [`quantiles`].
pub(crate) const QUANTILES: &str = "     p50      p90      p99    p99.9      max  (µs)";

/// A distribution in one line.
pub(crate) fn quantiles(times: &hdrhistogram::Histogram<u64>) -> String {
    let at = |quantile| times.value_at_quantile(quantile);
    format!("{:>8} {:>8} {:>8} {:>8} {:>8}", at(0.5), at(0.9), at(0.99), at(0.999), times.max())
}

/// The worker under test: the one built with the bench, or the program that `PLIMSOLL_WORKER` names.
fn program() -> PathBuf {
    std::env::var_os("PLIMSOLL_WORKER")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_plimsoll")), PathBuf::from)
}

/// Has the worker send a plan; `each_second` is told the worker's process and the second that is over.
pub(crate) async fn run_worker(
    plan: &WorkerPlan,
    mut each_second: impl FnMut(u32, usize),
) -> Measured {
    let last = plan.scenario.load.measure.secs_ceil() as usize - 1;
    let (mut pid, mut cpu_us) = (0, 0.0);
    let on_event = |event, _: &LoadRecord| match event {
        DriveEvent::Ready { pid: its } => pid = its,
        DriveEvent::Started { .. } => cpu_us = -cpu_us_of(pid),
        DriveEvent::Second(progress) => {
            each_second(pid, progress.second);
            // The last whole second: the worker is still there.
            if progress.second == last {
                cpu_us += cpu_us_of(pid);
            }
        }
    };
    let driven = drive(&program(), &["worker"], plan, on_event, &Reins::default()).await.unwrap();
    assert_eq!(driven.record.worker, WorkerEnd::Finished);
    Measured { driven, cpu_us }
}

/// Processor time that a process has used, in µs.
pub(crate) fn cpu_us_of(pid: u32) -> f64 {
    let process = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap();
    let stat = process.stat().unwrap();
    (stat.utime + stat.stime) as f64 * 1e6 / procfs::ticks_per_second() as f64
}

/// Memory that a process has resident, in MB.
pub(crate) fn resident_mb_of(pid: u32) -> f64 {
    let process = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap();
    let pages = process.statm().unwrap().resident;
    (pages * procfs::page_size()) as f64 / 1e6
}

/// Events for organisations of a skewed population, with signed tokens: what a request costs in earnest.
pub(crate) fn plan(rate: f64, seconds: u64, arrivals: Arrivals, url: &str) -> WorkerPlan {
    let json = serde_json::json!({ "property": "{property}", "amount_cents": "{amount}", "category": "{category}" });
    let operation = Operation {
        name: "record".into(),
        service: None,
        rate: Rate::per_second(rate).unwrap(),
        request: RequestSpec {
            method: Method::Post,
            path: "/v1/orgs/{org}/revenues".into(),
            headers: BTreeMap::new(),
            json: Some(json),
        },
        expect: Expect { status: vec![201], body_contains: None },
        event: true,
    };
    let scenario = Scenario {
        name: "rate".into(),
        title: "Rate".into(),
        seed: 7,
        population: PopulationSpec {
            organisations: NonZeroU64::new(1_000_000).unwrap(),
            history_months: 12,
            busy: Skew::Zipf { exponent: 1.05 },
        },
        target: Target::Reference(ReferenceTarget {
            replicas: 0,
            port: None,
            split: Vec::new(),
            channel_manager: None,
        }),
        load: LoadSpec {
            arrivals,
            warm_up: Micros::from_secs(0),
            measure: Micros::from_secs(seconds),
            steps: None,
            yardstick: None,
            in_flight_max: USERS,
            timeout: Micros::from_secs(2),
        },
        operations: vec![operation],
        gates: GateRules::default(),
    };
    WorkerPlan {
        protocol: PROTOCOL,
        scenario,
        run: "rate".parse().unwrap(),
        base_url: url.to_owned(),
        auth: Auth::Organisation { secret: "a secret of thirty-two characters".into() },
        shard: Shard::WHOLE,
        today: NaiveDate::from_ymd_opt(2026, 3, 14).unwrap(),
    }
}
