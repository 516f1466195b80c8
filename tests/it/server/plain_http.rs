//! Whoever asks `authz` by plain HTTP is refused: they would take any 2xx for "allow".

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystile::ext_authz::service::CHECK_PATH;
use serde_json::{Value, json};

use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::upstream::Upstream;
use crate::harness::{PATIENCE, http1};
use crate::support::program::Place;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const GRPC: &str = "application/grpc";

/// The status of an HTTP/1.x answer to these bytes.
fn status_of(port: u16, said: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    let first = String::from_utf8_lossy(&first).into_owned();
    first.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn no_request_of_http1_is_answered_with_a_2xx() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    let grpc = "content-type: application/grpc\r\nte: trailers\r\ncontent-length: 5\r\n";
    let socket = "connection: upgrade\r\nupgrade: websocket\r\n";
    let expect = "expect: 100-continue\r\ncontent-length: 5\r\n";
    let mut asked = 0;
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI",
    ] {
        for target in [
            "/",
            "/x",
            "*",
            CHECK_PATH,
            HEALTH,
            "//",
            "/healthz",
            "/readyz",
            "/metrics",
            "http://authz/x",
            "authz:443",
            "/envoy.service.auth.v3.Authorization/Check/orders",
        ] {
            for headers in ["", upgrade, grpc, socket, expect] {
                for version in ["1.1", "1.0"] {
                    let said = format!(
                        "{method} {target} HTTP/{version}\r\nhost: a\r\n{headers}\r\n\0\0\0\0\0"
                    );
                    let status = status_of(place.authz, &said);
                    assert!((400..500).contains(&status), "{said}: {status}");
                    asked += 1;
                }
            }
        }
    }
    let (_, metrics) = place.ops("/metrics").unwrap();
    let counted = "keystile_authz_refused_requests_total{reason=\"http_version\"}";
    let counted = metrics
        .lines()
        .find(|line| line.starts_with(counted))
        .unwrap();
    let counted: u32 = counted.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(counted > asked / 2, "{counted} of {asked}");
    let log = running.log();
    let told = log
        .lines()
        .filter(|line| line.contains("http_service"))
        .count();
    assert!((1..20).contains(&told), "{told} lines:\n{log}");
}

