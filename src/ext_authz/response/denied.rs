//! The body of a refusal: status, headers and text for each reason (DESIGN section 3.2).

use std::borrow::Cow;

use crate::domain::decision::{Denial, DenyReason};
use crate::ext_authz::request::{Incoming, Protocol};
use crate::ext_authz::response::limits::put_limits;
use crate::ext_authz::response::{Answer, put_field, put_header, seconds};
use crate::ext_authz::wire::{number_len, put, put_head, put_number};

/// A kind of refusal: HTTP status and `google.rpc.Code`, as number and as text.
struct Class {
    http: u16,
    http_text: &'static str,
    /// Also what a gRPC caller sees.
    code: u8,
    code_text: &'static str,
}

const UNAUTHENTICATED: Class = Class {
    http: 401,
    http_text: "401",
    code: 16,
    code_text: "16",
};
const FORBIDDEN: Class = Class {
    http: 403,
    http_text: "403",
    code: 7,
    code_text: "7",
};
const BAD_REQUEST: Class = Class {
    http: 400,
    http_text: "400",
    code: 3,
    code_text: "3",
};
const TOO_MANY: Class = Class {
    http: 429,
    http_text: "429",
    code: 8,
    code_text: "8",
};
const UNAVAILABLE: Class = Class {
    http: 503,
    http_text: "503",
    code: 14,
    code_text: "14",
};

/// How a reason is said.
struct Words {
    class: &'static Class,
    title: &'static str,
    /// What to do about it. `{}` stands for the detail.
    advice: &'static str,
}

fn words(reason: DenyReason) -> Words {
    let (class, title, advice) = match reason {
        DenyReason::MissingApiKey => (
            &UNAUTHENTICATED,
            "API key required",
            "Send your API key with the request: {}.",
        ),
        DenyReason::InvalidApiKey => (
            &UNAUTHENTICATED,
            "Invalid API key",
            "The API key is not valid. Check it for typing errors or ask for a new one.",
        ),
        DenyReason::ApiKeyExpired => (
            &UNAUTHENTICATED,
            "API key expired",
            "The API key has expired. Ask for it to be renewed or rotated.",
        ),
        DenyReason::TenantSuspended => (
            &FORBIDDEN,
            "Tenant suspended",
            "The tenant of this API key is suspended. Contact the provider.",
        ),
        DenyReason::ApiKeyPaused => (
            &FORBIDDEN,
            "API key paused",
            "The API key is paused. Ask whoever gave it to you to resume it.",
        ),
        DenyReason::FeatureNotEnabled => (
            &FORBIDDEN,
            "Feature not enabled",
            "This needs the feature {}, which is not enabled for this API key.",
        ),
        DenyReason::ScopeNotGranted => (
            &FORBIDDEN,
            "Scope not granted",
            "This needs the scope {}, which this API key does not have.",
        ),
        DenyReason::NetworkNotAllowed => (
            &FORBIDDEN,
            "Network not allowed",
            "This API key must not be used from this network.",
        ),
        DenyReason::AmbiguousRequest => (
            &BAD_REQUEST,
            "Ambiguous request",
            "The request can be understood in more than one way: {}.",
        ),
        DenyReason::RateLimited => (
            &TOO_MANY,
            "Rate limit reached",
            "More requests than the {} allows. Send the request again later.",
        ),
        DenyReason::QuotaExceeded => (
            &TOO_MANY,
            "Quota used up",
            "The {} is used up. Send the request again when the next window begins, or ask for a larger quota.",
        ),
        DenyReason::TemporarilyBlocked => (
            &TOO_MANY,
            "Temporarily blocked",
            "Too many requests from this address failed. Check the API key and send the request again later.",
        ),
        DenyReason::AuthorizationUnavailable => (
            &UNAVAILABLE,
            "Authorization unavailable",
            "The API key cannot be checked at the moment. Try again shortly.",
        ),
    };
    Words {
        class,
        title,
        advice,
    }
}

