//! What holds for every service on plain tables: creates that can be retried, changes that expect a version, pages, and other
//! organisations' things that can be neither seen nor named.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::Cluster;
use crate::http_server::{Server, TOKEN_HEADER, first_property, json_of, populate, problem_of};

/// An answer to a create, and its token.
pub(crate) async fn created(response: Response) -> (Value, String) {
    let token = response.headers().get(TOKEN_HEADER).map(|it| it.to_str().unwrap().to_owned());
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 201, "{text}");
    (serde_json::from_str(&text).unwrap(), token.expect("a create answers a token"))
}

impl Server {
    /// Creates a thing under a new key.
    pub(crate) async fn create(&self, org: i64, path: &str, body: &Value) -> Value {
        created(self.post(org, path, Uuid::now_v7(), body).await).await.0
    }

    /// PATCH below `/v1/orgs/{org}/`.
    pub(crate) async fn patch(&self, org: i64, path: &str, body: &Value) -> Response {
        let request = self.request(Method::PATCH, org, &format!("/v1/orgs/{org}/{path}"));
        request.json(body).send().await.unwrap()
    }

    /// POST below `/v1/orgs/{org}/`, without a body.
    pub(crate) async fn act(&self, org: i64, path: &str) -> Response {
        self.request(Method::POST, org, &format!("/v1/orgs/{org}/{path}")).send().await.unwrap()
    }
}

pub(crate) fn room(org: i64, name: &str) -> Value {
    json!({"property": first_property(org), "name": name, "kind": "double", "beds": 2})
}

pub(crate) fn reservation(org: i64, arrival: &str, departure: &str) -> Value {
    json!({"property": first_property(org), "guest_name": "Ada", "arrival": arrival, "departure": departure})
}

/// A service whose things clients create.
struct Kind {
    /// Below `/v1/orgs/{org}/`; also the name of the list in an answer.
    path: &'static str,
    /// The field of the id.
    id: &'static str,
    /// The body of the `n`th create of an organisation; all differ.
    body: fn(i64, usize) -> Value,
    /// A change that every such thing allows.
    change: Value,
    /// Bodies that are refused: what is changed in a good one, and the name that the refusal says.
    wrong: Vec<(Value, &'static str)>,
}

fn kinds() -> [Kind; 6] {
    [
        Kind {
            path: "users",
            id: "user_id",
            body: |org, n| json!({"name": "Ada", "email": format!("u{n}@o{org}.example"), "role": "clerk"}),
            change: json!({"role": "manager"}),
            wrong: vec![
                (json!({"email": "nobody"}), "email"),
                (json!({"email": "a@b@c"}), "email"),
                (json!({"role": "guest"}), "unknown variant `guest`"),
                (json!({"name": "a\u{0}b"}), "name"),
            ],
        },
        Kind {
            path: "properties",
            id: "property_id",
            body: |_, n| json!({"name": format!("House {n}"), "city": "Bremen", "rooms": 12}),
            change: json!({"rooms": 13}),
            wrong: vec![(json!({"rooms": 0}), "rooms 0"), (json!({"city": ""}), "city")],
        },
        Kind {
            path: "rooms",
            id: "id",
            body: |org, n| room(org, &n.to_string()),
            change: json!({"status": "dirty"}),
            wrong: vec![
                (json!({"beds": 0}), "beds 0"),
                (json!({"kind": "x".repeat(101)}), "kind"),
                (json!({"property": "7"}), "UUID"),
            ],
        },
        Kind {
            path: "reservations",
            id: "id",
            body: |org, n| reservation(org, "2027-05-01", &format!("2027-05-{:02}", n + 2)),
            change: json!({"guest_name": "Grace"}),
            wrong: vec![
                (json!({"departure": "2027-05-01"}), "departure"),
                (json!({"departure": "2029-05-01"}), "departure"),
                (json!({"arrival": "1899-12-31"}), "1900"),
                (json!({"amount_cents": -1}), "amount_cents -1"),
                (json!({"details": {"note": "a\u{0}b"}}), "details"),
                (json!({"details": {"note": "x".repeat(9000)}}), "details"),
                (json!({"details": [1]}), "map"),
            ],
        },
        Kind {
            path: "staff",
            id: "id",
            body: |org, n| json!({"property": first_property(org), "name": format!("Bo {n}"), "role": "kitchen"}),
            change: json!({"active": false}),
            wrong: vec![
                (json!({"name": ""}), "name"),
                (json!({"role": "boss"}), "unknown variant `boss`"),
            ],
        },
        Kind {
            path: "tasks",
            id: "id",
            body: |org, n| json!({"property": first_property(org), "title": format!("Sweep {n}")}),
            change: json!({"due_at": "2027-01-01T12:00:00Z"}),
            wrong: vec![
                (json!({"title": "x".repeat(201)}), "title"),
                (json!({"due_at": "+262000-01-01T00:00:00Z"}), "due_at"),
                (json!({"due_at": "tomorrow"}), "input"),
            ],
        },
    ]
}

fn with(mut body: Value, change: &Value) -> Value {
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

/// One cluster for all: what is checked is the same for each.
#[tokio::test]
async fn every_thing_is_created_once_changed_by_version_and_its_organisations_alone() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    for kind in kinds() {
        create_again(&server, &kind).await;
        change_by_version(&server, &kind).await;
        stay_hidden(&server, &kind).await;
        refuse_by_name(&server, &kind).await;
    }
    server.stop().await;
}

async fn create_again(server: &Server, Kind { path, id, body, change, .. }: &Kind) {
    let (key, body) = (Uuid::now_v7(), body(1, 0));
    let (first, _) = created(server.post(1, path, key, &body).await).await;
    assert_eq!((&first[*id], &first["version"]), (&json!(key), &json!(1)), "{path}");
    assert_eq!(json_of(server.get(1, &format!("/{path}/{key}")).await).await, first, "{path}");

    // Whatever has become of it since, a retry gets the first answer.
    let changed = json_of(server.patch(1, &format!("{path}/{key}"), change).await).await;
    assert_eq!(changed["version"], 2, "{path}");
    let (again, _) = created(server.post(1, path, key, &body).await).await;
    assert_eq!(again, first, "{path}");
    assert_eq!(json_of(server.get(1, &format!("/{path}/{key}")).await).await, changed, "{path}");
}

async fn change_by_version(server: &Server, Kind { path, id, body, change, .. }: &Kind) {
    let made = server.create(1, path, &body(1, 1)).await;
    let one = format!("{path}/{}", made[*id].as_str().unwrap());
    let expecting = |version: i32| with(change.clone(), &json!({"expected_version": version}));
    let (status, detail) = problem_of(server.patch(1, &one, &expecting(2)).await).await;
    assert_eq!(status, 409, "{path}: {detail}");
    assert!(detail.contains("has version 1, and version 2 was expected"), "{path}: {detail}");
    let changed = json_of(server.patch(1, &one, &expecting(1)).await).await;
    assert_eq!(changed["version"], 2, "{path}");
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(&changed[field], value, "{path}");
    }
    let (status, _) = problem_of(server.patch(1, &one, &expecting(1)).await).await;
    assert_eq!(status, 409, "{path}: the same change again");
}

