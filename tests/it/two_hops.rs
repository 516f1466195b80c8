//! ext_authz on a gateway and again on the workload behind it, each with a Keystile of its own, over one Redis: the key is
//! taken out and charged at the first, and what the second goes by is the first one's signed context.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::http1::{self, Reply};
use crate::harness::redis::RedisServer;
use crate::harness::upstream::{Arrived, ROW, Upstream};
use crate::harness::wait_for;
use crate::support::program::{Place, Running};

struct Key {
    id: String,
    token: String,
}

struct World {
    // Before the rest, so that they go first.
    gateway_envoy: Envoy,
    workload_envoy: Envoy,
    app: Upstream,
    gateway: Place,
    workload: Place,
    workload_running: Running,
    _gateway_running: Running,
    _redis: RedisServer,
}

static WORLD: LazyLock<World> = LazyLock::new(World::start);

/// A route to another cluster, or with more in its action.
fn with(mut route: Value, field: &str, value: Value) -> Value {
    route["route"][field] = value;
    route
}

/// As a mesh's sidecar, which believes what the gateway's Envoy says the request was.
fn mesh() -> Value {
    json!({
        "use_remote_address": false,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
    })
}

impl World {
    fn start() -> Self {
        let redis = RedisServer::start();
        let at = format!("url: \"redis://127.0.0.1:{}\"", redis.port());
        let mut gateway = Place::with_keyrings();
        gateway.do_it(&["keyring", "init", "--dir", "keys", "--ring", "signing"]);
        let dir = gateway.dir().display().to_string();
        let signing = format!("keyring: {{signing: {{file: {dir}/keys/signing.keyring}}, data:");
        gateway.edit_config("keyring: {data:", &signing);
        gateway.use_redis(&at);
        gateway.bootstrap();
        let workload = gateway.sidecar();
        workload.use_redis(&at);
        for place in [&gateway, &workload] {
            place.add_config("rate_limits: {mode: strict}");
        }
        let key_set = format!("http://127.0.0.1:{}/.well-known/jwks.json", gateway.ops);
        let add = |place: &Place, lines: &str| {
            place.edit_config("  workers: 2\n", &format!("  workers: 2\n{lines}\n"));
        };
        add(
            &gateway,
            "  signed_context: {key_ref: true}\n  trusted_hop: {}",
        );
        add(
            &workload,
            &format!("  trusted_hop: {{jwks: {{url: \"{key_set}\"}}}}"),
        );
        let (gateway_running, workload_running) = (gateway.serve(), workload.serve());
        gateway.do_it(&["tenant", "create", "acme"]);
        wait_for("the workload to have the gateway's keys", || {
            let (_, metrics) = workload.ops("/metrics")?;
            metrics
                .contains("keystile_trusted_hop_jwks_age_seconds")
                .then_some(())
        });

        let app = Upstream::start();
        let listener = |name, authz, manager| Listener {
            name,
            authz,
            filter: json!({}),
            manager,
        };
        let workload_envoy = Envoy::start(
            &[listener("workload", "keystile", mesh())],
            &[
                ("keystile", Endpoint::Port(workload.authz)),
                ("upstream", Endpoint::Port(app.port)),
            ],
            &json!([
                route("/unmarked", &json!({})),
                route("/marked-off", &json!({"keystile.trusted_hop": "false"})),
                route(
                    "/optional",
                    &json!({"keystile.trusted_hop": "true", "keystile.mode": "optional"})
                ),
                route(
                    "/export",
                    &json!({"keystile.trusted_hop": "true", "keystile.features": "export"})
                ),
                route(
                    "/write",
                    &json!({"keystile.trusted_hop": "true", "keystile.scopes": "write"})
                ),
                route("/new", &json!({"keystile.trusted_hop": "rewritten"})),
                route("/", &json!({"keystile.trusted_hop": "true"})),
            ]),
        );
        let plain = |prefix| route(prefix, &json!({}));
        let redirects = json!({"max_internal_redirects": 1});
        let gateway_envoy = Envoy::start(
            &[listener("gateway", "keystile", json!({}))],
            &[
                ("keystile", Endpoint::Port(gateway.authz)),
                ("upstream", Endpoint::Port(workload_envoy.port("workload"))),
                ("app-http1", Endpoint::Port(app.port)),
            ],
            &json!([
                // What the app sees of these is what an app can misuse.
                with(plain("/seen"), "cluster", json!("app-http1")),
                with(plain("/old"), "prefix_rewrite", json!("/new")),
                with(plain("/strict"), "prefix_rewrite", json!("/elsewhere")),
                with(
                    plain("/redirect"),
                    "internal_redirect_policy",
                    redirects.clone()
                ),
                route("/landed", &json!({"keystile.trusted_hop": "rewritten"})),
                with(
                    plain("/lost-redirect"),
                    "internal_redirect_policy",
                    redirects
                ),
                plain("/"),
            ]),
        );
        Self {
            gateway_envoy,
            workload_envoy,
            app,
            gateway,
            workload,
            workload_running,
            _gateway_running: gateway_running,
            _redis: redis,
        }
    }

