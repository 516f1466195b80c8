//! One way to write a path, and a method is the one in the request line.

use serde_json::{Value, json};

use crate::harness::http1;
use crate::rest::{CONFIG, KEYS, LIMITS, PLACE, VALIDATE, ask, check_refused, send};

fn request(line: &str, more: &str) -> Vec<u8> {
    let token = &PLACE.admin;
    format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-api-key: {token}\r\n{more}\r\n")
        .into_bytes()
}

#[test]
fn no_other_spelling_of_a_path_leads_anywhere() {
    for path in [
        "/api/v1/auth/apikeys/",
        "/api/v1/auth//apikeys",
        "//api/v1/auth/apikeys",
        "/api/v1/auth/./apikeys",
        "/api/v1/auth/x/../apikeys",
        "/api/v1/auth/%2e%2e/auth/apikeys",
        "/api/v1/auth%2fapikeys",
        "/api/v1/auth%2Fapikeys",
        "/api/v1/auth/%61pikeys",
        "/api/v1/auth\\apikeys",
        "/api/v1/auth/apikeys;x=1",
        "/api;a=b/v1/auth/apikeys",
        "/api/v1/auth/apikeys%3ftenant_id=globex",
        "/api/v1/auth/apikeys%00",
        "/api/v1/auth/apikeys.json",
        "/API/v1/auth/apikeys",
        "/api/v1/auth/apikeys/a/b",
        "/api/v1/auth/apikeys%20",
        "/openapi.json/../api/v1/auth/apikeys",
        "/openapi.json/",
    ] {
        check_refused(send(&request(&format!("GET {path}"), "")), 404, "NOT_FOUND");
    }
    for path in [LIMITS, CONFIG] {
        for spelled in [
            format!("{path}/"),
            format!("{path};a"),
            path.replace("auth/", "auth//"),
            path.replace('-', "%2d"),
        ] {
            check_refused(
                send(&request(&format!("GET {spelled}"), "")),
                404,
                "NOT_FOUND",
            );
        }
    }
    assert_eq!(send(&request(&format!("GET {KEYS}"), "")).0.status, 200);
}

fn a_key() -> String {
    let made = ask("POST", KEYS, &PLACE.admin, Some(&json!({"name": "kept"})));
    made.1["data"]["id"].as_str().unwrap().to_owned()
}

fn is_active(id: &str) -> bool {
    let listed = ask("GET", KEYS, &PLACE.admin, None).1;
    let listed = listed["data"]["api_keys"].as_array().unwrap().clone();
    let mut found = listed.into_iter().filter(|key| key["id"] == id);
    found.next().expect("it is there")["is_active"] == json!(true)
}

/// An id in another spelling is another id; and a key is revoked by DELETE and by nothing that says so elsewhere.
#[test]
fn no_other_spelling_of_an_id_or_a_method_revokes_a_key() {
    let id = a_key();
    let first = format!("%{:02x}{}", id.as_bytes()[0], &id[1..]);
    for spelled in [
        id.to_uppercase(),
        format!("{id}%00"),
        format!("{id}%20"),
        format!("%20{id}"),
        format!("{id}."),
        format!("{id};a=1"),
        format!("{id},{id}"),
        format!("..%2f{id}"),
        format!("x%2f..%2f{id}"),
        format!("{id}%2f"),
        format!("tenants%2facme%2fkeys%2f{id}"),
        format!("{id}%ef%bb%bf"),
    ] {
        let line = format!("DELETE {KEYS}/{spelled}");
        check_refused(send(&request(&line, "")), 404, "KEY_NOT_FOUND");
        assert!(is_active(&id), "{spelled}");
    }
    for more in [
        "x-http-method-override: DELETE\r\n",
        "x-http-method: DELETE\r\n",
        "x-method-override: DELETE\r\n",
    ] {
        for method in ["GET", "POST"] {
            let line = format!("{method} {KEYS}/{id}");
            check_refused(send(&request(&line, more)), 405, "METHOD_NOT_ALLOWED");
        }
    }
    for rewrite in [
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-path",
        "x-original-method",
    ] {
        let more = format!("{rewrite}: {KEYS}/{id}\r\nx-http-method-override: DELETE\r\n");
        check_refused(send(&request("GET /", &more)), 404, "NOT_FOUND");
    }
    let query = format!("GET {KEYS}?_method=DELETE&id={id}");
    check_refused(send(&request(&query, "")), 400, "MALFORMED_REQUEST");
    for method in ["delete", "Delete", "DELETE2", "PROPFIND"] {
        let line = format!("{method} {KEYS}/{id}");
        check_refused(send(&request(&line, "")), 405, "METHOD_NOT_ALLOWED");
    }
    assert!(is_active(&id));
    // RFC 3986 section 2.3: an unreserved character and its escape are the same id.
    let (reply, _) = send(&request(&format!("DELETE {KEYS}/{first}"), ""));
    assert_eq!((reply.status, is_active(&id)), (200, false));
}

/// RFC 9112 section 3.2.2: the form for proxies means the same path, whatever host it names.
#[test]
fn the_absolute_form_reaches_what_its_path_says_and_no_more() {
    for host in [
        "http://a",
        "http://elsewhere.test",
        "https://user:word@elsewhere.test:1",
    ] {
        let (reply, body) = send(&request(&format!("GET {host}{KEYS}"), ""));
        assert_eq!(reply.status, 200, "{body}");
        check_refused(
            send(&request(&format!("GET {host}/x{KEYS}"), "")),
            404,
            "NOT_FOUND",
        );
        let told = body.to_string() + &format!("{:?}", reply.headers);
        assert!(
            !told.contains("elsewhere"),
            "a host is never repeated: {told}"
        );
        let anonymous =
            format!("GET {host}{KEYS} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        check_refused(send(anonymous.as_bytes()), 401, "MISSING_API_KEY");
    }
}

/// One request in, one answer out: what follows on the connection is not part of it.
#[test]
fn a_body_is_as_long_as_one_reader_says() {
    let smuggled = format!("GET {KEYS} HTTP/1.1\r\nhost: a\r\n\r\n");
    for framing in [
        format!(
            "content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            smuggled.len()
        ),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "content-length: 0\r\ncontent-length: 40\r\n\r\n".to_owned(),
        "content-length: +2\r\n\r\n{}".to_owned(),
        "content-length: 0x2\r\n\r\n{}".to_owned(),
    ] {
        let bytes = format!(
            "POST {VALIDATE} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n{framing}{smuggled}"
        );
        let Ok(reply) = http1::send(PLACE.server.admin_port, bytes.as_bytes(), false) else {
            continue;
        };
        assert!(matches!(reply.status, 400 | 413), "{framing:?}: {reply:?}");
        let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert!(said["data"].is_null(), "{framing:?}: {said}");
    }
}
