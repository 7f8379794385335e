//! Who may ask what, on every route that the OpenAPI document lists; and that it lists all there are.

use std::path::Path;

use reference_backend::config::Config;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{Server, bearer, json_of, populate, problem_of};

/// What anyone may ask: probes, metrics and the document itself.
const OPEN: [&str; 4] = ["/health/live", "/health/ready", "/metrics", "/openapi.json"];
/// What any organisation's token may ask.
const SHARED: [&str; 1] = ["/v1/services"];
const BODY_BYTES_MAX: usize = 65_536;

/// One operation of the document, for organisation 1.
#[derive(Debug)]
struct Operation {
    method: Method,
    /// As the document has it.
    template: String,
    path: String,
    takes_json: bool,
    is_open: bool,
    statuses: Vec<String>,
}

impl Operation {
    /// A request without a token; a body where one belongs.
    fn request(&self, server: &Server) -> RequestBuilder {
        self.ask(server, "")
    }

    /// The same, with a query.
    fn ask(&self, server: &Server, query: &str) -> RequestBuilder {
        let request = server
            .client
            .request(self.method.clone(), format!("{}{}{query}", server.url, self.path));
        let request = request.header("Idempotency-Key", Uuid::now_v7().to_string());
        if self.takes_json { request.json(&serde_json::json!({})) } else { request }
    }

    fn is_of_an_organisation(&self) -> bool {
        self.template.starts_with("/v1/orgs/{org}")
    }
}

async fn document(server: &Server) -> Value {
    json_of(reqwest::get(format!("{}/openapi.json", server.url)).await.unwrap()).await
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let content = &operation["requestBody"]["content"];
            let open = operation["security"]
                .as_array()
                .is_some_and(|any| any.contains(&Value::Object(Default::default())));
            found.push(Operation {
                method,
                template: template.clone(),
                path: filled(template, operation),
                takes_json: content["application/json"].is_object(),
                is_open: open,
                statuses: operation["responses"].as_object().unwrap().keys().cloned().collect(),
            });
        }
    }
    assert!(found.len() >= 15, "only {} operations: is the document still complete?", found.len());
    found
}

/// A template with a value of the right kind for each of its parameters.
fn filled(template: &str, operation: &Value) -> String {
    let mut path = template.replace("{org}", "1");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let schema = &parameter["schema"];
        let value = match (schema["format"].as_str(), schema["type"].as_str()) {
            (Some("uuid"), _) => Uuid::from_u128(10).to_string(),
            (Some("date"), _) => "2026-11-01".to_owned(),
            (_, Some("integer")) => "1".to_owned(),
            _ => "x".to_owned(),
        };
        path = path.replace(&format!("{{{name}}}"), &value);
    }
    assert!(!path.contains('{'), "{template}: a parameter of the path is not documented");
    path
}

/// A token that nobody signed.
fn unsigned() -> String {
    let signed = bearer(1, 60);
    let claims = signed.split('.').nth(1).unwrap();
    // {"alg":"none","typ":"JWT"}
    format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
}