    fn key(&self, name: &str, more: &[&str]) -> Key {
        self.key_of("acme", name, more)
    }

    fn key_of(&self, tenant: &str, name: &str, more: &[&str]) -> Key {
        let mut args = vec![
            "key", "create", tenant, "--name", name, "--owner", name, "-o", "json",
        ];
        args.extend(more);
        let made: Value = serde_json::from_str(&self.gateway.do_it(&args)).unwrap();
        let id = made["key"]["name"].as_str().unwrap().rsplit('/').next();
        Key {
            id: id.unwrap().to_owned(),
            token: made["plaintext"].as_str().unwrap().to_owned(),
        }
    }

    /// Sends a request; the answer, and what reached the app.
    fn send(&self, port: u16, line: &str, headers: &[(&str, &str)]) -> (Reply, Option<Arrived>) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let row = format!("hop-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut bytes = format!("{line} HTTP/1.1\r\n{ROW}: {row}\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            bytes.push_str("host: api.test\r\n");
        }
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        let reply = http1::send(port, bytes.as_bytes(), false).unwrap();
        (reply, self.app.arrived(&row).pop())
    }

    fn through(&self, line: &str, key: &Key) -> (Reply, Option<Arrived>) {
        let port = self.gateway_envoy.port("gateway");
        self.send(port, line, &[("x-api-key", &key.token)])
    }

    /// The answer's status and code to a request that reaches the workload past the gateway.
    fn past(&self, line: &str, headers: &[(&str, &str)]) -> String {
        let (reply, arrived) = self.send(self.workload_envoy.port("workload"), line, headers);
        assert_eq!(arrived.is_some(), reply.status == 200, "{line}");
        assert!(
            arrived.is_none_or(|arrived| value(&arrived, "x-tenant-token").is_none()),
            "{line}: the app got a context that this hop did not make"
        );
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        match body["code"].as_str() {
            Some(code) => format!("{} {code}", reply.status),
            None => reply.status.to_string(),
        }
    }

    /// The context that the gateway makes for this request.
    fn context(&self, line: &str, key: &Key) -> String {
        let (reply, arrived) = self.through(line, key);
        assert_eq!(reply.status, 200, "{line}");
        value(&arrived.expect("the app was asked"), "x-tenant-token").expect("a context")
    }
}

