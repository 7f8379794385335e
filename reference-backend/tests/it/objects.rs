//! Pictures and papers: kept whole or not at all, shown to their organisation alone, gone when removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use reference_backend::config::{Config, Millis};
use reference_backend::services::Service;
use reqwest::header::{CONTENT_TYPE, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::common::{Cluster, property};
use crate::http_server::{
    SECRET, Server, TOKEN_HEADER, bearer, body, json_of, populate, problem_of,
};
use crate::tables::created;

pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and what follows";
/// Of a long upload.
const HALF: (usize, usize) = (1_000_000, 2_000_000);
const PDF: &[u8] = b"%PDF-1.7 and what follows";

async fn upload_as(
    server: &Server,
    (org, path): (i64, &str),
    key: Uuid,
    (kind, content): (&str, &[u8]),
) -> Response {
    server
        .request(Method::POST, org, &format!("/v1/orgs/{org}{path}"))
        .header("Idempotency-Key", key.to_string())
        .header(CONTENT_TYPE, kind)
        .body(content.to_vec())
        .send()
        .await
        .unwrap()
}

async fn upload(server: &Server, org: i64, path: &str, key: Uuid, content: &[u8]) -> Response {
    upload_as(server, (org, path), key, ("image/png", content)).await
}

async fn expense(server: &Server, org: i64) -> Uuid {
    let id = Uuid::now_v7();
    let recorded = server.post(org, "expenses", id, &body(org, 500)).await;
    assert_eq!(recorded.status(), StatusCode::CREATED);
    id
}

async fn remove(server: &Server, org: i64, path: &str) -> Response {
    let path = format!("/v1/orgs/{org}{path}");
    server.request(Method::DELETE, org, &path).send().await.unwrap()
}

/// All files below a directory, whatever they are called, but for the one that says whose they are.
pub(crate) fn files(below: &Path) -> Vec<PathBuf> {
    let within = below.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let within = within.filter(|path| !path.ends_with("owner"));
    within.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Makes a file look two hours old.
fn age(file: &Path) {
    let past = SystemTime::now() - Duration::from_secs(7_200);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(past).unwrap();
}

async fn task(cluster: &Cluster, org: i64) -> Uuid {
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    sqlx::query_scalar(
        "INSERT INTO tasks (org_id, id, property_id, title) VALUES ($1, gen_random_uuid(), $2, 'x') RETURNING id",
    )
    .bind(org)
    .bind(property(10 * u128::from(org.unsigned_abs())).uuid())
    .fetch_one(&mut hospitality)
    .await
    .unwrap()
}

async fn checkin(guest_checkin: &mut PgConnection, org: i64) -> Uuid {
    sqlx::query_scalar(
        "INSERT INTO checkins (org_id, id, reservation_id, property_id, guest_name, status) \
         VALUES ($1, gen_random_uuid(), gen_random_uuid(), $2, 'Ada', 'started') RETURNING id",
    )
    .bind(org)
    .bind(property(10 * u128::from(org.unsigned_abs())).uuid())
    .fetch_one(guest_checkin)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_receipt_is_kept_shown_and_removed() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let expense = expense(&server, 1).await;
    let (path, key) = (format!("/receipts?expense={expense}"), Uuid::now_v7());

    let (first, token) = created(upload(&server, 1, &path, key, PNG).await).await;
    assert_eq!(first["id"], key.to_string());
    assert_eq!(first["attached_to"], expense.to_string());
    assert_eq!((&first["content_type"], &first["bytes"]), (&json!("image/png"), &json!(PNG.len())));
    let (again, _) = created(upload(&server, 1, &path, key, PNG).await).await;
    assert_eq!(again, first, "a retry gets the first answer");
    assert_eq!(files(&cluster.objects()).len(), 1, "a retry writes nothing");

    let one = format!("/receipts/{key}");
    assert_eq!(server.get_after(1, &one, &token).await, first);
    let listed = server.get_after(1, &path, &token).await;
    assert_eq!(listed, json!({"receipts": [first], "next": null}));
    let other = server.get_after(1, &format!("/receipts?expense={}", Uuid::now_v7()), &token).await;
    assert_eq!(other["receipts"], json!([]));

    let content = server.get(1, &format!("{one}/content")).await;
    assert_eq!(content.status(), StatusCode::OK);
    let header = |name: &str| content.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "image/png");
    assert_eq!(
        header("content-disposition"),
        format!("attachment; filename=\"receipt-{key}.png\"")
    );
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("cache-control"), "private, no-cache");
    assert_eq!(header("content-length"), PNG.len().to_string());
    let tag = header("etag");
    assert_eq!(tag, format!("\"{}\"", first["sha256"].as_str().unwrap()));
    assert_eq!(content.bytes().await.unwrap(), PNG);
    let held = server.request(Method::GET, 1, &format!("/v1/orgs/1{one}/content"));
    let held = held.header(IF_NONE_MATCH, &tag).send().await.unwrap();
    assert_eq!(held.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(held.bytes().await.unwrap().len(), 0);

    let removed = remove(&server, 1, &one).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    assert!(removed.headers().contains_key(TOKEN_HEADER));
    for gone in [&one, &format!("{one}/content")] {
        assert_eq!(problem_of(server.get(1, gone).await).await.0, 404);
    }
    assert_eq!(problem_of(remove(&server, 1, &one).await).await.0, 404);
    assert_eq!(files(&cluster.objects()), [] as [PathBuf; 0]);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_receipts_show_each_once() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let (mine, other) = (expense(&server, 1).await, expense(&server, 1).await);
    let mut wanted = BTreeSet::new();
    for number in 0..7 {
        let to = if number == 3 { other } else { mine };
        let path = format!("/receipts?expense={to}");
        let (made, _) = created(upload(&server, 1, &path, Uuid::now_v7(), PNG).await).await;
        if to == mine {
            wanted.insert(made["id"].as_str().unwrap().to_owned());
        }
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/receipts?expense={mine}&limit=2{after}");
        let page = json_of(server.get(1, &path).await).await;
        let receipts = page["receipts"].as_array().unwrap();
        seen.extend(receipts.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(receipts.len(), 2);
        after = format!("&after={next}");
    }
    assert!(seen.is_sorted());
    assert_eq!(seen.len(), 6);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), wanted);
    server.stop().await;
}