/// Encodes the whole `CheckResponse`.
pub(super) fn encode(denial: &Denial, incoming: Option<&Incoming<'_>>, defer: bool) -> Answer {
    let words = words(denial.reason);
    let code = denial.reason.as_str();
    let caller = incoming.map(|incoming| incoming.caller).unwrap_or_default();
    let detail = detail(&words, denial.detail.as_deref());

    let mut status = Vec::with_capacity(40);
    put_number(&mut status, 1, u64::from(words.class.code));
    put(&mut status, 2, code.as_bytes());

    let mut response = Vec::with_capacity(768);
    put_head(&mut response, 1, number_len(u64::from(words.class.http)));
    put_number(&mut response, 1, u64::from(words.class.http)); // HttpStatus.code
    put_headers(&mut response, denial, &words, caller);
    put_limits(&mut response, 2, &denial.limits, denial.refused_by); // DeniedHttpResponse.headers
    let body = match caller {
        Protocol::Http => problem(
            code,
            &words,
            detail,
            incoming.and_then(|incoming| incoming.request_id),
        ),
        Protocol::Grpc => [code, ": ", &detail].concat(),
    };
    put(&mut response, 3, body.as_bytes());

    // error_response (5) lets failure_mode_allow decide; denied_response (2) is final.
    let tag = if defer { 5 } else { 2 };
    Answer::assemble(&status, tag, &response, &metadata(denial))
}

/// The advice with the detail in its place.
fn detail(words: &Words, detail: Option<&str>) -> Cow<'static, str> {
    if words.advice.contains("{}") {
        Cow::Owned(
            words
                .advice
                .replace("{}", detail.unwrap_or("it could not be read")),
        )
    } else {
        Cow::Borrowed(words.advice)
    }
}

fn put_headers(response: &mut Vec<u8>, denial: &Denial, words: &Words, caller: Protocol) {
    let mut set = |name: &str, value: &str| put_header(response, 2, name, value);
    match caller {
        // Envoy sets the content type of a gRPC answer, and maps the status less precisely than we can.
        Protocol::Grpc => set("grpc-status", words.class.code_text),
        Protocol::Http => set("content-type", "application/problem+json"),
    }
    set("cache-control", "no-store");
    if let Some(wait) = denial.retry_after {
        set("retry-after", &seconds(wait).to_string());
    }
    match denial.reason {
        DenyReason::MissingApiKey => set("www-authenticate", "Bearer realm=\"keystile\""),
        DenyReason::InvalidApiKey => set(
            "www-authenticate",
            "Bearer realm=\"keystile\", error=\"invalid_token\"",
        ),
        DenyReason::ApiKeyExpired => set(
            "www-authenticate",
            "Bearer realm=\"keystile\", error=\"invalid_token\", error_description=\"the API key has expired\"",
        ),
        DenyReason::AuthorizationUnavailable => set("retry-after", "1"),
        DenyReason::TenantSuspended
        | DenyReason::ApiKeyPaused
        | DenyReason::FeatureNotEnabled
        | DenyReason::ScopeNotGranted
        | DenyReason::NetworkNotAllowed
        | DenyReason::AmbiguousRequest
        | DenyReason::RateLimited
        | DenyReason::QuotaExceeded
        | DenyReason::TemporarilyBlocked => {}
    }
}

/// `application/problem+json` (RFC 9457).
fn problem(
    code: &str,
    words: &Words,
    detail: Cow<'static, str>,
    request_id: Option<&str>,
) -> String {
    let mut body = String::with_capacity(384);
    body.extend([
        "{\"type\":\"urn:keystile:problem:",
        code,
        "\",\"title\":\"",
        words.title,
        "\",\"status\":",
    ]);
    body.push_str(words.class.http_text);
    body.push_str(",\"detail\":");
    match detail {
        // Our own words, which need no escape.
        Cow::Borrowed(words) => body.extend(["\"", words, "\""]),
        // It may name a feature or scope from the proxy's configuration: encoded, never pasted.
        Cow::Owned(detail) => body.push_str(&serde_json::Value::from(detail).to_string()),
    }
    body.extend([",\"code\":\"", code, "\""]);
    if let Some(id) = request_id {
        body.extend([",\"request_id\":\"", id, "\""]);
    }
    body.push('}');
    body
}

/// For access logs and Envoy's rate limits; clients do not see it.
fn metadata(denial: &Denial) -> Vec<u8> {
    let mut metadata = Vec::with_capacity(128);
    if let Some(subject) = &denial.subject {
        put_field(&mut metadata, "tenant_id", subject.tenant.as_str());
        put_field(&mut metadata, "key_id", subject.key.as_str());
        if let Some(plan) = &subject.plan {
            put_field(&mut metadata, "plan", plan.as_str());
        }
    }
    put_field(&mut metadata, "reason", denial.reason.as_str());
    metadata
}