fn value(arrived: &Arrived, name: &str) -> Option<String> {
    let found = arrived.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// What is left of the key's quota after this answer.
fn left(reply: &Reply) -> u64 {
    let left = reply.one("x-ratelimit-remaining");
    left.expect("the key has a quota").parse().unwrap()
}

#[test]
fn a_key_passes_two_hops_is_charged_once_and_does_not_reach_the_app() {
    let world = &*WORLD;
    let key = world.key("twice", &["--quota", "100/day", "--scope", "write"]);
    for (line, expected) in [
        ("GET /orders?page=2", 99),
        ("POST /orders", 98),
        ("GET /write/1", 97),
    ] {
        let (reply, arrived) = world.through(line, &key);
        assert_eq!((reply.status, left(&reply)), (200, expected), "{line}");
        let arrived = arrived.expect("the app was asked");
        assert_eq!(value(&arrived, "x-tenant-id").as_deref(), Some("acme"));
        assert_eq!(value(&arrived, "x-api-key-id").as_deref(), Some(&*key.id));
        for gone in ["x-api-key", "x-tenant-token"] {
            assert_eq!(value(&arrived, gone), None, "{line}: {gone}");
        }
    }
    // Unless the second hop is told to go by it, the request has no key there.
    for path in ["/unmarked", "/marked-off"] {
        assert_eq!(
            world.through(&format!("GET {path}"), &key).0.status,
            401,
            "{path}"
        );
    }
}

#[test]
fn the_second_hop_asks_its_own_rules_and_how_the_key_is_now() {
    let world = &*WORLD;
    let plain = world.key("plain", &[]);
    assert_eq!(
        world.through("GET /export/1", &plain).0.status,
        403,
        "a feature"
    );
    assert_eq!(
        world.through("GET /write/1", &plain).0.status,
        403,
        "a scope"
    );

    let home = world.key("home", &["--allow-cidr", "127.0.0.0/8"]);
    assert_eq!(world.through("GET /orders", &home).0.status, 200);
    let context = world.context("GET /seen/home", &home);
    let near = [("x-tenant-token", &*context)];
    assert_eq!(world.past("GET /seen/home", &near), "200");
    let elsewhere = ["--allow-cidr", "10.0.0.0/8", "--remove-cidr", "127.0.0.0/8"];
    world
        .gateway
        .do_it(&[&["key", "update", "acme", &home.id], &elsewhere[..]].concat());
    wait_for("the second hop to know of the key's networks", || {
        let answer = world.past("GET /seen/home", &near);
        (answer == "403 network_not_allowed").then_some(())
    });

    let revoked = world.key("revoked", &[]);
    let context = world.context("GET /seen/revoked", &revoked);
    world
        .gateway
        .do_it(&["key", "revoke", "acme", &revoked.id, "--wait", "60s"]);
    let token = [("x-tenant-token", &*context)];
    assert_eq!(
        world.past("GET /seen/revoked", &token),
        "401 invalid_api_key"
    );
    assert_eq!(world.past("GET /optional", &[]), "200");

    // On a busy machine a short life may be over before the first hop has seen the key: then one with a longer life.
    let context = ["3s", "15s", "45s"].iter().find_map(|life| {
        let short = world.key(&format!("short{life}"), &["--expires-in", life]);
        let (reply, arrived) = world.through("GET /seen/short", &short);
        (reply.status == 200).then(|| value(&arrived.unwrap(), "x-tenant-token").unwrap())
    });
    let context = context.expect("a key that lives for long enough");
    wait_for("the key to expire", || {
        let answer = world.past("GET /seen/short", &[("x-tenant-token", &context)]);
        (answer == "401 api_key_expired").then_some(())
    });
}

/// A request that has passed the first hop is on its way when its tenant is suspended, its key revoked, or its tenant
/// deleted: its context is fresh, and says nothing of it.
#[test]
fn a_fresh_context_of_a_suspended_or_deleted_tenant_or_a_revoked_key_opens_nothing() {
    let world = &*WORLD;
    let tenant = "hopping";
    world.gateway.do_it(&["tenant", "create", tenant]);
    let revoked = world.key_of(tenant, "revoked", &[]);
    let key = world.key_of(tenant, "fresh", &[]);
    let of_revoked = world.context("GET /seen/revoked", &revoked);
    let context = world.context("GET /seen/fresh", &key);
    let token = [("x-tenant-token", &*context)];
    assert_eq!(world.past("GET /seen/fresh", &token), "200");

    let revoke = ["key", "revoke", tenant, &revoked.id, "--wait", "60s"];
    world.gateway.do_it(&revoke);
    let answer = world.past("GET /seen/revoked", &[("x-tenant-token", &*of_revoked)]);
    assert_eq!(answer, "401 invalid_api_key");
    assert_eq!(
        world.past("GET /seen/fresh", &token),
        "200",
        "its neighbour"
    );

    world.gateway.do_it(&["tenant", "suspend", tenant]);
    wait_for("the second hop to hear of the suspension", || {
        (world.past("GET /seen/fresh", &token) == "403 tenant_suspended").then_some(())
    });
    world.gateway.do_it(&["tenant", "delete", tenant, "--yes"]);
    // A context of a key that is not there is as none.
    wait_for("the second hop to hear of the deletion", || {
        (world.past("GET /seen/fresh", &token) == "401 missing_api_key").then_some(())
    });
}

#[test]
fn a_context_that_an_app_has_seen_opens_nothing_else_and_pays_for_nothing() {
    let world = &*WORLD;
    let key = world.key("misused", &["--quota", "100/day"]);
    let context = world.context("GET /seen/a", &key);
    let token = [("x-tenant-token", &*context)];
    let other = world.context("GET /seen/b", &key);
    let forged = context.replace('.', "A.");
    let none = "401 missing_api_key";
    for (line, headers, expected) in [
        ("GET /seen/b", &token[..], none),
        ("GET /seen", &token, none),
        ("GET /seen/A", &token, none),
        ("POST /seen/a", &token, none),
        ("GET /seen/a", &[token[0], ("host", "other.test")], none),
        ("GET /seen/a", &[token[0], token[0]], none),
        ("GET /seen/a", &[token[0], ("x-tenant-token", &other)], none),
        ("GET /seen/a", &[("x_tenant_token", &*context)], none),
        ("GET /seen/a", &[("x.tenant.token", &*context)], none),
        ("GET /seen/a", &[("x-tenant-token", &*forged)], none),
        (
            "GET /seen/a",
            &[("authorization", &*format!("Bearer {context}"))],
            "401 invalid_api_key",
        ),
        (
            "GET /seen/b",
            &[("x-tenant-token", &*other), ("x-api-key", "nonsense")],
            "401 invalid_api_key",
        ),
        ("GET /unmarked", &token, none),
        ("GET /optional", &token, "200"),
        (
            "GET /elsewhere",
            &[token[0], ("x-envoy-original-path", "/seen/a")],
            none,
        ),
        (
            "GET /elsewhere",
            &[token[0], ("x-envoy-original-url", "http://api.test/seen/a")],
            none,
        ),
    ] {
        assert_eq!(
            world.past(line, headers),
            expected,
            "{line} {:?}",
            headers.iter().map(|(name, _)| name)
        );
    }
    assert!(
        world
            .workload_running
            .log()
            .contains("a signed context was not believed")
    );

    // For the very request that it was made for it stands; once for nothing, then at its tenant's cost.
    let before = left(&world.through("GET /orders", &key).0);
    for _ in 0..4 {
        assert_eq!(world.past("GET /seen/a", &token), "200");
    }
    let after = left(&world.through("GET /orders", &key).0);
    assert_eq!(before - after, 1 + 3, "three of the four are charged");
    let (_, metrics) = world.workload.ops("/metrics").unwrap();
    for outcome in ["accepted", "repeated", "malformed", "other_request"] {
        let line = format!("keystile_trusted_hop_contexts_total{{outcome=\"{outcome}\"}} ");
        let count = metrics.lines().find_map(|found| found.strip_prefix(&line));
        assert!(
            count.is_some_and(|count| count != "0"),
            "{outcome}: {metrics}"
        );
    }
}

#[test]
fn a_rewritten_and_a_redirected_request_is_proven_where_the_route_says_so() {
    let world = &*WORLD;
    let key = world.key("moved", &["--quota", "100/day"]);
    // The gateway rewrites the path after its check.
    let (reply, arrived) = world.through("GET /old/1", &key);
    assert_eq!((reply.status, left(&reply)), (200, 99));
    assert_eq!(arrived.unwrap().target, "/new/1");
    assert_eq!(
        world.through("GET /strict/1", &key).0.status,
        401,
        "not where the route is exact"
    );

    // The app redirects, and Envoy follows by itself: the same listener checks the request again.
    let before = left(&world.through("GET /orders", &key).0);
    let (reply, arrived) = world.through("GET /redirect/landed", &key);
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    let arrived = arrived.unwrap();
    assert_eq!(arrived.target, "/landed");
    assert_eq!(value(&arrived, "x-tenant-id").as_deref(), Some("acme"));
    assert_eq!(value(&arrived, "x-api-key"), None);
    let after = left(&world.through("GET /orders", &key).0);
    assert_eq!(before - after, 2, "the redirect is charged once");
    assert_eq!(
        world.through("GET /lost-redirect/orders", &key).0.status,
        401
    );
}
