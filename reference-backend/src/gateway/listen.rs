//! Connections: taken in up to a number, each answered in a task of its own until it ends or the process stops. HTTP/1.1
//! alone: one request at a time on each, so that their number bounds what one client can begin.

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config;

/// Wait after an accept that failed for want of something that others may give back.
const WANT: Duration = Duration::from_secs(1);

/// Answers until told to stop, and then what is in flight. Connections that are left end with this.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    settings: &config::Server,
    stop: CancellationToken,
) {
    let refused = counter!("backend_connections_refused_total");
    let head_timeout = settings.head_timeout_ms.duration();
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Closed at once: who waits for room would hold what it waits for.
            Ok(_) if open.len() >= settings.connections_max => refused.increment(1),
            Ok((stream, _)) => {
                open.spawn(connection(stream, routes.clone(), head_timeout, stop.clone()));
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                stop.run_until_cancelled(tokio::time::sleep(WANT)).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

fn is_the_clients(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers one request after another.
async fn connection(
    stream: TcpStream,
    routes: Router,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    // An answer is one small packet; waiting to fill it only adds latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let mut http = http1::Builder::new();
    // Without a timer, no time limit of hyper's is kept.
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection broke");
    }
}