#[tokio::test]
async fn no_route_answers_without_a_token_of_its_organisation() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    for operation in operations(&document(&server).await) {
        let name = format!("{} {}", operation.method, operation.template);
        if OPEN.contains(&operation.template.as_str()) {
            let answer = operation.request(&server).send().await.unwrap();
            assert!(operation.is_open && answer.status().is_success(), "{name}");
            continue;
        }
        assert!(!operation.is_open, "{name}: open to everyone, and not in the list of such routes");
        let ask = || operation.request(&server);
        let asked = [
            ("no token", ask()),
            ("an expired token", ask().bearer_auth(bearer(1, -60))),
            ("a token changed after it was signed", ask().bearer_auth(bearer(1, 60) + "x")),
            ("a token nobody signed", ask().bearer_auth(unsigned())),
            ("garbage", ask().bearer_auth("\u{e4}\u{0}".escape_unicode().to_string())),
            ("a password", ask().basic_auth("1", Some("x"))),
        ];
        for (what, request) in asked {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{name}: {what}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{name}: {what}");
            problem_of(answer).await;
        }
        if operation.is_of_an_organisation() {
            let other = ask().bearer_auth(bearer(2, 60)).send().await.unwrap();
            let (status, detail) = problem_of(other).await;
            assert_eq!(status, 403, "{name}: another organisation's token: {detail}");
        } else {
            assert!(
                SHARED.contains(&operation.template.as_str()),
                "{name}: no organisation's route"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_route_refuses_what_is_too_large_or_odd_and_goes_on() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let token = bearer(1, 600);
    for operation in operations(&document(&server).await) {
        let name = format!("{} {}", operation.method, operation.template);
        let ask = || operation.request(&server).bearer_auth(&token);
        if operation.takes_json {
            let json = |body: String| ask().header("content-type", "application/json").body(body);
            let long = json(" ".repeat(BODY_BYTES_MAX + 1)).send().await.unwrap();
            assert_eq!(problem_of(long).await.0, 413, "{name}: a long body");
            let deep = json("[".repeat(BODY_BYTES_MAX / 2)).send().await.unwrap();
            assert!(matches!(problem_of(deep).await.0, 400 | 422), "{name}: a deep body");
            let unknown = json(r#"{"no such field": 1}"#.to_owned()).send().await.unwrap();
            assert_eq!(problem_of(unknown).await.0, 422, "{name}: an unknown field");
        }
        if operation.is_of_an_organisation() {
            for org in ["0", "-1", "9223372036854775808", "1.5", "%00", "x"] {
                let path = operation.path.replacen("/v1/orgs/1", &format!("/v1/orgs/{org}"), 1);
                let request = server
                    .client
                    .request(operation.method.clone(), format!("{}{path}", server.url));
                let (status, detail) =
                    problem_of(request.bearer_auth(&token).send().await.unwrap()).await;
                assert_eq!(status, 400, "{name}: organisation {org}: {detail}");
            }
            for query in ["?no_such_parameter=1", &format!("?after={}", "y".repeat(10_000))] {
                let odd = operation.ask(&server, query).bearer_auth(&token);
                let status = odd.send().await.unwrap().status().as_u16();
                let documented = operation.statuses.contains(&status.to_string());
                assert!(documented && status < 500, "{name}: {status}");
            }
        }
    }
    let alive = reqwest::get(format!("{}/health/live", server.url)).await.unwrap();
    assert_eq!(json_of(alive).await["status"], "live");
    server.stop().await;
}

#[tokio::test]
async fn every_operation_says_what_it_is() {
    let cluster = Cluster::start().await;
    let server = Server::all(&cluster, "").await;
    let document = document(&server).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{name}: no summary");
            let tags = operation["tags"].as_array().unwrap();
            assert_eq!(tags.len(), 1, "{name}: expected the service as its tag");
            let service = tags[0].as_str().unwrap();
            assert!(
                service.parse::<reference_backend::services::Service>().is_ok(),
                "{name}: {service}"
            );
        }
    }
    server.stop().await;
}

/// What all references in a part of the document name.
fn references(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let cluster = Cluster::start().await;
    let server = Server::all(&cluster, "").await;
    let document = document(&server).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "only {} references", found.len());
    for reference in found {
        let place = document.pointer(reference.trim_start_matches('#'));
        assert!(place.is_some(), "{reference} leads nowhere");
    }
    server.stop().await;
}

/// A route that is not made by `routes!` would be in nobody's walk.
#[test]
fn no_route_is_missing_in_the_document() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut places = vec![source.join("services"), source.join("gateway")];
    while let Some(place) = places.pop() {
        for file in std::fs::read_dir(place).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                places.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for hidden in [".route(", ".nest(", ".route_service("] {
                assert!(!text.contains(hidden), "{}: {hidden} hides a route", path.display());
            }
        }
    }
}

#[test]
fn nobody_beyond_this_machine_is_served_unless_told_to() {
    assert!(Config::from_toml("").unwrap().server.listen.ip().is_loopback());
}
