//! Takes snapshots of accounts, off the request path: a subscriber of the store sums in memory what each account took in, and
//! every so many events of an account writes its state. Nothing is read back but for an account whose events were not all
//! seen, after a restart or when memory was short.
//!
//! A snapshot saves work and decides nothing: the appender asks the events for versions, and a snapshot that was not taken, or
//! late, costs a longer replay. So a write that fails is not tried again; the next multiple or [`catch_up`] makes up for it.

use std::collections::{HashMap, HashSet};

use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::account::Loaded;
use super::plan::Account;
use super::snapshot_rows::{READ_BACK_EVENTS, latest, left_behind, read_after, upsert};
use super::{ReadError, Shard, Subscription};
use crate::config;
use crate::db::{Database, Databases};
use crate::domain::{CashAccount, RecordedEvent, Version};
use crate::pubsub::Flow;

/// Events taken from the feed at a time.
const TAKE_EVENTS: usize = 5_000;

/// What an account took in from one version to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    after: Version,
    upto: Version,
    sum: CashAccount,
}

/// The events of accounts since their last snapshot, summed.
#[derive(Debug)]
struct Memory {
    spans: HashMap<Account, Span>,
    due: HashSet<Account>,
    every_events: i32,
    accounts_max: usize,
}

impl Memory {
    fn new(settings: &config::Snapshots) -> Self {
        Self {
            spans: HashMap::new(),
            due: HashSet::new(),
            every_events: i32::try_from(settings.every_events).unwrap_or(i32::MAX),
            accounts_max: settings.accounts_remembered,
        }
    }

    fn note(&mut self, event: &RecordedEvent) {
        let account = (event.org, event.property);
        if self.spans.len() >= self.accounts_max && !self.spans.contains_key(&account) {
            // What is forgotten is read back when it is due.
            self.spans.clear();
        }
        let before = Version::new(event.version.get() - 1);
        let fresh = Span { after: before, upto: before, sum: CashAccount::default() };
        let span = self.spans.entry(account).or_insert(fresh);
        if span.upto != before {
            *span = fresh;
        }
        span.upto = event.version;
        span.sum.apply(&event.event);
        // Without knowing where its last snapshot is: who passes a multiple is due.
        if event.version.get() % self.every_events == 0 {
            self.due.insert(account);
        }
    }

    /// Some of the accounts that are due, and what is known of each; they are then remembered no more.
    fn take_due(&mut self, most: usize) -> Vec<(Account, Option<Span>)> {
        let due: Vec<Account> = self.due.iter().take(most).copied().collect();
        for account in &due {
            self.due.remove(account);
        }
        due.into_iter().map(|account| (account, self.spans.remove(&account))).collect()
    }
}

/// Follows the store and takes snapshots until told to stop.
pub(crate) async fn follow(
    db: Databases,
    mut events: Subscription,
    settings: config::Snapshots,
    stop: CancellationToken,
) {
    let (mut memory, snapshots) = (Memory::new(&settings), Snapshots::new(&db));
    let flow = Flow::of("snapshots");
    loop {
        let next_look = Instant::now() + settings.interval_ms.duration();
        match events.next(TAKE_EVENTS, &stop).await {
            Ok(slices) if slices.is_empty() => return,
            Ok(slices) => {
                slices.iter().flat_map(|slice| slice.events()).for_each(|e| memory.note(e));
                flow.took(slices.iter().map(|slice| slice.events().len()).sum());
            }
            // The subscription has said so, and reads again.
            Err(_) => {}
        }
        loop {
            let due = memory.take_due(settings.batch_accounts_max);
            if due.is_empty() {
                break;
            }
            if let Err(error) = snapshots.take(due).await {
                warn!(%error, "snapshots could not be taken");
                snapshots.failures.increment(1);
            }
        }
        if stop.run_until_cancelled(sleep_until(next_look)).await.is_none() {
            return;
        }
    }
}

