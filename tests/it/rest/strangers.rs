//! What callers without rights, without manners or without a clue are answered.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{KEYS, PLACE, VALIDATE, ask, check_refused, send};

#[test]
fn nothing_is_done_without_a_key() {
    for (method, path) in [("GET", KEYS), ("POST", KEYS)] {
        let body = (method == "POST").then(|| json!({"name": "x"}));
        check_refused(ask(method, path, "", body.as_ref()), 401, "MISSING_API_KEY");
        for token in [
            "nonsense",
            "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
            "session-0123456789abcdef",
        ] {
            check_refused(
                ask(method, path, token, body.as_ref()),
                401,
                "INVALID_API_KEY",
            );
        }
    }
    let path = format!("{KEYS}/aaaaaaaaaaaaaaaaaaaa");
    check_refused(ask("DELETE", &path, "", None), 401, "MISSING_API_KEY");
    let basic = format!(
        "GET {KEYS} HTTP/1.1\r\nhost: a\r\nauthorization: Basic YTpi\r\nconnection: close\r\n\r\n"
    );
    check_refused(send(basic.as_bytes()), 401, "INVALID_API_KEY");
    let two = format!(
        "GET {KEYS} HTTP/1.1\r\nhost: a\r\nx-api-key: a\r\nx-api-key: b\r\nconnection: close\r\n\r\n"
    );
    check_refused(send(two.as_bytes()), 400, "AMBIGUOUS_REQUEST");
    let cookie = format!(
        "GET {KEYS} HTTP/1.1\r\nhost: a\r\ncookie: x-api-key={}\r\nconnection: close\r\n\r\n",
        PLACE.admin
    );
    check_refused(send(cookie.as_bytes()), 401, "MISSING_API_KEY");
}

#[test]
fn what_is_not_there_and_what_is_not_taken_is_json_too() {
    for path in [
        "/",
        "/api/v1/auth/apikeys/",
        "/api/v1/auth/apikeys/a/b",
        "/api/v1/auth//apikeys",
        "/api/v1/auth/../auth/apikeys",
        "/api/v1/auth/%61pikeys",
        "/API/V1/AUTH/APIKEYS",
        "/api/v1/auth/apikeys;x=1",
        "/openapi.json/",
    ] {
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
    for tenant in [
        "globex",
        "nobody",
        "ACME",
        "acme%20",
        "%D0%B0cme",
        "../acme",
    ] {
        let path = format!("{KEYS}?tenant_id={tenant}");
        check_refused(
            ask("GET", &path, &PLACE.admin, None),
            404,
            "TENANT_NOT_FOUND",
        );
    }
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

/// Malformed, unknown, revoked: one answer, and no difference in time that says more.
#[test]
fn no_answer_says_why_a_token_is_not_valid() {
    let made = PLACE
        .server
        .create_key("acme", &["--name", "gone", "--owner", "erin"]);
    PLACE.server.cli(&["key", "revoke", "acme", &made.id]);
    let unknown = "ks_live_0000000000000000000000000000000000000000000000000";
    let tokens = [
        made.token.as_str(),
        unknown,
        "x",
        "ks_live_",
        "eyJhbGciOiJub25lIn0.e30.",
    ];
    let mut medians = Vec::new();
    let mut answers = Vec::new();
    for token in tokens {
        let body = json!({ "token": token });
        let mut times: Vec<Duration> = (0..41)
            .map(|_| {
                let begun = Instant::now();
                let (reply, said) = ask("POST", VALIDATE, "", Some(&body));
                let took = begun.elapsed();
                let mut headers = reply.headers.clone();
                headers.retain(|(name, _)| name != "date");
                answers.push((reply.status, headers, said));
                took
            })
            .collect();
        times.sort_unstable();
        medians.push(times[20]);
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(answers[0].0, 401);
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    // On a busy machine; a lookup that only some need would be far more.
    assert!(*most < *least * 4 + Duration::from_millis(2), "{medians:?}");
}
