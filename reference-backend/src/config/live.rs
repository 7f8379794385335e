//! The settings in force: one snapshot per epoch. Read anew when asked to, checked whole, and swapped all or nothing: what
//! cannot change while the program runs is refused by name, and then nothing else changes either.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use metrics::{counter, gauge};
use toml::{Table, Value};

use super::Config;
use super::load::ConfigError;
use super::show::flatten;
use super::sources::Sources;

/// What may change while the program runs, with all that is in it; `*` is any one name. In `config/default.toml` these are marked `# live`.
const LIVE: [&str; 19] = [
    "server.request_timeout_ms",
    "server.in_flight_max",
    "server.read_your_writes_wait_ms",
    "logs.filter",
    "monitoring.slow_request_ms",
    "features.use_read_replicas",
    "database.replica_choice.lag_bytes_max",
    "database.replica_choice.lag_max_ms",
    "cache.*.ttl_ms",
    "cache.*.negative_ttl_ms",
    "jobs.enabled",
    "jobs.*.schedule",
    "jobs.*.catch_up",
    "jobs.*.if_died",
    "jobs.*.time_limit_ms",
    "pubsub.delivery.*",
    "pubsub.subscriptions.*.*",
    "resilience.rate_limit.per_second",
    "resilience.rate_limit.burst",
];

/// All settings at one time.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 at the start, and one more with each change.
    pub epoch: u64,
    /// The settings.
    pub config: Config,
}

/// What puts a change into force. Must not fail: a change is checked before.
type Hook = Box<dyn Fn(&Config) + Send + Sync>;

/// The settings in force. Cheap to clone.
#[derive(Clone)]
pub struct Settings(Arc<Inner>);

struct Inner {
    current: ArcSwap<Snapshot>,
    /// None where they cannot be read again.
    sources: Option<Sources>,
    /// Held while a change is put into force: one at a time.
    hooks: Mutex<Vec<Hook>>,
}

/// Why a change was not put into force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new settings are not sound.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// They are, but some of them need a restart.
    #[error("{} cannot change while the program runs; restart it, or take the change back", .0.join(", "))]
    NotLive(Vec<String>),
    /// There is no file to read.
    #[error("these settings came from no file")]
    Fixed,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settings").field(&self.0.current.load()).finish()
    }
}

impl Settings {
    /// Settings that never change.
    pub fn fixed(config: Config) -> Self {
        Self::new(config, None)
    }

    /// Settings that can be read again from where they come from.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        Ok(Self::new(sources.load()?, Some(sources)))
    }

    fn new(config: Config, sources: Option<Sources>) -> Self {
        let current = ArcSwap::from_pointee(Snapshot { epoch: 1, config });
        Self(Arc::new(Inner { current, sources, hooks: Mutex::default() }))
    }

    /// The settings in force now. Whoever needs two that belong together takes both from one snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// Calls `hook` with the settings now, and with each change from now on: none is missed in between.
    pub fn on_change(&self, hook: impl Fn(&Config) + Send + Sync + 'static) {
        self.publish_epoch();
        let mut hooks = self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hook(&self.current().config);
        hooks.push(Box::new(hook));
    }

    /// Reads all settings again and puts the change into force; tells which settings changed. An error changes nothing.
    pub fn reload(&self) -> Result<Vec<String>, ReloadError> {
        let reloaded = self.try_reload();
        let outcome = match &reloaded {
            Ok(changed) if changed.is_empty() => "unchanged",
            Ok(_) => "applied",
            Err(_) => "refused",
        };
        counter!("backend_config_reloads_total", "outcome" => outcome).increment(1);
        self.publish_epoch();
        reloaded
    }

    fn try_reload(&self) -> Result<Vec<String>, ReloadError> {
        let hooks = self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.0.sources.as_ref().ok_or(ReloadError::Fixed)?.load()?;
        let before = self.current();
        let changed = changes(&before.config, &config);
        let refused: Vec<_> = changed.iter().filter(|name| !is_live(name)).cloned().collect();
        if !refused.is_empty() {
            return Err(ReloadError::NotLive(refused));
        }
        if !changed.is_empty() {
            hooks.iter().for_each(|hook| hook(&config));
            self.0.current.store(Arc::new(Snapshot { epoch: before.epoch + 1, config }));
        }
        Ok(changed)
    }

    fn publish_epoch(&self) {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 changes")]
        gauge!("backend_config_epoch").set(self.current().epoch as f64);
    }
}

/// Names of the settings whose values differ.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let (before, after) = (leaves(before), leaves(after));
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let mut changed: Vec<_> =
        names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    changed.sort();
    changed
}

