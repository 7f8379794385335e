//! What loading a population costs beside the machine's own limit: the rows/s of plimsoll's copying, and those of psql's
//! `\copy` of the same bytes from files, into the same tables, as many at once, on primaries that are started alike.
//!
//! `cargo bench --bench seeding [-- ORGANISATIONS]`: 20,000 unless told otherwise. Needs PostgreSQL's server programs and psql,
//! and a disk (that of `PLIMSOLL_STATE_DIR`, else of `/var/tmp`) for the population and its files.
//!
//! First, untimed, plimsoll seeds a primary that logs what it is told: so psql is given the leaves, the columns and the options
//! that plimsoll uses, and files of the rows in the order in which they came. Then both load a fresh primary each, in turn.
//! Both truncate and fill a leaf in one transaction, frozen and without WAL, after the secondary indexes and foreign keys are
//! gone; what psql has loaded is verified as plimsoll verifies its own. psql only reads and sends: its files lie in the page
//! cache, and it is connected before its clock starts. plimsoll computes each row, and connects on its clock.

#![expect(clippy::print_stdout, reason = "its results go to stdout")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use chrono::{Datelike as _, NaiveDate, Utc};
use futures::future::join_all;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use plimsoll::population::{Progress, Stage, seed, verify};
use plimsoll::scenario::{PopulationSpec, PostgresEndpoint, Skew};
use plimsoll::stack::{
    BackendProgram, Limits, PostgresBinaries, Seeding, Stack, StackSpec, state_directory,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

// What plimsoll's own program has: its memory is told below.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often both load, in turn: what the machine does meanwhile meets both.
const ROUNDS: usize = 2;
const ORGANISATIONS: NonZeroU64 = NonZeroU64::new(20_000).expect("not zero");
const HISTORY_MONTHS: u8 = 12;
const SEED: u64 = 7;

/// The argument that makes this program plimsoll's seeding alone, so that its memory is told apart.
const SEED_ONLY: &str = "seed-only";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = Runtime::new().expect("start the runtime");
    if args.first().is_some_and(|arg| arg == SEED_ONLY) {
        return runtime.block_on(be_plimsoll(&args[1..]));
    }
    let organisations = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(ORGANISATIONS);
    let wanted = Wanted { organisations, anchor: first_of_this_month() };
    runtime.block_on(async {
        tokio::select! {
            () = compare(wanted) => {}
            // What it has started, and its files, end with it.
            () = told_to_end() => panic!("interrupted"),
        }
    });
}

/// The population that is loaded.
#[derive(Clone, Copy)]
struct Wanted {
    organisations: NonZeroU64,
    anchor: NaiveDate,
}

impl Wanted {
    fn spec(self) -> PopulationSpec {
        PopulationSpec {
            organisations: self.organisations,
            history_months: HISTORY_MONTHS,
            busy: Skew::Zipf { exponent: 1.05 },
        }
    }
}

/// Where a run's history ends: the backend makes its partitions around today.
fn first_of_this_month() -> NaiveDate {
    Utc::now().date_naive().with_day(1).expect("every month has a first day")
}

