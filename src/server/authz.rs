//! The authorization listener: one single-threaded runtime a worker, connections dealt out in turn.
//!
//! A thread that owns its connections answers faster than threads that share them: nothing moves between cores.

mod gate;

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context;
use axum::Router;
use http_body_util::Either;
use hyper::{Request, Response};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::ext_authz::CheckService;
use crate::ext_authz::service::AnswerBody;
use crate::server::connection::{self, Answering, Received};
use crate::server::health::Health;
use crate::server::listener::{Listener, Socket};
use crate::server::places::{Place, Places};
use crate::server::tls::Tls;
use gate::Call;
pub(super) use gate::Gate;

/// What the listener serves: the hot path by hand, health by a router, nothing else.
#[derive(Clone)]
struct AuthzService {
    check: CheckService,
    health: Router,
    gate: Gate,
}

impl hyper::service::Service<Request<Received>> for AuthzService {
    type Response = Response<Either<AnswerBody, axum::body::Body>>;
    type Error = std::convert::Infallible;
    type Future = Answering<Either<AnswerBody, axum::body::Body>>;

    fn call(&self, request: Request<Received>) -> Self::Future {
        match gate::call_of(&request) {
            Ok(Call::Check) => {
                let check = self.check.clone();
                Box::pin(async move { Ok(check.call(request).await?.map(Either::Left)) })
            }
            Ok(Call::Health) => {
                let health = self.health.clone();
                Box::pin(async move { Ok(health.oneshot(request).await?.map(Either::Right)) })
            }
            Err(why) => {
                let refusal = self.gate.refuse(why, &request);
                Box::pin(async move { Ok(refusal.map(Either::Right)) })
            }
        }
    }
}

/// A connection on its way to a worker's runtime.
enum Handed {
    Tcp(std::net::TcpStream, Option<Arc<Tls>>),
    Unix(std::os::unix::net::UnixStream),
}

/// Connections on their way to one worker, each with its place among all that are open.
type Queue = mpsc::Sender<(Handed, Place)>;

/// The threads that answer checks.
pub(super) struct Workers {
    queues: Vec<Queue>,
    finished: Vec<oneshot::Receiver<()>>,
    turn: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` threads, 0 is one per CPU, for so many connections.
    pub(super) fn start(
        count: usize,
        connections: usize,
        check: &CheckService,
        gate: &Gate,
        health: &Arc<Health>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let count = NonZeroUsize::new(count)
            .map_or_else(thread::available_parallelism, Ok)?
            .get();
        let mut workers = Self {
            queues: Vec::new(),
            finished: Vec::new(),
            turn: Arc::default(),
        };
        for number in 0..count {
            let (queue, incoming) = mpsc::channel(connections);
            let (done, finished) = oneshot::channel();
            let (check, gate) = (check.clone(), gate.clone());
            let (health, stop) = (Arc::clone(health), stop.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            thread::Builder::new()
                .name(format!("authz-{number}"))
                .spawn(move || {
                    runtime.block_on(work(incoming, check, gate, health, stop));
                    // Nobody listens any more when the process is past its deadline.
                    done.send(()).unwrap_or_default();
                })
                .context("cannot start an authz worker")?;
            workers.queues.push(queue);
            workers.finished.push(finished);
        }
        Ok(workers)
    }

    /// Accepts on every listener until `stop`.
    pub(super) fn accept(
        &self,
        listeners: Vec<Listener>,
        places: &Arc<Places>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        for listener in listeners {
            tasks.spawn(deal(
                listener,
                Arc::clone(places),
                self.queues.clone(),
                Arc::clone(&self.turn),
                stop.clone(),
            ));
        }
    }

    /// Waits until every worker has finished its connections.
    pub(super) async fn finished(self) {
        drop(self.queues);
        for finished in self.finished {
            if finished.await.is_err() {
                tracing::error!("an authz worker ended by a panic");
            }
        }
    }
}

async fn deal(
    listener: Listener,
    places: Arc<Places>,
    queues: Vec<Queue>,
    turn: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    while let Some((socket, place)) = connection::next(&listener, &places, &stop).await {
        let handed = match release(socket) {
            Ok(handed) => (handed, place),
            Err(error) => {
                places.accept_failed(&error);
                continue;
            }
        };
        let at = turn.fetch_add(1, Ordering::Relaxed) % queues.len();
        if queues[at].try_send(handed).is_err() {
            tracing::warn!(
                worker = at,
                "a connection was closed: the worker's queue is full"
            );
        }
    }
}

/// Takes a connection off this runtime.
fn release(socket: Socket) -> std::io::Result<Handed> {
    Ok(match socket {
        Socket::Tcp { stream, tls } => Handed::Tcp(stream.into_std()?, tls),
        Socket::Unix(stream) => Handed::Unix(OwnedFd::from(stream.into_std()?).into()),
    })
}

async fn serve(
    handed: Handed,
    service: AuthzService,
    place: &Place,
    stop: CancellationToken,
) -> std::io::Result<()> {
    match handed {
        Handed::Tcp(stream, tls) => {
            let stream = TcpStream::from_std(stream)?;
            let Some(tls) = tls else {
                connection::serve(stream, service, place, stop).await;
                return Ok(());
            };
            if let Some((stream, _)) = tls.accept(stream, &stop).await {
                connection::serve(stream, service, place, stop).await;
            }
        }
        Handed::Unix(stream) => {
            connection::serve(UnixStream::from_std(stream)?, service, place, stop).await;
        }
    }
    Ok(())
}

async fn work(
    mut incoming: mpsc::Receiver<(Handed, Place)>,
    check: CheckService,
    gate: Gate,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let (server, follow) = health.grpc();
    let health = health.bounded(Routes::new(server).prepare().into_axum_router());
    let service = AuthzService {
        check,
        health,
        gate,
    };
    let connections = TaskTracker::new();
    let background = TaskTracker::new();
    let follower = background.spawn(follow);
    while let Some((handed, place)) = incoming.recv().await {
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                served = serve(handed, service, &place, stop) => if let Err(error) = served {
                    tracing::debug!(%error, "a worker could not take a connection");
                },
                () = place.given_away() => {}
            }
        });
    }
    connections.close();
    connections.wait().await;
    follower.abort();
}
