//! Tokens are planted wherever a caller can put one, at log level trace, and looked for wherever one could come out.

mod memory;
mod search;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use keystile::proto::admin::{GetKeyRequest, ListTenantsRequest};
use prost::Message as _;
use tonic::Request;
use tonic::transport::Channel;

use crate::harness::keystile::binary;
use crate::harness::{wait_for, wait_until};
use crate::support::program::Place;
use crate::support::{check, client};
use search::{Secret, leaks};

/// Somebody else's token, and one of ours with a typing error.
const FOREIGN: &str = "imp0rted.9xKq2LmWv7TzRb4NcYd8HsJf1GpUe6Aa3Oi5";
const MISTYPED: &str = "ks_live_7Hq2Zk9Xw4Vb6Nm1Cd3Lf8Gt5Jp0Rs2Ya4Ue6Oi8Tz1QxWrong1";

/// What an operator has pasted into a tenant's name and a key's description: sealed, and shown to operators and
/// upstreams alone.
const PASTED: &str = "p4sted.5yRt8QwEz2XcVb6NmKj9HgFd3Sa7Po1Iu4LqWe0";

/// What came out, by where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }
}

/// Requests with the token in every place that a client, or a proxy's configuration, can put it.
fn requests(token: &str, other: &str) -> Vec<(&'static str, CheckRequest)> {
    let http = |path: &str, headers: &[(&str, &str)]| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut request = check::request(HttpRequest {
            path: path.to_owned(),
            headers: headers.iter().map(owned).collect(),
            ..HttpRequest::default()
        });
        let method = (":method".to_owned(), "GET".to_owned());
        let attributes = request.attributes.as_mut().unwrap();
        let inner = attributes.request.as_mut().unwrap().http.as_mut().unwrap();
        inner.headers.extend([method]);
        request
    };
    let bearer = format!("Bearer {token}");
    let both = format!("{token},{other}");
    let mut all = vec![
        ("key header", http("/", &[("x-api-key", token)])),
        ("bearer", http("/", &[("authorization", &bearer)])),
        (
            "basic",
            http("/", &[("authorization", &format!("Basic {token}"))]),
        ),
        ("query", http(&format!("/?a=1&api%5fkey={token}"), &[])),
        (
            "cookie",
            http("/", &[("cookie", &format!("a=1; api_key={token}"))]),
        ),
        (
            "two keys",
            http(
                "/",
                &[
                    ("x-api-key", token),
                    ("authorization", &format!("Bearer {other}")),
                ],
            ),
        ),
        ("joined keys", http("/", &[("x-api-key", &both)])),
        (
            "with a space",
            http("/", &[("x-api-key", &format!("{token} x"))]),
        ),
        ("path", http(&format!("/{token}/x"), &[])),
        ("another parameter", http(&format!("/?token={token}"), &[])),
        ("another header", http("/", &[("x-other", token)])),
        ("header name", http("/", &[(&format!("x-{token}"), "1")])),
        (
            "reserved header",
            http("/", &[("x-tenant-id", token), ("x-api-key", token)]),
        ),
        (
            "reserved name",
            http(
                "/",
                &[(&format!("x-tenant-{token}"), "1"), ("x-api-key", token)],
            ),
        ),
        (
            "connection",
            http("/", &[("connection", &format!("x-tenant-{token}"))]),
        ),
        (
            "request id",
            http("/", &[("x-request-id", token), ("x-api-key", token)]),
        ),
        ("request id alone", http("/", &[("x-request-id", token)])),
        (
            "gRPC caller",
            http(
                "/",
                &[("content-type", "application/grpc"), ("x-api-key", token)],
            ),
        ),
    ];
    let mut rule = |what, name: &str, value: &str| {
        let mut request = http("/", &[("x-api-key", token)]);
        let attributes = request.attributes.as_mut().unwrap();
        attributes.context_extensions = HashMap::from([(name.to_owned(), value.to_owned())]);
        all.push((what, request));
    };
    rule("rule with a feature", "keystile.features", "not-enabled");
    rule("rule with a scope", "keystile.scopes", "not-granted");
    rule("rule without sense", "keystile.mode", token);
    rule("rule without name", &format!("keystile.{token}"), "x");
    all
}

/// Does whatever can be done with a token, and keeps what comes back, except where a token is to come back.
async fn drive(place: &Place, token: &str, other: &str, seen: &mut Seen) {
    let authz = client::tcp(place.authz).await;
    for (what, request) in requests(token, other) {
        if what == "request id alone" && token == FOREIGN {
            // Nobody can tell another system's token from an id when it stands in the place of one.
            continue;
        }
        let bytes = request.encode_to_vec();
        let mut call = Request::new(request);
        call.metadata_mut()
            .insert("x-api-key", token.parse().unwrap());
        let answer = AuthorizationClient::new(authz.clone()).check(call).await;
        // The names of the client's own headers are told to Envoy, which is to remove them.
        if what != "reserved name" {
            seen.add(format!("the answer to: {what}"), format!("{answer:?}"));
        }
        for broken in [&bytes[..bytes.len() - 1], &bytes[1..]] {
            raw_check(place.authz, broken).await;
        }
    }
    admin(&client::tcp(place.admin).await, token, seen).await;
    let line = format!(
        "GET /{token}?k={token} HTTP/1.1\r\nhost: {token}\r\nconnection: close\r\nx-api-key: {token}\r\n\r\n"
    );
    for port in [place.authz, place.admin, place.ops] {
        for said in [
            line.clone(),
            format!("{token}\r\n\r\n"),
            format!("GET / {token}\r\n\r\n"),
        ] {
            seen.add("an HTTP/1.1 answer", throw(port, said.as_bytes()));
        }
    }
}

