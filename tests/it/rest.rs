//! REST on the admin port, as a program without gRPC sees it: the real binary over HTTP/1.1.

mod conformance;
mod documented;
mod hygiene;
mod keys;
mod limits;
mod strangers;

use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::http1::{self, Reply};
use crate::harness::keystile::{Keystile, Settings};

pub(crate) const KEYS: &str = "/api/v1/auth/apikeys";
pub(crate) const LIMITS: &str = "/api/v1/auth/apikey-limits";
pub(crate) const CONFIG: &str = "/api/v1/auth/apikey-config";
pub(crate) const VALIDATE: &str = "/api/v1/auth/validate";

/// One server for all, with a tenant of two users and an admin, and another tenant.
pub(crate) struct Place {
    pub(crate) server: Keystile,
    pub(crate) alice: String,
    pub(crate) bob: String,
    pub(crate) admin: String,
    pub(crate) other_admin: String,
}

pub(crate) static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let server = Keystile::start(Settings::default());
    for tenant in ["acme", "globex"] {
        server.cli(&["tenant", "create", tenant]);
    }
    let key = |tenant: &str, owner: &str, role: &str| {
        let scopes = ["--scope", "read", "--scope", "write"];
        let args = [["--name", owner], ["--owner", owner], ["--role", role]].concat();
        server
            .create_key(tenant, &[args, scopes.to_vec()].concat())
            .token
    };
    Place {
        alice: key("acme", "alice", "user"),
        bob: key("acme", "bob", "user"),
        admin: key("acme", "carol", "tenant_admin"),
        other_admin: key("globex", "dave", "tenant_admin"),
        server,
    }
});

/// Asks, with a token if it is not empty and a body if there is one.
#[track_caller]
pub(crate) fn ask(method: &str, path: &str, token: &str, body: Option<&Value>) -> (Reply, Value) {
    ask_at(PLACE.server.admin_port, method, path, token, body)
}

/// The same of another server.
#[track_caller]
pub(crate) fn ask_at(
    port: u16,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> (Reply, Value) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n");
    if !token.is_empty() {
        head += &format!("authorization: Bearer {token}\r\n");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head += &format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
    }
    send_to(port, format!("{head}\r\n{body}").as_bytes())
}

/// What every answer carries, once each.
#[track_caller]
fn check_guarded(reply: &Reply) {
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'",
        ),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(reply.all(name), [value], "{name} of {reply:?}");
    }
}

/// Sends these bytes; every answer is JSON, and guarded.
#[track_caller]
pub(crate) fn send(request: &[u8]) -> (Reply, Value) {
    send_to(PLACE.server.admin_port, request)
}

#[track_caller]
fn send_to(port: u16, request: &[u8]) -> (Reply, Value) {
    let reply = http1::send(port, request, false).unwrap();
    let body: Value = serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&reply.body)));
    check_guarded(&reply);
    let status = if reply.status < 400 {
        "success"
    } else {
        "error"
    };
    if body.get("openapi").is_none() {
        assert_eq!(body["status"], status, "{body}");
    }
    assert_eq!(
        reply.one("www-authenticate").is_some(),
        reply.status == 401,
        "RFC 9110 section 15.5.2"
    );
    (reply, body)
}

/// What is refused, and with which word.
#[track_caller]
pub(crate) fn check_refused((reply, body): (Reply, Value), status: u16, code: &str) -> Value {
    assert_eq!(
        (reply.status, body["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()));
    body
}