async fn stay_hidden(server: &Server, Kind { path, id, body, change, .. }: &Kind) {
    let others = server.create(2, path, &body(2, 0)).await;
    let key = others[*id].as_str().unwrap();
    assert_eq!(problem_of(server.get(1, &format!("/{path}/{key}")).await).await.0, 404, "{path}");
    let changed = server.patch(1, &format!("{path}/{key}"), change).await;
    assert_eq!(problem_of(changed).await.0, 404, "{path}");
    let listed = json_of(server.get(1, &format!("/{path}")).await).await;
    let listed = listed[*path].as_array().unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|one| one[*id] != others[*id]), "{path}");
    // The same key is free for another organisation: keys are no way to learn of each other's.
    created(server.post(1, path, key.parse().unwrap(), &body(1, 2)).await).await;
    assert_eq!(json_of(server.get(2, &format!("/{path}/{key}")).await).await, others, "{path}");
    // Another organisation's property cannot be named.
    if others["property_id"] != others[*id] && others["property_id"].is_string() {
        let stolen = with(body(1, 3), &json!({"property": others["property_id"]}));
        let (status, detail) =
            problem_of(server.post(1, path, Uuid::now_v7(), &stolen).await).await;
        assert_eq!(status, 404, "{path}: {detail}");
        assert!(detail.contains("property"), "{path}: {detail}");
    }
}

