//! A rotation as every process that shares a Redis sees it.

use serde_json::Value;

use super::{Fleet, Key, ask, at, metric};
use crate::harness::redis::RedisServer;
use crate::harness::wait_for;
use crate::support::client;

/// A key that every process has in memory.
async fn known_everywhere(fleet: &Fleet) -> Key {
    let key = fleet.create_key();
    for channel in &fleet.channels().await {
        assert_eq!(ask(channel, &key.token).await, 200);
    }
    key
}

/// Rotates the key: what is shown of it, and its new token.
fn rotate(fleet: &Fleet, key: &Key, more: &[&str]) -> (Value, String) {
    let words = ["key", "rotate", "acme", &key.id, "-o", "json"];
    let answer = fleet.control.do_it(&[&words, more].concat());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let token = answer["plaintext"].as_str().unwrap().to_owned();
    (answer["key"].clone(), token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_grace_the_old_token_is_refused_everywhere_at_once_and_the_new_one_works() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let channels = fleet.channels().await;
    for _ in 0..10 {
        let key = known_everywhere(&fleet).await;
        let (shown, new) = rotate(&fleet, &key, &[]);
        assert_eq!(shown["generation"], 2);
        assert_eq!(shown["key_id"], key.id.as_str());
        // A process has started and ended since the commit: what is pushed has arrived.
        for channel in &channels {
            assert_eq!(ask(channel, &key.token).await, 401);
            assert_eq!(ask(channel, &new).await, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_tokens_work_in_the_grace_window_and_none_after_a_revocation() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    fleet.wait_until_all_live();
    let channels = fleet.channels().await;
    let key = known_everywhere(&fleet).await;
    let (shown, second) = rotate(&fleet, &key, &["--grace", "1h"]);
    assert_eq!(shown["retiring"]["generation"], 1);
    for channel in &channels {
        for token in [&key.token, &second] {
            assert_eq!(ask(channel, token).await, 200);
        }
    }
    let (_, third) = rotate(&fleet, &key, &["--grace", "1h"]);
    for channel in &channels {
        let found = [&key.token, &second, &third].map(|token| ask(channel, token));
        let found = futures_util::future::join_all(found).await;
        assert_eq!(found, [401, 200, 200], "one retiring token at most");
    }
    fleet.revoke_and_wait(&key);
    for channel in &channels {
        for token in [&key.token, &second, &third] {
            assert_eq!(ask(channel, token).await, 401);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_a_sidecar_knows_as_unknown_works_from_when_it_is_a_keys() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let channels = fleet.channels().await;
    let token = "a-token-that-was-asked-for-too-early";
    for channel in &channels {
        assert_eq!(ask(channel, token).await, 401);
    }
    std::fs::write(fleet.control.path("token"), token).unwrap();
    let import = [
        "key",
        "import",
        "acme",
        "--name",
        "early",
        "--token-file",
        "token",
    ];
    fleet.control.do_it(&import);
    for channel in &channels {
        assert_eq!(ask(channel, token).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_of_a_quota_goes_on_with_the_new_token() {
    let redis = RedisServer::start();
    let fleet = Fleet::start_with(&at(&redis), &at(&redis), "rate_limits: {mode: strict}");
    let made = fleet.control.do_it(&[
        "key", "create", "acme", "--name", "ci", "--quota", "10/day", "-o", "json",
    ]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = Key {
        id: made["key"]["key_id"].as_str().unwrap().to_owned(),
        token: made["plaintext"].as_str().unwrap().to_owned(),
    };
    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    let other = client::tcp(fleet.sidecars[1].authz).await;
    for _ in 0..6 {
        assert_eq!(ask(&sidecar, &key.token).await, 200);
    }
    let (_, new) = rotate(&fleet, &key, &["--grace", "1h"]);
    // Four are left, whichever token asks and wherever.
    for (channel, token) in [
        (&sidecar, &new),
        (&other, &key.token),
        (&other, &new),
        (&sidecar, &key.token),
    ] {
        assert_eq!(ask(channel, token).await, 200);
    }
    for channel in [&sidecar, &other] {
        for token in [&key.token, &new] {
            assert_eq!(ask(channel, token).await, 429);
        }
    }
    let (_, newest) = rotate(&fleet, &key, &[]);
    assert_eq!(ask(&other, &newest).await, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_rotates_and_the_holder_claims_without_one_refused_request() {
    let redis = RedisServer::start();
    let plan = "plans: {pro: {features: [images]}}";
    let mut fleet = Fleet::start_with(&at(&redis), &at(&redis), plan);
    let channels = fleet.channels().await;
    let update = ["tenant", "update", "acme", "--plan", "pro"];
    fleet.control.do_it(&update);
    let key = known_everywhere(&fleet).await;
    // Without a restart.
    let schedule = "rotation: {every: 6s, grace: 6s}";
    fleet.control.edit_config("features: [images]", schedule);
    fleet.running[0].signal("HUP");
    let get = ["key", "get", "acme", &key.id, "-o", "json"];
    let rotated = wait_for("the key to be rotated", || {
        let shown: Value = serde_json::from_str(&fleet.control.do_it(&get)).unwrap();
        (shown["generation"] == 2).then_some(shown)
    });
    assert_eq!(rotated["unclaimed"], true, "{rotated}");
    let admin = std::mem::replace(&mut fleet.control.admin_token, key.token.clone());
    let claimed = fleet.control.do_it(&["key", "claim", "-o", "json"]);
    let again = fleet.control.run(&["key", "claim"]);
    fleet.control.admin_token = admin;
    let claimed: Value = serde_json::from_str(&claimed).unwrap();
    let new = claimed["plaintext"].as_str().unwrap();
    for channel in &channels {
        for token in [&key.token, new] {
            assert_eq!(ask(channel, token).await, 200);
        }
    }
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("claimed before"), "{}", again.stderr);
    assert!(again.stderr.contains("hint: "), "{}", again.stderr);
    let outcome = |outcome: &str| {
        let name = format!("keystile_rotations_total{{outcome=\"{outcome}\"}}");
        metric(&fleet.control, &name)
    };
    assert!(outcome("rotated") >= 1.0);
    assert_eq!(outcome("claimed"), 1.0);
}