#[tokio::test]
async fn another_organisation_sees_nothing_of_it_and_cannot_attach_to_it() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let theirs = expense(&server, 1).await;
    let key = Uuid::now_v7();
    created(upload(&server, 1, &format!("/receipts?expense={theirs}"), key, PNG).await).await;

    for path in [format!("/receipts/{key}"), format!("/receipts/{key}/content")] {
        assert_eq!(problem_of(server.get(2, &path).await).await.0, 404, "{path}");
    }
    assert_eq!(problem_of(remove(&server, 2, &format!("/receipts/{key}")).await).await.0, 404);
    let listed = json_of(server.get(2, "/receipts").await).await;
    assert_eq!(listed["receipts"], json!([]));
    let foreign = format!("/receipts?expense={theirs}");
    let refused = upload(&server, 2, &foreign, Uuid::now_v7(), PNG).await;
    let (status, detail) = problem_of(refused).await;
    assert_eq!((status, detail), (404, format!("organisation 2 has no expense {theirs}")));

    // The same key is another receipt there; removing it leaves the first alone.
    let own = expense(&server, 2).await;
    created(upload(&server, 2, &format!("/receipts?expense={own}"), key, PDF_AS_PNG).await).await;
    assert_eq!(remove(&server, 2, &format!("/receipts/{key}")).await.status(), 204);
    let kept = server.get(1, &format!("/receipts/{key}/content")).await;
    assert_eq!(kept.bytes().await.unwrap(), PNG);
    server.stop().await;
}

/// Not a PDF: only other bytes than [`PNG`].
const PDF_AS_PNG: &[u8] = b"\x89PNG\r\n\x1a\n other bytes";

