//! Connections: accepted while there is room, served, watched, and asked to finish when the process stops.

pub(super) mod activity;
mod tracked;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http_body::Body;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::caller::{ClientNames, Peer};
use crate::domain::block::Source;
use crate::server::bounds::Bounds;
use crate::server::listener::{Listener, Socket};
use crate::server::places::{Place, Places};
use crate::server::preface::CountingStream;
use activity::Ending;
pub(super) use tracked::Received;
use tracked::Tracked;

/// A client that is slower than this with its request line and headers is not a client.
const HEADER_TIMEOUT: Duration = activity::FIRST_REQUEST;
/// How long a peer has to take its leave when its connection was idle for too long.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 peer with open requests is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long accepting rests when the system has no descriptor or memory for it.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A router as hyper wants it.
#[derive(Clone)]
pub(super) struct HttpService(TowerToHyperService<Router>);

impl HttpService {
    pub(super) fn new(router: Router) -> Self {
        Self(TowerToHyperService::new(router))
    }
}

impl Service<Request<Received>> for HttpService {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Answering<axum::body::Body>;

    fn call(&self, request: Request<Received>) -> Self::Future {
        Box::pin(self.0.call(request))
    }
}

/// Accepts connections until `stop` and serves each on a task of its own.
pub(super) async fn accept(
    listener: Listener,
    service: HttpService,
    places: Arc<Places>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while let Some((socket, place)) = next(&listener, &places, &stop).await {
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = serve_socket(socket, service, &place, stop) => {}
                () = place.given_away() => {}
            }
        });
    }
}

/// The next connection that has a place; `None` when it is time to stop.
pub(super) async fn next(
    listener: &Listener,
    places: &Arc<Places>,
    stop: &CancellationToken,
) -> Option<(Socket, Place)> {
    let accepted = async {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => match places.take(peer) {
                    Some(place) => return (socket, place),
                    // Closed at once: in the kernel's queue its requests would wait until they time out.
                    None => drop(socket),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    places.accept_failed(&error);
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepted).await
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn serve_socket(
    socket: Socket,
    service: HttpService,
    place: &Place,
    stop: CancellationToken,
) {
    let mut service = OfClient {
        service,
        peer: Peer(socket.peer().map(Source::of)),
        client: ClientNames::default(),
    };
    match socket {
        Socket::Tcp { stream, tls: None } => serve(stream, service, place, stop).await,
        Socket::Tcp {
            stream,
            tls: Some(tls),
        } => {
            let Some((stream, names)) = tls.accept(stream, &stop).await else {
                return;
            };
            service.client = ClientNames(names.into());
            serve(stream, service, place, stop).await;
        }
        Socket::Unix(stream) => serve(stream, service, place, stop).await,
    }
}

/// Tells each request whose connection it came on.
struct OfClient {
    service: HttpService,
    peer: Peer,
    client: ClientNames,
}

impl Service<Request<Received>> for OfClient {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Answering<axum::body::Body>;

    fn call(&self, mut request: Request<Received>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.client.clone());
        self.service.call(request)
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2, until it ends, has to end, or `stop` asks it to.
pub(super) async fn serve<S, B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S,
    place: &Place,
    stop: CancellationToken,
) where
    S: Service<Request<Received>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Unpin + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bounds = place.bounds();
    let service = Tracked {
        service,
        activity: Arc::clone(&place.activity),
        bounds,
    };
    let builder = builder(&bounds);
    let (stream, preface) = CountingStream::new(stream);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = preface.missed(HEADER_TIMEOUT) => return place.closed(Ending::NoRequest),
        ending = activity::watch(Arc::clone(&place.activity), bounds) => {
            place.closed(ending);
            if ending != Ending::Idle {
                return;
            }
            // It may be asking at this moment: it is told to go elsewhere, and answered.
            connection.as_mut().graceful_shutdown();
            let leaving = tokio::time::timeout(LEAVE_TIMEOUT, connection.as_mut()).await;
            leaving.unwrap_or(Ok(()))
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

fn builder(bounds: &Bounds) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let (stream, connection) = bounds.windows;
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(bounds.head_bytes)
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_concurrent_streams(bounds.streams)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL);
    builder
}

/// A future that never fails; spelled out because `async` blocks cannot name theirs.
pub(super) type Answering<B> =
    std::pin::Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

#[cfg(test)]
mod tests;
