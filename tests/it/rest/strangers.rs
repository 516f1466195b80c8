//! What callers without rights, without manners or without a clue are answered. Those with a plan are in
//! [`crate::security`].

use serde_json::json;

use super::{KEYS, PLACE, VALIDATE, ask, check_refused, send};

#[test]
fn nothing_is_done_without_a_key() {
    for (method, path) in [("GET", KEYS), ("POST", KEYS)] {
        let body = (method == "POST").then(|| json!({"name": "x"}));
        check_refused(ask(method, path, "", body.as_ref()), 401, "MISSING_API_KEY");
        check_refused(
            ask(method, path, "nonsense", body.as_ref()),
            401,
            "INVALID_API_KEY",
        );
    }
    let path = format!("{KEYS}/aaaaaaaaaaaaaaaaaaaa");
    check_refused(ask("DELETE", &path, "", None), 401, "MISSING_API_KEY");
    let two = format!(
        "GET {KEYS} HTTP/1.1\r\nhost: a\r\nx-api-key: a\r\nx-api-key: b\r\nconnection: close\r\n\r\n"
    );
    check_refused(send(two.as_bytes()), 400, "AMBIGUOUS_REQUEST");
}

#[test]
fn what_is_not_there_and_what_is_not_taken_is_json_too() {
    for path in ["/", "/api/v1/auth", "/api/v1/auth/apikeys/a/b", "/metrics"] {
        check_refused(ask("GET", path, &PLACE.admin, None), 404, "NOT_FOUND");
    }
    for id in [
        "..",
        "%2e%2e",
        "..%2f..%2fetc",
        "%00",
        "%ff",
        "a",
        "A%20B",
        "*",
        &"a".repeat(41),
    ] {
        let path = format!("{KEYS}/{id}");
        check_refused(
            ask("DELETE", &path, &PLACE.admin, None),
            404,
            "KEY_NOT_FOUND",
        );
    }
    for (method, path, allow) in [
        ("PUT", KEYS, "GET,HEAD,POST"),
        ("GET", VALIDATE, "POST"),
        ("PATCH", VALIDATE, "POST"),
        ("POST", "/openapi.json", "GET,HEAD"),
    ] {
        let (reply, body) = ask(method, path, &PLACE.admin, None);
        let mut methods: Vec<_> = reply.one("allow").unwrap_or_default().split(',').collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allow, "{method} {path}: {body}");
        check_refused((reply, body), 405, "METHOD_NOT_ALLOWED");
    }
    check_refused(
        ask("GET", &format!("{KEYS}?ownr=a"), &PLACE.admin, None),
        400,
        "MALFORMED_REQUEST",
    );
}

#[test]
fn a_body_that_is_none_is_refused_before_anything_is_done() {
    let token = &PLACE.admin;
    let post = |kind: &str, body: &[u8]| {
        let mut request = format!(
            "POST {KEYS} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        send(&request)
    };
    for (kind, body, status) in [
        ("text/plain", &b"{\"name\":\"x\"}"[..], 415),
        ("application/x-www-form-urlencoded", b"name=x", 415),
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"null", 400),
        ("application/json", b"{\"name\":\"\xff\"}", 400),
        ("application/json", b"{\"name\":\"a\",\"name\":\"b\"}", 400),
        ("application/json", b"{\"name\":1}", 400),
    ] {
        check_refused(post(kind, body), status, "MALFORMED_REQUEST");
    }
    let deep = "[".repeat(50_000);
    check_refused(
        post("application/json", deep.as_bytes()),
        400,
        "MALFORMED_REQUEST",
    );
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    check_refused(
        post("application/json", long.as_bytes()),
        413,
        "MALFORMED_REQUEST",
    );
}
