//! The one writer of its shards: takes commands from its queue, a batch at a time, and answers each after the commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use itertools::Itertools;
use metrics::{Counter, Histogram, counter, histogram};
use moka::future::Cache;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::feed::{Batch, Feed, Positions};
use super::plan::{Account, CommandKey, Given, Known, plan};
use super::writer::{WriteError, Writer};
use super::{AppendError, Appended, ConsistencyToken, Shard};
use crate::config;
use crate::db::Database;
use crate::domain::{Command, RecordedEvent, Version};

/// Tries of a batch as a whole, then of each of its commands alone.
const TRIES: u32 = 3;
/// An idle appender looks this often whether its lease still stands.
const IDLE_LOOK: Duration = Duration::from_secs(1);

type Answer = Result<Appended, AppendError>;

/// A command and who waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The writer of some shards, of each the only one.
pub(super) struct Appender {
    writer: Writer,
    /// Position of the last committed event of each of its shards.
    heads: Positions,
    versions: Cache<Account, Version>,
    answers: Cache<CommandKey, Given>,
    feed: Arc<Feed>,
    lease_held: Arc<[AtomicBool; Shard::COUNT]>,
    config: config::EventStore,
    stop: CancellationToken,
    meters: Meters,
}

/// Whether the lease was held all the time.
enum Lease {
    Kept,
    TakenAgain,
}

/// What is known about one batch while it is being written.
struct Effort {
    answers: HashMap<CommandKey, Given>,
    /// Whether conflicting commands were looked up: a retry after a restart is an answer, not a conflict.
    looked_up: bool,
    /// Whether an append was sent and its outcome is not known.
    uncertain: bool,
}

impl Effort {
    /// When the batch failed: commands known to be committed are told so all the same.
    fn answers_or(&self, commands: &[&Command], error: &AppendError) -> Vec<Answer> {
        let given = |command: &Command| self.answers.get(&(command.org, command.id));
        commands
            .iter()
            .map(|command| given(command).map_or_else(|| Err(error.clone()), |g| g.to(command)))
            .collect()
    }
}

impl Appender {
    /// `writer` holds the leases; `heads` is what it read under them.
    pub(super) fn new(
        (writer, heads): (Writer, Positions),
        feed: Arc<Feed>,
        lease_held: Arc<[AtomicBool; Shard::COUNT]>,
        config: &config::EventStore,
        stop: CancellationToken,
    ) -> Self {
        let appender = Self {
            writer,
            heads,
            versions: Cache::new(config.heads_cached),
            answers: Cache::new(config.answers_cached),
            feed,
            lease_held,
            config: config.clone(),
            stop,
            meters: Meters::new(),
        };
        appender.tell_heads();
        appender.tell_leases(true);
        appender
    }