async fn told_to_end() {
    let listen = |kind| signal(kind).expect("listen to signals");
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn compare(wanted: Wanted) {
    let home = home();
    let leaves = prepare(home.path(), wanted).await;
    let rows: u64 = leaves.iter().map(|leaf| leaf.rows).sum();
    let bytes: u64 = leaves.iter().map(|leaf| leaf.bytes).sum();
    println!(
        "{} organisations: {rows} rows, {:.1} MB as binary COPY has them, {} streams at once",
        wanted.organisations,
        bytes as f64 / 1e6,
        leaves.len(),
    );
    println!(
        "{:<16} {:>8} {:>10} {:>8} {:>13}",
        "copying", "seconds", "rows/s", "MB/s", "its CPU s"
    );
    for _ in 0..ROUNDS {
        let seeded = plimsoll(home.path(), wanted).await;
        assert_eq!(seeded.rows, rows, "plimsoll loaded another number of rows than before");
        let print = |name, copied: &Copied| {
            let (rate, mb_rate) =
                (rows as f64 / copied.seconds, bytes as f64 / 1e6 / copied.seconds);
            println!(
                "{name:<16} {:>8.2} {rate:>10.0} {mb_rate:>8.1} {:>13.2}",
                copied.seconds, copied.cpu_seconds
            );
        };
        print("plimsoll", &seeded.copied);
        let copied = psql(home.path(), wanted, &leaves).await;
        print("psql \\copy", &copied);
        println!(
            "    plimsoll/psql {:.2} of the rows/s; plimsoll's peak {:.1} MB resident",
            copied.seconds / seeded.copied.seconds,
            seeded.peak_mb,
        );
        let [before, index, analyse, check] = seeded.beside;
        println!(
            "    plimsoll besides: {before:.2} s before copying, {index:.2} s {}, {analyse:.2} s {}, {check:.2} s {}",
            Stage::Index,
            Stage::Analyse,
            Stage::Verify,
        );
    }
}

/// A directory beside those of runs, on the same disk, that the servers' user may enter. It goes with all in it.
fn home() -> TempDir {
    let state = std::path::absolute(state_directory()).expect("find the current directory");
    let disk = state.parent().unwrap_or(&state);
    fs::create_dir_all(disk).unwrap_or_else(|error| panic!("make {}: {error}", disk.display()));
    let home = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir_in(disk);
    let home =
        home.unwrap_or_else(|error| panic!("make a directory in {}: {error}", disk.display()));
    let open = fs::Permissions::from_mode(0o711);
    fs::set_permissions(home.path(), open).expect("open our own directory to the servers' user");
    home
}

/// A migrated, empty primary, started as a run starts it for seeding. Ends, and its data goes, when it is dropped.
async fn primary(home: &Path) -> Stack<Seeding> {
    let spec = StackSpec {
        run: "seeding".parse().expect("a name of letters"),
        binaries: binaries(),
        replicas: 0,
        backend: BackendProgram::of_plimsoll(env!("CARGO_BIN_EXE_plimsoll").into()),
        backend_port: None,
        backend_split: Vec::new(),
        channel_manager: None,
        history_months: HISTORY_MONTHS,
        directory: home.join("state"),
        log_dir: home.join("logs"),
        keep: false,
        limits: Limits::default(),
    };
    let provisioned = Stack::provision(spec, CancellationToken::new()).await;
    provisioned.unwrap_or_else(|error| panic!("{error}"))
}

fn binaries() -> PostgresBinaries {
    PostgresBinaries::find().unwrap_or_else(|error| panic!("{error}"))
}

/// What copying cost.
struct Copied {
    seconds: f64,
    /// Processor time of what sends the rows.
    cpu_seconds: f64,
}

/// What plimsoll did.
struct Seeded {
    rows: u64,
    copied: Copied,
    /// Seconds before the copying (estimating its size, dropping indexes), for indexes, for statistics, and for verifying.
    beside: [f64; 4],
    peak_mb: f64,
}

/// Has plimsoll load a fresh primary.
async fn plimsoll(home: &Path, wanted: Wanted) -> Seeded {
    let stack = primary(home).await;
    seed_in_a_child(stack.primary(), wanted).await
}

async fn seed_in_a_child(endpoint: &PostgresEndpoint, wanted: Wanted) -> Seeded {
    let mut child = Command::new(std::env::current_exe().expect("find this program"));
    child.arg(SEED_ONLY).arg(&endpoint.socket_dir);
    child.args([endpoint.port.to_string(), endpoint.superuser.clone()]);
    child.args([wanted.organisations.to_string(), wanted.anchor.to_string()]);
    child.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = child.output().await.expect("start this program once more");
    assert!(output.status.success(), "plimsoll did not seed: {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [rows, seconds, cpu_seconds, before, index, analyse, check, peak_mb] = figures[..] else {
        panic!("plimsoll's seeding said {said:?}")
    };
    Seeded {
        rows: rows as u64,
        copied: Copied { seconds, cpu_seconds },
        beside: [before, index, analyse, check],
        peak_mb,
    }
}

/// Is plimsoll's seeding: prints its figures in the order in which [`seed_in_a_child`] reads them.
async fn be_plimsoll(args: &[String]) {
    let [socket_dir, port, superuser, organisations, anchor] = args else {
        panic!("{SEED_ONLY} is for this program's own use")
    };
    let endpoint = PostgresEndpoint {
        name: "primary".to_owned(),
        socket_dir: socket_dir.into(),
        port: port.parse().expect("a port"),
        superuser: superuser.clone(),
        monitor_role: superuser.clone(),
    };
    let wanted = Wanted {
        organisations: organisations.parse().expect("a number of organisations"),
        anchor: anchor.parse().expect("a date"),
    };
    let now = || (Instant::now(), cpu_seconds(UsageWho::RUSAGE_SELF));
    let (began, mut copying, mut copied) = (Instant::now(), None, None);
    // The first word of each stage comes as it begins.
    let progress = |told: Progress| match told.stage {
        Stage::Copy => drop(copying.get_or_insert_with(now)),
        Stage::Index => drop(copied.get_or_insert_with(now)),
        Stage::Analyse | Stage::Verify => {}
    };
    let cancel = CancellationToken::new();
    let seeded = seed(&wanted.spec(), SEED, wanted.anchor, &endpoint, progress, &cancel).await;
    let seeded = seeded.unwrap_or_else(|error| panic!("{error}"));
    let (copying, cpu_before) = copying.expect("plimsoll says that it copies");
    let (copied, cpu_after) = copied.expect("plimsoll says that it builds indexes");
    let took = |stage| {
        let of_stage = seeded.stages.iter().find(|(known, _)| *known == stage);
        of_stage.unwrap_or_else(|| panic!("plimsoll does not say how long {stage} took")).1
    };
    println!(
        "{} {} {} {} {} {} {} {}",
        seeded.rows,
        (copied - copying).as_secs_f64(),
        cpu_after - cpu_before,
        (copying - began).as_secs_f64(),
        took(Stage::Index),
        took(Stage::Analyse),
        took(Stage::Verify),
        peak_mb(),
    );
}

/// The most memory that this process has had resident, in MB.
fn peak_mb() -> f64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    let kb = status.expect("read /proc/self/status").vmhwm.expect("Linux tells VmHWM");
    kb as f64 * 1024.0 / 1e6
}

