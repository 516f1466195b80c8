//! What is true of every call, whatever its service: it ends by the caller's deadline, and an error says why in
//! our words, also where the protocol's own code refuses before ours is asked.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::grpc::{self, BadTimeout};
use crate::status::Reason;

/// Puts a [`Guard`] around a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuardLayer;

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard(inner)
    }
}

/// A service whose calls end in time and whose errors carry details.
#[derive(Clone, Debug)]
pub(super) struct Guard<S>(S);

impl<S, R> Service<Request<R>> for Guard<S>
where
    S: Service<Request<R>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let deadline = match grpc::is_grpc(request.headers()) {
            true => grpc::timeout(request.headers()),
            false => Ok(None),
        };
        let answer = self.0.call(request);
        Box::pin(async move {
            match deadline {
                Ok(None) => Ok(explained(answer.await?)),
                Ok(Some(time_limit)) => match tokio::time::timeout(time_limit, answer).await {
                    Ok(answer) => Ok(explained(answer?)),
                    Err(_) => Ok(too_late()),
                },
                // Nobody has looked whether there is such a method, so it must not look like a yes.
                Err(error) => Ok(bad_request(&error)),
            }
        })
    }
}

fn bad_request(error: &BadTimeout) -> Response<Body> {
    let refused = Reason::MalformedRequest.status(error.to_string());
    let mut answer = refused.into_http();
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

fn too_late() -> Response<Body> {
    let message = "deadline exceeded; the operation may still complete";
    Reason::DeadlineExceeded.status(message).into_http()
}

/// The answer; an error without details gets some, and what is not here is not found in HTTP's words as well: whoever
/// asks by HTTP alone takes a 200 for a yes.
fn explained(mut answer: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(answer.headers()) else {
        return answer;
    };
    if status.code() != Code::Ok && status.details().is_empty() {
        answer = explain(&status).into_http();
    }
    if status.code() == Code::Unimplemented {
        *answer.status_mut() = StatusCode::NOT_FOUND;
    }
    answer
}

/// What the protocol's own code says, in our words. Only that code makes a status without details.
fn explain(status: &Status) -> Status {
    let reason = match status.code() {
        // It calls a message that it cannot read its own failure; it is the sender's.
        Code::Internal | Code::InvalidArgument | Code::DataLoss => {
            return Reason::MalformedRequest.status("the request cannot be read as its message");
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            let max = super::MESSAGE_BYTES_MAX;
            return Reason::MessageTooLarge.status(format!("a request is at most {max} bytes"));
        }
        Code::Unimplemented if status.message().is_empty() => {
            return Reason::Unimplemented.status("there is no such method");
        }
        Code::Unimplemented => Reason::Unimplemented,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        _ => return status.clone(),
    };
    reason.status(status.message())
}
