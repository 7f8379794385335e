//! Settings that change while the program runs: SIGHUP on the real binary.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::common::Cluster;
use crate::http_server::populate;
use crate::warming::Program;

const WAIT: Duration = Duration::from_secs(20);

/// The value of a series, 0 where there is none yet.
async fn metric(program: &Program, series: &str) -> u64 {
    let text =
        reqwest::get(format!("{}/metrics", program.url)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

async fn until(program: &Program, series: &str, expected: u64) {
    let deadline = Instant::now() + WAIT;
    while metric(program, series).await != expected {
        assert!(Instant::now() < deadline, "{series} never became {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Statuses of some requests at once.
async fn asked(program: &Program, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        let answer = program.request(Method::GET, "").send().await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn a_hangup_puts_live_settings_into_force_and_nothing_else() {
    const EPOCH: &str = "backend_config_epoch ";
    const REFUSED: &str = "backend_config_reloads_total{outcome=\"refused\"} ";
    const UNCHANGED: &str = "backend_config_reloads_total{outcome=\"unchanged\"} ";
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let program = Program::start(&cluster, "");
    assert_eq!(metric(&program, EPOCH).await, 1);
    assert_eq!(asked(&program, 3).await, [200, 200, 200]);

    let strict = "[resilience.rate_limit]\nper_second = 1\nburst = 1\n";
    program.reload(strict);
    until(&program, EPOCH, 2).await;
    assert_eq!(asked(&program, 2).await, [200, 429]);

    // A setting that needs a restart: the others in the same file stay out of force too.
    program.reload("body_bytes_max = 70_000\n");
    until(&program, REFUSED, 1).await;
    program.reload("in_flight_max = \"many\"\n");
    until(&program, REFUSED, 2).await;
    assert_eq!(metric(&program, EPOCH).await, 2);
    assert!(asked(&program, 8).await.contains(&429), "the rate limit is still in force");

    program.reload(strict);
    until(&program, UNCHANGED, 1).await;
    program.reload("");
    until(&program, EPOCH, 3).await;
    assert_eq!(asked(&program, 3).await, [200, 200, 200]);
}
