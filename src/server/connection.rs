//! Connections: accepted, served, and asked to finish when the process stops.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::caller::ClientNames;
use crate::server::listener::{Listener, Socket};
use crate::server::silence::Listened;

/// Envoy opens one connection a worker; a thousand are many proxies or somebody's mistake.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// As Envoy's own default; more wait in Envoy.
const STREAMS_MAX: u32 = 1024;
/// A client that is slower than this with its request line and headers is not a client.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 peer is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A router as hyper wants it.
pub(super) type HttpService = TowerToHyperService<Router>;

/// Accepts connections until `stop` and serves each on a task of its own.
pub(super) async fn accept(
    listener: Listener,
    service: HttpService,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some((socket, slot)) = next(&listener, &slots, &stop).await {
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            serve_socket(socket, service, stop).await;
            drop(slot);
        });
    }
}

/// The next connection and its place among those that are open; `None` when it is time to stop.
pub(super) async fn next(
    listener: &Listener,
    slots: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(Socket, OwnedSemaphorePermit)> {
    let accepted = async {
        // No place, no accept: whoever is too many waits in the kernel's queue.
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok(socket) => return Some((socket, slot)),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepted).await.flatten()
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn serve_socket(socket: Socket, service: HttpService, stop: CancellationToken) {
    match socket {
        Socket::Tcp { stream, tls: None } => serve(stream, service, stop).await,
        Socket::Tcp {
            stream,
            tls: Some(tls),
        } => {
            let Some((stream, names)) = tls.accept(stream, &stop).await else {
                return;
            };
            let service = OfClient {
                service,
                client: ClientNames(names.into()),
            };
            serve(stream, service, stop).await;
        }
        Socket::Unix(stream) => serve(stream, service, stop).await,
    }
}

/// Tells each request whose connection it came on.
struct OfClient {
    service: HttpService,
    client: ClientNames,
}

impl Service<Request<Incoming>> for OfClient {
    type Response = <HttpService as Service<Request<Incoming>>>::Response;
    type Error = <HttpService as Service<Request<Incoming>>>::Error;
    type Future = <HttpService as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client.clone());
        self.service.call(request)
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2, until it ends or `stop` asks it to.
pub(super) async fn serve<S, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL);
    let (stream, heard) = Listened::new(stream);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = heard.nothing_for(HEADER_TIMEOUT) => {
            tracing::debug!("closed a connection on which nothing was asked");
            return;
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended early");
    }
}

/// A future that never fails; spelled out because `async` blocks cannot name theirs.
pub(super) type Answering<B> =
    std::pin::Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;
