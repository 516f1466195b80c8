//! What is true of every call, whatever its service: it ends by the caller's deadline, and an error says why in
//! our words, also where the protocol's own code refuses before ours is asked.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request, Response, StatusCode};
use tonic::{Code, Status};
use tower::{Layer, Service};

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
        let deadline = match is_grpc(request.headers()) {
            true => deadline(request.headers()),
            false => Ok(None),
        };
        let answer = self.0.call(request);
        Box::pin(async move {
            match deadline {
                Ok(None) => Ok(explained(answer.await?)),
                Ok(Some(patience)) => match tokio::time::timeout(patience, answer).await {
                    Ok(answer) => Ok(explained(answer?)),
                    Err(_) => Ok(too_late()),
                },
                // Nobody has looked whether there is such a method, so it must not look like a yes.
                Err(refused) => Ok(bad_request(&refused)),
            }
        })
    }
}

/// Whether it is a message of gRPC's, `application/grpc` or one of its encodings.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.as_bytes().split_at_checked("application/grpc".len()));
    kind.is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(b"application/grpc")
            && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

fn bad_request(refused: &Status) -> Response<Body> {
    let mut answer = refused.clone().into_http();
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

fn too_late() -> Response<Body> {
    let message = "the deadline is over; what was begun may still be done";
    Reason::DeadlineExceeded.status(message).into_http()
}

/// How long the caller waits: `grpc-timeout`, at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| {
        Reason::MalformedRequest.status("grpc-timeout must be 1 to 8 digits and one of H M S m u n")
    })
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let right = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| right)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_the_type_of_its_content() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("Application/gRPC", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpcx", false),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers =
                HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1s", None),
            ("1€", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
