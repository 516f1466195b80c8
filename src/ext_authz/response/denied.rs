//! The body of a refusal: status, headers and text for each reason (DESIGN section 3.2).

use crate::domain::decision::{Denial, DenyReason};
use crate::ext_authz::request::{Caller, Incoming};
use crate::ext_authz::response::{put_field, put_header};
use crate::ext_authz::wire::{put, put_number};

/// How a reason is said.
struct Words {
    http: u16,
    /// `google.rpc.Code`; also what a gRPC caller sees.
    code: u8,
    title: &'static str,
    /// What to do about it. `{}` stands for the detail.
    advice: &'static str,
}

fn words(reason: DenyReason) -> Words {
    let (http, code, title, advice) = match reason {
        DenyReason::MissingApiKey => (
            401,
            16,
            "API key required",
            "Send your API key with the request.",
        ),
        DenyReason::InvalidApiKey => (
            401,
            16,
            "Invalid API key",
            "The API key is not valid. Check it for typing errors or ask for a new one.",
        ),
        DenyReason::ApiKeyExpired => (
            401,
            16,
            "API key expired",
            "The API key has expired. Ask for it to be renewed or rotated.",
        ),
        DenyReason::TenantSuspended => (
            403,
            7,
            "Tenant suspended",
            "The tenant of this API key is suspended. Contact the provider.",
        ),
        DenyReason::FeatureNotEnabled => (
            403,
            7,
            "Feature not enabled",
            "This needs the feature {}, which is not enabled for this API key.",
        ),
        DenyReason::ScopeNotGranted => (
            403,
            7,
            "Scope not granted",
            "This needs the scope {}, which this API key does not have.",
        ),
        DenyReason::NetworkNotAllowed => (
            403,
            7,
            "Network not allowed",
            "This API key must not be used from this network.",
        ),
        DenyReason::AmbiguousRequest => (
            400,
            3,
            "Ambiguous request",
            "The request can be understood in more than one way: {}.",
        ),
        DenyReason::AuthorizationUnavailable => (
            503,
            14,
            "Authorization unavailable",
            "The API key cannot be checked at the moment. Try again shortly.",
        ),
    };
    Words {
        http,
        code,
        title,
        advice,
    }
}

/// Encodes the whole `CheckResponse`.
pub(super) fn encode(denial: &Denial, incoming: Option<&Incoming<'_>>, defer: bool) -> Vec<u8> {
    let words = words(denial.reason);
    let caller = incoming.map(|incoming| incoming.caller).unwrap_or_default();
    let detail = words.advice.replace(
        "{}",
        denial.detail.as_deref().unwrap_or("it could not be read"),
    );

    let mut status = Vec::with_capacity(48);
    put_number(&mut status, 1, u64::from(words.code));
    put(&mut status, 2, denial.reason.as_str().as_bytes());

    let mut http_status = Vec::with_capacity(4);
    put_number(&mut http_status, 1, u64::from(words.http));
    let mut response = Vec::with_capacity(640);
    put(&mut response, 1, &http_status);
    put_headers(&mut response, denial.reason, &words, caller);
    let body = match caller {
        Caller::Http => problem(
            denial.reason,
            &words,
            &detail,
            incoming.and_then(|incoming| incoming.request_id),
        ),
        Caller::Grpc => format!("{}: {detail}", denial.reason.as_str()),
    };
    put(&mut response, 3, body.as_bytes());

    let mut out = Vec::with_capacity(response.len() + 128);
    put(&mut out, 1, &status);
    // error_response (5) lets failure_mode_allow decide; denied_response (2) is final.
    put(&mut out, if defer { 5 } else { 2 }, &response);
    put(&mut out, 4, &metadata(denial));
    out
}

fn put_headers(response: &mut Vec<u8>, reason: DenyReason, words: &Words, caller: Caller) {
    let mut set = |name: &str, value: &str| put_header(response, 2, name, value);
    match caller {
        // Envoy sets the content type of a gRPC answer, and maps the status less precisely than we can.
        Caller::Grpc => set("grpc-status", &words.code.to_string()),
        Caller::Http => set("content-type", "application/problem+json"),
    }
    set("cache-control", "no-store");
    match reason {
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
        | DenyReason::FeatureNotEnabled
        | DenyReason::ScopeNotGranted
        | DenyReason::NetworkNotAllowed
        | DenyReason::AmbiguousRequest => {}
    }
}

/// `application/problem+json` (RFC 9457).
fn problem(reason: DenyReason, words: &Words, detail: &str, request_id: Option<&str>) -> String {
    let code = reason.as_str();
    // The detail may name a feature or scope from the proxy's configuration: encoded, never pasted.
    let detail = serde_json::Value::from(detail);
    let request_id = request_id
        .map(|id| format!(",\"request_id\":\"{id}\""))
        .unwrap_or_default();
    format!(
        "{{\"type\":\"urn:keystile:problem:{code}\",\"title\":\"{}\",\"status\":{},\"detail\":{detail},\"code\":\"{code}\"{request_id}}}",
        words.title, words.http,
    )
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
