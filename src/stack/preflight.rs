//! Whether the machine can carry the stack, asked before anything is started. Reports all problems at once.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;
use procfs::{Current, Meminfo};

use super::error::{PreflightProblem, StackError};
use crate::units::ByteSize;

/// On each server: the cluster itself, and WAL of a short run.
const DISK_PER_SERVER_BYTES: u64 = 768 << 20;
/// On each server, for each organisation with a year of history: some 30 rows with their indexes, and their growth.
const DISK_PER_ORGANISATION_BYTES: u64 = 12 << 10;
/// Of each server: buffers at their smallest, connections, processes.
const MEMORY_PER_SERVER_BYTES: u64 = 192 << 20;
/// Of backend, generator and harness.
const MEMORY_BESIDES_BYTES: u64 = 512 << 20;
/// The servers' files, with room to spare.
const OPEN_FILES: u64 = 8192;
/// Of a process that has a socket for each request in flight, besides these.
const OPEN_FILES_BESIDES: u64 = 1024;

/// What a stack needs of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements {
    /// Where the data will be; the nearest directory above that exists is looked at.
    pub directory: PathBuf,
    /// Free space there.
    pub disk: ByteSize,
    /// Available memory.
    pub memory: ByteSize,
    /// Files open at once, by one process.
    pub open_files: u64,
    /// Port of the backend, if it is fixed.
    pub port: Option<u16>,
}

impl Requirements {
    /// An estimate, on the safe side, for a population with so many months of history.
    pub fn estimate(
        directory: PathBuf,
        organisations: u64,
        history_months: u8,
        replicas: u8,
        port: Option<u16>,
        in_flight_max: u32,
    ) -> Self {
        let servers = u64::from(replicas) + 1;
        // Most of an organisation does not grow with its history: a short one saves little, so nothing is taken off for it.
        let twelfths = u64::from(history_months).max(12);
        let data = organisations.saturating_mul(DISK_PER_ORGANISATION_BYTES * twelfths / 12);
        Self {
            directory,
            disk: ByteSize::new(servers.saturating_mul(DISK_PER_SERVER_BYTES.saturating_add(data))),
            memory: ByteSize::new(servers * MEMORY_PER_SERVER_BYTES + MEMORY_BESIDES_BYTES),
            open_files: OPEN_FILES.max(open_files(in_flight_max)),
            port,
        }
    }
}

/// Checks the machine against the requirements; raises the soft limit on open files when the hard one allows it.
pub fn preflight(requirements: &Requirements) -> Result<(), StackError> {
    let problems: Vec<PreflightProblem> = [
        check_disk(&requirements.directory, requirements.disk),
        check_memory(requirements.memory),
        check_open_files(requirements.open_files),
        requirements.port.and_then(check_port),
    ]
    .into_iter()
    .flatten()
    .collect();
    if problems.is_empty() { Ok(()) } else { Err(StackError::Preflight(problems)) }
}

/// Makes sure that a generator may have this many requests in flight: all that a run needs against a service that
/// already runs.
pub fn allow_open_files(in_flight_max: u32) -> Result<(), StackError> {
    let problem = check_open_files(open_files(in_flight_max));
    problem.map_or(Ok(()), |problem| Err(StackError::Preflight(vec![problem])))
}

/// Files open at once in a process with a socket for each request in flight.
fn open_files(in_flight_max: u32) -> u64 {
    u64::from(in_flight_max) + OPEN_FILES_BESIDES
}