async fn raw_check(port: u16, message: &[u8]) {
    let client::Connection { mut sender, ended } = client::connect(port).await;
    let body = client::Slow::whole(check::framed(message));
    let answer = sender
        .send_request(client::check_request(body))
        .await
        .unwrap();
    client::read_answer(answer).await.unwrap();
    drop((sender, ended));
}

fn throw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A silent server is as good as one that hangs up.
    stream.read_to_end(&mut answer).unwrap_or_default();
    answer
}

async fn admin(channel: &Channel, token: &str, seen: &mut Seen) {
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("authorization", token.to_owned()),
        ("x-api-key", token.to_owned()),
        ("x-other", token.to_owned()),
    ] {
        let mut list = Request::new(ListTenantsRequest {
            page_token: token.to_owned(),
            ..ListTenantsRequest::default()
        });
        list.metadata_mut().insert(name, value.parse().unwrap());
        let answer = TenantServiceClient::new(channel.clone())
            .list_tenants(list)
            .await;
        seen.add(format!("a list with {name}"), format!("{answer:?}"));
        let mut get = Request::new(GetKeyRequest {
            name: format!("tenants/acme/keys/{token}"),
        });
        get.metadata_mut().insert(name, value.parse().unwrap());
        let answer = KeyServiceClient::new(channel.clone()).get_key(get).await;
        seen.add(format!("a get with {name}"), format!("{answer:?}"));
    }
}

/// Makes a key of `acme`: its id and its token.
fn create_key(place: &Place, more: &[&str]) -> (String, String) {
    let words = [
        "key", "create", "acme", "--name", "ci", "--owner", "al", "-o", "json",
    ];
    let made = place.do_it(&[&words, more].concat());
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let id = made["key"]["name"].as_str().unwrap().rsplit('/').next();
    let token = made["plaintext"].as_str().unwrap();
    (id.unwrap().to_owned(), token.to_owned())
}

/// What the files of the place hold, except the keyrings' own secrets, which are theirs to hold.
fn files(place: &Place, seen: &mut Seen) {
    for name in [
        "keystile.redb",
        "serve.log",
        "keystile.yaml",
        "keys/data.keyring",
        "keys/vault.keyring",
    ] {
        seen.add(name, fs::read(place.path(name)).unwrap());
    }
}

