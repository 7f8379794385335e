//! Pools of connections: their sizes and limits for every database, and what differs for one of them.

use serde::{Deserialize, Serialize};

use super::Millis;

/// Pools of connections, one per database, server and role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    /// Connections per database for writes on the primary.
    pub write_connections: u32,
    /// Connections per database for reads on the primary.
    pub primary_read_connections: u32,
    /// Connections per database for reads on each replica.
    pub replica_read_connections: u32,
    /// Longest wait for a free connection.
    pub acquire_timeout_ms: Millis,
    /// Longest run of one statement of a request.
    pub statement_timeout_ms: Millis,
    /// What differs for `shared`.
    #[serde(default)]
    pub shared: PoolOverrides,
    /// What differs for `hospitality`.
    #[serde(default)]
    pub hospitality: PoolOverrides,
    /// What differs for `finance`.
    #[serde(default)]
    pub finance: PoolOverrides,
    /// What differs for `event_store`.
    #[serde(default)]
    pub event_store: PoolOverrides,
    /// What differs for `read_models`.
    #[serde(default)]
    pub read_models: PoolOverrides,
    /// What differs for `guest_checkin`.
    #[serde(default)]
    pub guest_checkin: PoolOverrides,
    /// What differs for `health_check`.
    #[serde(default)]
    pub health_check: PoolOverrides,
}

/// What differs from [`Pools`] for one database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolOverrides {
    /// See [`Pools::write_connections`].
    pub write_connections: Option<u32>,
    /// See [`Pools::primary_read_connections`].
    pub primary_read_connections: Option<u32>,
    /// See [`Pools::replica_read_connections`].
    pub replica_read_connections: Option<u32>,
    /// See [`Pools::acquire_timeout_ms`].
    pub acquire_timeout_ms: Option<Millis>,
    /// See [`Pools::statement_timeout_ms`].
    pub statement_timeout_ms: Option<Millis>,
}

impl Pools {
    /// The overrides, by the label of their database.
    fn overrides(&self) -> [(&'static str, PoolOverrides); 7] {
        [
            ("shared", self.shared),
            ("hospitality", self.hospitality),
            ("finance", self.finance),
            ("event_store", self.event_store),
            ("read_models", self.read_models),
            ("guest_checkin", self.guest_checkin),
            ("health_check", self.health_check),
        ]
    }

    /// The settings of the database with this label, overrides filled in: in its five fields every one is set.
    #[must_use]
    pub fn of(&self, database: &str) -> Self {
        let found = self.overrides().into_iter().find(|(label, _)| *label == database);
        let own = found.map(|(_, own)| own).unwrap_or_default();
        Self {
            write_connections: own.write_connections.unwrap_or(self.write_connections),
            primary_read_connections: own
                .primary_read_connections
                .unwrap_or(self.primary_read_connections),
            replica_read_connections: own
                .replica_read_connections
                .unwrap_or(self.replica_read_connections),
            acquire_timeout_ms: own.acquire_timeout_ms.unwrap_or(self.acquire_timeout_ms),
            statement_timeout_ms: own.statement_timeout_ms.unwrap_or(self.statement_timeout_ms),
            ..self.clone()
        }
    }

    /// A size or a limit of nothing would let nobody through.
    pub(super) fn problems(&self) -> Vec<String> {
        let general = PoolOverrides {
            write_connections: Some(self.write_connections),
            primary_read_connections: Some(self.primary_read_connections),
            replica_read_connections: Some(self.replica_read_connections),
            acquire_timeout_ms: Some(self.acquire_timeout_ms),
            statement_timeout_ms: Some(self.statement_timeout_ms),
        };
        let own = self.overrides().map(|(label, own)| (format!("{label}."), own));
        let all = std::iter::once((String::new(), general)).chain(own);
        all.flat_map(|(place, set)| {
            let given = [
                ("write_connections", set.write_connections.map(u64::from)),
                ("primary_read_connections", set.primary_read_connections.map(u64::from)),
                ("replica_read_connections", set.replica_read_connections.map(u64::from)),
                ("acquire_timeout_ms", set.acquire_timeout_ms.map(|time| time.0)),
                ("statement_timeout_ms", set.statement_timeout_ms.map(|time| time.0)),
            ];
            let zero = given.into_iter().filter(|(_, value)| *value == Some(0));
            let told = move |(name, _)| {
                format!("database.pools.{place}{name} = 0: expected a number from 1 up")
            };
            zero.map(told).collect::<Vec<_>>()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::db::Database;

    #[test]
    fn one_database_may_differ_and_the_others_do_not() {
        let text = "[database.pools]\nwrite_connections = 3\n\
                    [database.pools.finance]\nwrite_connections = 9\nstatement_timeout_ms = 700\n";
        let pools = Config::from_toml(text).unwrap().database.pools;
        let finance = pools.of("finance");
        assert_eq!((finance.write_connections, finance.statement_timeout_ms.0), (9, 700));
        assert_eq!(finance.primary_read_connections, pools.primary_read_connections);
        assert_eq!(pools.of("shared").write_connections, 3);
    }

    #[test]
    fn every_database_can_be_overridden_and_no_override_may_be_nothing() {
        for database in Database::ALL {
            let text = |n: u32| {
                format!("[database.pools.{}]\nwrite_connections = {n}\n", database.label())
            };
            let pools = Config::from_toml(&text(99)).unwrap().database.pools;
            assert_eq!(pools.of(database.label()).write_connections, 99);
            let refused = Config::from_toml(&text(0)).unwrap_err().to_string();
            assert!(refused.contains(&format!("{}.write_connections = 0", database.label())));
        }
    }
}
