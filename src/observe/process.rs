//! Reads `/proc`: what each group of processes, and the machine as a whole, takes of processors and memory.

use std::collections::BTreeMap;

use procfs::process::{Process, all_processes};
use procfs::{Current, CurrentSI, KernelStats, Meminfo, ProcResult};
use tokio::sync::watch;

use super::outage::Failure;
use super::source::{Reading, Source};
use crate::archive::{Incident, SeriesKey};
use crate::scenario::ProcessGroup;

/// The machine's processes, seen from the groups that are watched.
pub(super) struct Processes {
    groups: watch::Receiver<Vec<ProcessGroup>>,
    /// By name and root of the group.
    watched: BTreeMap<(String, u32), Watched>,
}

/// What is known of a group from earlier readings.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Watched {
    /// Its root lives.
    Running {
        /// When the root started, in ticks since boot: tells it from another process that got its number.
        started: u64,
        /// Highest processor time seen, in ticks.
        cpu_ticks: u64,
    },
    /// Its root has ended, and that has been told.
    Ended,
}

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sighting {
    parent: u32,
    /// In ticks since boot.
    started: u64,
    /// Whether it has ended and only waits for its parent to notice.
    is_zombie: bool,
    /// Processor time of its own, in ticks.
    own_ticks: u64,
    /// Processor time of descendants that have ended, in ticks.
    reaped_ticks: u64,
}

type Sightings = BTreeMap<u32, Sighting>;

impl Processes {
    /// Watches the groups in the channel; more may be sent while it runs.
    pub(super) fn new(groups: watch::Receiver<Vec<ProcessGroup>>) -> Self {
        Self { groups, watched: BTreeMap::new() }
    }

    fn read_groups(&mut self, second: usize, reading: &mut Reading) -> ProcResult<()> {
        let groups = self.groups.borrow().clone();
        let sightings = look()?;
        let members = members(&sightings, &groups);
        let mut totals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for group in &groups {
            let previous = self.watched.get(&(group.name.clone(), group.pid)).copied();
            let pids = members.get(&group.pid).map_or(&[][..], Vec::as_slice);
            let now = observe_group(previous, group.pid, pids, &sightings);
            self.watched.insert((group.name.clone(), group.pid), now);
            match now {
                Watched::Running { cpu_ticks, .. } => {
                    let total = totals.entry(&group.name).or_default();
                    total.0 += cpu_ticks;
                    total.1 += resident_bytes(pids);
                }
                Watched::Ended if previous != Some(Watched::Ended) => {
                    reading.incidents.push(Incident {
                        second: Some(second),
                        what: group.name.clone(),
                        detail: format!("process {} ended while it was observed", group.pid),
                    });
                }
                Watched::Ended => {}
            }
        }
        for (group, (cpu_ticks, bytes)) in totals {
            let key = |name| SeriesKey::new(name, [("group", group)]);
            reading.values.push((key("process_cpu_seconds_total"), seconds(cpu_ticks)));
            reading.values.push((key("process_resident_bytes"), bytes as f64));
        }
        Ok(())
    }
}

impl Source for Processes {
    fn name(&self) -> String {
        "/proc".to_owned()
    }

    /// A few milliseconds of system calls that never wait for anything.
    async fn read(&mut self, second: usize) -> Reading {
        let mut reading = Reading::default();
        let read = read_host(&mut reading).and_then(|()| self.read_groups(second, &mut reading));
        reading.failure = read.err().map(|error| Failure::Failed(error.to_string()));
        reading
    }
}

/// Where a group stands now.
fn observe_group(
    previous: Option<Watched>,
    root: u32,
    members: &[u32],
    sightings: &Sightings,
) -> Watched {
    let Some(now) = sightings.get(&root).filter(|root| !root.is_zombie) else {
        return Watched::Ended;
    };
    let before = match previous {
        None => 0,
        Some(Watched::Running { started, cpu_ticks }) if started == now.started => cpu_ticks,
        Some(Watched::Running { .. } | Watched::Ended) => return Watched::Ended,
    };
    let total: u64 = members.iter().map(|pid| ticks_of(*pid, &sightings[pid])).sum();
    // A child that ended between two looks is in neither its own figures nor yet its parent's: never let that look
    // like a counter that started again.
    Watched::Running { started: now.started, cpu_ticks: total.max(before) }
}

/// Processor time that a process adds to its group.
fn ticks_of(pid: u32, process: &Sighting) -> u64 {
    // This process's children are groups of their own: what it has reaped is not its doing.
    let reaped = if pid == std::process::id() { 0 } else { process.reaped_ticks };
    process.own_ticks + reaped
}

/// The processes of each group by its root: a process belongs to its nearest ancestor that is a root.
fn members(sightings: &Sightings, groups: &[ProcessGroup]) -> BTreeMap<u32, Vec<u32>> {
    let mut members: BTreeMap<u32, Vec<u32>> =
        groups.iter().map(|group| (group.pid, Vec::new())).collect();
    for pid in sightings.keys() {
        // Parents change while we look, so a circle is possible: no chain is longer than there are processes.
        let parent = |pid: &u32| sightings.get(pid).map(|process| process.parent);
        let line = std::iter::successors(Some(*pid), parent).take(sightings.len());
        let root = line.into_iter().find(|ancestor| members.contains_key(ancestor));
        if let Some(members) = root.and_then(|root| members.get_mut(&root)) {
            members.push(*pid);
        }
    }
    members
}

