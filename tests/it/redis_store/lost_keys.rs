//! Keys whose own record is lost, and what is known of a token when its key has forgotten it.

use super::check::new_key;
use super::{Fleet, at};
use crate::harness::redis::RedisServer;
use crate::harness::write_secret;
use crate::support::client;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoke_all_reaches_a_key_whose_record_and_lookup_list_are_lost() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    for made_again in [
        // The list is gone.
        false, // Or it is there again, with what was made since.
        true,
    ] {
        let (kept, lost) = (fleet.create_key(), fleet.create_key());
        redis.cli(&["HDEL", "ks:k:{acme}:keys", &lost.id]);
        redis.cli(&["DEL", "ks:k:{acme}:lookups", "ks:k:{acme}:ids"]);
        let more = made_again.then(|| fleet.create_key());
        let all = [Some(kept), Some(lost), more];
        let all: Vec<_> = all.into_iter().flatten().collect();
        for key in &all {
            super::ask_until(&sidecar, &key.token, 200).await;
        }
        let told = fleet.control.do_it(&["key", "revoke-all", "acme", "--yes"]);
        assert!(told.contains(&all.len().to_string()), "{told}");
        for key in &all {
            super::ask_until(&sidecar, &key.token, 401).await;
        }
        let told = fleet.control.do_it(&["key", "list", "acme"]);
        for key in &all {
            assert!(told.contains(&key.id), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_revoked_by_its_lookup_id_whether_or_not_its_entry_can_be_read() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    for (is_readable, words) in [
        (true, "revoked for good"),
        (
            false,
            "the entry cannot be read, so it is not known whose key it was",
        ),
    ] {
        let (key, lookup) = new_key(&fleet, &redis);
        super::ask_until(&sidecar, &key.token, 200).await;
        let name = format!("ks:i:{{{lookup}}}");
        let before = redis.cli(&["HGET", &name, "d"]);
        if !is_readable {
            redis.cli(&["HSET", &name, "d", "7"]);
        }
        let revoke = [
            "key",
            "revoke",
            "--lookup-id",
            &lookup,
            "--reason",
            "leaked",
        ];
        let told = fleet.control.do_it(&revoke);
        assert!(told.contains(words), "{told}");
        assert_eq!(told.contains(&key.id), is_readable, "{told}");
        super::ask_until(&sidecar, &key.token, 401).await;
        // It holds when what was harmed is put right.
        redis.cli(&["HSET", &name, "d", &before]);
        super::ask_until(&sidecar, &key.token, 401).await;
    }
    let unknown = "0123456789abcdef0123456789abcdef";
    let refused = fleet
        .control
        .run(&["key", "revoke", "--lookup-id", unknown]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(refused.stderr.contains("not found"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_rotated_away_long_ago_is_not_imported_again() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    let token = "legacy-token-pruned-0123456789";
    let file = fleet.control.dir().join("legacy.txt");
    write_secret(&file, token);
    let import = |owner: &str| {
        let file = file.to_str().unwrap();
        let key = ["key", "import", "acme", "--name", "legacy"];
        let of = ["--owner", owner, "--token-file", file, "-o", "json"];
        fleet.control.run(&[&key[..], &of].concat())
    };
    let first = import("alice");
    assert_eq!(first.code, 0, "{}", first.stderr);
    let made: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    let id = made["key_id"].as_str().unwrap();
    super::ask_until(&sidecar, token, 200).await;
    for _ in 0..10 {
        fleet.control.do_it(&["key", "rotate", "acme", id]);
    }
    super::ask_until(&sidecar, token, 401).await;
    for owner in ["alice", "bob"] {
        let again = import(owner);
        assert_eq!(again.code, 1, "{owner}: {}", again.stdout);
        let told = "was revoked with this key";
        assert!(again.stderr.contains(told), "{owner}: {}", again.stderr);
        assert!(!again.stderr.contains(token), "{}", again.stderr);
    }
    assert_eq!(super::ask(&sidecar, token).await, 401);
}
