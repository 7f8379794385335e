//! The settings of each server, written as its whole `postgresql.conf`. Pure.
//!
//! Seeding gives up durability for speed, because a crash then means to start again; a run gives up none. What the
//! running servers themselves say of it is in the report.

use std::fmt::Write;
use std::path::Path;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Settings whose values the servers are asked for, for the report.
pub(super) const REPORTED: [&str; 20] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "data_checksums",
    "shared_buffers",
    "max_connections",
    "max_wal_size",
    "max_slot_wal_keep_size",
    "checkpoint_timeout",
    "autovacuum",
    "jit",
    "track_io_timing",
    "shared_preload_libraries",
    "hot_standby_feedback",
    "max_standby_streaming_delay",
    "listen_addresses",
    "unix_socket_permissions",
];

/// Version of the settings that a stopped primary leaves written in its data. Whoever changes one of those (see `SENDERS`) makes
/// it another: populations that were kept before are made anew.
pub const SETTINGS_VERSION: u32 = 2;

/// Streams of WAL that a primary can feed: twice for each of the eight replicas that a scenario may ask for, and two to spare.
/// The same for any number of them, because a server writes it into its data, and a replica refuses to start with less
/// than the primary had whose data it was copied from.
const SENDERS: &str = "18";

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The primary while the population is copied into it: fast, not durable.
    Seeding,
    /// The primary of a run.
    Primary,
    /// A replica of a run.
    Replica,
}

/// What the settings are derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizing {
    /// Memory that all servers share, in bytes.
    pub(super) memory_bytes: u64,
    /// Free space in the stack's directory, in bytes.
    pub(super) disk_free_bytes: u64,
    /// Streaming replicas: how many more copies of the data the disk has to take.
    pub(super) replicas: u8,
}

/// A server's settings as the text of `postgresql.conf`. `wal_compression` is a value that this server knows.
pub(super) fn configuration(
    name: &str,
    role: Role,
    sizing: Sizing,
    sockets: &Path,
    port: u16,
    wal_compression: &str,
) -> String {
    let mut settings = common(name, sockets, port);
    settings.extend(match role {
        Role::Seeding => seeding(sizing),
        Role::Primary | Role::Replica => run(role, sizing, wal_compression),
    });
    let mut text = format!("# {name}: written by plimsoll at each start; changes are lost.\n");
    for (setting, value) in settings {
        writeln!(text, "{setting} = '{}'", value.replace('\'', "''")).expect("a String takes it");
    }
    text
}

type Setting = (&'static str, String);

fn common(name: &str, sockets: &Path, port: u16) -> Vec<Setting> {
    let text = |value: &str| value.to_owned();
    vec![
        ("cluster_name", format!("plimsoll {name}")),
        ("listen_addresses", text("")),
        ("unix_socket_directories", quoted_directory(sockets)),
        ("unix_socket_permissions", text("0700")),
        ("port", port.to_string()),
        // Five databases with a pool of up to 16 each for two roles, and the observers. Alike on all servers: a
        // replica refuses to start with less than its primary has.
        ("max_connections", text("200")),
        ("shared_preload_libraries", text("pg_stat_statements")),
        ("pg_stat_statements.max", text("10000")),
        ("pg_stat_statements.save", text("off")),
        ("pg_stat_statements.track_utility", text("off")),
        ("track_io_timing", text("off")),
        ("update_process_title", text("off")),
        ("jit", text("off")),
        // A server that recovers from a crash by itself would hide it from the run.
        ("restart_after_crash", text("off")),
        ("logging_collector", text("off")),
        ("log_destination", text("stderr")),
        ("log_line_prefix", text("%m [%p] %q%u@%d/%a ")),
        ("log_timezone", text("UTC")),
        ("timezone", text("UTC")),
        ("lc_messages", text("C")),
    ]
}

/// `unix_socket_directories` is a list: a comma or space in a path must be quoted.
fn quoted_directory(sockets: &Path) -> String {
    format!("\"{}\"", sockets.display().to_string().replace('"', "\"\""))
}

fn seeding(sizing: Sizing) -> Vec<Setting> {
    let text = |value: &str| value.to_owned();
    vec![
        ("fsync", text("off")),
        ("synchronous_commit", text("off")),
        ("full_page_writes", text("off")),
        // With these, COPY into a table of the same transaction writes no WAL at all.
        ("wal_level", text("minimal")),
        ("max_wal_senders", text("0")),
        ("autovacuum", text("off")),
        ("checkpoint_timeout", text("1h")),
        ("max_wal_size", megabytes(wal_bytes(sizing))),
        ("shared_buffers", megabytes((sizing.memory_bytes / 12).clamp(64 * MIB, 2 * GIB))),
        ("maintenance_work_mem", megabytes((sizing.memory_bytes / 24).clamp(64 * MIB, GIB))),
    ]
}

fn run(role: Role, sizing: Sizing, wal_compression: &str) -> Vec<Setting> {
    let text = |value: &str| value.to_owned();
    // What the population's size makes them touch should fit: where it does not, each read of a replica that replays writes first
    // writes a page to make room.
    let share = if role == Role::Replica { 10 } else { 8 };
    vec![
        ("fsync", text("on")),
        ("synchronous_commit", text("on")),
        ("full_page_writes", text("on")),
        ("wal_level", text("replica")),
        ("wal_compression", text(wal_compression)),
        ("max_wal_senders", text(SENDERS)),
        ("max_replication_slots", text(SENDERS)),
        // A replica that is gone must not fill the disk of the primary.
        ("max_slot_wal_keep_size", megabytes(2 * wal_bytes(sizing))),
        // Few checkpoints: after each one, the first change of a page logs the whole page.
        ("max_wal_size", megabytes(wal_bytes(sizing))),
        ("checkpoint_timeout", text("15min")),
        ("checkpoint_completion_target", text("0.9")),
        ("shared_buffers", megabytes((sizing.memory_bytes / share).clamp(64 * MIB, 8 * GIB))),
        ("effective_cache_size", megabytes((sizing.memory_bytes / 4).max(64 * MIB))),
        // Dirty pages are written before a statement needs their place.
        ("bgwriter_lru_maxpages", text("1000")),
        ("autovacuum", text("on")),
        // PostgreSQL's own until version 12: with the shorter one of today, a table's turn takes half a processor for seconds. How
        // often it comes is left to PostgreSQL: tables that begin empty would be due at every turn, however short.
        ("autovacuum_vacuum_cost_delay", text("20ms")),
        ("hot_standby", text("on")),
        // Feedback would move a replica's long reads into the primary's bloat; reads are short here.
        ("hot_standby_feedback", text("off")),
        ("max_standby_streaming_delay", text("10s")),
        ("wal_receiver_status_interval", text("1s")),
        ("wal_retrieve_retry_interval", text("1s")),
    ]
}

/// WAL between two checkpoints: as much as the disk can well spare, in bytes.
fn wal_bytes(sizing: Sizing) -> u64 {
    (sizing.disk_free_bytes / 16).clamp(256 * MIB, 8 * GIB)
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes / MIB)
}

