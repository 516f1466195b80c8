//! What may be answered on this port at all: gRPC calls of the methods that are here, and nothing else.
//!
//! Whoever asks by plain HTTP (`ext_authz` with `http_service`, `auth_request`, ForwardAuth) takes any 2xx for "allow",
//! and gRPC's own errors are a 200. So a request that is not a call of a known method is refused before gRPC sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use http::uri::PathAndQuery;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use opentelemetry::KeyValue;

use crate::clock::{Clock as _, SteadyClock};
use crate::ext_authz::service::CHECK_PATH;
use crate::grpc;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::Metrics;

/// The methods of `grpc.health.v1.Health`.
const HEALTH_PATHS: [&str; 3] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
];

/// For whoever looks at an answer that they did not expect.
const EXPLANATION: &str = "\
This port speaks gRPC over HTTP/2 and nothing else: envoy.service.auth.v3.Authorization/Check and grpc.health.v1.Health.
Nothing was authorized. If a proxy asked on behalf of a client, it asks by plain HTTP: in Envoy's ext_authz filter use
grpc_service, not http_service; in Istio envoyExtAuthzGrpc, not envoyExtAuthzHttp; forward-auth (nginx auth_request,
Traefik ForwardAuth, Caddy forward_auth) is not supported.
";

/// A call that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Envoy's question.
    Check,
    Health,
}

/// Why a request is no call of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotACall {
    Protocol,
    Method,
    /// The content is not gRPC's.
    ContentType,
    /// No method of ours is there.
    UnknownMethod,
    /// It ended before its message: a call has one.
    NoMessage,
}

impl NotACall {
    const ALL: [Self; 5] = [
        Self::Protocol,
        Self::Method,
        Self::ContentType,
        Self::UnknownMethod,
        Self::NoMessage,
    ];

    /// Its word in metrics and logs.
    fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "http_version",
            Self::Method => "method",
            Self::ContentType => "content_type",
            Self::UnknownMethod => "unknown_method",
            Self::NoMessage => "no_message",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Protocol | Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownMethod => StatusCode::NOT_FOUND,
            Self::NoMessage => StatusCode::BAD_REQUEST,
        }
    }
}

/// Which call a request is.
pub(super) fn call_of<B: http_body::Body>(request: &Request<B>) -> Result<Call, NotACall> {
    if request.version() != Version::HTTP_2 {
        return Err(NotACall::Protocol);
    }
    if request.method() != Method::POST {
        return Err(NotACall::Method);
    }
    if !is_grpc(request.headers()) {
        return Err(NotACall::ContentType);
    }
    // With the query: a path that a proxy has put together from two parts is not ours.
    let path = request.uri().path_and_query().map(PathAndQuery::as_str);
    let call = match path {
        Some(CHECK_PATH) => Call::Check,
        Some(path) if HEALTH_PATHS.contains(&path) => Call::Health,
        Some(_) | None => return Err(NotACall::UnknownMethod),
    };
    if request.body().is_end_stream() {
        return Err(NotACall::NoMessage);
    }
    Ok(call)
}

/// Exactly one content type, of gRPC with protobuf.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    grpc::encoding(kind.as_bytes())
        .is_some_and(|encoding| encoding.is_empty() || encoding.eq_ignore_ascii_case(b"proto"))
}

/// Refuses, counts and tells.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Gate(Arc<Refused>);

#[derive(Debug, Default)]
struct Refused {
    counts: [AtomicU64; NotACall::ALL.len()],
    log_throttle: Throttle,
}

impl Gate {
    /// Shows how many were refused.
    pub(in crate::server) fn observe(&self, metrics: &Metrics) {
        let refused = Arc::clone(&self.0);
        metrics.counters(
            "keystile_authz_refused_requests",
            "Requests on authz that were no gRPC call of a method that is there, by what was wrong.",
            move || {
                let counts = NotACall::ALL.iter().zip(&refused.counts);
                let shown = counts.map(|(why, count)| {
                    let label = KeyValue::new("reason", why.as_str());
                    (vec![label], count.load(Ordering::Relaxed))
                });
                shown.collect()
            },
        );
    }

    /// The answer to what is no call.
    pub(super) fn refuse<B>(&self, why: NotACall, request: &Request<B>) -> Response<Body> {
        self.0.counts[why as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.0.log_throttle.admit(SteadyClock.now()) {
            tracing::warn!(
                reason = why.as_str(),
                version = ?request.version(),
                method = known(request.method()),
                held_back,
                "refused a request on authz that is not a gRPC call: a proxy whose ext_authz filter uses http_service, or a \
                 forward-auth proxy, asks this port; it must use grpc_service"
            );
        }
        explanation(why, request.method())
    }
}

fn explanation(why: NotACall, method: &Method) -> Response<Body> {
    // A body would break the stream of a HEAD, and to Envoy a broken stream can mean "let it pass".
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => Body::from(EXPLANATION),
    };
    let mut response = Response::new(body);
    *response.status_mut() = why.status();
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(header::CACHE_CONTROL, "no-store");
    match why {
        NotACall::Method => {
            set(header::ALLOW, "POST");
        }
        // For clients of gRPC, which read these whatever the HTTP status.
        NotACall::UnknownMethod => {
            set(HeaderName::from_static("grpc-status"), "12");
            set(
                HeaderName::from_static("grpc-message"),
                "there is no such method on this port",
            );
        }
        NotACall::NoMessage => {
            set(HeaderName::from_static("grpc-status"), "3");
            set(
                HeaderName::from_static("grpc-message"),
                "the call has no message",
            );
        }
        NotACall::Protocol | NotACall::ContentType => {}
    }
    response
}

