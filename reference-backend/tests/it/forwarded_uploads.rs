//! Receipts on another process than the one that is asked: content that passes through the gateway, in and out.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{body, populate, problem_of};
use crate::objects::{PNG, eventually, files, half_an_upload, halves};
use crate::processes::Process;

/// A gateway, and the process that hosts receipts and the expenses that they belong to.
struct Deployment {
    cluster: Cluster,
    gateway: Process,
    /// Alive as long as the gateway needs it.
    _host: Process,
    expense: Uuid,
}

impl Deployment {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        populate(&cluster).await;
        let listen = "[server]\nlisten = \"127.0.0.1:0\"\n";
        let settings = format!("{listen}[objects.bytes_max]\nreceipts = 819200");
        let host = Process::serve(&cluster.config(&settings), "revenues,expenses,receipts,health");
        let url = &host.url;
        let settings =
            format!("{listen}[services.urls]\nexpenses = \"{url}\"\nreceipts = \"{url}\"");
        let gateway = Process::serve(&cluster.config(&settings), "gateway,orgs,health");
        let expense = Uuid::now_v7();
        let recorded = gateway.request(Method::POST, 1, "/expenses").json(&body(1, 500));
        let recorded = recorded.header("Idempotency-Key", expense.to_string());
        assert_eq!(recorded.send().await.unwrap().status(), StatusCode::CREATED);
        Self { cluster, gateway, _host: host, expense }
    }

    async fn upload(&self, key: Uuid, content: Vec<u8>) -> reqwest::Response {
        let path = format!("/receipts?expense={}", self.expense);
        let request = self.gateway.request(Method::POST, 1, &path).body(content);
        let request = request.header("Idempotency-Key", key.to_string());
        request.header(CONTENT_TYPE, "image/png").send().await.unwrap()
    }

    async fn content(&self, key: Uuid) -> reqwest::Response {
        let path = format!("/receipts/{key}/content");
        self.gateway.request(Method::GET, 1, &path).send().await.unwrap()
    }
}

fn picture(bytes: usize) -> Vec<u8> {
    PNG.iter().copied().cycle().take(bytes).collect()
}

#[tokio::test]
async fn a_receipt_passes_through_the_gateway_byte_for_byte() {
    let all = Deployment::start().await;
    let (key, content) = (Uuid::now_v7(), picture(102_401));
    assert_eq!(all.upload(key, content.clone()).await.status(), StatusCode::CREATED);
    let kept = all.content(key).await;
    assert_eq!(kept.headers()[CONTENT_TYPE], "image/png");
    assert_eq!(kept.headers()["content-length"], "102401");
    assert!(kept.bytes().await.unwrap() == content, "other bytes");

    let other = Uuid::now_v7();
    assert_eq!(problem_of(all.upload(other, picture(819_201)).await).await.0, 413);
    assert_eq!(problem_of(all.content(other).await).await.0, 404);
    assert_eq!(files(&all.cluster.objects()).len(), 1, "the refused one leaves nothing");
}

#[tokio::test]
async fn an_upload_that_breaks_off_at_the_gateway_leaves_nothing_at_its_host() {
    let all = Deployment::start().await;
    let (key, address) = (Uuid::now_v7(), all.gateway.url.strip_prefix("http://").unwrap());
    // More than is held back before it is written.
    let stream = half_an_upload(address, all.expense, key, (600_000, 800_000)).await;
    eventually("some of it is there", || !halves(&all.cluster).is_empty()).await;
    drop(stream);
    eventually("it is gone", || files(&all.cluster.objects()).is_empty()).await;
    assert_eq!(problem_of(all.content(key).await).await.0, 404);
    assert_eq!(all.upload(key, picture(102_400)).await.status(), StatusCode::CREATED);
}
