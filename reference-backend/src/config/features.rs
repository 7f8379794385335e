//! Feature flags: parts of the backend that can be switched off whole.

use serde::{Deserialize, Serialize};

/// The flags, each also read from a plain variable of its upper-case name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Replicas answer reads.
    pub use_read_replicas: bool,
    /// Entries and balances are written to and read from the partitioned tables. Nothing else is possible while no program
    /// reads the legacy tables, which triggers can keep equal.
    pub use_partitioned_tables: bool,
    /// Partitions are made ahead and dropped past retention by a job.
    pub enable_partition_maintenance: bool,
}

impl Features {
    pub(super) fn problems(self) -> Vec<String> {
        let legacy = "features.use_partitioned_tables = false: the legacy tables can be kept equal, but nothing reads them yet";
        if self.use_partitioned_tables { Vec::new() } else { vec![legacy.to_owned()] }
    }

    /// The variables without a prefix, and their settings.
    pub(super) const VARIABLES: [(&'static str, &'static str); 3] = [
        ("USE_READ_REPLICAS", "features.use_read_replicas"),
        ("USE_PARTITIONED_TABLES", "features.use_partitioned_tables"),
        ("ENABLE_PARTITION_MAINTENANCE", "features.enable_partition_maintenance"),
    ];
}