#[tokio::test]
async fn only_what_an_expense_is_takes_a_receipt() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let revenue = Uuid::now_v7();
    let recorded = server.post(1, "revenues", revenue, &body(1, 5)).await;
    assert_eq!(recorded.status(), StatusCode::CREATED);
    // From before the event store: known by its row alone.
    let older = Uuid::new_v8([9; 16]);
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::query("INSERT INTO expenses_partitioned VALUES (1, current_date, $1, $2, 'x', 5, now())")
        .bind(older)
        .bind(property(10).uuid())
        .execute(&mut finance)
        .await
        .unwrap();
    for (of, expected) in [
        (revenue, 404),
        (Uuid::now_v7(), 404),
        (Uuid::new_v8([8; 16]), 404),
        (Uuid::nil(), 404),
        (older, 201),
    ] {
        let path = format!("/receipts?expense={of}");
        let answer = upload(&server, 1, &path, Uuid::now_v7(), PNG).await;
        assert_eq!(answer.status().as_u16(), expected, "{of}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_said_and_nothing_is_kept() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let limit = "[objects.bytes_max]\nreceipts = 2000\n";
    let server = Server::all(&cluster, limit).await;
    let expense = expense(&server, 1).await;
    let path = format!("/receipts?expense={expense}");
    let long: Vec<u8> = PNG.iter().copied().cycle().take(2_001).collect();
    for (kind, content, status, named) in [
        ("image/png", PDF, 422, "not image/png"),
        ("image/png", b"".as_slice(), 422, "empty"),
        ("image/png", b"\x89PN", 422, "not image/png"),
        ("image/svg+xml", b"<svg/>", 415, "its own Content-Type"),
        ("text/html", b"<script>", 415, "its own Content-Type"),
        ("../../etc/passwd", PNG, 415, "its own Content-Type"),
        ("image/png", &long, 413, "2000 bytes"),
    ] {
        let refused = upload_as(&server, (1, &path), Uuid::now_v7(), (kind, content)).await;
        let (found, detail) = problem_of(refused).await;
        assert_eq!(found, status, "{kind}: {detail}");
        assert!(detail.contains(named), "{kind}: {detail}");
    }
    for (bad, status, named) in [
        ("/receipts".to_owned(), 400, "expense"),
        (format!("{path}&name=../../x.png"), 400, "name"),
        ("/receipts?expense=../../etc".to_owned(), 400, "expense"),
    ] {
        let refused = upload(&server, 1, &bad, Uuid::now_v7(), PNG).await;
        let (found, detail) = problem_of(refused).await;
        assert_eq!(found, status, "{bad}");
        assert!(detail.contains(named), "{bad}: {detail}");
    }
    for hostile in ["..%2F..%2Fetc%2Fpasswd", "%2e%2e", "a%00b", "7%23", "*"] {
        for path in [format!("/receipts/{hostile}"), format!("/receipts/{hostile}/content")] {
            let status = server.get(1, &path).await.status().as_u16();
            assert!([400, 404].contains(&status), "{path}: {status}");
        }
    }
    let exact = upload(&server, 1, &path, Uuid::now_v7(), &long[..2_000]).await;
    assert_eq!(exact.status(), StatusCode::CREATED, "the limit itself is taken");
    assert_eq!(files(&cluster.objects()).len(), 1, "what was refused left nothing");
    server.stop().await;
}

#[tokio::test]
async fn of_two_contents_under_one_key_one_is_kept() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let path = format!("/receipts?expense={}", expense(&server, 1).await);
    let key = Uuid::now_v7();
    let contents = [PNG, PDF_AS_PNG];
    let race = (0..12).map(|turn| upload(&server, 1, &path, key, contents[turn % 2]));
    let answers = join_all(race).await;
    let content = server.get(1, &format!("/receipts/{key}/content")).await.bytes().await.unwrap();
    for (turn, answer) in answers.into_iter().enumerate() {
        let expected = if contents[turn % 2] == content { 201 } else { 422 };
        assert_eq!(answer.status().as_u16(), expected, "turn {turn}");
    }
    assert_eq!(files(&cluster.objects()).len(), 1, "the others' objects are removed at once");
    server.stop().await;
}

