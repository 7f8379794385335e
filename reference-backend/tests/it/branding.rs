//! How an organisation looks: set as a whole, changed against a version, its logo replaced and removed without a trace.

use std::path::Path;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::common::Cluster;
use crate::http_server::{Server, TOKEN_HEADER, json_of, populate, problem_of};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n one";
const OTHER_PNG: &[u8] = b"\x89PNG\r\n\x1a\n another";

async fn set(server: &Server, org: i64, looks: &Value) -> Response {
    let path = format!("/v1/orgs/{org}/branding");
    server.request(Method::PUT, org, &path).json(looks).send().await.unwrap()
}

async fn set_logo(server: &Server, org: i64, kind: &str, content: &[u8]) -> Response {
    let request = server.request(Method::PUT, org, &format!("/v1/orgs/{org}/branding/logo"));
    request.header(CONTENT_TYPE, kind).body(content.to_vec()).send().await.unwrap()
}

async fn remove_logo(server: &Server, org: i64) -> Response {
    let path = format!("/v1/orgs/{org}/branding/logo");
    server.request(Method::DELETE, org, &path).send().await.unwrap()
}

fn objects(directory: &Path) -> usize {
    let orgs = directory.join("logos").read_dir().into_iter().flatten().flatten();
    orgs.map(|org| org.path().read_dir().unwrap().count()).sum()
}

#[tokio::test]
async fn looks_are_set_whole_and_against_a_version() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let unset = json_of(server.get(1, "/branding").await).await;
    assert_eq!((&unset["version"], &unset["logo"]), (&json!(0), &Value::Null));

    let looks =
        json!({"display_name": "The Inn", "primary_colour": "#1F6FEB", "expected_version": 0});
    let answer = set(&server, 1, &looks).await;
    let token = answer.headers()[TOKEN_HEADER].to_str().unwrap().to_owned();
    let first = json_of(answer).await;
    assert_eq!((&first["version"], &first["primary_colour"]), (&json!(1), &json!("#1f6feb")));
    assert_eq!(server.get_after(1, "/branding", &token).await, first);

    for stale in [0, 2] {
        let looks = json!({"display_name": "Other", "expected_version": stale});
        assert_eq!(problem_of(set(&server, 1, &looks).await).await.0, 409, "version {stale}");
    }
    let early = json!({"expected_version": 1});
    assert_eq!(problem_of(set(&server, 2, &early).await).await.0, 409, "nothing was set yet");
    let second = json!({"accent_colour": "#000000", "expected_version": 1});
    let second = json_of(set(&server, 1, &second).await).await;
    assert_eq!((&second["version"], &second["display_name"]), (&json!(2), &Value::Null));

    for (bad, named) in [
        (json!({"primary_colour": "red"}), "primary_colour"),
        (json!({"accent_colour": "#12345g"}), "accent_colour"),
        (json!({"display_name": ""}), "display_name"),
        (json!({"display_name": "a\nb"}), "display_name"),
        (json!({"logo": "x"}), "logo"),
    ] {
        let (status, detail) = problem_of(set(&server, 1, &bad).await).await;
        assert_eq!(status, 422, "{bad}");
        assert!(detail.contains(named), "{bad}: {detail}");
    }
    assert_eq!(problem_of(set(&server, 9, &json!({})).await).await.0, 404);
    assert_eq!(json_of(server.get(2, "/branding").await).await["version"], 0);
    server.stop().await;
}

#[tokio::test]
async fn a_logo_is_replaced_and_removed_with_its_object() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "[objects.bytes_max]\nlogos = 100\n").await;
    assert_eq!(problem_of(server.get(1, "/branding/logo").await).await.0, 404);
    assert_eq!(problem_of(remove_logo(&server, 1).await).await.0, 404);

    let first = json_of(set_logo(&server, 1, "image/png", PNG).await).await;
    assert_eq!((&first["version"], &first["logo"]["bytes"]), (&json!(1), &json!(PNG.len())));
    let named = json_of(set(&server, 1, &json!({"display_name": "Inn"})).await).await;
    assert_eq!(named["logo"], first["logo"], "the logo stays");
    let second = json_of(set_logo(&server, 1, "image/png", OTHER_PNG).await).await;
    assert_eq!((&second["version"], &second["display_name"]), (&json!(3), &json!("Inn")));
    assert_eq!(objects(&cluster.objects()), 1, "the first logo's object is gone");
    let shown = server.get(1, "/branding/logo").await;
    assert_eq!(shown.headers()["content-disposition"], "attachment; filename=\"logo.png\"");
    assert_eq!(shown.bytes().await.unwrap(), OTHER_PNG);
    assert_eq!(problem_of(server.get(2, "/branding/logo").await).await.0, 404);

    for (kind, content, status) in [
        ("image/svg+xml", b"<svg onload=alert(1)>".as_slice(), 415),
        ("application/pdf", b"%PDF-1.7", 415),
        ("image/png", b"<script>alert(1)</script>", 422),
        ("image/png", &[0; 101], 413),
    ] {
        let (found, detail) = problem_of(set_logo(&server, 1, kind, content).await).await;
        assert_eq!(found, status, "{kind}: {detail}");
    }
    assert_eq!(json_of(server.get(1, "/branding").await).await, second, "refusals change nothing");
    assert_eq!(objects(&cluster.objects()), 1);

    assert_eq!(remove_logo(&server, 1).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(objects(&cluster.objects()), 0);
    assert_eq!(problem_of(server.get(1, "/branding/logo").await).await.0, 404);
    assert_eq!(json_of(server.get(1, "/branding").await).await["display_name"], "Inn");
    server.stop().await;
}
