//! JWTs: which are accepted, whom they stand for, and where the issuer's keys come from.

mod issuer;
mod keys;
mod roles;
mod tokens;

pub(crate) use issuer::{AUDIENCE, ISSUER, SigningKey, claims};

use serde_json::{Value, json};

use crate::harness::http1;
use crate::support::program::Place;

/// The section for this issuer's tokens, whose keys are where `jwks` says, in flow style.
pub(crate) fn section(jwks: &str) -> String {
    format!(
        "strict_api_key_mode: false, oidc: {{issuer: \"{ISSUER}\", audience: [{AUDIENCE}], jwks: {{{jwks}}}, \
         claims: {{role: realm_access.roles, scopes: scope}}, roles: [{{value: platform, role: global_admin}}, \
         {{value: admin, role: tenant_admin}}, {{value: member, role: user}}]}}"
    )
}

/// A place whose admin listener accepts JWTs; `jwks` says where the keys are.
pub(crate) fn place(jwks: &str) -> Place {
    let place = Place::bootstrapped();
    let port = place.admin;
    let plain = format!("admin: {{listen: [\"127.0.0.1:{port}\"]}}");
    let with = format!(
        "admin: {{listen: [\"127.0.0.1:{port}\"], {}}}",
        section(jwks)
    );
    place.edit_config(&plain, &with);
    place
}

/// Status and body of an answer over REST.
pub(crate) fn ask(
    place: &Place,
    token: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = http1::send(place.admin, head.as_bytes(), false).unwrap();
    (
        reply.status,
        serde_json::from_slice(&reply.body).unwrap_or_default(),
    )
}

/// Whether the holder is let in: status, and the code of a refusal.
fn list(place: &Place, token: &str) -> (u16, String) {
    let (status, body) = ask(
        place,
        token,
        "GET",
        "/api/v1/auth/apikeys?owner=x",
        &Value::Null,
    );
    let code = body["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}

/// The document that publishes these keys.
pub(crate) fn key_set<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> String {
    let keys: Vec<Value> = keys.into_iter().map(SigningKey::jwk).collect();
    json!({ "keys": keys }).to_string()
}
