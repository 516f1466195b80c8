//! An upstream behind a real Envoy verifies the signed context with an independent library (PyJWT) and the code of
//! docs/SIGNED_CONTEXT.md.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use keystile::clock::{Clock as _, SystemClock, Timestamp};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::crypto::signing::{KEPT, LEAD};
use serde_json::{Value, json};

use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::http1::{self, Reply};
use crate::harness::keystile::{Keystile, NewKey, Settings};
use crate::harness::upstream::{Arrived, ROW, Upstream};
use crate::harness::{python, wait_for};

const SIGNING: Settings = Settings {
    authz: "  signed_context: {}\n  credentials: [{header: x-api-key}, {query: api_key}]",
    more: "",
};

struct World {
    // Before the rest, so that Envoy goes first.
    envoy: Envoy,
    keystile: Keystile,
    upstream: Upstream,
    key: NewKey,
}

impl World {
    fn start() -> Self {
        let keystile = Keystile::start(SIGNING);
        keystile.cli(&["tenant", "create", "acme", "--plan", "pro"]);
        let key = keystile.create_key(
            "acme",
            &["--name", "ci", "--owner", "alice", "--scope", "read"],
        );
        let upstream = Upstream::start();
        let listener = Listener {
            name: "signed",
            authz: "keystile",
            filter: json!({"encode_raw_headers": true, "validate_mutations": true}),
            manager: json!({}),
        };
        let clusters = [
            ("keystile", Endpoint::Port(keystile.authz_port)),
            ("upstream", Endpoint::Port(upstream.port)),
        ];
        let routes = json!([
            route("/optional", &json!({"keystile.mode": "optional"})),
            route("/", &json!({})),
        ]);
        let envoy = Envoy::start(&[listener], &clusters, &routes);
        Self {
            envoy,
            keystile,
            upstream,
            key,
        }
    }

    /// Sends a request line and headers, and returns what the upstream received.
    #[track_caller]
    fn send(&self, row: &str, request: &str) -> Arrived {
        let request = request.replace("{key}", &self.key.token);
        let (line, headers) = request.split_once('\n').unwrap_or((&request, ""));
        let headers = headers.lines().map(|line| format!("{}\r\n", line.trim()));
        let headers: String = headers.collect();
        let bytes = format!("{} HTTP/1.1\r\n{headers}{ROW}: {row}\r\n\r\n", line.trim());
        let port = self.envoy.port("signed");
        let reply = http1::send(port, bytes.as_bytes(), line.starts_with("HEAD")).unwrap();
        assert_eq!(reply.status, 200, "{row}");
        self.upstream.arrived(row).pop().expect("it arrived")
    }

    /// The token of a plain request.
    #[track_caller]
    fn token(&self, row: &str) -> String {
        let arrived = self.send(row, "GET /v1\nhost: api.test\nx-api-key: {key}");
        one(&arrived, "x-tenant-token")
    }

    fn ops(&self, path: &str) -> Reply {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
        http1::send(self.keystile.ops_port, ask.as_bytes(), false).unwrap()
    }

