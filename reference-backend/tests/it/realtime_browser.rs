//! The stream in a real browser: Chromium without a window, on a page behind a proxy that can be cut. Ignored unless asked for
//! (`cargo test … -- --ignored realtime_browser`), because it needs Chromium; `.ci/run` asks. `http_realtime` holds the stream
//! to the same rules without one.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, RwLock, mpsc, watch};
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{Server, bearer, body, populate};

const CHROMIUM: &str = "/usr/bin/chromium";

/// Tells the test what it is told.
const PAGE: &str = r#"<!doctype html><title>realtime</title><script>
const source = new EventSource("/v1/orgs/1/realtime?access_token=TOKEN");
let reported = Promise.resolve();
for (const name of ["ready", "entry", "notification", "reset", "end"])
  source.addEventListener(name, told => {
    const body = JSON.stringify({name, id: told.lastEventId, data: JSON.parse(told.data)});
    reported = reported.then(() => fetch("/told", {method: "POST", body}));
  });
</script>"#;

/// The page's own server: gives the page, passes the stream on, takes in what the page was told.
#[derive(Debug, Clone)]
struct Site {
    backend: String,
    client: reqwest::Client,
    page: Arc<str>,
    told: mpsc::UnboundedSender<Value>,
    /// Ends the streams that pass now.
    cut: watch::Sender<()>,
    /// Held while nothing may pass.
    gate: Arc<RwLock<()>>,
}

impl Site {
    async fn serve(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/", get(|State(site): State<Self>| async move { Html(site.page.to_string()) }))
            .route("/told", post(Self::take))
            .fallback(Self::pass)
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn take(State(site): State<Self>, told: Bytes) {
        let _ = site.told.send(serde_json::from_slice(&told).unwrap());
    }

    async fn pass(State(site): State<Self>, request: Request) -> Response {
        if request.uri().path() == "/favicon.ico" {
            return ().into_response();
        }
        let mut cut = site.cut.subscribe();
        let _open = site.gate.read().await;
        let mut asked = site.client.get(format!("{}{}", site.backend, request.uri()));
        if let Some(id) = request.headers().get("last-event-id") {
            asked = asked.header("last-event-id", id);
        }
        let answer = asked.send().await.unwrap();
        let (status, kind) = (answer.status(), answer.headers()["content-type"].clone());
        let cut = async move { cut.changed().await.is_ok() };
        let stream = answer.bytes_stream().take_until(Box::pin(cut));
        (status, [("content-type", kind)], Body::from_stream(stream)).into_response()
    }
}

/// A browser on a page; it and its helpers are ended with the test.
struct Browser {
    process: Child,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let process = Command::new(CHROMIUM)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { process, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs /usr/bin/chromium"]
async fn a_browser_is_told_and_comes_back_by_itself_without_a_hole() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "[pubsub.realtime]\nreconnect_ms = 100\n").await;
    let (told, heard) = mpsc::unbounded_channel();
    let heard = Mutex::new(heard);
    let site = Site {
        backend: server.url.clone(),
        client: reqwest::Client::new(),
        page: PAGE.replace("TOKEN", &bearer(1, 600)).into(),
        told,
        cut: watch::Sender::new(()),
        gate: Arc::default(),
    };
    let (cut, gate) = (site.cut.clone(), Arc::clone(&site.gate));
    let browser = Browser::open(&site.serve().await);
    let next = async || {
        let told = tokio::time::timeout(Duration::from_secs(60), async {
            heard.lock().await.recv().await
        });
        told.await.expect("the page was told nothing").unwrap()
    };
    let book = async |cents| {
        let booked = server.post(1, "revenues", Uuid::now_v7(), &body(1, cents)).await;
        assert_eq!(booked.status(), 201);
    };
    assert_eq!(next().await["name"], "ready");
    book(11).await;
    let entry = next().await;
    assert_eq!((&entry["name"], &entry["data"]["amount_cents"]), (&"entry".into(), &11.into()));

    // Cut, and not let through again before more has happened.
    let closed = gate.write().await;
    cut.send_replace(());
    book(22).await;
    book(33).await;
    drop(closed);
    let back = next().await;
    assert_eq!((&back["name"], &back["id"]), (&"ready".into(), &entry["id"]));
    let amounts = [next().await, next().await].map(|told| told["data"]["amount_cents"].clone());
    assert_eq!(amounts, [22, 33].map(Value::from));
    drop(browser);
    server.stop().await;
}
