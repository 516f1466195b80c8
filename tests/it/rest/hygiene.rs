//! What every answer has, whichever part of the program gives it: the envelope, the headers that keep browsers and
//! caches from it, and no word of another protocol.

use super::{KEYS, PLACE, VALIDATE, ask, check_guarded, check_refused, send};
use crate::harness::http1;

const GRPC: &str = "/keystile.admin.v1.KeyService/ListKeys";

fn request(line: &str, headers: &[&str]) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

#[test]
fn a_head_has_the_headers_of_its_get_and_no_body() {
    let key = format!("x-api-key: {}", PLACE.alice);
    for (path, status) in [(KEYS, 200), ("/openapi.json", 200), ("/nothing", 404)] {
        let get = request(&format!("GET {path}"), &[&key]);
        let get = http1::send(PLACE.server.admin_port, &get, false).unwrap();
        let head = request(&format!("HEAD {path}"), &[&key]);
        let head = http1::send(PLACE.server.admin_port, &head, true).unwrap();
        check_guarded(&head);
        assert_eq!((head.status, get.status), (status, status), "{path}");
        assert!(!get.body.is_empty());
    }
    let refused = http1::send(
        PLACE.server.admin_port,
        &request(&format!("HEAD {VALIDATE}"), &[]),
        true,
    );
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.one("allow")), (405, Some("POST")));
    check_guarded(&refused);
}

/// There is no CORS here: a page of another origin gets no leave, with or without a preflight.
#[test]
fn other_origins_get_no_leave() {
    let origin = "origin: https://evil.example";
    let wants = "access-control-request-method: DELETE";
    let (preflight, body) = send(&request(&format!("OPTIONS {KEYS}"), &[origin, wants]));
    assert!(preflight.one("allow").is_some(), "{preflight:?}");
    check_refused((preflight, body), 405, "METHOD_NOT_ALLOWED");
    let key = format!("x-api-key: {}", PLACE.alice);
    for line in [format!("OPTIONS {KEYS}"), format!("GET {KEYS}")] {
        let (reply, _) = send(&request(&line, &[origin, wants, &key]));
        let cors = reply
            .headers
            .iter()
            .find(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(cors, None, "{line}");
    }
}

#[test]
fn methods_of_grpc_and_of_http_are_not_mixed_up() {
    for line in [format!("GET {GRPC}"), format!("POST {GRPC}")] {
        for kind in [
            "application/json",
            "application/grpc-web",
            "application/grpcx",
        ] {
            let kind = format!("content-type: {kind}");
            let answer = send(&request(&line, &[&kind]));
            check_refused(answer, 415, "MALFORMED_REQUEST");
        }
    }
    for method in ["POST", "GET"] {
        let answer = send(&request(
            &format!("{method} /keystile.admin.v1.KeyService/No"),
            &[],
        ));
        check_refused(answer, 415, "MALFORMED_REQUEST");
    }
    check_refused(
        ask("GET", "/no.such.Service/No", "", None),
        404,
        "NOT_FOUND",
    );
    // What is gRPC's to say is said in gRPC's words.
    let grpc = request(&format!("POST {GRPC}"), &["content-type: application/grpc"]);
    let reply = http1::send(PLACE.server.admin_port, &grpc, false).unwrap();
    assert_eq!((reply.status, reply.one("grpc-status")), (200, Some("3")));
    // But not for what is not here: whoever asks by HTTP alone would take a 200 for a yes.
    for (path, timeout, status) in [
        ("/", "x: y", 404),
        ("/auth", "grpc-timeout: 0n", 404),
        ("/auth", "grpc-timeout: soon", 400),
        ("/keystile.admin.v1.KeyService/No", "x: y", 404),
        ("/keystile.admin.v1.NoService/Get", "x: y", 404),
    ] {
        let headers = ["content-type: application/grpc", timeout];
        for method in ["GET", "POST"] {
            let asked = request(&format!("{method} {path}"), &headers);
            let reply = http1::send(PLACE.server.admin_port, &asked, false).unwrap();
            assert_eq!(reply.status, status, "{method} {path}");
        }
    }
    // And a deadline of gRPC's is nothing to REST.
    let key = format!("x-api-key: {}", PLACE.alice);
    for timeout in ["grpc-timeout: 0n", "grpc-timeout: soon"] {
        let (reply, _) = send(&request(&format!("GET {KEYS}"), &[&key, timeout]));
        assert_eq!((reply.status, reply.one("grpc-status")), (200, None));
    }
}

/// What is no HTTP never reaches a handler of ours: hyper answers it, with a status and nothing that could be read.
#[test]
fn what_is_no_http_is_answered_without_a_word() {
    let many: String = (0..200).map(|at| format!("x-{at}: 1\r\n")).collect();
    let long = "a".repeat(1 << 20);
    for (bytes, status) in [
        ("GARBAGE\r\n\r\n".to_owned(), 400),
        (format!("GET {KEYS} HTTP/1.1\r\nbad name: 1\r\n\r\n"), 400),
        (
            format!("GET {KEYS} HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"),
            400,
        ),
        (
            format!("GET {KEYS} HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n"),
            400,
        ),
        (
            format!("POST {KEYS} HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n"),
            400,
        ),
        (
            format!(
                "POST {KEYS} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
            ),
            400,
        ),
        (format!("GET {KEYS} HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        (
            format!("GET {KEYS} HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"),
            431,
        ),
        (
            format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", &long[..70_000]),
            414,
        ),
    ] {
        let shown: String = bytes.chars().take(80).collect();
        let reply = http1::send(PLACE.server.admin_port, bytes.as_bytes(), false);
        let reply = reply.unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(
            (reply.status, reply.one("content-length")),
            (status, Some("0")),
            "{shown:?}"
        );
        assert!(
            reply.body.is_empty() && reply.one("content-type").is_none(),
            "{reply:?}"
        );
    }
}
