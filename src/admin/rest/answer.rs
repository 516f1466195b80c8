//! The envelope of every answer, and what an error of the services is in HTTP.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use utoipa::ToSchema;

use crate::grpc::is_grpc;
use crate::status::Reason;

/// What went well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Success<T> {
    #[schema(pattern = "^success$")]
    status: &'static str,
    data: T,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    #[schema(pattern = "^error$")]
    status: &'static str,
    /// In words, for people.
    error: String,
    /// In one stable word, for programs.
    code: String,
    /// The numbers that explain it, and which field is meant.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<String, String>,
}

/// An answer with `data`.
pub(super) fn success<T: Serialize>(status: StatusCode, data: T) -> Response {
    let body = Success {
        status: "success",
        data,
    };
    (status, Json(body)).into_response()
}

/// What no browser that reads an answer may do with it.
pub(super) const GUARDS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// What tells a caller without a valid key what is wanted.
pub(super) const CHALLENGE: &str = "Bearer realm=\"keystile\"";
/// In how many seconds to try again.
pub(super) const RETRY_AFTER: &str = "1";

/// The answer with all [`GUARDS`], whoever made it; gRPC's own answers stay as they are.
pub(in crate::admin) async fn guarded(mut answer: Response) -> Response {
    if !is_grpc(answer.headers()) {
        let guards = GUARDS.map(|(name, value)| (name, HeaderValue::from_static(value)));
        answer.headers_mut().extend(guards);
    }
    answer
}

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refusal {
    http: StatusCode,
    problem: Problem,
    /// In how many seconds to try again, where that is known.
    retry_after: Option<u64>,
}

impl Refusal {
    fn new(http: StatusCode, code: &str, error: impl Into<String>) -> Self {
        Self {
            http,
            problem: Problem {
                status: "error",
                error: error.into(),
                code: code.to_owned(),
                details: BTreeMap::new(),
            },
            retry_after: None,
        }
    }

    /// A field, or the body as a whole, is not acceptable.
    pub(super) fn bad(field: &str, problem: &str) -> Self {
        let mut refusal = Self::new(
            StatusCode::BAD_REQUEST,
            Reason::InvalidField.as_str(),
            format!("{field}: {problem}"),
        );
        refusal
            .problem
            .details
            .insert(field.to_owned(), problem.to_owned());
        refusal
    }

    pub(super) fn malformed(http: StatusCode, error: impl Into<String>) -> Self {
        Self::new(http, Reason::MalformedRequest.as_str(), error)
    }

    pub(super) fn invalid_key() -> Self {
        let word = Reason::InvalidApiKey.as_str();
        Self::new(StatusCode::UNAUTHORIZED, word, "the API key is not valid")
    }

    pub(super) fn no_such_path() -> Self {
        let error = "there is nothing at this path: /openapi.json says what there is";
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", error)
    }

    pub(super) fn only_grpc() -> Self {
        let error = "this is a method of gRPC: send `content-type: application/grpc`, or see /openapi.json for REST";
        Self::malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
    }

    pub(super) fn method_not_allowed() -> Self {
        let error = "this path does not take this method: the header `allow` says which it takes";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", error)
    }
}

/// The names of REST for the fields of the messages.
fn field(path: &str) -> &str {
    match path.strip_prefix("key.").unwrap_or(path) {
        "display_name" => "name",
        "expire_time" => "expires_at",
        field => field,
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let (code, metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone()),
            None => (Reason::Internal.as_str().to_owned(), Default::default()),
        };
        let mut refusal = Self::new(http_status(&status), &code, status.message());
        refusal.problem.details.extend(metadata);
        let wait = details.retry_info().and_then(|retry| retry.retry_delay);
        refusal.retry_after = wait.map(|wait| wait.as_secs());
        let violations = details
            .bad_request()
            .map(|bad| bad.field_violations.as_slice());
        let violations = violations.unwrap_or_default();
        for violation in violations {
            let (name, problem) = (field(&violation.field), violation.description.clone());
            refusal.problem.details.insert(name.to_owned(), problem);
        }
        if let [violation] = violations {
            let (path, name) = (&violation.field, field(&violation.field));
            refusal.problem.error = status.message().replace(path.as_str(), name);
        }
        refusal
    }
}

fn http_status(status: &Status) -> StatusCode {
    match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.http, Json(self.problem)).into_response();
        let headers = response.headers_mut();
        if self.http == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(CHALLENGE),
            );
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        } else if self.http == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}