/// Space that this user may still fill in a directory, or in the nearest one above it that exists; `None` if the
/// system does not say.
pub(super) fn disk_free(directory: &Path) -> Option<u64> {
    let existing = directory.ancestors().find(|path| path.exists())?;
    let found = statvfs(existing).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Memory of the machine in bytes, or the limit of our control group if that is lower.
pub(super) fn memory_total() -> Option<u64> {
    let machine = Meminfo::current().ok()?.mem_total;
    Some(group_memory("memory.max").map_or(machine, |limit| limit.min(machine)))
}

fn memory_available() -> Option<u64> {
    let machine = Meminfo::current().ok()?.mem_available?;
    let group = group_memory("memory.max").zip(group_memory("memory.current"));
    // Cached files count as used, but are given up for the asking.
    let left = group.map(|(limit, used)| (limit + group_cache().unwrap_or(0)).saturating_sub(used));
    Some(left.map_or(machine, |left| left.min(machine)))
}

/// A figure of our control group, in bytes; `None` when there is no such limit.
fn group_memory(figure: &str) -> Option<u64> {
    group_file(figure)?.trim().parse().ok()
}

/// Memory of our control group that holds files not used lately, in bytes.
fn group_cache() -> Option<u64> {
    let figures = group_file("memory.stat")?;
    figures.lines().find_map(|line| line.strip_prefix("inactive_file "))?.parse().ok()
}

/// A file of our control group (version 2).
fn group_file(name: &str) -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let ours = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(ours).join(name)).ok()
}

fn check_disk(directory: &Path, needed: ByteSize) -> Option<PreflightProblem> {
    let free = ByteSize::new(disk_free(directory)?);
    let directory = directory.to_owned();
    (free < needed).then_some(PreflightProblem::Disk { directory, needed, free })
}

fn check_memory(needed: ByteSize) -> Option<PreflightProblem> {
    let available = ByteSize::new(memory_available()?);
    (available < needed).then_some(PreflightProblem::Memory { needed, available })
}

fn check_open_files(needed: u64) -> Option<PreflightProblem> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft >= needed {
        return None;
    }
    let raised = hard >= needed && setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_ok();
    (!raised).then_some(PreflightProblem::OpenFiles { needed, hard })
}

fn check_port(port: u16) -> Option<PreflightProblem> {
    let error = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).err()?;
    let problem = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port".to_owned(),
        _ => error.to_string(),
    };
    Some(PreflightProblem::Port { port, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modest() -> Requirements {
        Requirements {
            directory: std::env::temp_dir().join("not/made/yet"),
            disk: ByteSize::new(1),
            memory: ByteSize::new(1),
            open_files: 16,
            port: None,
        }
    }

    #[test]
    fn a_modest_stack_fits() {
        preflight(&modest()).unwrap();
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = preflight(&Requirements {
            disk: ByteSize::new(u64::MAX),
            memory: ByteSize::new(u64::MAX),
            open_files: u64::MAX - 1,
            port: Some(port),
            ..modest()
        });
        let StackError::Preflight(problems) = error.unwrap_err() else { panic!("not a preflight") };
        assert_eq!(problems.len(), 4, "{problems:?}");
        for problem in &problems {
            assert!(problem.to_string().contains("\nhelp: "), "{problem}");
        }
        assert!(problems[3].to_string().contains(&format!("127.0.0.1:{port}")));
    }

    #[test]
    fn a_larger_population_and_a_longer_history_need_more_disk_on_every_server() {
        let of = |organisations, months, replicas| {
            let directory = PathBuf::new();
            Requirements::estimate(directory, organisations, months, replicas, None, 512).disk.get()
        };
        let disk = |organisations, replicas| of(organisations, 12, replicas);
        assert_eq!(of(1_000_000, 1, 2), disk(1_000_000, 2));
        let year = disk(1_000_000, 0) - DISK_PER_SERVER_BYTES;
        assert_eq!(of(1_000_000, 60, 0), 5 * year + DISK_PER_SERVER_BYTES);
        assert!(disk(1_000_000, 2) > disk(50_000, 2));
        assert_eq!(disk(50_000, 2), 3 * disk(50_000, 0));
    }
    #[test]
    fn a_request_in_flight_is_an_open_file() {
        let files = |in_flight| {
            Requirements::estimate(PathBuf::new(), 1, 12, 0, None, in_flight).open_files
        };
        assert!(files(65_536) > 65_536);
        assert!(files(8192) > 8192);
        assert_eq!(files(1), files(512), "the servers' files are the most of it");
    }
}