/// A method in the log: a client may have chosen any word.
fn known(method: &Method) -> &'static str {
    let all = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let found = all.into_iter().find(|name| *name == method.as_str());
    found.unwrap_or("(another)")
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    fn request(
        version: Version,
        method: &str,
        path: &str,
        kind: &str,
    ) -> Request<Full<bytes::Bytes>> {
        let request = Request::builder().version(version).method(method).uri(path);
        let request = match kind {
            "" => request,
            kind => request.header(header::CONTENT_TYPE, kind),
        };
        request.body(Full::from("message")).unwrap()
    }

    #[test]
    fn nothing_but_a_call_of_a_known_method_is_one() {
        use NotACall::*;
        let (h2, grpc) = (Version::HTTP_2, "application/grpc");
        let health = "/grpc.health.v1.Health/Check";
        let prefixed = format!("{CHECK_PATH}/orders");
        let slash = format!("{CHECK_PATH}/");
        let query = format!("{CHECK_PATH}?a=b");
        for (version, method, path, kind, expected) in [
            (h2, "POST", CHECK_PATH, grpc, Ok(Call::Check)),
            (
                h2,
                "POST",
                CHECK_PATH,
                "application/grpc+proto",
                Ok(Call::Check),
            ),
            (
                h2,
                "POST",
                CHECK_PATH,
                "Application/gRPC;a=b",
                Ok(Call::Check),
            ),
            (h2, "POST", health, grpc, Ok(Call::Health)),
            (Version::HTTP_11, "POST", CHECK_PATH, grpc, Err(Protocol)),
            (Version::HTTP_10, "POST", health, grpc, Err(Protocol)),
            (h2, "GET", CHECK_PATH, grpc, Err(Method)),
            (h2, "HEAD", CHECK_PATH, grpc, Err(Method)),
            (h2, "OPTIONS", "*", grpc, Err(Method)),
            (h2, "CONNECT", "authz:443", grpc, Err(Method)),
            (h2, "post", CHECK_PATH, grpc, Err(Method)),
            (h2, "POST", CHECK_PATH, "", Err(ContentType)),
            (
                h2,
                "POST",
                CHECK_PATH,
                "application/grpcfoo",
                Err(ContentType),
            ),
            (
                h2,
                "POST",
                CHECK_PATH,
                "application/grpc-web",
                Err(ContentType),
            ),
            (
                h2,
                "POST",
                CHECK_PATH,
                "application/grpc-web+proto",
                Err(ContentType),
            ),
            (
                h2,
                "POST",
                CHECK_PATH,
                "application/grpc+json",
                Err(ContentType),
            ),
            (h2, "POST", CHECK_PATH, "application/json", Err(ContentType)),
            (h2, "POST", "/x", grpc, Err(UnknownMethod)),
            (
                h2,
                "POST",
                "/envoy.service.auth.v2.Authorization/Check",
                grpc,
                Err(UnknownMethod),
            ),
            (
                h2,
                "POST",
                "/envoy.service.auth.v3.Authorization/check",
                grpc,
                Err(UnknownMethod),
            ),
            (
                h2,
                "POST",
                "/envoy.service.auth.v3.Authorization/%43heck",
                grpc,
                Err(UnknownMethod),
            ),
            (
                h2,
                "POST",
                "//envoy.service.auth.v3.Authorization/Check",
                grpc,
                Err(UnknownMethod),
            ),
            (
                h2,
                "POST",
                "/grpc.health.v1.Health/Other",
                grpc,
                Err(UnknownMethod),
            ),
            (h2, "POST", &prefixed, grpc, Err(UnknownMethod)),
            (h2, "POST", &slash, grpc, Err(UnknownMethod)),
            (h2, "POST", &query, grpc, Err(UnknownMethod)),
        ] {
            let request = request(version, method, path, kind);
            assert_eq!(call_of(&request), expected, "{method} {path} {kind}");
        }
    }

    #[test]
    fn a_call_without_a_message_or_with_two_content_types_is_none() {
        let empty = request(Version::HTTP_2, "POST", CHECK_PATH, "application/grpc");
        let empty = empty.map(|_| Empty::<bytes::Bytes>::new());
        assert_eq!(call_of(&empty), Err(NotACall::NoMessage));
        let mut two = request(Version::HTTP_2, "POST", CHECK_PATH, "application/grpc");
        let other = HeaderValue::from_static("text/plain");
        two.headers_mut().append(header::CONTENT_TYPE, other);
        assert_eq!(call_of(&two), Err(NotACall::ContentType));
    }

    #[test]
    fn no_refusal_is_a_2xx_and_each_says_what_to_do() {
        let gate = Gate::default();
        for why in NotACall::ALL {
            let request = request(Version::HTTP_11, "GET", "/x", "");
            let refusal = gate.refuse(why, &request);
            assert!(refusal.status().is_client_error(), "{why:?}");
        }
        assert!(EXPLANATION.contains("grpc_service"));
    }
}
