//! A user's line to the target: one HTTP/1.1 connection, opened when it is first needed and kept as long as the server keeps
//! it.
//!
//! Each user has one, so there is no pool to ask, and what a user leaves half read is nobody else's trouble: a line whose
//! answer was not read to the end is not used again. A command is never sent twice: only a request of which not a byte had
//! left when the server closed the connection goes out on another.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower::ServiceExt;

/// A request as it goes out.
pub(crate) type Outgoing = Request<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No connection came about.
    Connect,
    /// The connection was lost before the answer began.
    Lost,
    /// The answer ended early, or was none.
    Answer,
}

impl Broken {
    /// In words that do not vary from request to request.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connect => "could not connect",
            Self::Lost => "connection lost",
            Self::Answer => "answer broke off",
        }
    }
}

/// Opens connections to one server.
#[derive(Clone)]
pub(crate) struct Dialer {
    server: Uri,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Plain(HttpConnector),
    // Boxed: it is much the larger.
    Tls(Box<HttpsConnector<HttpConnector>>),
}

impl Dialer {
    /// To the server of an address `http://…` or `https://…`. For https, the certificates that the system trusts are loaded
    /// here.
    pub(crate) fn new(server: Uri) -> Result<Self, std::io::Error> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let way = if server.scheme_str() == Some("https") {
            tcp.enforce_http(false);
            let tls = HttpsConnectorBuilder::new().try_with_platform_verifier();
            let tls = tls.map_err(std::io::Error::other)?;
            Way::Tls(Box::new(tls.https_only().enable_http1().wrap_connector(tcp)))
        } else {
            Way::Plain(tcp)
        };
        Ok(Self { server, way })
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        let server = self.server.clone();
        match &self.way {
            Way::Plain(tcp) => greet(tcp.clone().oneshot(server).await).await,
            Way::Tls(tls) => greet((**tls).clone().oneshot(server).await).await,
        }
    }
}

/// Takes a new connection into use. A task of its own reads and writes, so that a connection which the server closes while
/// its user has nothing to send is closed here, too; the task ends with its connection or its line.
async fn greet<S, E>(stream: Result<S, E>) -> Result<SendRequest<Full<Bytes>>, Broken>
where
    S: Read + Write + Unpin + Send + 'static,
    E: std::fmt::Display,
{
    let stream = stream.map_err(|error| {
        tracing::debug!(%error, "could not connect");
        Broken::Connect
    })?;
    let (sender, connection) = http1::handshake(stream).await.map_err(|_| Broken::Connect)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

/// One user's connection, or none as yet.
pub(crate) struct Line {
    dialer: Arc<Dialer>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, open: None }
    }

    /// Sends a request and reads its answer to the last byte; returns its status, and its body if that is wanted.
    pub(crate) async fn ask(
        &mut self,
        mut request: Outgoing,
        keep_body: bool,
    ) -> Result<(u16, Vec<u8>), Broken> {
        // Taken out until all is read: whoever gives up in between drops the connection with everything on it.
        if let Some(mut sender) = self.open.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => return self.read(sender, response, keep_body).await,
                // The server hung up before anything was written: no reason to fail.
                Err(mut error) => request = error.take_message().ok_or(Broken::Lost)?,
            }
        }
        let mut sender = self.dialer.dial().await?;
        let response = sender.send_request(request).await.map_err(|_| Broken::Lost)?;
        self.read(sender, response, keep_body).await
    }

    async fn read(
        &mut self,
        sender: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
        keep: bool,
    ) -> Result<(u16, Vec<u8>), Broken> {
        let (status, mut body) = (response.status().as_u16(), response.into_body());
        let mut kept = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Broken::Answer)?;
            if let Some(data) = frame.data_ref().filter(|_| keep) {
                kept.extend_from_slice(data);
            }
        }
        self.open = Some(sender);
        Ok((status, kept))
    }
}
