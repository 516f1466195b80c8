//! A caller of the admin API is a key and nothing else: no session, no JWT, no password, no word of a proxy's.

use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::caller_with;
use crate::rest::{KEYS, PLACE, check_refused, send};

/// Unsigned, signed with an empty key, and signed with somebody's RSA key.
const JWTS: [&str; 3] = [
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJyb290Iiwicm9sZSI6Imdsb2JhbF9hZG1pbiJ9.",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb290Iiwicm9sZSI6Imdsb2JhbF9hZG1pbiJ9.c2lnbmF0dXJl",
    "eyJhbGciOiJSUzI1NiIsImprdSI6Imh0dHA6Ly9ldmlsLmV4YW1wbGUvIn0.eyJzdWIiOiJyb290In0.c2ln",
];
const SESSIONS: [&str; 3] = [
    "session-0123456789abcdef",
    "s%3AQ8f2kq0s.cGFzc3dvcmQ",
    "00000000-0000-4000-8000-000000000000",
];

/// The one line of a request that says who asks.
fn attempts() -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    for token in JWTS.into_iter().chain(SESSIONS) {
        for line in [
            format!("authorization: Bearer {token}"),
            format!("x-api-key: {token}"),
        ] {
            all.push((line, "INVALID_API_KEY"));
        }
        all.push((
            format!("cookie: session={token}; api_key={token}"),
            "MISSING_API_KEY",
        ));
    }
    let key = &PLACE.admin;
    for line in [
        format!("authorization: Basic {key}"),
        "authorization: Basic cm9vdDpyb290".to_owned(),
        format!("authorization: Token {key}"),
        format!("authorization: {key}"),
        format!("authorization: Bearer{key}"),
        format!("authorization: Bearer {key}, Bearer {key}"),
        "authorization: Negotiate YII=".to_owned(),
    ] {
        all.push((line, "INVALID_API_KEY"));
    }
    // A key in a place where it may be logged, and what a proxy would say of a caller.
    for line in [
        format!("cookie: x-api-key={key}"),
        format!("proxy-authorization: Bearer {key}"),
        format!("x-forwarded-access-token: {key}"),
        format!("x_api_key: {key}"),
        "x-forwarded-user: root".to_owned(),
        "x-forwarded-client-cert: By=spiffe://a;URI=spiffe://root".to_owned(),
        "x-tenant-id: acme".to_owned(),
        "x-user-role: global_admin".to_owned(),
    ] {
        all.push((line, "MISSING_API_KEY"));
    }
    all
}

fn get(query: &str, line: &str) -> Vec<u8> {
    format!("GET {KEYS}{query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{line}\r\n\r\n")
        .into_bytes()
}

#[test]
fn rest_takes_keys_and_nothing_else() {
    for (line, code) in attempts() {
        check_refused(send(&get("", &line)), 401, code);
    }
    for name in ["api_key", "access_token", "x-api-key", "token"] {
        let query = format!("?{name}={}", PLACE.admin);
        check_refused(send(&get(&query, "x-other: 1")), 400, "MALFORMED_REQUEST");
    }
    // With a key, what else is said of the caller changes nothing.
    for more in [
        "x-tenant-id: globex",
        "x-user-role: global_admin",
        "x-forwarded-user: root",
    ] {
        let line = format!("x-api-key: {}\r\n{more}", PLACE.alice);
        let (reply, body) = send(&get("", &line));
        assert_eq!(reply.status, 200);
        let plain = send(&get("", &format!("x-api-key: {}", PLACE.alice))).1;
        assert_eq!(body["data"]["total"], plain["data"]["total"], "{more}");
        check_refused(send(&get("?owner=bob", &line)), 403, "PERMISSION_DENIED");
        check_refused(
            send(&get("?tenant_id=globex", &line)),
            404,
            "TENANT_NOT_FOUND",
        );
    }
}

#[tokio::test]
async fn an_rpc_takes_keys_and_nothing_else() {
    let list = async |header: &'static str, value: &str| {
        let request = pb::ListKeysRequest {
            parent: "tenants/acme".into(),
            ..pb::ListKeysRequest::default()
        };
        let mut keys = KeyServiceClient::new(caller_with(header, value));
        keys.list_keys(request).await
    };
    for (line, expected) in attempts() {
        let (name, value) = line.split_once(": ").unwrap();
        let name: &'static str = name.to_owned().leak();
        let status = list(name, value).await.unwrap_err();
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!(
            (status.code(), reason.as_str()),
            (Code::Unauthenticated, expected),
            "{line}"
        );
    }
    list("authorization", &format!("Bearer {}", PLACE.admin))
        .await
        .unwrap();
}