/// All processes of the machine.
fn look() -> ProcResult<Sightings> {
    let sighting = |process: ProcResult<Process>| {
        // One that has ended since it was listed is not there.
        let stat = process.and_then(|process| process.stat()).ok()?;
        let reaped_ticks = (stat.cutime + stat.cstime).max(0) as u64;
        let sighting = Sighting {
            parent: stat.ppid as u32,
            started: stat.starttime,
            is_zombie: matches!(stat.state, 'Z' | 'X'),
            own_ticks: stat.utime + stat.stime,
            reaped_ticks,
        };
        Some((stat.pid as u32, sighting))
    };
    Ok(all_processes()?.filter_map(sighting).collect())
}

/// Memory that a group holds. What its processes share, such as the buffers of a Postgres server, counts once: as much as
/// the process has that uses most of it.
fn resident_bytes(pids: &[u32]) -> u64 {
    let sizes: Vec<(u64, u64)> = pids
        .iter()
        .filter_map(|pid| Process::new(*pid as i32).and_then(|process| process.statm()).ok())
        .map(|size| (size.resident.saturating_sub(size.shared), size.shared))
        .collect();
    let own: u64 = sizes.iter().map(|(own, _)| own).sum();
    let shared = sizes.iter().map(|(_, shared)| *shared).max().unwrap_or_default();
    (own + shared) * procfs::page_size()
}

/// The machine as a whole.
fn read_host(reading: &mut Reading) -> ProcResult<()> {
    let cpu = KernelStats::current()?.total;
    let modes = [
        ("user", Some(cpu.user)),
        ("nice", Some(cpu.nice)),
        ("system", Some(cpu.system)),
        ("idle", Some(cpu.idle)),
        ("iowait", cpu.iowait),
        ("irq", cpu.irq),
        ("softirq", cpu.softirq),
        ("steal", cpu.steal),
    ];
    for (mode, ticks) in modes {
        let key = SeriesKey::new("host_cpu_seconds_total", [("mode", mode)]);
        reading.values.extend(ticks.map(|ticks| (key, seconds(ticks))));
    }
    let steal =
        cpu.steal.map(|ticks| (SeriesKey::new("host_steal_seconds_total", []), seconds(ticks)));
    reading.values.extend(steal);
    let available = Meminfo::current()?.mem_available;
    let key = SeriesKey::new("host_memory_available_bytes", []);
    reading.values.extend(available.map(|bytes| (key, bytes as f64)));
    Ok(())
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(parent: u32, own_ticks: u64, reaped_ticks: u64) -> Sighting {
        Sighting { parent, started: 100, is_zombie: false, own_ticks, reaped_ticks }
    }

    fn group(name: &str, pid: u32) -> ProcessGroup {
        ProcessGroup { name: name.to_owned(), pid }
    }

    fn running(cpu_ticks: u64) -> Watched {
        Watched::Running { started: 100, cpu_ticks }
    }

    #[test]
    fn a_process_belongs_to_its_nearest_ancestor_that_is_a_root() {
        let parents = [(1, 0), (10, 1), (20, 10), (21, 20), (30, 10), (40, 1)];
        let sightings = parents.map(|(pid, parent)| (pid, process(parent, 0, 0))).into();
        let members = members(&sightings, &[group("harness", 10), group("backend", 20)]);
        assert_eq!(members, BTreeMap::from([(10, vec![10, 30]), (20, vec![20, 21])]));
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let sightings = [(2, process(3, 0, 0)), (3, process(2, 0, 0))].into();
        assert_eq!(members(&sightings, &[group("x", 9)]), BTreeMap::from([(9, vec![])]));
    }

    #[test]
    fn processor_time_includes_children_that_have_ended_and_never_falls() {
        let sightings: Sightings = [(20, process(1, 5, 7)), (21, process(20, 2, 0))].into();
        assert_eq!(observe_group(None, 20, &[20, 21], &sightings), running(14));
        assert_eq!(observe_group(Some(running(99)), 20, &[20, 21], &sightings), running(99));
    }

    #[test]
    fn what_this_process_has_reaped_is_not_its_own() {
        let own = std::process::id();
        let sightings: Sightings = [(own, process(1, 5, 1_000))].into();
        assert_eq!(observe_group(None, own, &[own], &sightings), running(5));
    }

    #[test]
    fn a_root_that_is_gone_a_zombie_or_another_process_has_ended() {
        let ended = |root: Option<Sighting>| {
            let sightings: Sightings = root.map(|root| (20, root)).into_iter().collect();
            observe_group(Some(running(1)), 20, &[20], &sightings) == Watched::Ended
        };
        assert!(!ended(Some(process(1, 1, 0))));
        assert!(ended(None));
        assert!(ended(Some(Sighting { is_zombie: true, ..process(1, 1, 0) })));
        assert!(ended(Some(Sighting { started: 101, ..process(1, 1, 0) })));
    }
}
