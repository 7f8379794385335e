//! The event store on a real PostgreSQL: nothing acknowledged is lost, nothing is written twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{Backend, Cluster, expecting, org, property, revenue};
use reference_backend::db::{Database, Databases, Freshness};
use reference_backend::domain::Version;
use reference_backend::events::{
    AppendError, Appended, EventStore, StartError, load_account, read_events,
};
use tokio::task::JoinSet;

/// Positions of each shard and versions of each account are 1, 2, 3 …, and no command is stored twice; how many events.
async fn audit(cluster: &Cluster) -> i64 {
    let mut admin = cluster.admin("plimsoll_event_store").await;
    let damage: Vec<String> = sqlx::query_scalar(
        "SELECT 'positions of shard ' || shard FROM events GROUP BY shard
             HAVING min(position) <> 1 OR max(position) <> count(*)
         UNION ALL
         SELECT 'versions of ' || aggregate_id FROM events GROUP BY org_id, aggregate_id
             HAVING min(version) <> 1 OR max(version) <> count(*)
         UNION ALL
         SELECT 'command ' || command_id FROM events GROUP BY org_id, command_id HAVING count(*) > 1
         UNION ALL
         SELECT 'answer to ' || coalesce(e.command_id, d.command_id) FROM events e
             FULL JOIN append_dedup d ON e.org_id = d.org_id AND e.command_id = d.command_id
                 AND e.version = d.first_version AND e.position = d.last_position AND e.shard = d.shard
             WHERE e.org_id IS NULL OR d.org_id IS NULL",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert_eq!(damage, Vec::<String>::new());
    sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut admin).await.unwrap()
}