/// The status of each answer on one HTTP/2 connection.
async fn ask(
    place: &Place,
    method: &str,
    path: &str,
    kind: &str,
    body: &'static [u8],
) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", place.authz))
        .await
        .unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::builder().version(Version::HTTP_2).method(method);
    let request = match method {
        "CONNECT" => request.uri("authz:443"),
        _ => request.uri(format!("http://authz{path}")),
    };
    let request = match kind {
        "" => request,
        kind => request.header("content-type", kind),
    };
    let request = request.body(Full::new(Bytes::from_static(body))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await;
    let body = body.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
    let body = body.to_bytes();
    driver.abort();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_nothing_but_a_call_that_is_there_is_answered_with_a_2xx() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    let message: &[u8] = &[0; 5];
    for (method, path, kind, body, expected) in [
        ("POST", CHECK_PATH, GRPC, message, 200),
        ("POST", CHECK_PATH, "application/grpc+proto", message, 200),
        ("POST", HEALTH, GRPC, message, 200),
        // It is a Check, whatever it holds: the refusal is in the answer.
        ("POST", CHECK_PATH, GRPC, b"garbage, no message at all", 200),
        ("POST", CHECK_PATH, GRPC, b"", 400),
        ("POST", HEALTH, GRPC, b"", 400),
        ("GET", "/x", "", b"", 405),
        ("POST", "/x", "", b"", 415),
        ("POST", "/x", GRPC, message, 404),
        ("GET", CHECK_PATH, GRPC, message, 405),
        ("PUT", CHECK_PATH, GRPC, message, 405),
        ("HEAD", CHECK_PATH, GRPC, b"", 405),
        ("OPTIONS", "/x", "", b"", 405),
        ("CONNECT", "", "", b"", 405),
        ("POST", CHECK_PATH, "application/grpcfoo", message, 415),
        (
            "POST",
            CHECK_PATH,
            "application/grpc-web+proto",
            message,
            415,
        ),
        ("POST", CHECK_PATH, "application/json", b"{}", 415),
        (
            "POST",
            "/envoy.service.auth.v3.Authorization/Check/",
            GRPC,
            message,
            404,
        ),
        (
            "POST",
            "/envoy.service.auth.v3.Authorization/Check/orders",
            GRPC,
            message,
            404,
        ),
        (
            "POST",
            "/envoy.service.auth.v3.Authorization/Check?x",
            GRPC,
            message,
            404,
        ),
        (
            "POST",
            "/envoy.service.auth.v3.Authorization/%43heck",
            GRPC,
            message,
            404,
        ),
        (
            "POST",
            "/envoy.service.auth.v3.Authorization/Other",
            GRPC,
            message,
            404,
        ),
        (
            "POST",
            "/envoy.service.auth.v2.Authorization/Check",
            GRPC,
            message,
            404,
        ),
        ("POST", "/grpc.health.v1.Health/Other", GRPC, message, 404),
        (
            "POST",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            GRPC,
            message,
            404,
        ),
    ] {
        let (status, said) = ask(&place, method, path, kind, body).await;
        assert_eq!(status, expected, "{method} {path} {kind}");
        if status != 200 && method != "HEAD" {
            assert!(said.contains("grpc_service, not http_service"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_client_of_an_unknown_method_hears_unimplemented() {
    use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
    let place = Place::bootstrapped();
    let _running = place.serve();
    let channel = crate::support::client::tcp(place.authz).await;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/envoy.service.auth.v2.Authorization/Check");
    let codec = tonic_prost::ProstCodec::<CheckRequest, CheckRequest>::default();
    let request = tonic::Request::new(CheckRequest::default());
    let refused = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused}");
}

/// An `ext_authz` filter that asks by HTTP, and passes all on that it can.
fn http_service(name: &'static str, cluster: &'static str, prefix: &str) -> Listener {
    let everything = json!({"patterns": [{"safe_regex": {"regex": ".*"}}]});
    Listener {
        name,
        authz: cluster,
        filter: json!({
            "http_service": {
                "server_uri": {"uri": "http://authz", "cluster": cluster, "timeout": "60s"},
                "path_prefix": prefix,
            },
            "allowed_headers": everything,
            "with_request_body": {"max_request_bytes": 4096, "allow_partial_message": true, "pack_as_bytes": true},
            "failure_mode_allow": true,
        }),
        manager: Value::Null,
    }
}

#[test]
fn an_envoy_that_asks_by_http_lets_nobody_through() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let upstream = Upstream::start();
    let names = [
        ("http1", "keystile-http1", ""),
        ("http2", "keystile-http2", ""),
        ("http1-prefix", "keystile-http1", "/auth"),
        ("http2-prefix", "keystile-http2", "/auth"),
        ("http1-check", "keystile-http1", CHECK_PATH),
        ("http2-check", "keystile-http2", CHECK_PATH),
        (
            "http2-service",
            "keystile-http2",
            "/envoy.service.auth.v3.Authorization",
        ),
        ("http2-health", "keystile-http2", "/grpc.health.v1.Health"),
    ];
    let clusters = [
        ("keystile-http1", Endpoint::Port(place.authz)),
        ("keystile-http2", Endpoint::Port(place.authz)),
        ("upstream", Endpoint::Port(upstream.port)),
    ];
    let listeners = names.map(|(name, cluster, prefix)| http_service(name, cluster, prefix));
    let envoy = Envoy::start(&listeners, &clusters, &json!([route("/", &json!({}))]));
    let key = format!("x-api-key: {}\r\n", place.admin_token);
    let grpc = "content-type: application/grpc\r\nte: trailers\r\n";
    for (name, ..) in names {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "PUT"] {
            for path in ["/", "/orders", "/Other", CHECK_PATH] {
                for headers in [
                    "",
                    &key,
                    "x-api-key: garbage\r\n",
                    "x-tenant-id: evil\r\n",
                    grpc,
                ] {
                    let request = format!(
                        "{method} {path} HTTP/1.1\r\nhost: api.test\r\nx-row: {name}\r\n\
                         connection: close\r\ncontent-length: 0\r\n{headers}\r\n"
                    );
                    let head = method == "HEAD";
                    let reply = http1::send(envoy.port(name), request.as_bytes(), head).unwrap();
                    // A refusal of Envoy's own is a 200 to a client of gRPC.
                    let refused = match reply.one("grpc-status") {
                        Some(status) => status != "0",
                        None => (400..500).contains(&reply.status),
                    };
                    assert!(refused, "{name}: {request}: {reply:?}");
                }
            }
        }
        assert!(upstream.arrived(name).is_empty(), "{name}");
    }
    assert!(
        running.log().contains("it must use grpc_service"),
        "{}",
        running.log()
    );
}
