//! Fetches a small document by HTTP: one address, one request, no redirects, all of it in bounds of time and size.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clock::{Clock as _, SystemClock};
use crate::oidc::KEY_SET_BYTES_MAX;
use crate::server::tls::files::public;
use crate::server::tls::{TlsFileError, client_config};

/// For all of it: name, connection, handshake, answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An issuer's answer has a dozen.
const HEADERS_MAX: usize = 64;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum FetchError {
    #[error("the URL names no host")]
    NoHost,
    #[error("the certificates to trust cannot be used")]
    Roots(#[from] TlsFileError),
    #[error("cannot find its host")]
    Resolve(#[source] io::Error),
    #[error("its host is not this machine, and plain text does not leave it")]
    NotLoopback,
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("cannot speak HTTP with it")]
    Http(#[source] hyper::Error),
    #[error("it answered {0}; the document itself is needed, and redirects are not followed")]
    Status(StatusCode),
    #[error("the answer is cut off, or larger than {KEY_SET_BYTES_MAX} bytes")]
    Body,
    #[error("it took longer than {TIMEOUT:?}")]
    Timeout,
    #[error("a read panicked")]
    Panicked,
}

/// Where a document is.
pub(super) struct Fetcher {
    url: String,
    ca_file: Option<PathBuf>,
}

/// The parts of the URL.
struct Place {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl Fetcher {
    pub(super) fn new(url: &str, ca_file: Option<PathBuf>) -> Self {
        Self {
            url: url.to_owned(),
            ca_file,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it could be fetched, as far as that can be told without asking anybody.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        let place = self.place()?;
        if place.tls {
            connector(self.ca_file.as_ref())?;
        }
        Ok(())
    }

    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        match tokio::time::timeout(TIMEOUT, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout),
        }
    }

    async fn ask(&self) -> Result<Bytes, FetchError> {
        let place = self.place()?;
        let stream = connect(&place).await?;
        if !place.tls {
            return exchange(stream, &place).await;
        }
        // Read each time: the certificates of a CA change too. Beside the runtime, because the system has many.
        let ca_file = self.ca_file.clone();
        let made = tokio::task::spawn_blocking(move || connector(ca_file.as_ref()));
        let connector = made.await.map_err(|_| FetchError::Panicked)??;
        let name = ServerName::try_from(place.host.clone()).map_err(|_| FetchError::NoHost)?;
        let stream = connector.connect(name, stream).await;
        exchange(stream.map_err(FetchError::Connect)?, &place).await
    }

    fn place(&self) -> Result<Place, FetchError> {
        let uri: Uri = self.url.parse().map_err(|_| FetchError::NoHost)?;
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or(FetchError::NoHost)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Place {
            uri,
            host,
            port,
            tls,
        })
    }
}

async fn connect(place: &Place) -> Result<TcpStream, FetchError> {
    let found = tokio::net::lookup_host((place.host.as_str(), place.port)).await;
    let found = found.map_err(FetchError::Resolve)?;
    let usable = |address: &SocketAddr| place.tls || address.ip().to_canonical().is_loopback();
    let addresses: Vec<SocketAddr> = found.filter(usable).collect();
    if addresses.is_empty() {
        return Err(FetchError::NotLoopback);
    }
    let connected = TcpStream::connect(addresses.as_slice()).await;
    connected.map_err(FetchError::Connect)
}

fn connector(ca_file: Option<&PathBuf>) -> Result<TlsConnector, FetchError> {
    let what = "certificates of the issuer's CA";
    let ca_file = ca_file.map(PathBuf::as_path);
    let config = client_config(ca_file, what, None, SystemClock.now(), public)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: &Place,
) -> Result<Bytes, FetchError> {
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    let asking = async move {
        let answer = sender.send_request(request(place)).await;
        let answer = answer.map_err(FetchError::Http)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), KEY_SET_BYTES_MAX).collect();
        let body = body.await.map_err(|_| FetchError::Body)?;
        Ok(body.to_bytes())
    };
    tokio::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        // What it has received before it ended is still to be read.
        _ = connection => asking.await,
    }
}

fn request(place: &Place) -> Request<Empty<Bytes>> {
    let path = place.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    let authority = place
        .uri
        .authority()
        .map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let agent = concat!("keystile/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}