    /// Works until told to stop and the queue is empty; then gives the leases back.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Pending>) {
        let most = self.config.batch_commands_max;
        let mut batch = Vec::with_capacity(most);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !queue.is_closed() => queue.close(),
                taken = timeout(IDLE_LOOK, queue.recv_many(&mut batch, most)) => match taken {
                    Ok(0) => break,
                    Ok(_) => self.work(&mut batch, &queue).await,
                    Err(_) => self.keep_leases().await,
                },
            }
        }
        self.writer.close().await;
    }

    /// Writes and answers one batch, then lets the next one gather.
    async fn work(&mut self, batch: &mut Vec<Pending>, queue: &mpsc::Receiver<Pending>) {
        let next_batch = Instant::now() + self.config.batch_interval_ms.duration();
        let commands: Vec<&Command> = batch.iter().map(|pending| &pending.command).collect();
        let answers = self.settle(&commands).await;
        for (pending, answer) in batch.drain(..).zip(answers) {
            self.meters.count(&answer);
            // Who waited may have gone; the command stands all the same.
            let _ = pending.reply.send(answer);
        }
        if queue.len() < self.config.batch_commands_max && !queue.is_closed() {
            sleep_until(next_batch).await;
        }
    }

    /// The answers of a batch, after its commit, whatever it takes.
    async fn settle(&mut self, commands: &[&Command]) -> Vec<Answer> {
        let mut effort = self.remembered(commands).await;
        for _ in 0..TRIES {
            let error = match self.write(commands, &mut effort).await {
                Ok(answers) => return answers,
                Err(error) => error,
            };
            if !error.is_worth_a_retry() {
                warn!(%error, "append refused");
                return effort.answers_or(commands, &AppendError::Unavailable(error.to_string()));
            }
            if let Err(error) = self.recover(commands, &mut effort, &error).await {
                return effort.answers_or(commands, &error);
            }
        }
        if let [_] = commands {
            let reason = "it clashed with other writes again and again";
            return vec![Err(AppendError::Unavailable(reason.to_owned()))];
        }
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands.chunks(1) {
            answers.extend(Box::pin(self.settle(command)).await);
        }
        answers
    }

    /// One try: plan, write, publish. Nothing in memory changes unless it was committed.
    async fn write(
        &mut self,
        commands: &[&Command],
        effort: &mut Effort,
    ) -> Result<Vec<Answer>, WriteError> {
        let versions = self.versions_of(commands).await?;
        let mut plan = self.plan(commands, &versions, effort);
        if !plan.conflicts.is_empty() && !effort.looked_up {
            let conflicting: Vec<&Command> = plan.conflicts.iter().map(|i| commands[*i]).collect();
            if self.look_up(&conflicting, effort).await? {
                plan = self.plan(commands, &versions, effort);
            }
        }
        if plan.events.is_empty() {
            return Ok(plan.answers);
        }
        let start = Instant::now();
        if let Err(error) = self.writer.append(&plan.events).await {
            effort.uncertain = matches!(error, WriteError::Lost(_));
            return Err(error);
        }
        self.meters.batch(plan.events.len(), start.elapsed());
        self.committed(plan.events).await;
        Ok(plan.answers)
    }

    fn plan(
        &self,
        commands: &[&Command],
        versions: &HashMap<Account, Version>,
        effort: &Effort,
    ) -> super::plan::Plan {
        let known =
            Known { heads: self.heads, versions, answers: &effort.answers, now: now_in_micros() };
        plan(commands, &known)
    }

    async fn committed(&mut self, events: Vec<RecordedEvent>) {
        for event in &events {
            self.versions.insert((event.org, event.property), event.version).await;
            let answer = Appended {
                command: event.command,
                property: event.property,
                version: event.version,
                shard: Shard::of(event.org),
                position: event.position,
                duplicate: true,
            };
            let given = Given { answer, event: event.event.clone() };
            self.answers.insert((event.org, event.command), given).await;
        }
        for (shard, events) in &events.into_iter().chunk_by(|event| Shard::of(event.org)) {
            let events: Vec<_> = events.collect();
            self.heads[shard.index()] += events.len() as i64;
            self.feed.publish(Batch { shard, events });
        }
    }

    /// After a clash or a lost connection: finds out what is committed, for the shards and for each command.
    async fn recover(
        &mut self,
        commands: &[&Command],
        effort: &mut Effort,
        reason: &WriteError,
    ) -> Result<(), AppendError> {
        warn!(%reason, uncertain = effort.uncertain, "append failed; reading the shards again");
        let failed = |effort: &Effort, reason: String| {
            let outcome =
                if effort.uncertain { AppendError::Unknown } else { AppendError::Unavailable };
            Err(outcome(reason))
        };
        let (heads, lease) = match self.heads_under_lease().await {
            Ok(found) => found,
            Err(reason) => return failed(effort, reason),
        };
        for shard in self.writer.shards() {
            let (acknowledged, found) = (self.heads[shard.index()], heads[shard.index()]);
            if found < acknowledged {
                stop_before_history_is_rewritten(*shard, acknowledged, found);
            }
        }
        match lease {
            // Another process may have written while the lease was gone.
            Lease::TakenAgain => self.versions.invalidate_all(),
            Lease::Kept => {
                for command in commands {
                    self.versions.invalidate(&(command.org, command.property)).await;
                }
            }
        }
        let heads_before = std::mem::replace(&mut self.heads, heads);
        self.tell_heads();
        if let Err(error) = self.look_up(commands, effort).await {
            return failed(effort, error.to_string());
        }
        effort.looked_up = true;
        if std::mem::take(&mut effort.uncertain) {
            self.claim(effort, heads_before);
        }
        Ok(())
    }

    /// What the uncertain append has written after all was written by it, not by an earlier one.
    fn claim(&self, effort: &mut Effort, heads_before: Positions) {
        let answers = effort.answers.values_mut().map(|given| &mut given.answer);
        let is_new = |answer: &Appended| answer.position > heads_before[answer.shard.index()];
        for answer in answers.filter(|answer| is_new(answer)) {
            answer.duplicate = false;
            self.meters.events.increment(1);
        }
    }

    async fn heads_under_lease(&mut self) -> Result<(Positions, Lease), String> {
        if self.writer.holds_leases() {
            match self.writer.heads().await {
                Ok(heads) => return Ok((heads, Lease::Kept)),
                Err(WriteError::Refused(error)) => return Err(error.to_string()),
                Err(WriteError::Lost(_) | WriteError::Unsent) => {}
            }
        }
        self.tell_leases(false);
        let stopping = self.stop.is_cancelled();
        let wait = if stopping { Duration::ZERO } else { self.config.lease_wait_ms.duration() };
        let heads = self.writer.acquire(wait).await.map_err(|error| error.to_string())?;
        self.tell_leases(true);
        info!(shards = %self.writer.shards().iter().format(" "), "leases taken again");
        Ok((heads, Lease::TakenAgain))
    }

    async fn keep_leases(&mut self) {
        if let Err(error) = self.writer.ping().await {
            let mut nothing = self.remembered(&[]).await;
            if let Err(error) = self.recover(&[], &mut nothing, &error).await {
                warn!(%error, "no lease; trying again");
            }
        }
    }

    fn tell_heads(&self) {
        for shard in self.writer.shards() {
            let position = self.heads[shard.index()];
            self.feed.set_head(ConsistencyToken { shard: *shard, position });
        }
    }

    fn tell_leases(&self, held: bool) {
        for shard in self.writer.shards() {
            self.lease_held[shard.index()].store(held, Ordering::Relaxed);
        }
    }

    async fn remembered(&self, commands: &[&Command]) -> Effort {
        let mut answers = HashMap::new();
        for command in commands {
            let key = (command.org, command.id);
            if let Some(answer) = self.answers.get(&key).await {
                answers.insert(key, answer);
            }
        }
        Effort { answers, looked_up: false, uncertain: false }
    }

    async fn look_up(
        &mut self,
        commands: &[&Command],
        effort: &mut Effort,
    ) -> Result<bool, WriteError> {
        let unanswered = commands.iter().map(|command| (command.org, command.id));
        let keys: Vec<_> = unanswered.filter(|key| !effort.answers.contains_key(key)).collect();
        if keys.is_empty() {
            return Ok(false);
        }
        let found = self.writer.answers(&keys).await?;
        let any = !found.is_empty();
        for (key, given) in &found {
            self.answers.insert(*key, given.clone()).await;
        }
        effort.answers.extend(found);
        Ok(any)
    }

    /// Versions of the batch's accounts: from memory, and for the others in one query.
    async fn versions_of(
        &mut self,
        commands: &[&Command],
    ) -> Result<HashMap<Account, Version>, WriteError> {
        let mut versions = HashMap::with_capacity(commands.len());
        let mut missing = Vec::new();
        for command in commands {
            let account = (command.org, command.property);
            if versions.contains_key(&account) {
                continue;
            }
            let known = self.versions.get(&account).await;
            if known.is_none() {
                missing.push(account);
            }
            versions.insert(account, known.unwrap_or_default());
        }
        if !missing.is_empty() {
            for (account, version) in self.writer.versions(&missing).await? {
                self.versions.insert(account, version).await;
                versions.insert(account, version);
            }
        }
        Ok(versions)
    }
}

