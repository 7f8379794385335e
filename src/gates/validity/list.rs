//! The checks in the order in which a reader should meet them.

use super::{events, generator, load, machine, observation, reads, servers};
use crate::archive::Record;
use crate::gates::verdict::ValidityCheck;
use crate::scenario::Scenario;

/// Every check of a run.
pub(in crate::gates) fn validity(record: &Record, scenario: &Scenario) -> Vec<ValidityCheck> {
    vec![
        load::worker_finished(record),
        load::axis_is_complete(record),
        load::offered_against_achieved(record),
        load::nothing_dropped(record),
        load::accounting(record),
        load::goose_agrees(record),
        load::littles_law(record),
        load::steady(record),
        generator::send_lag(record, scenario),
        generator::in_flight_cap(record, scenario),
        generator::cpu(record),
        generator::optimised_build(record),
        machine::steal(record),
        machine::busy(record),
        machine::apart_from_the_target(scenario),
        observation::complete(record, scenario),
        reads::replica_share_proven(record, scenario),
        events::events_proven(record, scenario),
        servers::incidents(record),
        servers::durable(record, scenario),
        servers::audited(record),
    ]
}

/// Every check of one step of a run. `whole` is the run: what can be held together there alone is.
pub(in crate::gates) fn validity_of_step(
    step: &Record,
    scenario: &Scenario,
    whole: &Record,
) -> Vec<ValidityCheck> {
    let mut checks = validity(step, scenario);
    let agreed = load::goose_agrees(whole);
    for check in checks.iter_mut().filter(|check| check.check == agreed.check) {
        check.clone_from(&agreed);
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{
        AuditState, GooseCount, Incident, PostgresSetting, SeriesKey, Window, WorkerEnd,
    };
    use crate::gates::fixture::{READS, healthy, scenario, series, speed_up, times};
    use crate::gates::verdict::{Bias, CheckState};
    use crate::scenario::{HttpTarget, Signals, Target};

    const GATES: [&str; 1] = ["p95 < 500ms"];

    /// How one check comes out once a fault is planted.
    fn planted(check: &str, fault: impl FnOnce(&mut Record)) -> (CheckState, Option<Bias>) {
        let mut record = healthy();
        fault(&mut record);
        of(check, &record, &scenario(&GATES))
    }

    fn of(check: &str, record: &Record, scenario: &Scenario) -> (CheckState, Option<Bias>) {
        let checks = validity(record, scenario);
        let found = checks.iter().find(|one| one.check == check).expect(check);
        assert!(!found.detail.is_empty(), "{check} says nothing");
        (found.state, found.bias)
    }

    const WORSE: (CheckState, Option<Bias>) = (CheckState::Red, Some(Bias::LooksWorse));
    const BETTER: (CheckState, Option<Bias>) = (CheckState::Red, Some(Bias::LooksBetter));
    const UNKNOWN: (CheckState, Option<Bias>) = (CheckState::Red, Some(Bias::Unknown));
    const AMBER: (CheckState, Option<Bias>) = (CheckState::Amber, None);
    const GREY: (CheckState, Option<Bias>) = (CheckState::Grey, None);
    const GREEN: (CheckState, Option<Bias>) = (CheckState::Green, None);

    #[test]
    fn a_healthy_run_is_green_but_for_co_location() {
        for check in validity(&healthy(), &scenario(&GATES)) {
            let expected = match check.check.as_str() {
                "generator apart from the target" => CheckState::Amber,
                _ => CheckState::Green,
            };
            assert_eq!(check.state, expected, "{check:?}");
        }
    }

    #[test]
    fn every_check_is_explained_in_the_methodology() {
        let text = include_str!("../../../docs/methodology.md");
        for check in validity(&healthy(), &scenario(&GATES)) {
            assert!(text.contains(&format!("| {} | ", check.check)), "{}", check.check);
        }
    }

    #[test]
    fn a_run_without_data_has_no_green_check_about_data() {
        let mut record = healthy();
        record.load = crate::archive::LoadRecord::default();
        record.timeline = crate::archive::Timeline::default();
        record.audit.clear();
        record.environment = crate::archive::Environment::default();
        let green: Vec<String> = validity(&record, &scenario(&GATES))
            .into_iter()
            .filter(|check| check.state == CheckState::Green)
            .map(|check| check.check)
            .collect();
        assert_eq!(green, ["worker finished", "no incidents"], "what the record itself says");
    }

    #[test]
    fn a_lost_worker_is_seen() {
        let lost = WorkerEnd::Lost { detail: "killed".to_owned() };
        assert_eq!(planted("worker finished", |r| r.load.worker = lost), UNKNOWN);
    }

    #[test]
    fn a_record_that_ends_early_is_seen() {
        let check = "every second recorded";
        assert_eq!(planted(check, |r| r.load.operations[1].seconds.truncate(20)), UNKNOWN);
        assert_eq!(planted(check, |r| r.load.seconds.truncate(23)), UNKNOWN);
        assert_eq!(planted(check, |r| r.load.operations.clear()), UNKNOWN);
    }

    #[test]
    fn requests_that_were_never_sent_are_seen() {
        let check = "offered against achieved";
        let few = |r: &mut Record| r.load.operations[1].seconds[12].sent -= 20;
        assert_eq!(planted(check, few), BETTER);
        let two = |r: &mut Record| r.load.operations[1].seconds[12].sent -= 2;
        assert_eq!(planted(check, two), GREEN, "within 1 % of five seconds");
        let in_warm_up = |r: &mut Record| r.load.operations[1].seconds[3].sent = 0;
        assert_eq!(planted(check, in_warm_up), GREEN);
    }

    #[test]
    fn requests_that_were_sent_late_are_amber() {
        let late = |r: &mut Record| {
            r.load.seconds[12].sent -= 100;
            r.load.seconds[18].sent += 100;
        };
        assert_eq!(planted("offered against achieved", late), AMBER);
    }

    #[test]
    fn one_dropped_arrival_is_seen() {
        let fault = |r: &mut Record| {
            r.load.operations[0].seconds[9].dropped = 1;
        };
        assert_eq!(planted("nothing dropped", fault), BETTER);
    }

    #[test]
    fn a_request_without_an_end_is_seen_even_in_the_warm_up() {
        let check = "accounting identity";
        assert_eq!(planted(check, |r| r.load.operations[0].seconds[1].ok -= 1), UNKNOWN);
        assert_eq!(planted(check, |r| r.load.operations[0].seconds[9].errors += 1), UNKNOWN);
        let untimed = |r: &mut Record| r.load.operations[0].seconds[9].response = times([5]);
        assert_eq!(planted(check, untimed), UNKNOWN);
    }

    #[test]
    fn a_count_of_gooses_own_that_differs_is_seen() {
        let check = "goose counts the same";
        let one_less = Some(GooseCount { ok: 7199, failed: 0 });
        assert_eq!(planted(check, |r| r.load.goose = one_less), UNKNOWN);
        assert_eq!(planted(check, |r| r.load.goose = None), GREY);
    }

    #[test]
    fn a_breach_of_littles_law_is_amber() {
        let pile_up = |r: &mut Record| r.load.seconds[2].done -= 40;
        assert_eq!(planted("Little's law", pile_up), AMBER);
        assert_eq!(planted("Little's law", |r| r.load.seconds.clear()), GREY);
    }

    #[test]
    fn a_drift_is_amber_either_way() {
        let slow = |r: &mut Record, seconds: std::ops::Range<usize>| {
            for second in &mut r.load.operations[1].seconds[seconds] {
                second.response = times(vec![50_000; READS as usize]);
            }
        };
        assert_eq!(planted("steady state", |r| slow(r, 19..24)), AMBER);
        assert_eq!(planted("steady state", |r| slow(r, 4..9)), AMBER);
        assert_eq!(planted("steady state", |r| slow(r, 0..4)), GREEN, "the warm-up may be slow");
    }

    #[test]
    fn a_late_generator_is_seen_against_the_tightest_latency() {
        let late = |r: &mut Record, us: u64| {
            r.load.seconds[9].lag = times(vec![us; 300]);
            r.load.seconds[9].own_lag = times(vec![us; 300]);
        };
        assert_eq!(planted("send lag", |r| late(r, 30_000)), WORSE);
        let mut record = healthy();
        late(&mut record, 20_000);
        assert_eq!(of("send lag", &record, &scenario(&GATES)), GREEN, "5 % of 500 ms");
        assert_eq!(of("send lag", &record, &scenario(&["p99 < 50ms", "p95 < 500ms"])), WORSE);
        assert_eq!(of("send lag", &record, &scenario(&["error_rate < 1%"])), GREEN);
        assert_eq!(planted("send lag", |r| r.load.seconds.clear()), GREY);
    }

    #[test]
    fn waiting_for_a_slow_server_is_not_the_generators_lag() {
        let wait = |r: &mut Record| r.load.seconds[9].lag = times(vec![3_000_000; 300]);
        assert_eq!(planted("send lag", wait), GREEN);
        let older = |r: &mut Record| {
            wait(r);
            r.load.seconds.iter_mut().for_each(|second| second.own_lag = times([]));
        };
        assert_eq!(planted("send lag", older), WORSE, "an archive that cannot tell them apart");
    }

    #[test]
    fn the_cap_on_requests_in_flight_is_seen() {
        let fault = |r: &mut Record| r.load.seconds[9].in_flight_max = 1000;
        assert_eq!(planted("cap on requests in flight", fault), AMBER);
    }

    #[test]
    fn a_starved_generator_is_seen() {
        let check = "generator's processor time";
        let labels = [("group", "generator")];
        let busy = |r: &mut Record| speed_up(r, "process_cpu_seconds_total", &labels, 3.0);
        assert_eq!(planted(check, busy), WORSE);
        assert_eq!(planted(check, |r| r.timeline.series.clear()), GREY);
        assert_eq!(planted(check, |r| r.environment.cores = 0), GREY);
    }

    #[test]
    fn a_debug_build_is_seen() {
        assert_eq!(planted("optimised build", |r| r.environment.optimised = false), WORSE);
    }

    #[test]
    fn stolen_time_is_seen_on_average_and_in_one_second() {
        let check = "processor time stolen";
        let steal = "host_steal_seconds_total";
        assert_eq!(planted(check, |r| speed_up(r, steal, &[], 0.05)), WORSE);
        let once = |r: &mut Record| {
            series(r, steal, &[]).values.iter_mut().skip(10).for_each(|v| *v = Some(1.3));
        };
        assert_eq!(planted(check, once), WORSE);
        let in_warm_up = |r: &mut Record| series(r, steal, &[]).values[0] = Some(0.0);
        assert_eq!(planted(check, in_warm_up), GREEN);
    }

    #[test]
    fn a_machine_without_a_free_processor_is_amber() {
        let check = "machine's processor time";
        let (name, idle, user) = ("host_cpu_seconds_total", [("mode", "idle")], [("mode", "user")]);
        let full = |r: &mut Record| {
            speed_up(r, name, &idle, -2.9);
            speed_up(r, name, &user, 2.9);
        };
        assert_eq!(planted(check, full), AMBER);
        let waiting_for_disks = |r: &mut Record| {
            full(r);
            speed_up(r, name, &[("mode", "iowait")], 1.0);
        };
        assert_eq!(planted(check, waiting_for_disks), GREEN, "a processor that waits is free");
        assert_eq!(planted(check, |r| r.timeline.series.retain(|s| s.key.name != name)), GREY);
    }

    #[test]
    fn gaps_in_the_observation_are_seen() {
        let check = "observation without gaps";
        let blind = |r: &mut Record, source: &str, seconds: std::ops::Range<usize>| {
            for series in r.timeline.series.iter_mut().filter(|s| s.key.name.starts_with(source)) {
                series.values[seconds.clone()].fill(None);
            }
        };
        assert_eq!(planted(check, |r| blind(r, "backend", 8..12)), UNKNOWN);
        assert_eq!(planted(check, |r| blind(r, "pg", 8..9)), AMBER);
        assert_eq!(planted(check, |r| blind(r, "pg", 0..4)), GREEN, "the warm-up is not judged");
        assert_eq!(planted(check, |r| r.timeline.series.clear()), UNKNOWN);
    }

    #[test]
    fn a_source_that_was_never_read_is_seen() {
        let check = "observation without gaps";
        let lost = |r: &mut Record, of: &dyn Fn(&SeriesKey) -> bool| {
            r.timeline.series.retain(|series| !of(&series.key));
        };
        assert_eq!(planted(check, |r| lost(r, &|k| k.name.starts_with("backend_"))), UNKNOWN);
        for server in ["primary", "replica-1", "replica-2"] {
            let of_server = |k: &SeriesKey| k.label("server") == Some(server);
            let is_pg = |k: &SeriesKey| k.name.starts_with("pg_");
            let fault = |r: &mut Record| lost(r, &|k| is_pg(k) && of_server(k));
            assert_eq!(planted(check, fault), UNKNOWN, "{server}");
        }
        for name in ["pg_events_total", "pg_projected_total"] {
            assert_eq!(planted(check, |r| lost(r, &|k| k.name == name)), UNKNOWN, "{name}");
        }
        let of_proc = |k: &SeriesKey| k.name.starts_with("host_") || k.label("group").is_some();
        assert_eq!(planted(check, |r| lost(r, &of_proc)), UNKNOWN);

        let mut foreign = scenario(&GATES);
        foreign.target = Target::Http(HttpTarget {
            url: "https://example.org".to_owned(),
            metrics: Some("https://example.org/metrics".to_owned()),
            bearer_token_env: None,
            signals: Signals::default(),
        });
        let mut record = healthy();
        lost(&mut record, &|k| !of_proc(k));
        assert_eq!(of(check, &record, &foreign), UNKNOWN, "its metrics");
        let Target::Http(http) = &mut foreign.target else { panic!() };
        http.metrics = None;
        assert_eq!(of(check, &record, &foreign), GREEN, "it has none");
    }

    #[test]
    fn a_process_of_a_split_backend_that_was_never_read_is_seen() {
        let check = "observation without gaps";
        let mut split = scenario(&GATES);
        let Target::Reference(target) = &mut split.target else { panic!() };
        target.split = vec![vec!["cash".to_owned()]];
        let mut record = healthy();
        let mut of_process = |process: &str| {
            let mut of_process = healthy().timeline.series;
            of_process.retain(|series| series.key.name.starts_with("backend_"));
            for series in &mut of_process {
                series.key.labels.insert("process".to_owned(), process.to_owned());
            }
            record.timeline.series.extend(of_process);
            of(check, &record, &split)
        };
        assert_eq!(of_process("backend"), UNKNOWN, "backend-2 has no series that could show a gap");
        assert_eq!(of_process("backend-2"), GREEN);
    }

    #[test]
    fn reads_that_postgres_did_not_run_are_seen() {
        let check = "replica share proven by Postgres";
        let name = "pg_statements_calls_total";
        let boast = |r: &mut Record| speed_up(r, name, &[("server", "replica-2")], -5.0);
        assert_eq!(planted(check, boast), UNKNOWN);
        let hidden = |r: &mut Record| speed_up(r, name, &[("server", "primary")], 5.0);
        assert_eq!(planted(check, hidden), UNKNOWN);
        let late = |r: &mut Record| {
            series(r, name, &[("server", "primary")]).values[24] = Some(9.0 + 40.0 * 23.5)
        };
        assert_eq!(planted(check, late), GREEN, "half a second at an edge is no lie");
        let unread = |r: &mut Record| r.timeline.series.retain(|s| s.key.name != name);
        assert_eq!(planted(check, unread), GREY);
        let blind_at_the_end = |r: &mut Record| {
            for one in r.timeline.series.iter_mut().filter(|s| s.key.name == name) {
                one.values[22..].fill(None);
            }
        };
        assert_eq!(planted(check, blind_at_the_end), GREEN, "held together where both were read");
    }

    #[test]
    fn counts_over_a_short_time_prove_nothing_but_a_gross_lie() {
        let shorten = |r: &mut Record| {
            r.window = Window { warm_up_s: 2, measure_s: 8 };
            r.load.seconds.truncate(10);
            r.load.operations.iter_mut().for_each(|o| o.seconds.truncate(10));
            r.timeline.series.iter_mut().for_each(|s| s.values.truncate(11));
        };
        for (check, side, labels) in [
            (
                "replica share proven by Postgres",
                "pg_statements_calls_total",
                &[("server", "replica-2")][..],
            ),
            ("events proven by the store", "pg_events_total", &[]),
        ] {
            assert_eq!(planted(check, shorten), GREY, "{check}");
            let lie = |r: &mut Record| {
                shorten(r);
                speed_up(r, side, labels, -15.0);
            };
            assert_eq!(planted(check, lie), UNKNOWN, "{check}");
        }
    }

    #[test]
    fn events_that_are_not_in_the_store_are_seen() {
        let check = "events proven by the store";
        assert_eq!(planted(check, |r| speed_up(r, "pg_events_total", &[], -8.0)), UNKNOWN);
        assert_eq!(
            planted(check, |r| speed_up(r, "backend_events_appended_total", &[], 8.0)),
            UNKNOWN
        );
        let boast = |r: &mut Record| r.load.seconds[9].acknowledged += 200;
        assert_eq!(planted(check, boast), UNKNOWN);
        assert_eq!(planted(check, |r| r.timeline.series.clear()), GREY);
    }

    /// Each second, 20 of 100 commands are committed too late for the client.
    fn committed_without_an_answer(record: &mut Record) {
        for second in &mut record.load.operations[0].seconds {
            (second.ok, second.timeouts) = (80, 20);
        }
        record.load.seconds.iter_mut().for_each(|second| second.acknowledged = 80);
    }

    #[test]
    fn a_command_without_an_answer_may_be_in_the_store_or_not() {
        let check = "events proven by the store";
        let (appended, stored) = ("backend_events_appended_total", "pg_events_total");
        assert_eq!(planted(check, committed_without_an_answer), GREEN);
        let with = |less: f64| {
            move |r: &mut Record| {
                committed_without_an_answer(r);
                speed_up(r, appended, &[], less);
                speed_up(r, stored, &[], less);
            }
        };
        assert_eq!(planted(check, with(-20.0)), GREEN, "none of them");
        assert_eq!(planted(check, with(-28.0)), UNKNOWN, "not even what was acknowledged");
        assert_eq!(planted(check, with(8.0)), UNKNOWN, "more than was ever sent");
    }

    #[test]
    fn an_incident_pushes_by_what_died() {
        let check = "no incidents";
        let died = |what: &'static str, second: Option<usize>| {
            move |r: &mut Record| {
                let detail = "exit status 1".to_owned();
                r.incidents.push(Incident { second, what: what.to_owned(), detail });
            }
        };
        assert_eq!(planted(check, died("backend", Some(9))), BETTER);
        assert_eq!(planted(check, died("replica-1", Some(9))), UNKNOWN, "a pass neither");
        assert_eq!(planted(check, died("observer", None)), UNKNOWN);
        assert_eq!(planted(check, died("backend", Some(1))), BETTER, "it is still gone");
        assert_eq!(planted(check, died("backend", Some(24))), AMBER, "after the window");
        assert_eq!(planted(check, died("metrics", Some(9))), AMBER, "the gaps tell");
        assert_eq!(planted(check, died("statistics of primary", Some(9))), AMBER, "it lives");
        let two = |one: &'static str, other: &'static str| {
            move |r: &mut Record| {
                died(one, Some(9))(r);
                died(other, None)(r);
            }
        };
        assert_eq!(planted(check, two("replica-1", "replica-2")), UNKNOWN);
        assert_eq!(planted(check, two("replica-1", "observer")), UNKNOWN);
        assert_eq!(planted(check, two("observer", "backend")), BETTER, "a crash fails either way");
    }

    #[test]
    fn a_server_that_does_not_flush_is_seen() {
        let check = "durability settings";
        for setting in 0..3 {
            let off = |r: &mut Record| {
                r.environment.postgres_settings[setting].value = "off".to_owned();
            };
            assert_eq!(planted(check, off), BETTER, "setting {setting}");
        }
        let unasked = |r: &mut Record| r.environment.postgres_settings.truncate(2);
        assert_eq!(planted(check, unasked), GREY);
        let changed_meanwhile = |r: &mut Record| {
            r.environment.postgres_settings_after[1].value = "off".to_owned();
        };
        assert_eq!(planted(check, changed_meanwhile), BETTER);
        let for_a_role = |r: &mut Record| {
            let after = &mut r.environment.postgres_settings_after;
            let off = |s: &PostgresSetting| PostgresSetting {
                server: "primary, role app_rw".to_owned(),
                value: "off".to_owned(),
                ..s.clone()
            };
            after.push(off(&after[1]));
        };
        assert_eq!(planted(check, for_a_role), BETTER);
        let not_asked_again = |r: &mut Record| r.environment.postgres_settings_after.clear();
        assert_eq!(planted(check, not_asked_again), GREY);
    }

    #[test]
    fn a_missing_audit_is_grey_and_a_red_one_red() {
        assert_eq!(planted("audit", |r| r.audit.clear()), GREY);
        assert_eq!(planted("audit", |r| r.audit[0].state = AuditState::Grey), GREY);
        let red = planted("audit", |r| r.audit[0].state = AuditState::Red);
        assert_eq!(red, (CheckState::Red, None), "it fails the run by itself");
    }

    #[test]
    fn a_foreign_target_is_grey_where_it_cannot_be_proven() {
        let mut scenario = scenario(&GATES);
        scenario.target = Target::Http(HttpTarget {
            url: "https://example.org".to_owned(),
            metrics: None,
            bearer_token_env: None,
            signals: Signals::default(),
        });
        for check in [
            "replica share proven by Postgres",
            "events proven by the store",
            "durability settings",
        ] {
            assert_eq!(of(check, &healthy(), &scenario), GREY, "{check}");
        }
        let check = "generator apart from the target";
        assert_eq!(of(check, &healthy(), &scenario), GREY, "no address proves it");
        let Target::Http(http) = &mut scenario.target else { panic!() };
        http.url = "http://127.0.0.1:8080".to_owned();
        assert_eq!(of(check, &healthy(), &scenario), AMBER);
    }
}