async fn refuse_by_name(server: &Server, Kind { path, body, wrong, .. }: &Kind) {
    let key = Uuid::now_v7();
    for (change, named) in wrong.iter().chain([&(json!({"colour": 1}), "unknown field `colour`")]) {
        let response = server.post(1, path, key, &with(body(1, 4), change)).await;
        let (status, detail) = problem_of(response).await;
        assert_eq!(status, 422, "{path} {change}: {detail}");
        assert!(detail.contains(named), "{path} {change}: {detail}");
    }
    // What was refused has not used up its key; what was taken has.
    created(server.post(1, path, key, &body(1, 4)).await).await;
    let (status, detail) = problem_of(server.post(1, path, key, &body(1, 5)).await).await;
    assert_eq!(status, 422, "{path}: {detail}");
    assert!(detail.contains("was used for another request"), "{path}: {detail}");
    let mut wrong = vec![("/seven", "not a UUID")];
    if *path != "properties" {
        wrong.push(("?colour=1", "colour")); // One list without a query.
    }
    for (asked, named) in wrong {
        let (status, detail) = problem_of(server.get(1, &format!("/{path}{asked}")).await).await;
        assert_eq!(status, 400, "{path}{asked}: {detail}");
        assert!(detail.contains(named), "{path}{asked}: {detail}");
    }
}

#[tokio::test]
async fn pages_show_every_row_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    for Kind { path, id, body, .. } in kinds() {
        let mut made = Vec::new();
        for n in 0..5 {
            made.push(server.create(3, path, &body(3, n)).await[id].clone());
        }
        if path == "properties" {
            continue; // One list, kept whole.
        }
        let shown = walk(&server, path, path, 2).await;
        let ids: Vec<Value> = shown.iter().map(|one| one[id].clone()).collect();
        assert_eq!(ids, made, "{path}: keys of version 7 grow");
        for (asked, named) in
            [("limit=0", "limit 0"), ("limit=201", "limit 201"), ("after=x", "after")]
        {
            let (status, detail) =
                problem_of(server.get(3, &format!("/{path}?{asked}")).await).await;
            assert_eq!(status, 400, "{path}?{asked}");
            assert!(detail.contains(named), "{path}?{asked}: {detail}");
        }
    }
    server.stop().await;
}

/// All rows of a list of organisation 3, page by page.
pub(crate) async fn walk(server: &Server, path: &str, list: &str, limit: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let asked = format!("/{path}{separator}limit={limit}{after}");
        let page = json_of(server.get(3, &asked).await).await;
        let found = page[list].as_array().unwrap();
        assert!(found.len() <= limit, "{page}");
        rows.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn what_must_be_one_of_a_kind_is_so() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let refused = async |path: &str, body: &Value, named: &str| {
        let (status, detail) = problem_of(server.post(1, path, Uuid::now_v7(), body).await).await;
        assert_eq!(status, 409, "{path} {body}: {detail}");
        assert!(detail.contains(named), "{path} {body}: {detail}");
    };
    server.create(1, "rooms", &room(1, "7")).await;
    refused("rooms", &room(1, "7"), "a room of this name").await;
    server.create(2, "rooms", &room(2, "7")).await;

    let user = |email: &str| json!({"name": "Ada", "email": email, "role": "owner"});
    server.create(1, "users", &user("ada@one.example")).await;
    refused("users", &user("ADA@one.example"), "with this email").await;
    server.create(2, "users", &user("ada@one.example")).await;
    let found = json_of(server.get(1, "/users?email=Ada@ONE.example").await).await;
    assert_eq!(found["users"].as_array().unwrap().len(), 1);

    // Of equal creates at once, one makes the room and all get its answer, though its name is taken by then.
    let key = Uuid::now_v7();
    let at_once = (0..8)
        .map(|_| async { created(server.post(1, "rooms", key, &room(1, "8")).await).await.0 });
    let answers = futures::future::join_all(at_once).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_organisation_has_no_more_properties_than_are_listed_well() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    // Two are there; the last for which there is room is left out.
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    let many = "INSERT INTO properties (org_id, property_id, name, city, rooms, created_at) \
                SELECT 1, gen_random_uuid(), 'House', 'Bremen', 1, now() FROM generate_series(1, 997)";
    sqlx::raw_sql(many).execute(&mut hospitality).await.unwrap();
    let (last, body) = (Uuid::now_v7(), json!({"name": "Inn", "city": "Kiel", "rooms": 5}));
    let (inn, _) = created(server.post(1, "properties", last, &body).await).await;

    let refused = server.post(1, "properties", Uuid::now_v7(), &body).await;
    let (status, detail) = problem_of(refused).await;
    assert!(status == 409 && detail.contains("1,000 properties"), "{status}: {detail}");
    let (again, _) = created(server.post(1, "properties", last, &body).await).await;
    assert_eq!(again, inn, "a retry is no new property");
    created(server.post(2, "properties", Uuid::now_v7(), &body).await).await;
    server.stop().await;
}
