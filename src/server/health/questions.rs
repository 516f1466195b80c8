//! What strangers' questions about the health may hold: nobody has to show a key to ask them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::admin;

const PATHS: &str = "/grpc.health.v1.Health/";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// A question names a service and nothing else.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 10;
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// A `Watch` has no end of its own and takes some 10 KB.
pub(super) const WATCHERS_MAX: usize = 1024;

/// Bounds the questions about the health among the routes.
pub(super) fn bounded(router: Router, watchers: Arc<Semaphore>) -> Router {
    router.layer(from_fn_with_state(watchers, ask))
}

async fn ask(State(watchers): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with(PATHS) {
        return next.run(request).await;
    }
    let watches = request.uri().path() == WATCH;
    let (head, body) = request.into_parts();
    // Read here: tonic would make room for as much as a message says that it is long, before any of it has come.
    let reading = to_bytes(body, MESSAGE_BYTES_MAX);
    let message = match tokio::time::timeout(MESSAGE_TIMEOUT, reading).await {
        Ok(Ok(message)) => message,
        Ok(Err(_)) => return admin::overloaded().into_http(),
        Err(_) => return Status::deadline_exceeded("the message did not come").into_http(),
    };
    let watcher = match watches.then(|| watchers.try_acquire_owned()) {
        None => None,
        Some(Ok(watcher)) => Some(watcher),
        Some(Err(_)) => return admin::overloaded().into_http(),
    };
    let request = Request::from_parts(head, Body::from(message));
    let answer = next.run(request).await;
    let Some(watcher) = watcher else {
        return answer;
    };
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            // Held for as long as the body is.
            let _watcher = &watcher;
            frame
        }))
    })
}