    fn published(&self) -> Vec<String> {
        let reply = self.ops("/.well-known/jwks.json");
        let set: Value = serde_json::from_slice(&reply.body).unwrap();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    fn keyring(&self) -> PathBuf {
        self.keystile.dir().join("keys/signing.keyring")
    }
}

fn values(arrived: &Arrived, name: &str) -> Vec<String> {
    let same = arrived.headers.iter().filter(|(found, _)| found == name);
    same.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
        .collect()
}

#[track_caller]
fn one(arrived: &Arrived, name: &str) -> String {
    let [value] = values(arrived, name).try_into().expect("exactly one");
    value
}

fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = BASE64URL_NOPAD.decode(header.as_bytes()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// The upstream's own code, in Python, with an empty memory.
struct Verifier {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Verifier {
    fn start(world: &World) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let url = format!(
            "http://127.0.0.1:{}/.well-known/jwks.json",
            world.keystile.ops_port
        );
        let mut process = Command::new(python())
            .arg("-B")
            .arg(root.join("tests/e2e/verify.py"))
            .args([&url, "keystile", "api.test"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start Python");
        let to = process.stdin.take().expect("piped");
        let from = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, to, from }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.to, "{question}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("an answer; see stderr")
    }

    /// As for the request that [`World::token`] sends; `null` when accepted.
    fn refusal(&mut self, token: &str) -> Value {
        self.ask(&question(token))["refused"].clone()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.process.kill().expect("end Python");
        self.process.wait().expect("wait for Python");
    }
}

fn question(token: &str) -> Value {
    json!({"token": token, "method": "GET", "authority": "api.test", "path": "/v1"})
}

static WORLD: LazyLock<World> = LazyLock::new(World::start);

#[test]
fn what_reaches_the_upstream_verifies_there_for_the_request_that_it_came_with() {
    let world = &*WORLD;
    let mut verifier = Verifier::start(world);
    // Request, and the path that is bound.
    let rows = [
        (
            "plain",
            "GET /v1/orders?page=2\nhost: api.test\nx-api-key: {key}",
            "/v1/orders",
        ),
        (
            "another method",
            "DELETE /v1\nhost: api.test\nx-api-key: {key}",
            "/v1",
        ),
        ("HEAD", "HEAD /v1\nhost: api.test\nx-api-key: {key}", "/v1"),
        (
            "a port and capitals",
            "GET /v1\nhost: API.Test:8443\nx-api-key: {key}",
            "/v1",
        ),
        (
            "the key in the query",
            "GET /v1?z=1&api_key={key}&a=2\nhost: api.test",
            "/v1",
        ),
        (
            "an odd path",
            "GET //a%2Fb/./..;x=%22?/?\nhost: api.test\nx-api-key: {key}",
            "//a%2Fb/./..;x=%22",
        ),
        (
            "an absolute target",
            "GET http://api.test/v1?x\nhost: other\nx-api-key: {key}",
            "/v1",
        ),
        (
            "a forged token",
            "GET /v1\nhost: api.test\nx-tenant-token: forged\nx-api-key: {key}\nX-Tenant-Token: again",
            "/v1",
        ),
    ];
    for (row, request, path) in rows {
        let arrived = world.send(row, request);
        let method = request.split(' ').next().unwrap();
        let answer = verifier.ask(&json!({
            "token": one(&arrived, "x-tenant-token"),
            "method": method,
            "authority": one(&arrived, "host"),
            "path": arrived.target,
        }));
        let claims = &answer["claims"];
        assert_eq!(claims["path"], path, "{row}: {answer}");
        assert_eq!(
            (&claims["htm"], &claims["tenant"]),
            (&json!(method), &json!("acme")),
            "{row}"
        );
        let (iat, exp) = (
            claims["iat"].as_i64().unwrap(),
            claims["exp"].as_i64().unwrap(),
        );
        assert_eq!((exp - iat, &claims["nbf"]), (60, &json!(iat)), "{row}");
        assert_eq!(claims["key_id"], world.key.id, "{row}");
        assert_eq!(claims["features"], json!(["images"]), "{row}");
        assert_eq!(claims["scopes"], json!(["read"]), "{row}");
        assert!(!answer.to_string().contains(&world.key.token), "{row}");
    }
    let anonymous = world.send(
        "anonymous",
        "GET /optional\nhost: api.test\nx-tenant-token: forged",
    );
    assert!(values(&anonymous, "x-tenant-token").is_empty());
}

#[test]
fn a_token_for_another_request_changed_or_expired_is_refused() {
    let world = &*WORLD;
    let mut verifier = Verifier::start(world);
    let token = world.token("to be misused");
    assert_eq!(verifier.refusal(&token), Value::Null);
    for (field, value, refusal) in [
        ("method", json!("POST"), "InvalidTokenError"),
        ("path", json!("/v1/"), "InvalidTokenError"),
        ("path", json!("/V1"), "InvalidTokenError"),
        ("authority", json!("api.test:8443"), "InvalidTokenError"),
        ("later", json!(50), ""),
        ("later", json!(66), "ExpiredSignatureError"),
        ("later", json!(-60), "ImmatureSignatureError"),
    ] {
        let mut question = question(&token);
        question[field] = value;
        let answer = verifier.ask(&question);
        assert_eq!(
            answer["refused"].as_str().unwrap_or_default(),
            refusal,
            "{field}: {answer}"
        );
    }
    let elsewhere = world.send(
        "another host",
        "GET /v1\nhost: other.test\nx-api-key: {key}",
    );
    let elsewhere = one(&elsewhere, "x-tenant-token");
    assert_eq!(verifier.refusal(&elsewhere), "InvalidAudienceError");

    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = elsewhere.split('.').nth(1).unwrap();
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let none = encode(&json!({"alg": "none", "kid": kid(&token)}));
    let hmac = encode(&json!({"alg": "HS256", "kid": kid(&token)}));
    for (forged, refusal) in [
        (
            format!("{header}.{other}.{signature}"),
            "InvalidSignatureError",
        ),
        (format!("{header}.{claims}."), "InvalidSignatureError"),
        (format!("{none}.{claims}."), "InvalidAlgorithmError"),
        (
            format!("{hmac}.{claims}.{signature}"),
            "InvalidAlgorithmError",
        ),
        ("forged".to_owned(), "DecodeError"),
    ] {
        assert_eq!(verifier.refusal(&forged), refusal, "{forged}");
    }
}

#[test]
fn the_key_set_may_be_cached_and_holds_public_keys_alone() {
    let reply = WORLD.ops("/.well-known/jwks.json");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.one("content-type"), Some("application/jwk-set+json"));
    assert_eq!(reply.one("cache-control"), Some("public, max-age=300"));
    let set: Value = serde_json::from_slice(&reply.body).unwrap();
    for key in set["keys"].as_array().unwrap() {
        let mut names: Vec<&String> = key.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
    }
}

/// Written as `keystile keyring` writes it: whole or not at all.
fn put(path: &Path, keyring: &Keyring) {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new);
    file.unwrap()
        .write_all(keyring.to_text().as_bytes())
        .unwrap();
    fs::rename(new, path).unwrap();
}

fn ago(duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap();
    Timestamp::from_millis(SystemClock.now().as_millis() - millis)
}

#[test]
fn the_key_changes_under_way_and_tokens_of_the_old_one_verify_until_it_is_retired() {
    let world = World::start();
    let old = world.token("by the old key");
    assert_eq!(world.published(), [kid(&old)]);
    let first =
        Keyring::parse(&fs::read_to_string(world.keyring()).unwrap(), Ring::Signing).unwrap();

    // As an operator does it: published at once, signing later.
    world
        .keystile
        .cli(&["keyring", "rotate", "--dir", "keys", "--ring", "signing"]);
    wait_for("the new key in the key set", || {
        (world.published().len() == 2).then_some(())
    });
    assert_eq!(kid(&world.token("after the rotation")), kid(&old));

    // The same, made long enough ago to sign now.
    let mut rotated = first;
    rotated.rotate(ago(LEAD + Duration::from_secs(60)), &mut rand::rng());
    put(&world.keyring(), &rotated);
    let mut row = 0;
    let new = wait_for("a token by the new key", || {
        row += 1;
        let token = world.token(&format!("by the new key, {row}"));
        (kid(&token) != kid(&old)).then_some(token)
    });
    assert_eq!(world.published(), [kid(&old), kid(&new)]);
    for token in [&old, &new] {
        assert_eq!(Verifier::start(&world).refusal(token), Value::Null);
    }

    // A file that cannot be used changes nothing; SIGHUP reads it whether it looks changed or not.
    let reads = |what: &str| world.keystile.log().matches(what).count();
    fs::write(world.keyring(), "damaged").unwrap();
    wait_for("a word about the bad file", || {
        (reads("rejected the new signing keyring") == 1).then_some(())
    });
    world.keystile.signal("HUP");
    wait_for("another word after SIGHUP", || {
        (reads("rejected the new signing keyring") == 2).then_some(())
    });
    assert_eq!(world.published(), [kid(&old), kid(&new)]);
    let metrics = String::from_utf8(world.ops("/metrics").body).unwrap();
    let failed = "keystile_signing_keyring_reloads_total{outcome=\"failed\"} 2";
    assert!(metrics.contains(failed), "{metrics}");

    // Another file altogether, as after a theft; of its versions the first is retired, though the file still has it.
    let mut retired =
        Keyring::generate(Ring::Signing, ago(Duration::from_secs(1)), &mut rand::rng());
    retired.rotate(ago(LEAD + KEPT + Duration::from_secs(1)), &mut rand::rng());
    assert_eq!(retired.versions().len(), 2);
    put(&world.keyring(), &retired);
    wait_for("a single key", || {
        (world.published().len() == 1).then_some(())
    });
    let newest = world.token("by the newest key");
    assert_eq!(world.published(), [kid(&newest)]);
    let mut verifier = Verifier::start(&world);
    assert_eq!(verifier.refusal(&newest), Value::Null);
    for token in [&old, &new] {
        assert_eq!(verifier.refusal(token), "PyJWKClientError");
    }
}
