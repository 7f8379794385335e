//! Connections that nobody uses well: too many, and those that never say what they want.

use std::time::Duration;

use reference_backend::services::Service;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::Cluster;
use crate::http_server::Server;
use crate::processes::until;

const PATIENCE: Duration = Duration::from_secs(30);

async fn server(cluster: &Cluster, more: &str) -> Server {
    let settings = format!("[server]\nlisten = \"127.0.0.1:0\"\n{more}");
    Server::start(cluster.config(&settings), &[Service::Health, Service::Realtime]).await
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Whether a connection is answered; it stays open then.
async fn is_answered(connection: &mut TcpStream) -> bool {
    let asked = connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = [0; 1024];
    let read = tokio::time::timeout(PATIENCE, connection.read(&mut answer)).await.unwrap();
    asked.is_ok() && read.is_ok_and(|bytes| answer[..bytes].starts_with(b"HTTP/1.1 200"))
}

#[tokio::test]
async fn beyond_the_room_connections_are_closed_at_once_until_one_leaves() {
    let cluster = Cluster::start().await;
    let server = server(&cluster, "connections_max = 2\n").await;
    let (mut one, mut other) = (connect(&server).await, connect(&server).await);
    assert!(is_answered(&mut one).await && is_answered(&mut other).await);
    assert!(!is_answered(&mut connect(&server).await).await);
    assert!(is_answered(&mut one).await, "who is there stays");
    drop(other);
    until("room again", || async { is_answered(&mut connect(&server).await).await }).await;
    server.stop().await;
}

#[tokio::test]
async fn who_never_says_what_it_wants_is_let_go_but_not_who_listens() {
    let cluster = Cluster::start().await;
    let settings = "head_timeout_ms = 50\n[pubsub.realtime]\nheartbeat_ms = 100\n";
    let server = server(&cluster, settings).await;
    let request = server.request(Method::GET, 1, "/v1/orgs/1/realtime");
    let mut stream = request.send().await.unwrap();
    for said in ["", "GET /health/live HTTP/1.1\r\nhost: "] {
        let mut silent = connect(&server).await;
        silent.write_all(said.as_bytes()).await.unwrap();
        let mut left = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut left)).await;
        assert!(closed.is_ok(), "still open after {said:?}");
    }
    // Its head came in time, and what follows has as long as it needs.
    for _ in 0..3 {
        assert!(stream.chunk().await.unwrap().is_some());
    }
    drop(stream);
    server.stop().await;
}
