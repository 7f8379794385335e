//! Decides what a batch of commands does: who is answered how, and which events are written. Pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::feed::Positions;
use super::{AppendError, Appended, Shard};
use crate::domain::{Command, CommandId, Event, OrgId, PropertyId, RecordedEvent, Version};

/// An aggregate within the store.
pub(super) type Account = (OrgId, PropertyId);
/// A command within the store.
pub(super) type CommandKey = (OrgId, CommandId);

/// A command's answer, and the event that it answered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) answer: Appended,
    pub(super) event: Event,
}

impl Given {
    /// The answer to the same command again. Its id names one command for ever: it cannot come back with other content.
    pub(super) fn to(&self, command: &Command) -> Result<Appended, AppendError> {
        if self.answer.property == command.property && command.asks_for(&self.event) {
            Ok(self.answer)
        } else {
            Err(AppendError::KeyReused(command.id))
        }
    }
}

/// What is known before the batch.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// Position of the last committed event of each shard.
    pub(super) heads: Positions,
    /// Versions of at least the batch's accounts.
    pub(super) versions: &'a HashMap<Account, Version>,
    /// Answers given before, to some of the batch's commands.
    pub(super) answers: &'a HashMap<CommandKey, Given>,
    pub(super) now: DateTime<Utc>,
}

/// What a batch does, once its events are committed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One per command, in order.
    pub(super) answers: Vec<Result<Appended, AppendError>>,
    /// By shard; those of each shard at consecutive positions after its head.
    pub(super) events: Vec<RecordedEvent>,
    /// Indices of the commands answered with a conflict.
    pub(super) conflicts: Vec<usize>,
}

