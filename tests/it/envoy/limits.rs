//! Limits of tenants and keys, as clients and upstreams see them. The rows of a table are sent in their order.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::World;
use crate::harness::keystile::NewKey;
use crate::harness::{http1, let_pass, wait_for};

#[test]
fn what_is_too_fast_or_too_much_is_refused_and_said() {
    super::check(TABLE);
}

const TABLE: &str = r#"
a rate is passed on to the upstream                      | default | GET /free ; x-api-key: {slow}                       | 200 ; up x-tenant-rate-limit: 1/h ; client no ratelimit
a forged rate is replaced                                | default | GET /free ; x-api-key: {slow} ; x-tenant-rate-limit: 9/s | 200 ; up x-tenant-rate-limit: 1/h
a forged rate of a tenant without one is removed         | default | GET /free ; x-api-key: {live} ; x-tenant-rate-limit: 9/s | 200 ; up no x-tenant-rate-limit
a tenant without limits hears nothing of limits          | default | GET /orders ; x-api-key: {live}                     | 200 ; client no ratelimit ; client no x-ratelimit-limit
the first of three                                       | default | GET /orders ; x-api-key: {slow}                     | 200 ; client ratelimit: "tenant";r=2;t=3600 ; client ratelimit-policy: "tenant";q=3;w=10800 ; client x-ratelimit-limit: 3 ; client x-ratelimit-remaining: 2 ; client x-ratelimit-reset: 3600 ; up no ratelimit
more than is left                                        | default | GET /costly ; x-api-key: {slow}                     | 429 rate_limited ; client x-ratelimit-remaining: 2 ; client retry-after: 3600
what was refused was not charged                         | default | GET /orders ; x-api-key: {slow}                     | 200 ; client x-ratelimit-remaining: 1
the last of three                                        | default | GET /orders ; x-api-key: {slow}                     | 200 ; client ratelimit: "tenant";r=0;t=10800
one too many                                             | default | GET /orders ; x-api-key: {slow}                     | 429 rate_limited ; says the tenant's rate of 1/h burst 3 ; client retry-after: 3600 ; client ratelimit: "tenant";r=0;t=10800 ; client ratelimit-policy: "tenant";q=3;w=10800 ; client x-ratelimit-limit: 3 ; client x-ratelimit-reset: 10800 ; meta tenant_id: slow ; meta reason: rate_limited
one too many over gRPC                                   | default | GRPC /orders ; x-api-key: {slow}                    | grpc 8
a route that costs nothing passes all the same           | default | GET /free ; x-api-key: {slow}                       | 200
another tenant is not concerned                          | default | GET /orders ; x-api-key: {live}                     | 200
a key within its own quota                               | default | GET /orders ; x-api-key: {scarce}                   | 200 ; client ratelimit-policy: "key-day";q=1;w=86400 ; client x-ratelimit-remaining: 0
a key beyond its own quota                               | default | GET /orders ; x-api-key: {scarce}                   | 429 quota_exceeded ; says The API key's quota of 1/day is used up ; client retry-after: * ; meta reason: quota_exceeded
another key of the tenant                                | default | GET /orders ; x-api-key: {plenty}                   | 200
a limit in shadow: within                                | default | GET /orders ; x-api-key: {shaded}                   | 200 ; meta no shadow_reason ; up x-tenant-rate-limit: 1/h
a limit in shadow: beyond                                | default | GET /orders ; x-api-key: {shaded}                   | 200 ; client x-ratelimit-remaining: 0 ; meta reason: allowed ; meta shadow_reason: rate_limited
a plan in shadow: within its rate                        | default | GET /images ; x-api-key: {tried}                    | 200 ; meta no shadow_reason ; up x-tenant-rate-limit: 1/h
a plan in shadow: beyond its rate                        | default | GET /images ; x-api-key: {tried}                    | 200 ; meta reason: allowed ; meta shadow_reason: rate_limited
a plan in shadow: a feature that it lacks                | default | GET /export ; x-api-key: {tried}                    | 200 ; meta reason: allowed ; meta shadow_reason: feature_not_enabled
"#;

fn send(world: &World, key: &NewKey) -> http1::Reply {
    let token = &key.token;
    let request = format!("GET /orders HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\n\r\n");
    let port = world.envoy.port("default");
    http1::send(port, request.as_bytes(), false).expect("an answer")
}

fn ask(world: &World, key: &NewKey) -> (u16, Option<u64>) {
    let reply = send(world, key);
    let left = reply.one("x-ratelimit-remaining");
    (
        reply.status,
        left.map(|left| left.parse().expect("a number")),
    )
}