impl Drop for Appender {
    /// However its task ends, this process is then not ready to take commands.
    fn drop(&mut self) {
        self.tell_leases(false);
    }
}

/// The server lacks events that were acknowledged: it is not the one they were written to, or was restored. To go on would
/// give their positions to others.
#[expect(clippy::disallowed_methods, reason = "no other task may answer or write from here on")]
fn stop_before_history_is_rewritten(shard: Shard, acknowledged: i64, found: i64) -> ! {
    error!(%shard, acknowledged, found, "the shard ends before its last acknowledged event; stopping at once");
    std::process::exit(1);
}

/// The database keeps microseconds: so live events and those read back are equal.
fn now_in_micros() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

/// Counts one answered command by its outcome.
pub(super) struct Meters {
    appended: Counter,
    duplicate: Counter,
    conflict: Counter,
    refused: Counter,
    failed: Counter,
    events: Counter,
    batches: Counter,
    batch_events: Histogram,
    seconds: Histogram,
}

impl Meters {
    pub(super) fn new() -> Self {
        let outcome =
            |outcome: &'static str| counter!("backend_commands_total", "outcome" => outcome);
        let database = Database::EventStore.label();
        Self {
            appended: outcome("appended"),
            duplicate: outcome("duplicate"),
            conflict: outcome("conflict"),
            refused: outcome("refused"),
            failed: outcome("failed"),
            events: counter!("backend_events_appended_total"),
            batches: counter!("backend_append_batches_total"),
            batch_events: histogram!("backend_append_batch_events"),
            seconds: histogram!("backend_db_query_duration_seconds", "database" => database, "kind" => "append"),
        }
    }

    pub(super) fn count(&self, answer: &Answer) {
        let counter = match answer {
            Ok(answer) if answer.duplicate => &self.duplicate,
            Ok(_) => &self.appended,
            Err(AppendError::Conflict { .. }) => &self.conflict,
            Err(AppendError::KeyReused(_) | AppendError::Overloaded(_)) => &self.refused,
            Err(AppendError::Unavailable(_) | AppendError::Unknown(_) | AppendError::Stopping) => {
                &self.failed
            }
        };
        counter.increment(1);
    }

    fn batch(&self, events: usize, took: Duration) {
        self.events.increment(events as u64);
        self.batches.increment(1);
        self.batch_events.record(events as f64);
        self.seconds.record(took.as_secs_f64());
    }
}
