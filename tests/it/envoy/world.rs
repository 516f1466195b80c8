//! What every table is asked against: seven Keystiles with one seed, one upstream, one Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::broken;
use super::row::Row;
use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::keystile::{Keystile, NewKey, Settings};
use crate::harness::upstream::Upstream;
use crate::harness::{http1, wait_for};

/// Token and key id (`<name>.id`) by name.
pub(crate) type Tokens = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) keystile: Keystile,
    pub(crate) tokens: Tokens,
    pub(crate) reserved_prefixes: &'static [&'static str],
    /// `forward_key` is on: the upstream may see tokens.
    pub(crate) keys_go_on: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    // Before the instances, so that Envoy goes first.
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Upstream,
    instances: BTreeMap<&'static str, Instance>,
    sentences: Mutex<BTreeSet<String>>,
}

const STANDARD: &[&str] = &["x-tenant-", "x-api-key-"];
const RENAMED: &[&str] = &["x-acme-tenant-", "x-acme-key-"];

/// The rules of the instance `routed`; Envoy's routes of the same names say other things.
const ROUTES: &str = r#"
  routes:
  - {path: "/public/{*rest}", mode: off}
  - {methods: [GET], path: "/v1/images/{id}", features: [images]}
  - {path: "/v1/images/{id}", features: [export]}
  - {path: "/v1/{*rest}", scopes: [admin], shadow: true}
  - {host: "*.open.test", mode: optional}
  - {path: "/v1/{*rest}", scopes: [read]}
  - {path: "/off", features: [export]}
  - {path: "/costly", scopes: [admin]}
  - {path: "/free", scopes: [admin]}
  - {path: "/export/{*rest}", mode: off}"#;

/// The rules of the instance `wary`, which takes no other spelling for a path.
const WARY: &str = r#"
  path_variants: refuse
  routes:
  - {path: "/public/{*rest}", mode: off}
  - {methods: [GET], path: "/v1/reports", mode: optional}
  - {path: "/v1/reports", scopes: [write]}
  - {path: "/v1/admin/{*rest}", scopes: [admin]}
  - {path: "/v1/{*rest}", mode: off}"#;

/// Name, settings, reserved prefixes.
const INSTANCES: &[(&str, Settings, &[&str])] = &[
    (
        "main",
        Settings {
            authz: "",
            more: "",
        },
        STANDARD,
    ),
    (
        "places",
        Settings {
            authz: "  credentials: [{header: x-api-key}, {bearer: authorization}, {query: api_key}, {cookie: api_key}]",
            more: "",
        },
        STANDARD,
    ),
    (
        "renamed",
        Settings {
            authz: "  forward_key: true\n  tenant_header_prefix: x-acme-tenant-\n  key_header_prefix: x-acme-key-\n  credentials: [{header: x-acme-auth}]",
            more: "tokens: {live_prefix: acme_live, test_prefix: acme_test}",
        },
        RENAMED,
    ),
    (
        "routed",
        Settings {
            authz: ROUTES,
            more: "",
        },
        STANDARD,
    ),
    (
        "wary",
        Settings {
            authz: WARY,
            more: "",
        },
        STANDARD,
    ),
    (
        "outage-deny",
        Settings {
            authz: "",
            more: "failure_policy: {store_outage: deny}",
        },
        STANDARD,
    ),
    (
        "outage-defer",
        Settings {
            authz: "",
            more: "failure_policy: {store_outage: defer}",
        },
        STANDARD,
    ),
];

impl World {
    /// Started once, by whichever table comes first.
    pub(crate) fn get() -> &'static Self {
        static WORLD: LazyLock<World> = LazyLock::new(World::start);
        &WORLD
    }

    fn start() -> Self {
        let mut instances = thread::scope(|scope| {
            let starting: Vec<_> = INSTANCES
                .iter()
                .map(|(name, settings, prefixes)| {
                    (*name, scope.spawn(|| start(name, *settings, prefixes)))
                })
                .collect();
            let started = starting.into_iter();
            started
                .map(|(name, handle)| (name, handle.join().expect("the instance starts")))
                .collect::<BTreeMap<_, _>>()
        });
        swap_strangers(&mut instances);
        let upstream = Upstream::start();
        let envoy = Envoy::start(&listeners(), &clusters(&instances, &upstream), &routes());
        let world = Self {
            envoy,
            upstream,
            instances,
            sentences: Mutex::default(),
        };
        world.wait_until_expired();
        world
    }

    /// What a row led to is found by its sentence, so two rows may not share one.
    #[track_caller]
    pub(crate) fn claim(&self, rows: &[Row]) {
        let mut sentences = self.sentences.lock();
        for row in rows {
            assert!(sentences.insert(row.id.clone()), "twice: {}", row.text);
        }
    }

    /// The instance that a listener asks.
    pub(crate) fn instance(&self, listener: &str) -> &Instance {
        let all = listeners();
        let found = all.iter().find(|each| each.name == listener);
        let authz = found.expect("a listener of that name").authz;
        let name = match authz {
            "socket" | "dead" | "broken-deny" | "broken-defer" => "main",
            name => name,
        };
        &self.instances[name]
    }

    /// The key `expired` lives for three seconds; rows want it dead.
    fn wait_until_expired(&self) {
        for listener in ["default", "places"] {
            let token = &self.instance(listener).tokens["expired"];
            let ask = format!("GET / HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\r\n");
            wait_for("the short-lived key to expire", || {
                let reply = http1::send(self.envoy.port(listener), ask.as_bytes(), false).ok()?;
                (reply.status == 401).then_some(())
            });
        }
    }
}