fn cpu_seconds(who: UsageWho) -> f64 {
    let usage = getrusage(who).expect("ask for processor time");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

/// A leaf's rows in a file, and how plimsoll copies them.
struct Leaf {
    database: String,
    /// Quoted as needed.
    name: String,
    /// Names of the columns, in parentheses.
    columns: String,
    /// Of COPY, in parentheses.
    options: String,
    file: PathBuf,
    rows: u64,
    bytes: u64,
}

/// Has plimsoll seed a primary that logs what it is told, and writes what each of its COPY statements brought to a file.
async fn prepare(home: &Path, wanted: Wanted) -> Vec<Leaf> {
    let stack = primary(home).await;
    let endpoint = stack.primary();
    let log_all = format!("ALTER ROLE {} SET log_statement = 'all';\n", endpoint.superuser);
    Psql::connect(endpoint, "postgres").await.run(&log_all).await;
    let seeded = seed_in_a_child(endpoint, wanted).await;
    let log = home.join("logs").join(format!("{}.log", endpoint.name));
    let log = fs::read_to_string(&log)
        .unwrap_or_else(|error| panic!("read the server's log {}: {error}", log.display()));
    let mut leaves = Vec::new();
    for (number, copy) in log.lines().filter_map(read_copy).enumerate() {
        let file = home.join(format!("leaf-{number}"));
        leaves.push(write_out(endpoint, copy, file).await);
    }
    let rows: u64 = leaves.iter().map(|leaf| leaf.rows).sum();
    assert_eq!(rows, seeded.rows, "the files do not hold what plimsoll loaded");
    leaves
}

/// A statement of plimsoll's, as a server logs it.
#[derive(Clone, Copy)]
struct Copy<'a> {
    database: &'a str,
    name: &'a str,
    columns: &'a str,
    options: &'a str,
}

/// Reads `… user@database/application LOG:  statement: COPY name (columns) FROM STDIN (options)`.
fn read_copy(line: &str) -> Option<Copy<'_>> {
    let (origin, statement) = line.split_once(" LOG:  statement: COPY ")?;
    let (_, database) = origin.split_once('@')?;
    let (database, _) = database.split_once('/')?;
    let (target, options) = statement.split_once(" FROM STDIN ")?;
    let (name, columns) = target.split_at(target.find(" (")?);
    Some(Copy { database, name, columns: columns.trim(), options })
}

/// Writes a leaf's rows to a file, which is on the disk afterwards: nothing of it is still to be written while others are timed.
async fn write_out(endpoint: &PostgresEndpoint, copy: Copy<'_>, file: PathBuf) -> Leaf {
    let Copy { database, name, columns, options } = copy;
    let out = format!("\\copy {name} {columns} TO '{}' (FORMAT binary)\n", file.display());
    let said = Psql::connect(endpoint, database).await.run(&out).await;
    let rows = said.trim().strip_prefix("COPY ").and_then(|count| count.parse().ok());
    let rows = rows.unwrap_or_else(|| panic!("psql wrote {name} to a file and said {said:?}"));
    let written = File::open(&file).and_then(|open| open.sync_all().and_then(|()| open.metadata()));
    let bytes = written.unwrap_or_else(|error| panic!("sync {}: {error}", file.display())).len();
    Leaf {
        database: database.to_owned(),
        name: name.to_owned(),
        columns: columns.to_owned(),
        options: options.to_owned(),
        file,
        rows,
        bytes,
    }
}