#[tokio::test]
async fn papers_go_with_their_checkin_and_images_with_their_task() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let mut guest_checkin = cluster.admin("plimsoll_guest_checkin").await;
    let (own, theirs) =
        (checkin(&mut guest_checkin, 1).await, checkin(&mut guest_checkin, 2).await);
    let key = Uuid::now_v7();
    let post = async |of| {
        let path = format!("/guest-documents?checkin={of}");
        upload_as(&server, (1, &path), key, ("application/pdf", PDF)).await
    };
    assert_eq!(problem_of(post(theirs).await).await.0, 404);
    let (made, token) = created(post(own).await).await;
    let listed = server.get_after(1, &format!("/guest-documents?checkin={own}"), &token).await;
    assert_eq!(listed["guest_documents"], json!([made]));
    assert_eq!(problem_of(server.get(2, &format!("/guest-documents/{key}")).await).await.0, 404);
    sqlx::query("DELETE FROM checkins WHERE id = $1")
        .bind(own)
        .execute(&mut guest_checkin)
        .await
        .unwrap();
    assert_eq!(
        problem_of(server.get(1, &format!("/guest-documents/{key}/content")).await).await.0,
        404
    );

    let (task, other) = (task(&cluster, 1).await, task(&cluster, 1).await);
    let images = format!("/tasks/{task}/images");
    let (made, token) = created(upload(&server, 1, &images, key, PNG).await).await;
    assert_eq!(server.get_after(1, &images, &token).await["images"], json!([made]));
    assert_eq!(server.get_after(1, &format!("{images}/{key}"), &token).await, made);
    for foreign in [
        server.get(1, &format!("/tasks/{other}/images/{key}")).await,
        server.get(2, &format!("{images}/{key}/content")).await,
        remove(&server, 1, &format!("/tasks/{other}/images/{key}")).await,
        upload(&server, 2, &images, Uuid::now_v7(), PNG).await,
    ] {
        assert_eq!(problem_of(foreign).await.0, 404);
    }
    let pdf = ("application/pdf", PDF);
    let pdf = upload_as(&server, (1, &images), Uuid::now_v7(), pdf).await;
    let (status, detail) = problem_of(pdf).await;
    assert_eq!(status, 415, "{detail}");
    assert!(detail.contains("image/jpeg, image/png, image/webp are"), "{detail}");
    assert_eq!(remove(&server, 1, &format!("{images}/{key}")).await.status(), 204);
    server.stop().await;
}

#[tokio::test]
async fn leftovers_are_swept_and_nothing_else() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    // What is there at the start: an old object and an old half without rows, a young one, and a stranger's file.
    let receipts = cluster.objects().join("receipts");
    let [orphan, young] = [1, 1].map(|org| receipts.join(format!("{org}/{}", Uuid::now_v7())));
    let half = receipts.join(format!("1/{}#1", Uuid::now_v7()));
    let stranger = receipts.join("README");
    std::fs::create_dir_all(receipts.join("1")).unwrap();
    for file in [&orphan, &young, &half, &stranger] {
        std::fs::write(file, PNG).unwrap();
    }
    for file in [&orphan, &half, &stranger] {
        age(file);
    }
    let mut config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    config.objects.sweep_interval_ms = Millis(50);
    let server = Server::start(config, &Service::ALL).await;
    eventually("the leftovers are gone", || !orphan.exists() && !half.exists()).await;
    assert!(young.exists() && stranger.exists());

    // An object with a row stays, however old; when its row goes, so does it.
    let path = format!("/receipts?expense={}", expense(&server, 1).await);
    let key = Uuid::now_v7();
    created(upload(&server, 1, &path, key, PNG).await).await;
    let known: BTreeSet<_> = [young, stranger].into();
    let named = files(&receipts).into_iter().find(|file| !known.contains(file)).unwrap();
    age(&named);
    // A second leftover tells that a sweep came by.
    std::fs::write(&orphan, PNG).unwrap();
    age(&orphan);
    eventually("a sweep came by", || !orphan.exists()).await;
    assert!(named.exists());
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::query("DELETE FROM receipts").execute(&mut finance).await.unwrap();
    eventually("the object followed its row", || !named.exists()).await;
    server.stop().await;
}

