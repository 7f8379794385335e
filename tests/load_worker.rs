//! A session drives a real worker process against a server that misbehaves on request.

mod load_support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use load_support::{Server, drive, operation, plan, scenario};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll::archive::{
    Distribution, LedgerEntry, LoadRecord, OperationSecond, Outcome, WorkerEnd,
};
use plimsoll::load::{Auth, DriveEvent, Driven, Order, Reins, Schedule, Shard};
use plimsoll::scenario::Arrivals;
use plimsoll::units::Micros;
use tokio_util::sync::CancellationToken;

fn ledger(driven: &Driven) -> Vec<LedgerEntry> {
    driven.ledger.iter().map(Result::unwrap).collect()
}

/// All seconds of one operation, summed.
fn sum(record: &LoadRecord, operation: usize) -> OperationSecond {
    let mut sum = OperationSecond::default();
    for second in &record.operations[operation].seconds {
        sum.intended += second.intended;
        sum.sent += second.sent;
        sum.ok += second.ok;
        sum.errors += second.errors;
        sum.timeouts += second.timeouts;
        sum.dropped += second.dropped;
        sum.response.absorb(&second.response);
        sum.service.absorb(&second.service);
    }
    sum
}

fn percentile_us(times: &Distribution, percentile: f64) -> u64 {
    times.to_histogram().value_at_percentile(percentile)
}