/// Takes a snapshot of every account whose snapshot is `every_events` or more behind its events; returns how many it took.
/// Looks at each account of the store once, a thousand by statement.
///
/// # Errors
/// When the store cannot be read or written. What was taken stays.
pub async fn catch_up(db: &Databases, settings: &config::Snapshots) -> Result<u64, ReadError> {
    let snapshots = Snapshots::new(db);
    let store = db.write(Database::EventStore);
    let mut taken = 0;
    for shard in Shard::all() {
        let mut after = None;
        loop {
            let found = left_behind(store, shard, after, settings.every_events).await?;
            for due in found.behind.chunks(settings.batch_accounts_max) {
                let farthest = due.iter().map(|(_, behind)| *behind).max().unwrap_or_default();
                for _ in 0..=farthest / READ_BACK_EVENTS {
                    let unknown = due.iter().map(|(account, _)| (*account, None));
                    taken += snapshots.take(unknown.collect()).await?;
                }
            }
            match found.last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(taken)
}

/// Writes snapshots.
struct Snapshots {
    db: Databases,
    from_memory: Counter,
    from_store: Counter,
    failures: Counter,
    seconds: Histogram,
}

impl Snapshots {
    fn new(db: &Databases) -> Self {
        let taken = |from: &'static str| counter!("backend_snapshots_taken_total", "from" => from);
        let database = Database::EventStore.label();
        Self {
            db: db.clone(),
            from_memory: taken("memory"),
            from_store: taken("store"),
            failures: counter!("backend_snapshot_failures_total"),
            seconds: histogram!("backend_db_query_duration_seconds", "database" => database, "kind" => "snapshot"),
        }
    }

    /// Brings the snapshots of accounts up to what memory knows of them, or else up to their last event; returns how many
    /// were written.
    async fn take(&self, due: Vec<(Account, Option<Span>)>) -> Result<u64, ReadError> {
        let (start, store) = (Instant::now(), self.db.write(Database::EventStore));
        let accounts: Vec<Account> = due.iter().map(|(account, _)| *account).collect();
        let (mut remembered, mut unknown) = (Vec::new(), Vec::new());
        for ((account, span), kept) in due.into_iter().zip(latest(store, &accounts).await?) {
            match span {
                Some(span) if span.after == kept.version => {
                    let mut loaded = Loaded { version: span.upto, ..kept };
                    loaded.account.add(span.sum);
                    remembered.push((account, loaded));
                }
                _ => unknown.push((account, kept)),
            }
        }
        let mut taken = upsert(store, &remembered).await?;
        self.from_memory.increment(taken);
        if !unknown.is_empty() {
            let read = read_after(store, unknown).await?;
            let written = upsert(store, &read).await?;
            self.from_store.increment(written);
            taken += written;
        }
        self.seconds.record(start.elapsed().as_secs_f64());
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::samples::{booked, day, event};
    use crate::config::Config;
    use crate::domain::Event;

    fn memory(every_events: u32, accounts_remembered: usize) -> Memory {
        let settings = Config::from_toml("").unwrap().snapshots;
        Memory::new(&config::Snapshots { every_events, accounts_remembered, ..settings })
    }

    #[test]
    fn who_passes_a_multiple_is_due_with_all_that_came_since() {
        let mut memory = memory(3, 10);
        memory.note(&booked(1, 2, 50, day(1), Event::ExpenseRecorded));
        assert_eq!(memory.take_due(10), []);
        memory.note(&event(1, 3));
        memory.note(&event(1, 4));
        let sum = CashAccount { revenue_cents: 2, expense_cents: 50, entries: 3 };
        let span = Span { after: Version::new(1), upto: Version::new(4), sum };
        let account = (event(1, 2).org, event(1, 2).property);
        assert_eq!(memory.take_due(10), [(account, Some(span))]);
        assert_eq!(memory.take_due(10), [], "once");
        memory.note(&event(1, 5));
        assert_eq!(memory.spans[&account].after, Version::new(4), "goes on from the snapshot");
    }

    #[test]
    fn a_full_memory_and_a_hole_forget_and_never_guess() {
        let mut memory = memory(4, 1);
        memory.note(&event(1, 1));
        memory.note(&event(2, 1));
        memory.note(&event(1, 2));
        assert_eq!(memory.spans.len(), 1);
        memory.note(&event(1, 4)); // 3 was not seen
        let due = memory.take_due(10);
        assert_eq!(due[0].1.map(|span| (span.after.get(), span.sum.entries)), Some((3, 1)));
    }
}
