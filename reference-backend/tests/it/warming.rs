//! Warming by organisation, on a program of its own: its counters are nobody else's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::common::{Cluster, Replica};
use crate::http_server::{SECRET, TOKEN_HEADER, bearer, body, json_of, populate};

/// `reference-backend serve` with all services, asked by organisation 1.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    settings: TempDir,
    /// What the settings begin with, whatever a test adds.
    base: String,
}

impl Program {
    pub(crate) fn start(cluster: &Cluster, more: &str) -> Self {
        Self::serving(cluster, &[], more)
    }

    /// With some services only; none named means all.
    pub(crate) fn serving(cluster: &Cluster, services: &[&str], more: &str) -> Self {
        let settings = tempfile::tempdir().unwrap();
        let file = settings.path().join("backend.toml");
        let socket = cluster.config("").database.primary.host;
        // The section of the server last: `more` may begin with its settings.
        let base = format!(
            "[database.primary]\nhost = \"{socket}\"\nport = 5432\n[server]\nlisten = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&file, format!("{base}{more}")).unwrap();
        // To a file: nobody reads it while the program runs.
        let log = std::fs::File::create(settings.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_reference-backend"))
            .args(["serve", "--config"])
            .arg(&file)
            .args(services.iter().flat_map(|service| ["--services", service]))
            .env("PLIMSOLL_BACKEND_TOKEN_SECRET", SECRET)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let url = told["url"].as_str().unwrap().to_owned();
        Self { child, url, client: reqwest::Client::new(), settings, base }
    }

    /// Puts other settings in place of `more`, and tells the program.
    pub(crate) fn reload(&self, more: &str) {
        let file = self.settings.path().join("backend.toml");
        std::fs::write(file, format!("{}{more}", self.base)).unwrap();
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGHUP).unwrap();
    }

    /// What it said on standard error so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.settings.path().join("log")).unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/v1/orgs/1{path}", self.url);
        self.client.request(method, url).bearer_auth(bearer(1, 3600))
    }