/// Has psql load a fresh primary from the files, one process a leaf, and verifies it.
async fn psql(home: &Path, wanted: Wanted, leaves: &[Leaf]) -> Copied {
    let stack = primary(home).await;
    let endpoint = stack.primary();
    drop_secondary(endpoint, leaves).await;
    let mut clients = Vec::new();
    for leaf in leaves {
        clients.push(Psql::connect(endpoint, &leaf.database).await);
    }
    let (began, cpu_before) = (Instant::now(), cpu_seconds(UsageWho::RUSAGE_CHILDREN));
    let load = async |client: Psql, leaf: &Leaf| {
        let Leaf { name, columns, options, file, .. } = leaf;
        let file = file.display();
        let script = format!(
            "BEGIN;\nTRUNCATE {name};\n\\copy {name} {columns} FROM '{file}' {options}\nCOMMIT;\n"
        );
        client.run(&script).await;
    };
    join_all(clients.into_iter().zip(leaves).map(|(client, leaf)| load(client, leaf))).await;
    let copied = Copied {
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds(UsageWho::RUSAGE_CHILDREN) - cpu_before,
    };
    let verified = verify(&wanted.spec(), SEED, wanted.anchor, endpoint).await;
    verified.unwrap_or_else(|error| panic!("what psql loaded is not the population: {error}"));
    copied
}

/// Drops what plimsoll drops before it copies: secondary indexes of the tables, and foreign keys of and to them.
async fn drop_secondary(endpoint: &PostgresEndpoint, leaves: &[Leaf]) {
    let databases: BTreeSet<&str> = leaves.iter().map(|leaf| leaf.database.as_str()).collect();
    for database in databases {
        let of_it = leaves.iter().filter(|leaf| leaf.database == database);
        let names: Vec<String> = of_it.map(|leaf| format!("'{}'", leaf.name)).collect();
        let script = format!(
            "CREATE TEMP TABLE loaded AS
                 SELECT DISTINCT coalesce(pg_partition_root(leaf), leaf)::oid AS id FROM unnest(ARRAY[{}]::regclass[]) leaf;
             SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
                 WHERE indrelid IN (SELECT id FROM loaded) AND NOT indisunique AND NOT indisexclusion \\gexec
             SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
                 WHERE contype = 'f' AND conparentid = 0
                   AND (conrelid IN (SELECT id FROM loaded) OR confrelid IN (SELECT id FROM loaded)) \\gexec\n",
            names.join(", ")
        );
        Psql::connect(endpoint, database).await.run(&script).await;
    }
}

/// A psql that is connected and waits for its script. What it has to complain of goes to stderr.
struct Psql {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Psql {
    async fn connect(endpoint: &PostgresEndpoint, database: &str) -> Self {
        let beside_server = binaries().directory().join("psql");
        let program = if beside_server.is_file() { beside_server } else { PathBuf::from("psql") };
        let mut command = Command::new(&program);
        // Nothing of our environment that could steer it.
        command.env_clear().env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
        for kept in ["PATH", "LD_LIBRARY_PATH"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.args(["--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1"]);
        command.args(["--username", &endpoint.superuser, "--dbname", database]);
        command.arg("--host").arg(&endpoint.socket_dir);
        command.args(["--port", &endpoint.port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let started = command.spawn();
        let mut process =
            started.unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
        let output = BufReader::new(process.stdout.take().expect("its output is piped"));
        let mut psql = Self { process, output };
        psql.tell("\\echo connected\n").await;
        let mut line = String::new();
        psql.output.read_line(&mut line).await.expect("hear of psql");
        assert_eq!(line, "connected\n", "psql does not connect to {database}");
        psql
    }

    /// Runs a script to its end; what was printed.
    async fn run(mut self, script: &str) -> String {
        self.tell(script).await;
        drop(self.process.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said).await.expect("hear of psql");
        let status = self.process.wait().await.expect("wait for psql");
        assert!(status.success(), "psql failed ({status}) with\n{script}");
        said
    }

    async fn tell(&mut self, text: &str) {
        let input = self.process.stdin.as_mut().expect("its input is open until its script");
        input.write_all(text.as_bytes()).await.expect("tell psql");
    }
}