#[track_caller]
fn assert_accounts_for_everything(record: &LoadRecord) {
    assert_eq!(record.worker, WorkerEnd::Finished);
    for operation in &record.operations {
        for second in &operation.seconds {
            let known = second.ok + second.errors + second.timeouts + second.dropped;
            assert_eq!(second.intended, known, "{}: {second:?}", operation.name);
            assert_eq!(second.sent, second.response.count());
            assert_eq!(second.sent, second.service.count());
        }
    }
    let sent: u64 = record.operations.iter().flat_map(|o| &o.seconds).map(|s| s.sent).sum();
    assert_eq!(record.seconds.iter().map(|s| s.sent).sum::<u64>(), sent);
    assert_eq!(record.seconds.iter().map(|s| s.done).sum::<u64>(), sent);
    assert_eq!(record.seconds.iter().map(|s| s.lag.count()).sum::<u64>(), sent);
    assert_eq!(record.seconds.iter().map(|s| s.own_lag.count()).sum::<u64>(), sent);
    let goose = record.goose.expect("goose counted");
    assert_eq!(goose.ok + goose.failed, sent, "goose counts what we count");
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_server_and_goose_count_alike() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/ok/{org}", 150.0), ("/event", 50.0)], 2);
    scenario.load.arrivals = Arrivals::Poisson;
    scenario.load.warm_up = Micros::from_secs(1);
    scenario.operations[1] = operation("/event", 50.0).posting_events();
    let intended = Schedule::new(&scenario).count() as u64;
    let plan = plan(scenario, &server.url);
    let (driven, events) = drive(&plan).await;

    assert_accounts_for_everything(&driven.record);
    let (reads, writes) = (sum(&driven.record, 0), sum(&driven.record, 1));
    assert_eq!((reads.ok + writes.ok, reads.ok), (intended, server.count("/ok")));
    assert_eq!(writes.ok, server.count("/event"));
    assert_eq!(driven.record.goose.map(|g| g.failed), Some(0));

    let told: BTreeSet<String> =
        ledger(&driven).into_iter().map(|e| e.command.to_string()).collect();
    assert_eq!(told, server.keys(), "the ledger holds what the server was asked for");
    assert_eq!(driven.ledger.len(), writes.ok);
    assert!(ledger(&driven).into_iter().all(|entry| entry.outcome == Outcome::Acknowledged));
    let acknowledged: u64 = driven.record.seconds.iter().map(|s| s.acknowledged).sum();
    assert_eq!(acknowledged, writes.ok);

    assert!(matches!(events[..2], [DriveEvent::Ready { .. }, DriveEvent::Started { .. }]));
    assert!(events.len() >= 5, "a word every second: {events:?}");
    assert!(driven.record.seconds.iter().any(|s| s.in_flight_max > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_send_the_one_schedule_between_them() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/event", 100.0)], 1);
    scenario.operations[0] = operation("/event", 100.0).posting_events();
    let mut plans = [plan(scenario.clone(), &server.url), plan(scenario, &server.url)];
    plans[0].shard = Shard { index: 0, count: 2 };
    plans[1].shard = Shard { index: 1, count: 2 };
    let ((one, _), (two, _)) = tokio::join!(drive(&plans[0]), drive(&plans[1]));
    for driven in [&one, &two] {
        assert_accounts_for_everything(&driven.record);
        assert_eq!(driven.ledger.len(), 50);
    }
    assert_eq!(server.keys().len(), 100, "no arrival was sent twice or left out");
}

/// One user, 100 arrivals/s, and a server that stops for two seconds at the 100th: every arrival intended during the
/// stall waits for its end, so over four seconds half of the response times are spread evenly over 0 to 2 s. Only one
/// request was in flight and met the stall itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_charged_to_every_arrival_that_it_delayed() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/stall", 100.0)], 4);
    scenario.load.in_flight_max = 1;
    scenario.load.timeout = Micros::from_secs(10);
    let (driven, _) = drive(&plan(scenario, &server.url)).await;

    assert_accounts_for_everything(&driven.record);
    let all = sum(&driven.record, 0);
    assert_eq!(all.ok, 400);
    assert!(percentile_us(&all.response, 100.0) >= 1_990_000);
    assert!(percentile_us(&all.response, 95.0) >= 1_750_000, "180 of 200 delayed: 0.9 × 2 s");
    assert!(percentile_us(&all.response, 75.0) >= 950_000, "100 of 200 delayed: 0.5 × 2 s");
    assert!(percentile_us(&all.service, 100.0) >= 1_990_000, "one request met the stall");
    let (mut lag, mut own_lag) = (Distribution::default(), Distribution::default());
    for second in &driven.record.seconds {
        lag.absorb(&second.lag);
        own_lag.absorb(&second.own_lag);
    }
    assert!(percentile_us(&lag, 75.0) >= 950_000, "they waited for the one user");
    assert!(percentile_us(&own_lag, 75.0) < 475_000, "and that is not the generator's own lag");
    assert!(percentile_us(&all.service, 99.0) < 1_000_000, "and only one");
    let lag = Distribution::merged(driven.record.seconds.iter().map(|s| &s.lag));
    assert!(lag.max() >= 1_950_000, "the delay of the others is send lag");
}

/// Two users and 100 ms an answer carry 20/s at most; 100/s are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_in_time_is_dropped_and_counted() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/slow/100", 100.0)], 2);
    scenario.load.in_flight_max = 2;
    scenario.load.timeout = Micros::new(400_000);
    let (driven, _) = drive(&plan(scenario, &server.url)).await;

    assert_accounts_for_everything(&driven.record);
    let all = sum(&driven.record, 0);
    assert_eq!(all.intended, 200);
    // 20/s over two seconds and the 0.4 s in which the last arrivals may still leave.
    assert!(all.sent <= 50, "{} sent", all.sent);
    assert!(all.dropped >= 150, "{} dropped", all.dropped);
    assert_eq!(all.sent, server.count("/slow"));
    let lag = Distribution::merged(driven.record.seconds.iter().map(|s| &s.lag));
    assert!(lag.max() >= 200_000, "late sends are late sends: {} µs", lag.max());
    assert!(driven.record.seconds.iter().all(|s| s.in_flight_max <= 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_errors_and_late_ones_time_outs() {
    let server = Server::start().await;
    let paths = [("/status/500", 20.0), ("/text", 20.0), ("/broken", 20.0), ("/slow/2000", 5.0)];
    let mut scenario = scenario(&paths, 1);
    scenario.operations[1].expect.body_contains = Some("other words".into());
    scenario.load.timeout = Micros::new(300_000);
    let (driven, _) = drive(&plan(scenario, &server.url)).await;

    assert_accounts_for_everything(&driven.record);
    for (operation, (path, _)) in paths.iter().enumerate().take(3) {
        let all = sum(&driven.record, operation);
        assert_eq!((all.ok, all.errors), (0, 20), "{path}");
    }
    let slow = sum(&driven.record, 3);
    assert_eq!((slow.ok, slow.timeouts), (0, 5));
    assert!(percentile_us(&slow.service, 0.0) >= 299_000, "a time-out is timed like any other");
    assert_eq!(driven.record.goose.map(|g| (g.ok, g.failed)), Some((0, 65)));
    // Whether the head of a broken answer still comes through depends on the server's timing.
    let broke = |reason: &str| ["answer broke off", "connection lost"].contains(&reason);
    let (broken, others): (Vec<_>, Vec<_>) =
        driven.record.failures.iter().partition(|failure| broke(&failure.reason));
    assert_eq!(broken.iter().map(|failure| failure.count).sum::<u64>(), 20);
    let others: Vec<_> = others.iter().map(|f| (f.reason.as_str(), f.count)).collect();
    let expected = [
        ("unexpected status (status 500)", 20),
        ("unexpected body (status 200)", 20),
        ("no answer in time", 5),
    ];
    assert_eq!(others, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_a_token_and_nobody_sees_the_secret() {
    const SECRET: &str = "a secret of thirty-two characters";
    let server = Server::start().await;
    let mut plan = plan(scenario(&[("/guarded", 50.0)], 1), &server.url);
    plan.auth = Auth::Organisation { secret: SECRET.into() };
    let mut seen = String::new();
    let looking = |event: DriveEvent| {
        if let DriveEvent::Ready { pid } = event {
            for file in ["cmdline", "environ"] {
                let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    };
    let driven = load_support::drive_with(&plan, looking, &CancellationToken::new()).await.unwrap();
    assert_accounts_for_everything(&driven.record);
    assert_eq!(sum(&driven.record, 0).ok, 50);
    assert!(seen.contains("worker") && !seen.contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asks_for_the_open_files_that_its_users_need() {
    let mut scenario = scenario(&[("/", 10.0)], 1);
    scenario.load.in_flight_max = u32::MAX;
    let (driven, _) = drive(&plan(scenario, "http://127.0.0.1:9")).await;
    let WorkerEnd::Lost { detail } = driven.record.worker else { panic!("not lost") };
    assert!(detail.contains("lower load.in_flight_max"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_tells_refused_from_unknown() {
    let server = Server::start().await;
    let paths = ["/status/201", "/status/409", "/status/503", "/broken"];
    let mut scenario = scenario(&paths.map(|path| (path, 10.0)), 1);
    for (operation, path) in scenario.operations.iter_mut().zip(paths) {
        *operation = load_support::operation(path, 10.0).posting_events();
    }
    let (driven, _) = drive(&plan(scenario, &server.url)).await;
    let told = |outcome| ledger(&driven).into_iter().filter(|e| e.outcome == outcome).count();
    assert_eq!([Outcome::Acknowledged, Outcome::Refused, Outcome::Unknown].map(told), [10, 10, 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_is_all_errors() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (driven, _) = drive(&plan(scenario(&[("/", 50.0)], 1), &url)).await;
    assert_accounts_for_everything(&driven.record);
    assert_eq!(sum(&driven.record, 0).errors, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_after_each_answer_is_called_anew() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/close", 100.0)], 1);
    scenario.load.in_flight_max = 1;
    scenario.operations[0].expect.body_contains = Some("ok".into());
    scenario.load.timeout = Micros::from_secs(10);
    let (driven, _) = drive(&plan(scenario, &server.url)).await;
    assert_accounts_for_everything(&driven.record);
    assert_eq!((sum(&driven.record, 0).ok, server.count("/close")), (100, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_leaves_what_it_told() {
    let server = Server::start().await;
    let plan = plan(scenario(&[("/ok/1", 100.0)], 20), &server.url);
    let mut pid = 0;
    let killing = |event: DriveEvent| match event {
        DriveEvent::Ready { pid: its } => pid = its,
        DriveEvent::Second(progress) if progress.second == 1 => {
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        }
        _ => {}
    };
    let driven = load_support::drive_with(&plan, killing, &CancellationToken::new()).await.unwrap();
    let WorkerEnd::Lost { detail } = &driven.record.worker else { panic!("not lost") };
    assert!(detail.contains("signal: 9"), "{detail}");
    assert!(detail.contains("of 2000 arrivals are unaccounted for"), "{detail}");
    let all = sum(&driven.record, 0);
    assert_eq!(all.intended, 2000, "what was asked for does not depend on the worker");
    assert!(all.ok >= 100 && all.ok < 2000, "{} ok", all.ok);
    assert_eq!((all.dropped, driven.record.goose), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_session_keeps_its_record_and_ends_its_worker() {
    let server = Server::start().await;
    let plan = plan(scenario(&[("/ok/1", 100.0)], 20), &server.url);
    let cancel = CancellationToken::new();
    let (mut pid, mut lead) = (0, Duration::MAX);
    let interrupting = |event: DriveEvent| match event {
        DriveEvent::Ready { pid: its } => pid = its,
        DriveEvent::Started { at } => lead = at.saturating_duration_since(Instant::now()),
        DriveEvent::Second(progress) if progress.second == 1 => cancel.cancel(),
        DriveEvent::Second(_) => {}
    };
    let driven = load_support::drive_with(&plan, interrupting, &cancel).await.unwrap();
    let WorkerEnd::Lost { detail } = &driven.record.worker else { panic!("not lost") };
    assert!(detail.starts_with("interrupted"), "{detail}");
    assert!(lead < Duration::from_secs(20), "second 0 is told on the session's clock: {lead:?}");
    assert!(sum(&driven.record, 0).ok >= 100);
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists(), "the worker is gone");
}

/// What was sent before the cut is waited for and accounted for; what comes after it was never asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_stopped_ends_with_a_second_and_accounts_for_all_of_it() {
    let server = Server::start().await;
    let mut scenario = scenario(&[("/ok/1", 100.0)], 60);
    scenario.operations[0] = operation("/status/201", 100.0).posting_events();
    let plan = plan(scenario, &server.url);
    let reins = Reins::default();
    let stopping = |event, _: &LoadRecord| {
        if matches!(event, DriveEvent::Second(progress) if progress.second == 2) {
            reins.stop.cancel();
        }
    };
    let driven = load_support::drive_by(&plan, stopping, &reins).await;
    assert_eq!(driven.record.worker, WorkerEnd::Finished);
    assert_accounts_for_everything(&driven.record);
    let axis = driven.axis();
    assert!((4..30).contains(&axis), "{axis} s");
    let all = sum(&driven.record, 0);
    assert_eq!(all.intended, 100 * axis as u64, "evenly spaced, whole seconds");
    let goose = driven.record.goose.unwrap();
    assert_eq!(goose.ok + goose.failed, all.sent);
    assert_eq!(driven.ledger.len(), all.sent, "what was told of each command is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_is_noticed_by_its_silence() {
    let server = Server::start().await;
    let plan = plan(scenario(&[("/ok/1", 100.0)], 60), &server.url);
    let mut worker = None;
    let stopping = |event: DriveEvent| match event {
        DriveEvent::Ready { pid } => worker = Some(Pid::from_raw(i32::try_from(pid).unwrap())),
        DriveEvent::Second(progress) if progress.second == 0 => {
            kill(worker.unwrap(), Signal::SIGSTOP).unwrap();
        }
        _ => {}
    };
    let driven =
        load_support::drive_with(&plan, stopping, &CancellationToken::new()).await.unwrap();
    let WorkerEnd::Lost { detail } = &driven.record.worker else { panic!("not lost") };
    assert!(detail.contains("said nothing for 10 s"), "{detail}");
    assert!(detail.contains("killed by the session"), "{detail}");
    assert!(sum(&driven.record, 0).ok > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_never_ends_is_ended() {
    let mut scenario = scenario(&[("/", 10.0)], 1);
    scenario.load.timeout = Micros::new(1_000);
    let script = r#"echo '{"frame":"ready"}'; echo '{"frame":"started","unix_us":0}'
        while :; do echo '{"frame":"second","operations":[],"seconds":[],"told":""}'; sleep 0.2; done"#;
    let driven = load_support::drive_script(&plan(scenario, "http://127.0.0.1:9"), script).await;
    let WorkerEnd::Lost { detail } = driven.record.worker else { panic!("not lost") };
    assert!(detail.contains("went on long after the last arrival"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_misbehave_are_lost_at_once() {
    let cases = [
        ("exit 3", "end of the worker: exit status: 3"),
        ("echo dying >&2; exit 1", "dying"),
        ("echo 'hello world'; cat >/dev/null", "the worker talks nonsense"),
        (
            r#"echo '{"frame":"done","goose":{"ok":0,"failed":0},"arrivals":0}'"#,
            "\"done\" out of turn",
        ),
        (r#"echo '{"frame":"failed","message":"no memory"}'"#, "the worker failed: no memory"),
        (
            r#"echo '{"frame":"ready"}'; echo '{"frame":"started","unix_us":0}';
               echo '{"frame":"done","goose":{"ok":0,"failed":0},"arrivals":0}'; cat >/dev/null"#,
            "left arrivals out",
        ),
    ];
    for (script, expected) in cases {
        let plan = plan(scenario(&[("/", 10.0)], 1), "http://127.0.0.1:9");
        let driven = load_support::drive_script(&plan, script).await;
        let WorkerEnd::Lost { detail } = driven.record.worker else { panic!("{script}: not lost") };
        assert!(detail.contains(expected), "{script}: {detail}");
        assert_eq!(sum_intended(&driven.record.operations[0].seconds), 10);
    }
}

fn sum_intended(seconds: &[OperationSecond]) -> u64 {
    seconds.iter().map(|second| second.intended).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_carried_out_is_told_with_its_reason() {
    let plan_of = |path: &str, url: &str| plan(scenario(&[(path, 10.0)], 1), url);
    let mut of_tomorrow = plan_of("/", "http://127.0.0.1:9");
    of_tomorrow.protocol += 1;
    let cases = [
        (plan_of("/{colour}", "http://127.0.0.1:9"), "unknown placeholder {colour}"),
        (plan_of("/", "127.0.0.1:9"), "a target's url looks like"),
        (of_tomorrow, "of the worker protocol"),
    ];
    for (plan, expected) in cases {
        let (driven, _) = drive(&plan).await;
        let WorkerEnd::Lost { detail } = driven.record.worker else { panic!("not lost") };
        assert!(detail.contains(expected), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_with_its_session() {
    let mut worker = Command::new(load_support::PROGRAM)
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let plan = plan(scenario(&[("/", 10.0)], 60), "http://127.0.0.1:9");
    load_support::say(&mut worker, &Order::Plan(Box::new(plan)));
    let mut said = BufReader::new(worker.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), r#"{"frame":"ready"}"#);
    load_support::say(&mut worker, &Order::Go);
    assert!(said.next().unwrap().unwrap().starts_with(r#"{"frame":"started""#));
    assert!(said.next().unwrap().unwrap().starts_with(r#"{"frame":"second""#));
    drop(worker.stdin.take());
    // It has a minute of work left: it ends for want of a session, or this test hangs for that minute and fails.
    let status = worker.wait().unwrap();
    assert!(!status.success(), "it did not do its work");
}
