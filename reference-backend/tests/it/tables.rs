//! What holds for every service on plain tables: creates that can be retried, changes that expect a version, pages, tokens
//! that another process and a replica honour, and other organisations' things that cannot be seen or named.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Cluster, property};
use crate::http_server::{Server, TOKEN_HEADER, first_property, json_of, populate, problem_of};

/// An answer to a create, and its token.
pub(crate) async fn created(response: Response) -> (Value, String) {
    let token =
        response.headers().get(TOKEN_HEADER).map(|token| token.to_str().unwrap().to_owned());
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 201, "{text}");
    (serde_json::from_str(&text).unwrap(), token.expect("a create answers a token"))
}

impl Server {
    /// Creates a thing under a new key.
    pub(crate) async fn create(&self, org: i64, path: &str, body: &Value) -> Value {
        created(self.post(org, path, Uuid::now_v7(), body).await).await.0
    }

    /// PATCH below `/v1/orgs/{org}`.
    pub(crate) async fn patch(&self, org: i64, path: &str, body: &Value) -> Response {
        let request = self.request(Method::PATCH, org, &format!("/v1/orgs/{org}/{path}"));
        request.json(body).send().await.unwrap()
    }
}

fn room(org: i64, name: &str) -> Value {
    json!({"property": first_property(org), "name": name, "kind": "double", "beds": 2})
}

#[tokio::test]
async fn a_create_is_repeated_by_its_key() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let key = Uuid::now_v7();
    let (first, _) = created(server.post(1, "rooms", key, &room(1, "7")).await).await;
    assert_eq!((&first["id"], &first["version"]), (&json!(key), &json!(1)));
    assert_eq!(json_of(server.get(1, &format!("/rooms/{key}")).await).await, first);

    // Whatever has become of it since, a retry gets the first answer.
    let renamed = server.patch(1, &format!("rooms/{key}"), &json!({"name": "8"})).await;
    assert_eq!(json_of(renamed).await["version"], 2);
    let (again, _) = created(server.post(1, "rooms", key, &room(1, "7")).await).await;
    assert_eq!(again, first);
    let (status, detail) = problem_of(server.post(1, "rooms", key, &room(1, "9")).await).await;
    assert_eq!(status, 422);
    assert!(detail.contains("was used for another request"), "{detail}");
    // The same key is another organisation's to use.
    created(server.post(2, "rooms", key, &room(2, "7")).await).await;
    server.stop().await;
}