/// Who may connect: whoever can reach the socket, whose directory is closed to all but one user.
pub(super) const HOST_BASED_AUTHENTICATION: &str = "# The directory of the socket is closed to other users; there is no network address.\n\
     local all all trust\n\
     local replication all trust\n";

#[cfg(test)]
mod tests {
    use super::*;

    const SIZING: Sizing =
        Sizing { memory_bytes: 24 * GIB, disk_free_bytes: 64 * GIB, replicas: 2 };

    fn value(role: Role, sizing: Sizing, setting: &str) -> Option<String> {
        let text = configuration("x", role, sizing, Path::new("/s"), 5432, "lz4");
        let start = format!("{setting} = '");
        let line = text.lines().find_map(|line| line.strip_prefix(&start))?;
        Some(line.trim_end_matches('\'').to_owned())
    }

    #[test]
    fn a_run_is_durable_and_only_seeding_is_not() {
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(value(Role::Seeding, SIZING, setting).as_deref(), Some("off"));
            assert_eq!(value(Role::Primary, SIZING, setting).as_deref(), Some("on"));
            assert_eq!(value(Role::Replica, SIZING, setting).as_deref(), Some("on"));
        }
    }

    #[test]
    fn a_replica_has_at_least_what_its_primary_has() {
        for setting in ["max_connections", "max_wal_senders", "max_replication_slots"] {
            assert_eq!(
                value(Role::Primary, SIZING, setting),
                value(Role::Replica, SIZING, setting)
            );
        }
    }

    #[test]
    fn a_population_serves_any_number_of_replicas() {
        // What a primary writes into its data for its replicas to find: none may have less.
        let written = ["max_connections", "max_wal_senders", "max_worker_processes", "wal_level"];
        for setting in written {
            let of = |replicas| value(Role::Primary, Sizing { replicas, ..SIZING }, setting);
            for replicas in [1, 2, 8] {
                assert_eq!(of(0), of(replicas), "{setting} with {replicas}");
            }
        }
        let senders: u8 = SENDERS.parse().unwrap();
        assert!(senders >= 2 * 8);
    }

    #[test]
    fn three_servers_share_the_memory_and_the_disk() {
        assert_eq!(value(Role::Primary, SIZING, "shared_buffers").unwrap(), "3072MB");
        assert_eq!(value(Role::Replica, SIZING, "shared_buffers").unwrap(), "2457MB");
        assert_eq!(value(Role::Primary, SIZING, "max_wal_size").unwrap(), "4096MB");
        let small = Sizing { memory_bytes: GIB, disk_free_bytes: GIB, replicas: 0 };
        assert_eq!(value(Role::Primary, small, "shared_buffers").unwrap(), "128MB");
        assert_eq!(value(Role::Primary, small, "max_wal_size").unwrap(), "256MB");
    }

    #[test]
    fn no_server_listens_on_a_network() {
        for role in [Role::Seeding, Role::Primary, Role::Replica] {
            assert_eq!(value(role, SIZING, "listen_addresses").as_deref(), Some(""));
        }
    }

    #[test]
    fn a_quote_in_a_path_does_not_end_the_value() {
        let text = configuration("x", Role::Primary, SIZING, Path::new("/it's, \"x\""), 1, "pglz");
        assert!(text.contains(r#"unix_socket_directories = '"/it''s, ""x"""'"#), "{text}");
    }
}