/// The keys of the keyring files.
fn keyring_secrets(place: &Place) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for name in ["keys/data.keyring", "keys/vault.keyring"] {
        let text = fs::read_to_string(place.path(name)).unwrap();
        let words = text.split_whitespace().filter(|word| word.ends_with('='));
        secrets.extend(words.map(|word| Secret {
            name: "a key of a keyring",
            text: word.trim_end_matches('=').to_owned(),
        }));
    }
    assert!(secrets.len() >= 3, "lookup key and two key-encryption keys");
    secrets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_comes_out_anywhere() {
    let mut place = Place::bootstrapped();
    place.add_config("telemetry: {log: {level: trace}}\nplans: {pro: {features: [images]}}");
    place.edit_config(
        "authz:",
        "authz:\n  credentials: [{header: x-api-key}, {bearer: authorization}, {query: api_key}, {cookie: api_key}]",
    );
    let running = place.serve();
    place.do_it(&[
        "tenant",
        "create",
        "acme",
        "--display-name",
        PASTED,
        "--metadata",
        &format!("note={PASTED}"),
    ]);
    let (_, works) = create_key(&place, &["--scope", "read"]);
    let (id, revoked) = create_key(&place, &["--description", PASTED]);
    place.do_it(&["key", "revoke", "acme", &id, "--reason", PASTED]);
    let (_, expired) = create_key(&place, &["--expires-in", "3s"]);
    let (id, retiring) = create_key(&place, &[]);
    let rotated = place.do_it(&["key", "rotate", "acme", &id, "--grace", "1h", "-o", "json"]);
    let rotated: serde_json::Value = serde_json::from_str(&rotated).unwrap();
    let rotated = rotated["plaintext"].as_str().unwrap().to_owned();
    let revealed = place.do_it(&["key", "reveal", "acme", &id, "-o", "json"]);
    assert!(revealed.contains(&rotated), "where it is asked for");
    let tokens = [
        ("the first key", place.admin_token.clone()),
        ("a key that works", works),
        ("a revoked key", revoked),
        ("an expired key", expired.clone()),
        ("a token in its grace window", retiring),
        ("the token of a rotated key", rotated),
        ("a token of another system", FOREIGN.to_owned()),
        ("a mistyped token", MISTYPED.to_owned()),
    ];
    let secrets: Vec<_> = tokens
        .iter()
        .map(|(name, token)| Secret::token(name, token))
        .collect();

    let mut seen = Seen::default();
    let channel = client::tcp(place.authz).await;
    let expired_body = async || {
        let request = check::headers(&[(":method", "GET"), ("x-api-key", &expired)]);
        let answer = AuthorizationClient::new(channel.clone())
            .check(request)
            .await;
        answer.unwrap().into_inner().status.unwrap().message
    };
    let expired = async || expired_body().await == "api_key_expired";
    wait_until("its time is over", expired).await;
    let mine = place.admin_token.clone();
    for (name, token) in &tokens {
        let other = &tokens.iter().find(|(other, _)| other != name).unwrap().1;
        drive(&place, token, other, &mut seen).await;
        place.admin_token.clone_from(token);
        for command in [
            vec!["tenant", "list", "--page-token", "x"],
            vec!["key", "get", "acme", token],
            vec!["key", "revoke", "acme", token],
            vec!["key", "rotate", "acme", token],
            vec!["key", "reveal", "acme", token],
            vec!["key", "claim"],
            vec!["key", "renew", "acme", token, "--expires-in", "30d"],
            vec!["tenant", "get", token],
            vec!["tenant", "suspend", "acme", "--etag", token],
        ] {
            seen.add(
                format!("stderr of {:?}", &command[..2]),
                place.run(&command).stderr,
            );
        }
        place.admin_token.clone_from(&mine);
    }
    let shown = place.do_it(&["config", "show", "-c", "keystile.yaml"]);
    seen.add("config show", shown);
    let metrics = place.ops("/metrics").unwrap().1;
    seen.add("metrics", metrics);
    files(&place, &mut seen);
    // Once more when everything is on disk.
    assert_eq!(running.stop("TERM").0, Some(0));
    files(&place, &mut seen);

    check_that_there_was_something_to_see(&seen);
    assert_eq!(leaks(&seen.0, &secrets), [""; 0]);
    let pasted = Secret::token("a token pasted into a record", PASTED);
    let kept = ["keystile.redb", "serve.log", "metrics"];
    let kept: Vec<_> = seen
        .0
        .iter()
        .filter(|(name, _)| kept.contains(&name.as_str()))
        .cloned()
        .collect();
    assert_eq!(kept.len(), 5, "the files twice and the metrics");
    assert_eq!(leaks(&kept, &[pasted]), [""; 0]);
    let rings = keyring_secrets(&place);
    let ring_files = |(name, _): &(String, Vec<u8>)| !name.ends_with(".keyring");
    let others: Vec<_> = seen.0.into_iter().filter(ring_files).collect();
    assert_eq!(leaks(&others, &rings), [""; 0]);
}

/// A search of nothing finds nothing.
fn check_that_there_was_something_to_see(seen: &Seen) {
    for (place, words) in [
        ("keystile.redb", "acme"),
        ("serve.log", "denied"),
        ("serve.log", "invalid_api_key"),
        ("serve.log", "refused a CheckRequest"),
        ("metrics", "invalid_api_key"),
        ("config show", "trace"),
        ("the answer to: key header", "x-tenant-id"),
        ("a list with authorization", "Unauthenticated"),
    ] {
        let mut bytes = seen
            .0
            .iter()
            .filter(|(name, _)| name == place)
            .map(|(_, bytes)| bytes);
        let found = bytes.any(|bytes| String::from_utf8_lossy(bytes).contains(words));
        assert!(found, "{words} is not in {place}");
    }
}

/// Whether a program that is made to fail leaves a core.
fn dumps_core(place: &Place, script: &str, ready: impl Fn() -> bool) -> bool {
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -c unlimited 2>/dev/null; {script}")])
        .arg(binary())
        .current_dir(place.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the program", || {
        (ready() || child.try_wait().unwrap().is_some()).then_some(())
    });
    let abort = format!("kill -ABRT {} 2>/dev/null || true", child.id());
    Command::new("sh").args(["-c", &abort]).status().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}");
    status.core_dumped()
}

#[test]
fn a_crash_leaves_no_core_with_keys_in_it() {
    let place = Place::bootstrapped();
    if !dumps_core(&place, "kill -ABRT $$", || false) {
        // This machine writes no cores at all: nothing could be seen here.
        return;
    }
    let serve = "exec \"$0\" serve -c keystile.yaml";
    assert!(!dumps_core(&place, serve, || place.is_ready()));
    // A command that holds a key, while it waits for an answer.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    std::fs::write(place.dir().join("key"), &place.admin_token).unwrap();
    let client = format!(
        "exec \"$0\" tenant list --api-key-file key --addr {}",
        server.local_addr().unwrap()
    );
    // Held, or the command would see the connection end.
    let connection = OnceCell::new();
    let ready = || {
        let accepted = server.accept();
        accepted.is_ok_and(|accepted| connection.set(accepted).is_ok())
    };
    assert!(!dumps_core(&place, &client, ready));
}
