//! The same objects in a service that speaks S3: a small one of our own, so that what is sent to it can be looked at.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use reference_backend::config::ObjectStoreKind;
use reqwest::header::CONTENT_TYPE;
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{bearer, body, populate};
use crate::objects::Program;

const KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// What a service holds: objects by `bucket/key`, parts of uploads by upload and number, and how often each act was asked for.
#[derive(Debug, Default)]
struct Held {
    objects: BTreeMap<String, Bytes>,
    parts: BTreeMap<(String, usize), Bytes>,
    asked: BTreeMap<&'static str, usize>,
}

type Service = Arc<Mutex<Held>>;

async fn answer(
    State(service): State<Service>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let (parts, content) = request.into_parts();
    let signed = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    if !signed.is_some_and(|value| value.contains(&format!("Credential={KEY}/"))) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let content = axum::body::to_bytes(content, usize::MAX).await.unwrap();
    let path = parts.uri.path().trim_start_matches('/').to_owned();
    let mut held = service.lock().unwrap();
    let upload = query.get("uploadId").cloned();
    let number = query.get("partNumber").map(|text| text.parse().unwrap());
    let (act, answer) = match (parts.method, upload, number) {
        (Method::PUT, Some(upload), Some(number)) => {
            held.parts.insert((upload, number), content);
            ("part", [("etag", "\"part\"")].into_response())
        }
        (Method::PUT, ..) => {
            held.objects.insert(path, content);
            ("put", [("etag", "\"whole\"")].into_response())
        }
        (Method::POST, Some(upload), _) => {
            let whole: Vec<u8> = held.parts.values().flat_map(|part| part.to_vec()).collect();
            held.objects.insert(path, whole.into());
            let done = "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>";
            assert_eq!(upload, "one");
            ("complete", done.into_response())
        }
        (Method::POST, ..) if query.contains_key("uploads") => {
            let begun = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>";
            ("begin", begun.into_response())
        }
        (Method::POST, ..) if query.contains_key("delete") => {
            let text = String::from_utf8(content.to_vec()).unwrap();
            let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            let mut done = String::new();
            for (key, _) in keys {
                held.objects.remove(&format!("{}/{key}", path.trim_end_matches('/')));
                write!(done, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
            }
            ("delete", format!("<DeleteResult>{done}</DeleteResult>").into_response())
        }
        (Method::DELETE, ..) => {
            held.objects.remove(&path);
            ("delete", StatusCode::NO_CONTENT.into_response())
        }
        (Method::GET, ..) if query.contains_key("list-type") => {
            ("list", list(&held, path.trim_end_matches('/')).into_response())
        }
        (Method::GET, ..) => ("get", get(&held, &path)),
        _ => ("other", StatusCode::METHOD_NOT_ALLOWED.into_response()),
    };
    *held.asked.entry(act).or_default() += 1;
    answer
}

fn get(held: &Held, path: &str) -> Response {
    let headers = [("etag", "\"whole\""), ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT")];
    match held.objects.get(path) {
        Some(content) => (headers, content.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// All of them old.
fn list(held: &Held, bucket: &str) -> String {
    let keys = held.objects.iter().filter_map(|(path, content)| {
        let key = path.strip_prefix(bucket)?.strip_prefix('/')?;
        Some(format!(
            "<Contents><Key>{key}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"whole\"</ETag><Size>{}</Size></Contents>",
            content.len()
        ))
    });
    format!("<ListBucketResult>{}</ListBucketResult>", keys.collect::<String>())
}

#[tokio::test]
async fn receipts_are_kept_in_a_bucket_and_swept_from_it() {
    let service = Service::default();
    let orphan = format!("hotel-receipts/1/{}", Uuid::now_v7());
    let strange = "hotel-receipts/notes.txt";
    for path in [&orphan, strange] {
        service.lock().unwrap().objects.insert(path.to_owned(), Bytes::from_static(b"x"));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(answer).with_state(Arc::clone(&service));
    let serving = tokio::spawn(axum::serve(listener, routes).into_future());

    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    config.objects.store = ObjectStoreKind::S3;
    config.objects.s3.endpoint = endpoint;
    config.objects.s3.bucket_prefix = "hotel-".to_owned();
    config.objects.s3.allow_http = true;
    let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let program = Program::start(&cluster, &config, &keys).await;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{}/v1/orgs/1/{path}", program.address);
    let post = |path: &str, key: Uuid| {
        let request = client.post(url(path)).bearer_auth(bearer(1, 3600));
        request.header("Idempotency-Key", key.to_string())
    };
    let expense = Uuid::now_v7();
    let recorded = post("expenses", expense).json(&body(1, 5)).send().await.unwrap();
    assert_eq!(recorded.status(), StatusCode::CREATED);

    // One written at once, one in parts.
    for length in [100, 6 << 20] {
        let content: Vec<u8> = b"%PDF-1.7 ".iter().copied().cycle().take(length).collect();
        let key = Uuid::now_v7();
        let sent = post(&format!("receipts?expense={expense}"), key)
            .header(CONTENT_TYPE, "application/pdf")
            .body(content.clone());
        let sent = sent.send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::CREATED, "{}", sent.text().await.unwrap());
        let path = url(&format!("receipts/{key}"));
        let got = client.get(format!("{path}/content")).bearer_auth(bearer(1, 3600));
        assert!(got.send().await.unwrap().bytes().await.unwrap() == content, "{length} bytes");
        if length == 100 {
            let removed = client.delete(path).bearer_auth(bearer(1, 3600)).send().await.unwrap();
            assert_eq!(removed.status(), StatusCode::NO_CONTENT);
        }
    }
    let swept = || !service.lock().unwrap().objects.contains_key(&orphan);
    while !swept() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let held = service.lock().unwrap();
    let left: Vec<_> = held.objects.keys().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].starts_with("hotel-receipts/1/") && left[1] == strange, "{left:?}");
    let asked = |act| held.asked.get(act).copied().unwrap_or_default();
    assert_eq!([asked("begin"), asked("part"), asked("complete"), asked("other")], [1, 2, 1, 0]);
    drop(held);
    drop(program);
    serving.abort();
}