/// Commands of one account are taken in order: each sees the events of those before it in the batch.
pub(super) fn plan(commands: &[&Command], known: &Known<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut versions: HashMap<Account, Version> = HashMap::new();
    let mut new: HashMap<CommandKey, Given> = HashMap::new();
    let mut heads = known.heads;
    for (index, command) in commands.iter().enumerate() {
        let key = (command.org, command.id);
        if let Some(given) = known.answers.get(&key).or_else(|| new.get(&key)) {
            plan.answers.push(given.to(command));
            continue;
        }
        let account = (command.org, command.property);
        let version = versions.entry(account).or_insert_with(|| {
            known.versions.get(&account).copied().expect("the caller loads every account's version")
        });
        if let Some(expected) = command.expected_version.filter(|expected| expected != version) {
            plan.conflicts.push(index);
            plan.answers.push(Err(AppendError::Conflict { expected, actual: *version }));
            continue;
        }
        *version = version.next();
        let shard = Shard::of(command.org);
        let position = heads[shard.index()] + 1;
        heads[shard.index()] = position;
        let answer = Appended {
            command: command.id,
            property: command.property,
            version: *version,
            shard,
            position,
            duplicate: false,
        };
        let event = command.action.clone().into_event();
        let again = Appended { duplicate: true, ..answer };
        new.insert(key, Given { answer: again, event: event.clone() });
        plan.answers.push(Ok(answer));
        plan.events.push(RecordedEvent {
            org: command.org,
            property: command.property,
            version: *version,
            position,
            command: command.id,
            recorded_at: known.now,
            event,
        });
    }
    // Stable: the order within each shard stays.
    plan.events.sort_by_key(|event| Shard::of(event.org));
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Action, Amount, Category, Entry};

    const EMPTY: Positions = [0; Shard::COUNT];

    fn command(id: u128, property: u128, expected: Option<i32>) -> Command {
        command_of(1, id, property, expected)
    }

    fn command_of(org: i64, id: u128, property: u128, expected: Option<i32>) -> Command {
        Command {
            id: Uuid::from_u128(id).into(),
            org: OrgId::new(org).unwrap(),
            property: Uuid::from_u128(property).into(),
            expected_version: expected.map(Version::new),
            action: Action::RecordRevenue(Entry {
                amount: Amount::from_cents(100).unwrap(),
                category: Category::new("rooms").unwrap(),
                date: "2026-11-23".parse().unwrap(),
            }),
            undated: false,
        }
    }

    fn run(commands: &[Command], heads: Positions, version: i32) -> Plan {
        let versions = commands
            .iter()
            .map(|command| ((command.org, command.property), Version::new(version)))
            .collect();
        let known = Known {
            heads,
            versions: &versions,
            answers: &HashMap::new(),
            now: DateTime::UNIX_EPOCH,
        };
        plan(&commands.iter().collect::<Vec<_>>(), &known)
    }

    #[test]
    fn commands_of_one_account_see_each_other() {
        let plan = run(
            &[command(1, 7, Some(5)), command(2, 7, Some(5)), command(3, 7, None)],
            [9; Shard::COUNT],
            5,
        );
        let versions: Vec<_> =
            plan.answers.iter().map(|a| a.as_ref().ok().map(|a| a.version.get())).collect();
        assert_eq!(versions, [Some(6), None, Some(7)]);
        assert_eq!(plan.conflicts, [1]);
        assert_eq!(plan.events.iter().map(|e| e.position).collect::<Vec<_>>(), [10, 11]);
    }

    #[test]
    fn a_command_twice_in_a_batch_is_one_event() {
        let plan = run(&[command(1, 7, Some(0)), command(1, 7, Some(0))], EMPTY, 0);
        let [Ok(first), Ok(second)] = plan.answers[..] else { panic!("{plan:?}") };
        assert_eq!(Appended { duplicate: true, ..first }, second);
        assert_eq!(plan.events.len(), 1);
    }

    #[test]
    fn a_command_id_cannot_move_to_another_account() {
        let plan = run(&[command(1, 7, None), command(1, 8, None)], EMPTY, 0);
        assert_eq!(plan.answers[1], Err(AppendError::KeyReused(Uuid::from_u128(1).into())));
    }

    #[test]
    fn a_command_id_cannot_come_back_with_other_content() {
        let first = command(1, 7, None);
        let Action::RecordRevenue(entry) = &first.action else { panic!("{first:?}") };
        let revenue = |entry| Command { action: Action::RecordRevenue(entry), ..first.clone() };
        let dearer = Entry { amount: Amount::from_cents(101).unwrap(), ..entry.clone() };
        let elsewhere = Entry { category: Category::new("bar").unwrap(), ..entry.clone() };
        let later = Entry { date: entry.date.succ_opt().unwrap(), ..entry.clone() };
        let expense = Command { action: Action::RecordExpense(entry.clone()), ..first.clone() };
        let after_midnight = Command { undated: true, ..revenue(later.clone()) };
        let others = [revenue(dearer), revenue(elsewhere), revenue(later), expense];
        for other in others {
            let plan = run(&[first.clone(), other], EMPTY, 0);
            assert_eq!(plan.answers[1], Err(AppendError::KeyReused(first.id)));
            assert_eq!(plan.events.len(), 1);
        }
        let plan = run(&[first, after_midnight], EMPTY, 0);
        assert!(plan.answers[1].as_ref().is_ok_and(|answer| answer.duplicate), "{plan:?}");
    }

    proptest! {
        #[test]
        fn positions_and_versions_are_gapless(
            specs in prop::collection::vec((1i64..6, 0u128..30, 0u128..4, prop::option::of(0i32..6)), 0..60),
            heads in prop::array::uniform8(0i64..1000),
        ) {
            let commands: Vec<_> = specs.into_iter().map(|(org, id, p, e)| command_of(org, id, p, e)).collect();
            let plan = run(&commands, heads, 2);
            prop_assert_eq!(plan.answers.len(), commands.len());
            for shard in Shard::all() {
                let of_shard = plan.events.iter().filter(|event| Shard::of(event.org) == shard);
                for (event, position) in of_shard.zip(heads[shard.index()] + 1..) {
                    prop_assert_eq!(event.position, position);
                }
            }
            prop_assert!(plan.events.is_sorted_by_key(|event| Shard::of(event.org)));
            for (org, property) in (1..6).flat_map(|org| (0..4u128).map(move |property| (org, property))) {
                let of_account = plan.events.iter()
                    .filter(|e| e.org.get() == org && e.property.uuid().as_u128() == property);
                prop_assert!(of_account.zip(3..).all(|(event, version)| event.version.get() == version));
            }
            let fresh = plan.answers.iter().filter(|a| matches!(a, Ok(a) if !a.duplicate)).count();
            prop_assert_eq!(fresh, plan.events.len());
        }
    }
}