#[test]
fn a_changed_limit_holds_at_once_and_what_is_used_stays_used() {
    let world = World::get();
    let keystile = &world.instance("default").keystile;
    let make = ["tenant", "create", "changing", "--rate", "10/h"];
    keystile.cli(&make);
    let key = keystile.create_key("changing", &["--name", "one"]);
    for left in (4..10).rev() {
        assert_eq!(ask(world, &key), (200, Some(left)));
    }
    let change = |more: &[&str]| keystile.cli(&[&["tenant", "update", "changing"], more].concat());
    change(&["--rate", "8/h"]);
    assert_eq!(ask(world, &key), (200, Some(1)));
    change(&["--rate", "5/h"]);
    assert_eq!(ask(world, &key), (429, Some(0)));
    change(&["--rate", "20/h"]);
    assert_eq!(ask(world, &key), (200, Some(12)));
    change(&["--rate", "unlimited"]);
    assert_eq!(ask(world, &key), (200, None));
    change(&["--rate", ""]);
    assert_eq!(ask(world, &key), (200, None), "it has no plan");

    let shown = keystile.cli(&[
        "tenant", "update", "changing", "--rate", "90/h", "-o", "json",
    ]);
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    assert_eq!(shown["rate"], "90/h");
    let limits = shown["effective_limits"].as_array().expect("a list");
    let sources: Vec<_> = limits.iter().map(|one| one["source"].as_str()).collect();
    assert_eq!(sources, [Some("tenant"), Some("default")]);
    let update = ["key", "update", "changing", &key.id, "--rate", "1/h"];
    keystile.cli(&update);
    assert_eq!(ask(world, &key).0, 200);
    assert_eq!(ask(world, &key), (429, Some(0)), "the key's own rate");
}

/// The client waits for as long as it is told, and a client that does not is refused.
#[test]
fn retry_after_is_the_second_at_which_a_retry_passes() {
    let world = World::get();
    let keystile = &world.instance("default").keystile;
    // One in 3 s.
    keystile.cli(&["tenant", "create", "patient", "--rate", "20/m burst 1"]);
    let key = keystile.create_key("patient", &["--name", "one"]);
    let every = Duration::from_secs(3);
    // From before the last request that passed; another that does was sent so much later.
    let mut last_passed: Option<Instant> = None;
    let mut try_it = || {
        let begun = Instant::now();
        let reply = send(world, &key);
        if reply.status == 200 {
            let elapsed = last_passed.replace(begun).map(|last| last.elapsed());
            assert!(
                elapsed.is_none_or(|elapsed| elapsed >= every),
                "{elapsed:?}"
            );
        } else {
            assert_eq!(reply.status, 429);
        }
        reply
    };
    for _ in 0..2 {
        // The first passes, and on a busy machine perhaps some more.
        let refused = wait_for("a refusal", || {
            Some(try_it()).filter(|reply| reply.status == 429)
        });
        let told = Instant::now();
        let wait: u64 = refused
            .one("retry-after")
            .expect("retry-after")
            .parse()
            .expect("seconds");
        assert!((1..=3).contains(&wait), "{wait}");
        assert_eq!(
            refused.one("x-ratelimit-reset"),
            Some(wait.to_string().as_str())
        );
        let rest_of = |time: Duration| (told + time).saturating_duration_since(Instant::now());
        // A second sooner is too soon, unless this machine was busy for as long.
        let sooner = rest_of(Duration::from_secs(wait - 1));
        let_pass(sooner, "most of the time that the client is told to wait");
        if try_it().status == 429 {
            let rest = rest_of(Duration::from_secs(wait));
            let_pass(rest, "the time that the client is told to wait");
            assert_eq!(try_it().status, 200, "told {wait} s");
        }
    }
}

#[test]
fn a_rehearsal_shows_the_limits_and_charges_nothing() {
    let world = World::get();
    let keystile = &world.instance("default").keystile;
    keystile.cli(&["tenant", "create", "rehearsing", "--rate", "1/h"]);
    let key = keystile.create_key("rehearsing", &["--name", "one"]);
    let token = keystile.dir().join("rehearsing.token");
    std::fs::write(&token, &key.token).expect("write the token");
    let socket = format!("unix:{}", keystile.authz_socket().display());
    let token = token.display().to_string();
    let check = || {
        let args = [
            "check",
            "--addr",
            &socket,
            "--token-file",
            &token,
            "--path",
            "/orders",
        ];
        let output = keystile.try_cli(&args);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for _ in 0..2 {
        let said = check();
        assert!(said.contains("tenant: 1 of 1 left"), "{said}");
    }
    assert_eq!(ask(world, &key), (200, Some(0)));
    let said = check();
    assert!(said.contains("rate_limited"), "{said}");
    assert!(
        said.contains("tenant: 0 of 1 left, all of them in 1h"),
        "{said}"
    );
}