/// The beginning of an upload that says it is longer: so many bytes, of so many.
pub(crate) async fn half_an_upload(
    address: &str,
    expense: Uuid,
    key: Uuid,
    (sent, said): (usize, usize),
) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/orgs/1/receipts?expense={expense} HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Bearer {}\r\nIdempotency-Key: {key}\r\nContent-Type: image/png\r\n\
         Content-Length: {said}\r\n\r\n",
        bearer(1, 3600)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let content: Vec<u8> = PNG.iter().copied().cycle().take(sent).collect();
    stream.write_all(&content).await.unwrap();
    stream
}

pub(crate) fn halves(cluster: &Cluster) -> Vec<PathBuf> {
    let found = files(&cluster.objects()).into_iter();
    found.filter(|file| file.to_string_lossy().contains('#')).collect()
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let (expense, key) = (expense(&server, 1).await, Uuid::now_v7());
    let address = server.url.strip_prefix("http://").unwrap();
    let stream = half_an_upload(address, expense, key, HALF).await;
    eventually("half of it is there", || !halves(&cluster).is_empty()).await;
    assert_eq!(problem_of(server.get(1, &format!("/receipts/{key}")).await).await.0, 404);
    drop(stream);
    eventually("it is gone", || files(&cluster.objects()).is_empty()).await;
    // The same key is free for the whole of it.
    let path = format!("/receipts?expense={expense}");
    created(upload(&server, 1, &path, key, PNG).await).await;
    server.stop().await;
}

/// The program itself, which can be killed.
pub(crate) struct Program {
    pub(crate) process: Child,
    pub(crate) address: String,
}

impl Program {
    /// With settings, and variables beside those that every process has.
    pub(crate) async fn start(
        cluster: &Cluster,
        config: &Config,
        variables: &[(&str, &str)],
    ) -> Self {
        let settings = cluster.objects().with_extension("toml");
        let mut text = toml::Table::try_from(config).unwrap();
        // Chosen beside the file, not in it.
        text.remove("environment");
        std::fs::write(&settings, text.to_string()).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_reference-backend"))
            .args(["serve", "--config"])
            .arg(&settings)
            .env("PLIMSOLL_BACKEND_TOKEN_SECRET", SECRET)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("it says where it listens");
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { process, address }
    }
}

#[tokio::test]
async fn a_process_killed_amid_an_upload_leaves_nothing_that_is_seen_or_stays() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let (expense, key) = (expense(&server, 1).await, Uuid::now_v7());
    server.stop().await;

    let config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    let mut program = Program::start(&cluster, &config, &[]).await;
    let stream = half_an_upload(&program.address, expense, key, HALF).await;
    eventually("half of it is there", || !halves(&cluster).is_empty()).await;
    program.process.kill().await.unwrap();
    drop(stream);
    let left = files(&cluster.objects());
    assert_eq!(left, halves(&cluster), "no object has its name yet");
    assert_eq!(left.len(), 1, "the kill came too late to show anything");

    age(&left[0]);
    let server = Server::all(&cluster, "").await;
    assert_eq!(problem_of(server.get(1, &format!("/receipts/{key}")).await).await.0, 404);
    eventually("the half is swept", || files(&cluster.objects()).is_empty()).await;
    let path = format!("/receipts?expense={expense}");
    created(upload(&server, 1, &path, key, PNG).await).await;
    server.stop().await;
}

#[tokio::test]
async fn objects_of_another_cluster_are_neither_swept_nor_added_to() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let path = format!("/receipts?expense={}", expense(&server, 1).await);
    created(upload(&server, 1, &path, Uuid::now_v7(), PNG).await).await;
    server.stop().await;

    // As if another cluster had written it: no row here names it.
    std::fs::write(cluster.objects().join("owner"), "7").unwrap();
    let mut finance = cluster.admin("plimsoll_finance").await;
    sqlx::raw_sql("DELETE FROM receipts").execute(&mut finance).await.unwrap();
    let kept = files(&cluster.objects());
    age(&kept[0]);
    let mut config = cluster.config("[server]\nlisten = \"127.0.0.1:0\"");
    config.objects.sweep_interval_ms = Millis(10);
    let server = Server::start(config, &Service::ALL).await;
    for _ in 0..5 {
        let refused = upload(&server, 1, &path, Uuid::now_v7(), PNG).await;
        assert!(problem_of(refused).await.0 >= 500);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
    assert_eq!(files(&cluster.objects()), kept);
}