fn start(name: &str, settings: Settings, prefixes: &'static [&'static str]) -> Instance {
    let mut keystile = Keystile::start(settings);
    let mut tokens = Tokens::new();
    seed(&keystile, &mut tokens);
    if name.starts_with("outage") {
        let unreadable = miss_a_kek(&mut keystile);
        tokens.insert("unreadable".to_owned(), unreadable.token);
    }
    Instance {
        keystile,
        tokens,
        reserved_prefixes: prefixes,
        keys_go_on: settings.authz.contains("forward_key: true"),
    }
}

/// Tenants and keys that the tables name.
fn seed(keystile: &Keystile, tokens: &mut Tokens) {
    let mut add = |name: &str, key: NewKey| {
        tokens.insert(format!("{name}.id"), key.id);
        tokens.insert(name.to_owned(), key.token);
    };
    let tenant = |id: &str, name: &str, more: &[&str]| {
        let mut args = vec!["tenant", "create", id, "--display-name", name];
        args.extend(more);
        keystile.cli(&args);
    };
    let key = |tenant: &str, name: &str, more: &[&str]| {
        let mut args = vec!["--name", name, "--owner", "alice", "--role", "user"];
        args.extend(more);
        keystile.create_key(tenant, &args)
    };
    let metadata = ["--metadata", "region=eu-1", "--metadata", "note=Zoë & co"];
    let mut acme = vec!["--plan", "pro", "--feature", "reports"];
    acme.extend(metadata);
    tenant("acme", "Acme", &acme);
    let scopes = ["--scope", "read", "--scope", "write"];
    add("expired", key("acme", "expired", &["--expires-in", "3s"]));
    add("live", key("acme", "live", &scopes));
    add("second", key("acme", "second", &[]));
    add("reader", key("acme", "reader", &["--scope", "read"]));
    let far = ["--allow-cidr", "10.0.0.0/8"];
    add("away", key("acme", "away", &far));
    let near = ["--allow-cidr", "10.0.0.0/8", "--allow-cidr", "127.0.0.0/8"];
    add("home", key("acme", "home", &near));
    let revoked = key("acme", "revoked", &[]);
    keystile.cli(&["key", "revoke", "acme", &revoked.id]);
    add("revoked", revoked);

    tenant("bare", "Bare", &[]);
    add("bare", key("bare", "bare", &[]));
    tenant("cafe", "Café ☕ 100%", &["--plan", "pro"]);
    add("cafe", key("cafe", "cafe", &[]));
    tenant("frozen", "Frozen", &["--plan", "pro"]);
    add("frozen", key("frozen", "frozen", &[]));
    keystile.cli(&["tenant", "suspend", "frozen"]);
    tenant("slow", "Slow", &["--rate", "1/h burst 3"]);
    add("slow", key("slow", "slow", &[]));
    tenant("small", "Small", &[]);
    add("scarce", key("small", "scarce", &["--quota", "1/day"]));
    add("plenty", key("small", "plenty", &[]));
    tenant("shaded", "Shaded", &["--rate", "1/h shadow"]);
    add("shaded", key("shaded", "shaded", &[]));
    tenant("tried", "Tried", &["--plan", "tried"]);
    add("tried", key("tried", "tried", &[]));
    tenant("gone", "Gone", &[]);
    add("gone", key("gone", "gone", &[]));
    keystile.cli(&["tenant", "delete", "gone", "--yes"]);
}

/// `unreadable`: a key that this instance can find and not open, since its keyring lacks the newest KEK.
fn miss_a_kek(keystile: &mut Keystile) -> NewKey {
    let keyring = keystile.dir().join("keys/data.keyring");
    let old = fs::read(&keyring).expect("read the keyring");
    assert_eq!(keystile.stop(), Some(0), "SIGTERM ends it well");
    keystile.cli(&["keyring", "rotate", "--dir", "keys", "--ring", "data"]);
    keystile.serve();
    keystile.cli(&["tenant", "create", "newer", "--display-name", "Newer"]);
    let key = keystile.create_key("newer", &["--name", "unreadable", "--owner", "alice"]);
    assert_eq!(keystile.stop(), Some(0), "SIGTERM ends it well");
    fs::write(&keyring, old).expect("put the old keyring back");
    keystile.serve();
    key
}