    /// Records an entry, and returns its consistency token.
    pub(crate) async fn post(&self, side: &str, cents: i64) -> String {
        let request = self.request(Method::POST, &format!("/{side}")).json(&body(1, cents));
        let answer =
            request.header("Idempotency-Key", Uuid::now_v7().to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned()
    }

    /// The answer, which must come from the cache.
    async fn held(&self, path: &str, token: Option<&str>) -> Value {
        let request = self.request(Method::GET, path);
        let request = match token {
            Some(token) => request.header(TOKEN_HEADER, token),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(read_from(&answer), "cache", "{path}");
        json_of(answer).await
    }

    /// The sum of the series that begin with `prefix`.
    pub(crate) async fn counted(&self, prefix: &str) -> u64 {
        let page = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap();
        let page = page.text().await.unwrap();
        let series = page.lines().filter(|line| line.starts_with(prefix));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    async fn until_warmed(&self, organisations: u64) {
        self.until_counted(r#"backend_cache_warmed_total{outcome="loaded"}"#, organisations).await;
    }

    pub(crate) async fn until_counted(&self, prefix: &str, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.counted(prefix).await < count {
            assert!(Instant::now() < deadline, "{prefix} never came to {count}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as an operator would, and it must end well.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn read_from(answer: &Response) -> &str {
    answer.headers()["x-read-from"].to_str().unwrap()
}

/// A revenue of 500 and an expense of 200, booked by a program that has ended.
async fn booked(cluster: &Cluster) {
    populate(cluster).await;
    let program = Program::start(cluster, "");
    program.post("revenues", 500).await;
    program.post("expenses", 200).await;
    program.stop();
}

#[tokio::test]
async fn after_one_answer_the_others_are_hits_and_true() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let program = Program::start(&cluster, "[cache]\nwarm_first_pages = true\n");
    let first = program.request(Method::GET, "/properties").send().await.unwrap();
    assert_eq!(read_from(&first), "primary");
    program.until_warmed(1).await;
    let misses = r#"backend_cache_requests_total{cache="#;
    assert_eq!(program.counted(misses).await, 1, "a warm load is nobody's request");
    let statements = r#"backend_reads_total{source="primary""#;
    assert_eq!(program.counted(statements).await, 6, "one for each namespace, all counted");

    let mut finance = cluster.admin("plimsoll_finance").await;
    let sums = "SELECT (SELECT sum(amount_cents)::bigint FROM revenues_partitioned WHERE org_id = 1), \
                       (SELECT sum(amount_cents)::bigint FROM expenses_partitioned WHERE org_id = 1)";
    let (revenue, expense): (i64, i64) =
        sqlx::query_as(sums).fetch_one(&mut finance).await.unwrap();
    assert_eq!((revenue, expense), (500, 200));
    assert_eq!(program.held("", None).await["name"], "Hotel 1");
    assert_eq!(program.held("/cash/position", None).await["total_cents"], revenue - expense);
    let days = program.held("/cash/balances", None).await;
    assert_eq!(days["balances"][0]["closing_cents"], revenue - expense);
    let summary = program.held("/finance-summary", None).await;
    assert_eq!((&summary["revenue_cents"], &summary["expense_cents"]), (&json!(500), &json!(200)));
    for (page, cents) in [("/revenues", revenue), ("/expenses", expense)] {
        assert_eq!(program.held(page, None).await["entries"][0]["amount_cents"], cents);
    }

    let token = program.post("revenues", 50).await;
    let position = program.held("/cash/position", Some(&token)).await;
    assert_eq!(position["total_cents"], 350);
    let summary = program.held("/finance-summary", Some(&token)).await;
    assert_eq!(summary["revenue_cents"], 550);
    let page = program.held("/revenues", Some(&token)).await;
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    let rename = program.request(Method::PATCH, "").json(&json!({"name": "Inn"}));
    json_of(rename.send().await.unwrap()).await;
    let renamed = program.request(Method::GET, "").send().await.unwrap();
    assert_eq!(json_of(renamed).await["name"], "Inn");
    program.stop();
}

#[tokio::test]
async fn a_write_warms_and_is_not_undone_by_what_a_replica_behind_it_answers() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let replica = Replica::of(&cluster).await;
    let mut on_replica = replica.admin().await;
    sqlx::raw_sql("SELECT pg_wal_replay_pause()").execute(&mut on_replica).await.unwrap();
    let settings = format!(
        "[database.replica_choice]\nlag_max_ms = 600000\n\
         [[database.replicas]]\nname = \"replica-1\"\nhost = \"{}\"\nport = {}\n",
        replica.socket().display(),
        replica.port(),
    );
    let program = Program::start(&cluster, &settings);
    let healthy = r#"backend_replica_healthy{replica="replica-1"}"#;
    let deadline = Instant::now() + Duration::from_secs(30);
    while program.counted(healthy).await == 0 {
        assert!(Instant::now() < deadline, "the replica was never healthy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The first that is heard of the organisation is a write; its check of the property is the miss.
    let token = program.post("revenues", 50).await;
    program.until_warmed(1).await;
    let statements = r#"backend_reads_total{source="replica""#;
    assert_eq!(program.counted(statements).await, 4, "all from the replica that stands still");
    let position = program.held("/cash/position", Some(&token)).await;
    assert_eq!(position["total_cents"], 350);
    let summary = program.held("/finance-summary", Some(&token)).await;
    assert_eq!(summary["revenue_cents"], 550);
    assert_eq!(program.counted(statements).await, 4);
    program.stop();
}

#[tokio::test]
async fn when_off_only_what_is_asked_for_is_loaded() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let program = Program::start(&cluster, "[cache]\nwarm_at_once = 0\n");
    for (path, statements) in [("/properties", 1), ("/cash/position", 2), ("/finance-summary", 3)] {
        let answer = program.request(Method::GET, path).send().await.unwrap();
        assert_eq!(read_from(&answer), "primary", "{path}");
        assert_eq!(program.counted(r#"backend_reads_total{source="primary""#).await, statements);
    }
    program.stop();
}

/// Asks each screen of organisations 1 to 4 once; how many of the look-ups were hits, and how many there were.
async fn asked_once(program: &Program) -> (u64, u64) {
    for org in 1..=4 {
        for path in ["/cash/position", "/finance-summary", "/properties"] {
            let url = format!("{}/v1/orgs/{org}{path}", program.url);
            let request = program.client.get(url).bearer_auth(bearer(org, 3600));
            assert_eq!(request.send().await.unwrap().status(), 200);
        }
    }
    let mut hits = 0;
    for cache in ["cash", "finance-summary", "properties"] {
        let of = format!(r#"backend_cache_requests_total{{cache="{cache}",outcome="hit""#);
        hits += program.counted(&of).await;
    }
    (hits, 12)
}

/// A revenue in each of organisations 1 to 4.
async fn book_in_all(program: &Program) {
    for org in 1..=4 {
        let url = format!("{}/v1/orgs/{org}/revenues", program.url);
        let request = program.client.post(url).bearer_auth(bearer(org, 3600)).json(&body(org, 100));
        let answer = request.header("Idempotency-Key", Uuid::now_v7().to_string());
        assert_eq!(answer.send().await.unwrap().status(), 201);
    }
}

#[tokio::test]
async fn one_whose_rows_cannot_be_read_keeps_no_other_cold() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let program = Program::start(&cluster, "");
    book_in_all(&program).await;
    program.stop();
    let (done, said) = crate::jobs::command(&cluster, &["run", "cache-warming"]);
    assert!(done, "{said}");
    let mut models = cluster.admin("plimsoll_read_models").await;
    let spoil = "UPDATE finance_summaries SET doc = '[]' WHERE org_id = 2";
    sqlx::raw_sql(spoil).execute(&mut models).await.unwrap();

    let program = Program::start(&cluster, "[jobs]\nwarm_list_interval_ms = 50\n");
    let outcome = |outcome| format!(r#"backend_cache_list_warmed_total{{outcome="{outcome}"}}"#);
    program.until_counted(&outcome("failed"), 1).await;
    program.until_counted(&outcome("loaded"), 3).await;
    for org in [1, 3, 4] {
        let url = format!("{}/v1/orgs/{org}/finance-summary", program.url);
        let answer = program.client.get(url).bearer_auth(bearer(org, 3600)).send().await.unwrap();
        assert_eq!(read_from(&answer), "cache", "organisation {org}");
        assert_eq!(json_of(answer).await["revenue_cents"], 100);
    }
    assert_eq!(program.counted(&outcome("failed")).await, 1);
    program.stop();
}

#[tokio::test]
async fn a_cold_start_with_a_warm_list_begins_with_hits() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let program = Program::start(&cluster, "");
    book_in_all(&program).await;
    program.stop();

    // Warming by an organisation's first miss is off in both, or it would lend hits to the one without a list.
    let cold = Program::start(&cluster, "[cache]\nwarm_queue = 1\nwarm_at_once = 0\n");
    let (without, of) = asked_once(&cold).await;
    cold.stop();

    let (done, said) = crate::jobs::command(&cluster, &["run", "cache-warming"]);
    assert!(done && said == "cache-warming: 4 organisations by 4 events\n", "{said}");
    let warm = Program::start(&cluster, "[jobs]\nwarm_list_interval_ms = 50\n");
    let loaded = r#"backend_cache_list_warmed_total{outcome="loaded"}"#;
    warm.until_counted(loaded, 4).await;
    let (with, _) = asked_once(&warm).await;
    println!("hits of a cold start: {without} of {of} without a list, {with} of {of} with one");
    assert_eq!((without, with), (0, of));

    let (done, said) = crate::jobs::command(&cluster, &["run", "cache-warming"]);
    assert!(done, "{said}");
    warm.until_counted(loaded, 8).await; // the new list too
    warm.stop();
}

#[tokio::test]
async fn a_process_that_only_follows_is_warmed_from_the_list_too() {
    let cluster = Cluster::start().await;
    booked(&cluster).await;
    let (done, said) = crate::jobs::command(&cluster, &["run", "cache-warming"]);
    assert!(done, "{said}");
    let settings = "[jobs]\nwarm_list_interval_ms = 50\n";
    let program = Program::serving(&cluster, &["cash", "health"], settings);
    program.until_counted(r#"backend_cache_list_warmed_total{outcome="loaded"}"#, 1).await;
    let position = program.held("/cash/position", None).await;
    assert_eq!(position["total_cents"], 300);
    program.stop();
}