fn leaves(config: &Config) -> BTreeMap<String, Value> {
    let tree = Table::try_from(config).expect("settings are plain data");
    let mut found = BTreeMap::new();
    flatten("", &tree, &mut |section, name, value| {
        found.insert(format!("{section}.{name}"), value.clone());
    });
    found
}

fn is_live(name: &str) -> bool {
    LIVE.iter().any(|pattern| {
        let mut names = name.split('.');
        pattern.split('.').all(|part| names.next().is_some_and(|name| part == "*" || part == name))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Settings from a file that a test can change.
    fn from(text: &str) -> (Settings, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let sources = Sources::of(super::super::Environment::default(), &[]).with_file(file.path());
        (Settings::load(sources).unwrap(), file)
    }

    #[test]
    fn a_change_of_live_settings_is_put_into_force_whole() {
        let (settings, file) = from("[server]\nin_flight_max = 5\n");
        let told = Arc::new(AtomicUsize::new(0));
        let tell = Arc::clone(&told);
        settings
            .on_change(move |config| tell.store(config.server.in_flight_max, Ordering::Relaxed));
        assert_eq!(settings.reload().unwrap(), Vec::<String>::new());
        std::fs::write(file.path(), "[server]\nin_flight_max = 6\nrequest_timeout_ms = 7_000\n")
            .unwrap();
        assert_eq!(
            settings.reload().unwrap(),
            ["server.in_flight_max", "server.request_timeout_ms"]
        );
        assert_eq!(told.load(Ordering::Relaxed), 6);
        let now = settings.current();
        assert_eq!((now.epoch, now.config.server.request_timeout_ms.0), (2, 7_000));
    }

    #[test]
    fn a_change_before_somebody_asks_to_be_told_is_not_missed() {
        let (settings, file) = from("[server]\nin_flight_max = 5\n");
        let before = settings.current();
        std::fs::write(file.path(), "[server]\nin_flight_max = 6\n").unwrap();
        settings.reload().unwrap();
        let told = Arc::new(AtomicUsize::new(before.config.server.in_flight_max));
        let tell = Arc::clone(&told);
        settings
            .on_change(move |config| tell.store(config.server.in_flight_max, Ordering::Relaxed));
        assert_eq!(told.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn what_is_not_live_is_refused_by_name_and_nothing_changes() {
        let (settings, file) = from("");
        settings.on_change(|config| {
            assert_eq!(config.server.in_flight_max, 4_096, "nothing may be put into force");
        });
        let change =
            "[server]\nin_flight_max = 6\nlisten = \"127.0.0.1:1\"\n[cache]\nwarm_queue = 7\n";
        std::fs::write(file.path(), change).unwrap();
        let refused = settings.reload().unwrap_err().to_string();
        assert!(refused.starts_with("cache.warm_queue, server.listen cannot change"), "{refused}");
        std::fs::write(file.path(), "[server]\nin_flight_max = 0\n[logs]\nfilter = \"=x=\"\n")
            .unwrap();
        let refused = settings.reload().unwrap_err().to_string();
        assert!(
            refused.contains("in_flight_max = 0") && refused.contains("logs.filter"),
            "{refused}"
        );
        assert_eq!(
            (settings.current().epoch, settings.current().config.server.in_flight_max),
            (1, 4_096)
        );
        assert!(matches!(
            Settings::fixed(Config::from_toml("").unwrap()).reload(),
            Err(ReloadError::Fixed)
        ));
    }

    /// The comments of `default.toml` say which settings are live; they must not drift from the list here.
    #[test]
    fn the_marks_in_the_defaults_are_true() {
        let text = include_str!("../../config/default.toml");
        let (mut section, mut marked) = (String::new(), Vec::new());
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if let Some((name, _)) =
                line.split_once(" = ").filter(|_| line.ends_with(" # live"))
            {
                marked.push(format!("{section}.{name}"));
            }
        }
        let covered = |leaf: &String| {
            marked.iter().any(|mark| leaf == mark || leaf.starts_with(&format!("{mark}.")))
        };
        let all: Vec<String> = leaves(&Config::from_toml("").unwrap()).into_keys().collect();
        assert!(all.contains(&"jobs.night_audit.catch_up.each".to_owned()), "one is a table");
        let live =
            |test: &dyn Fn(&String) -> bool| all.iter().filter(|n| test(n)).collect::<Vec<_>>();
        assert_eq!(live(&covered), live(&|name| is_live(name)));
        for pattern in LIVE {
            let used = marked.iter().any(|name| pattern.contains('*') || name == pattern);
            assert!(used, "{pattern} is no setting");
        }
    }
}