/// `stranger`: a well-formed token that only another installation knows.
fn swap_strangers(instances: &mut BTreeMap<&'static str, Instance>) {
    let live = |instances: &BTreeMap<&'static str, Instance>, name: &str| {
        instances[name].tokens["live"].clone()
    };
    let (main, places) = (live(instances, "main"), live(instances, "places"));
    for (name, instance) in instances {
        let token = if *name == "main" { &places } else { &main };
        instance.tokens.insert("stranger".to_owned(), token.clone());
        let mut typo = instance.tokens["live"].clone();
        let last = typo.pop().expect("not empty");
        typo.push(if last == 'a' { 'b' } else { 'a' });
        instance.tokens.insert("typo".to_owned(), typo);
    }
}

fn listeners() -> Vec<Listener> {
    let plain = |name, authz| Listener {
        name,
        authz,
        filter: json!({}),
        manager: json!({}),
    };
    let filter = |name, authz, filter: Value| Listener {
        filter,
        ..plain(name, authz)
    };
    let manager = |name, manager: Value| Listener {
        manager,
        ..plain(name, "main")
    };
    let open = || json!({"failure_mode_allow": true});
    let few = json!({"allowed_headers": {"patterns": [
        {"exact": "x-api-key"}, {"exact": "authorization"},
        {"prefix": "x-tenant-"}, {"prefix": "x-api-key-"},
    ]}});
    let blind = json!({"allowed_headers": {"patterns": [{"exact": "x-api-key"}]}});
    let body = json!({
        "failure_mode_allow": true,
        "with_request_body": {"max_request_bytes": 8 << 20, "pack_as_bytes": true},
    });
    vec![
        plain("default", "main"),
        plain("socket", "socket"),
        filter("raw", "main", json!({"encode_raw_headers": true})),
        filter("open", "main", open()),
        filter("strict", "main", json!({"validate_mutations": true})),
        filter("few", "main", few),
        filter("blind", "main", blind),
        filter("body", "main", body),
        manager(
            "normal",
            json!({
                "normalize_path": true,
                "merge_slashes": true,
                "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
            }),
        ),
        manager("proxied", json!({"use_remote_address": false})),
        plain("places", "places"),
        filter("places-raw", "places", json!({"encode_raw_headers": true})),
        plain("renamed", "renamed"),
        plain("routed", "routed"),
        filter("routed-raw", "routed", json!({"encode_raw_headers": true})),
        plain("wary", "wary"),
        Listener {
            authz: "routed",
            ..manager(
                "routed-normal",
                json!({
                    "normalize_path": true,
                    "merge_slashes": true,
                    "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
                }),
            )
        },
        plain("dead", "dead"),
        filter("dead-open", "dead", open()),
        plain("outage-deny", "outage-deny"),
        filter("outage-deny-open", "outage-deny", open()),
        plain("outage-defer", "outage-defer"),
        filter("outage-defer-open", "outage-defer", open()),
        filter("broken-deny-open", "broken-deny", open()),
        plain("broken-defer", "broken-defer"),
        filter("broken-defer-open", "broken-defer", open()),
    ]
}

fn clusters(
    instances: &BTreeMap<&'static str, Instance>,
    upstream: &Upstream,
) -> Vec<(&'static str, Endpoint)> {
    let socket = instances["main"].keystile.authz_socket();
    let mut clusters = vec![
        ("upstream", Endpoint::Port(upstream.port)),
        ("socket", Endpoint::Socket(socket)),
        // Nobody listens on the first of all ports.
        ("dead", Endpoint::Port(1)),
        ("broken-deny", Endpoint::Port(broken::start("deny"))),
        ("broken-defer", Endpoint::Port(broken::start("defer"))),
    ];
    for (name, instance) in instances {
        clusters.push((*name, Endpoint::Port(instance.keystile.authz_port)));
    }
    clusters
}

/// The same on every listener. `/open` is not checked at all: what happens when people trust a prefix.
fn routes() -> Value {
    json!([
        route("CONNECT", &json!({})),
        route("/open", &Value::Null),
        route("/off", &json!({"keystile.mode": "off"})),
        route(
            "/optional-export",
            &json!({"keystile.mode": "optional", "keystile.features": "export"})
        ),
        route("/optional", &json!({"keystile.mode": "optional"})),
        route("/mode-typo", &json!({"keystile.mode": "of"})),
        route("/rule-typo", &json!({"keystile.feature": "export"})),
        route("/images", &json!({"keystile.features": "images"})),
        route("/reports", &json!({"keystile.features": "reports"})),
        route("/both", &json!({"keystile.features": "images,reports"})),
        route("/export", &json!({"keystile.features": "export"})),
        route("/half", &json!({"keystile.features": "images,export"})),
        route("/read", &json!({"keystile.scopes": "read"})),
        route("/change", &json!({"keystile.scopes": "read,write"})),
        route("/other", &json!({"product": "unrelated"})),
        route(
            "/contradiction",
            &json!({"keystile.mode": "off", "keystile.cost": "2"})
        ),
        route("/free", &json!({"keystile.cost": "0"})),
        route("/costly", &json!({"keystile.cost": "3"})),
        // For `routed`: Keystile's own rules say what these need.
        route("/public", &json!({})),
        route("/v1", &json!({})),
        route("/elsewhere", &json!({})),
        route("/", &json!({"keystile.mode": "required"})),
    ])
}