/// Every acknowledged answer is in the store as it was given.
async fn assert_stored(cluster: &Cluster, answers: &[Appended]) {
    let mut admin = cluster.admin("plimsoll_event_store").await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.command.uuid()).collect();
    let rows: Vec<(uuid::Uuid, i32, i16, i64)> = sqlx::query_as(
        "SELECT command_id, version, shard, position FROM events WHERE command_id = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(&mut admin)
    .await
    .unwrap();
    let stored: BTreeSet<_> = rows.into_iter().collect();
    let told = answers
        .iter()
        .map(|a| (a.command.uuid(), a.version.get(), a.shard.number(), a.position))
        .collect();
    assert_eq!(stored, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_writer_wins_each_version() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    for version in 0..10 {
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let events = backend.events.clone();
            let command = expecting(revenue(1, 7, 100), version);
            tasks.spawn(async move { events.append(command).await });
        }
        let answers = tasks.join_all().await;
        let won: Vec<_> = answers.iter().flatten().map(|answer| answer.version.get()).collect();
        assert_eq!(won, [version + 1]);
        let lost = answers.iter().filter(|answer| {
            matches!(answer, Err(AppendError::Conflict { actual, .. }) if actual.get() == version + 1)
        });
        assert_eq!(lost.count(), 19, "everyone else is told the version that won");
    }
    assert_eq!(audit(&cluster).await, 10);
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gets_the_first_answer_also_after_a_restart() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    // A retry must not turn into a conflict because its own first try moved the version.
    let commands = [expecting(revenue(1, 7, 100), 0), revenue(1, 7, 200), revenue(2, 9, 300)];
    let mut first = Vec::new();
    for command in &commands {
        first.push(backend.events.append(command.clone()).await.unwrap());
    }
    assert!(first.iter().all(|answer| !answer.duplicate));
    let again: Vec<_> = first.iter().map(|a| Appended { duplicate: true, ..*a }).collect();
    for (command, expected) in commands.iter().zip(&again) {
        assert_eq!(backend.events.append(command.clone()).await.as_ref(), Ok(expected));
    }
    backend.stop().await;

    let backend = Backend::start(&cluster.config("")).await;
    // All at once, and new ones among them: the batch as a whole must survive its duplicates.
    let mut tasks = JoinSet::new();
    let fresh: Vec<_> = (0..5).map(|_| revenue(1, 7, 1)).collect();
    for command in commands.iter().chain(&fresh).cloned() {
        let events = backend.events.clone();
        tasks.spawn(async move { events.append(command).await });
    }
    let answers: Vec<_> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
    for expected in &again {
        assert!(answers.contains(expected), "{expected:?} missing in {answers:?}");
    }
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 5);
    assert_eq!(audit(&cluster).await, 8);

    let stolen = reference_backend::domain::Command { property: property(8), ..fresh[0].clone() };
    let refused = backend.events.append(stolen).await;
    assert_eq!(refused, Err(AppendError::KeyReused(fresh[0].id)));
    // Known from the store, not from memory: the restart forgot the first answer.
    let other = reference_backend::domain::Command { id: commands[2].id, ..revenue(2, 9, 301) };
    backend.stop().await;
    let backend = Backend::start(&cluster.config("")).await;
    let refused = backend.events.append(other).await;
    assert_eq!(refused, Err(AppendError::KeyReused(commands[2].id)));
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_stored_without_gaps() {
    let cluster = Cluster::start().await;
    // Small caches, so that versions and answers are read back while others are written.
    let config = cluster.config("[event_store]\nheads_cached = 5\nanswers_cached = 5\n");
    let backend = Backend::start(&config).await;
    let mut tasks = JoinSet::new();
    for n in 0..1_000i64 {
        let events = backend.events.clone();
        let command = revenue(n % 40 + 1, (n % 80).cast_unsigned().into(), n + 1);
        tasks.spawn(async move { events.append(command).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    assert_stored(&cluster, &answers).await;
    assert_eq!(audit(&cluster).await, 1_000);

    let mut reader = backend.db.read(Database::EventStore, Freshness::Newest);
    let loaded = load_account(&mut reader, org(1), property(0)).await.unwrap();
    let events = read_events(&mut reader, org(1), property(0), Version::ZERO, 100).await.unwrap();
    assert_eq!(loaded.version.get(), 13);
    assert_eq!(loaded.account.entries, 13);
    let cents: i64 = events.iter().map(|event| event.event.entry().amount.cents()).sum();
    assert_eq!((events.len(), loaded.account.revenue_cents), (13, cents));
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_loses_and_doubles_nothing() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    let mut tasks = JoinSet::new();
    for writer in 0..16i64 {
        let events = backend.events.clone();
        tasks.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..120 {
                let command = revenue(writer + 1, 5, n + 1);
                // As a client does: the same command again until there is an answer.
                let answer = loop {
                    match events.append(command.clone()).await {
                        Ok(answer) => break answer,
                        Err(AppendError::Unavailable(_) | AppendError::Unknown(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                };
                answers.push(answer);
            }
            answers
        });
    }
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(cluster.terminate("appender %").await > 0, "nothing was there to be killed");
    }
    let answers: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_stored(&cluster, &answers).await;
    assert_eq!(audit(&cluster).await, 16 * 120);
    assert!(answers.iter().all(|answer| !answer.duplicate), "each was written by its first try");
    assert!(backend.events.leases_held());
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_found_and_acknowledged() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    backend.events.append(revenue(1, 7, 1)).await.unwrap();
    cluster.hold_answers(true).await;
    let (events, command) = (backend.events.clone(), expecting(revenue(1, 7, 2), 1));
    let waiting = tokio::spawn(async move { events.append(command).await });
    cluster.terminate_after_commit("appender %").await;
    cluster.hold_answers(false).await;
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!((answer.version.get(), answer.duplicate), (2, false));
    backend.events.append(expecting(revenue(1, 7, 3), 2)).await.unwrap();
    assert_eq!(audit(&cluster).await, 3);
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_cannot_append() {
    let cluster = Cluster::start().await;
    let backend = Backend::start(&cluster.config("")).await;
    let config = cluster.config("[event_store]\nlease_wait_ms = 200\n");
    let second = Databases::connect(&config.database).await.unwrap();
    let refused = EventStore::start(&second, &config.event_store).await;
    assert!(matches!(refused, Err(StartError::LeaseHeld(_))), "{refused:?}");
    backend.events.append(revenue(1, 7, 100)).await.unwrap();
    backend.stop().await;

    let taken_over = EventStore::start(&second, &config.event_store).await.unwrap();
    let answer = taken_over.append(expecting(revenue(1, 7, 100), 1)).await.unwrap();
    assert_eq!(answer.version.get(), 2, "the second goes on where the first ended");
    taken_over.stop().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_sheds_and_says_so() {
    let cluster = Cluster::start().await;
    let config = cluster.config(
        "[event_store]\nqueue_commands = 4\nbatch_commands_max = 2\nbatch_interval_ms = 100\n",
    );
    let backend = Backend::start(&config).await;
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let events = backend.events.clone();
        tasks.spawn(async move { events.append(revenue(1, 7, 1)).await });
    }
    let answers = tasks.join_all().await;
    let shed = answers.iter().filter(|a| matches!(a, Err(AppendError::Overloaded(_)))).count();
    let taken: Vec<_> = answers.iter().flatten().copied().collect();
    assert!(shed > 0 && !taken.is_empty(), "{shed} shed, {} taken", taken.len());
    assert_eq!(shed + taken.len(), 200);
    assert_stored(&cluster, &taken).await;
    backend.stop().await;
}
