//! The backend over real HTTP: started on a free port, asked with tokens, stopped as at SIGTERM.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use reference_backend::config::{Config, Settings};
use reference_backend::gateway::{self, ServeError};
use reference_backend::services::Service;
use reference_backend::telemetry::Metrics;
use reqwest::{Method, RequestBuilder, Response};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::{Cluster, property};

pub(crate) const SECRET: &str = "a secret of the tests, 32 bytes or more";
pub(crate) const TOKEN_HEADER: &str = "x-consistency-token";

/// A serving backend. Organisation n has the properties 10n and 10n + 1.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    stop: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) async fn start(config: Config, hosted: &'static [Service]) -> Self {
        let metrics = metrics();
        let stop = CancellationToken::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let until = stop.clone();
        let served = tokio::spawn(async move {
            let secret = SecretString::from(SECRET);
            let listening = |address| tell.send(address).unwrap();
            let settings = Settings::fixed(config);
            gateway::serve(&settings, &secret, hosted, metrics, until, listening).await
        });
        let address = tokio::time::timeout(Duration::from_secs(20), told).await.unwrap().unwrap();
        Self { url: format!("http://{address}"), client: reqwest::Client::new(), stop, served }
    }

    /// All services, on a cluster with organisations 1 to 4.
    pub(crate) async fn all(cluster: &Cluster, more: &str) -> Self {
        Self::start(
            cluster.config(&format!("{more}\n[server]\nlisten = \"127.0.0.1:0\"")),
            &Service::ALL,
        )
        .await
    }

    /// Asks it to stop, and returns when it has.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.served).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn request(&self, method: Method, org: i64, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(bearer(org, 3600))
    }

    /// GET below `/v1/orgs/{org}`, by that organisation.
    pub(crate) async fn get(&self, org: i64, path: &str) -> Response {
        self.request(Method::GET, org, &format!("/v1/orgs/{org}{path}")).send().await.unwrap()
    }

    /// The same, showing at least the write of a token.
    pub(crate) async fn get_after(&self, org: i64, path: &str, token: &str) -> Value {
        let request = self.request(Method::GET, org, &format!("/v1/orgs/{org}{path}"));
        json_of(request.header(TOKEN_HEADER, token).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, org: i64, side: &str, key: Uuid, body: &Value) -> Response {
        self.request(Method::POST, org, &format!("/v1/orgs/{org}/{side}"))
            .header("Idempotency-Key", key.to_string())
            .json(body)
            .send()
            .await
            .unwrap()
    }
}

/// The metrics of this process, which its tests share.
pub(crate) fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::install().unwrap()).clone()
}

pub(crate) async fn json_of(response: Response) -> Value {
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Status and detail of a refusal, after its form was checked.
pub(crate) async fn problem_of(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
    (status, problem["detail"].as_str().unwrap().to_owned())
}

/// A token of an organisation that ends in some seconds, or ended before.
pub(crate) fn bearer(org: i64, ends_in_s: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let claims = json!({"org": org, "iat": now, "exp": now + ends_in_s});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

/// The body of an entry of today in an organisation's first property.
pub(crate) fn body(org: i64, cents: i64) -> Value {
    json!({"property": first_property(org), "amount_cents": cents, "category": "rooms"})
}

pub(crate) fn first_property(org: i64) -> String {
    property(10 * u128::from(org.unsigned_abs())).to_string()
}

/// Makes organisations 1 to 4 with two properties each.
pub(crate) async fn populate(cluster: &Cluster) {
    let mut shared = cluster.admin("plimsoll_shared").await;
    sqlx::query("INSERT INTO organisations SELECT n, 'Hotel ' || n, 'small', 'DE', 'EUR', 1, now() FROM generate_series(1, 4) n")
        .execute(&mut shared)
        .await
        .unwrap();
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    for org in 1..=4_i64 {
        for property_number in [10 * org, 10 * org + 1] {
            sqlx::query("INSERT INTO properties VALUES ($1, $2, 'House', 'Bremen', 12, now())")
                .bind(org)
                .bind(property(property_number.unsigned_abs().into()).uuid())
                .execute(&mut hospitality)
                .await
                .unwrap();
        }
    }
}
