//! `keystile store check` beside a running control plane: it finds what somebody has harmed, says what a repair would do,
//! and a repair leaves nothing to find.

use serde_json::Value;

use super::{Fleet, Key, at};
use crate::harness::redis::RedisServer;
use crate::harness::redis::cluster::RedisCluster;
use crate::support::client;
use crate::support::program::{Ended, Place};

/// What is done to Redis (words of a command; `K` is the key's id, `L` its lookup id), the kind of entry that is found,
/// and whether the key works after a repair.
type Harmed = (&'static [&'static str], &'static str, bool);

const HARMED: &[Harmed] = &[
    (&["DEL", "ks:k:{acme}:owners"], "counts", true),
    (&["HSET", "ks:k:{acme}:owners", "*", "77"], "counts", true),
    (&["SET", "ks:{ks:tenants}:total", "99"], "counts", true),
    (&["DEL", "ks:{ks:tenants}:live"], "counts", true),
    (&["DEL", "ks:k:{acme}:ids"], "lists", true),
    (&["DEL", "ks:k:{acme}:lookups"], "lists", true),
    (&["DEL", "ks:k:{acme}:by_owner"], "lists", true),
    (&["SET", "ks:k:{acme}:by_owner", "no set"], "lists", true),
    (
        &[
            "ZADD",
            "ks:k:{acme}:by_owner",
            "0",
            "0123456789abcdefnobodyskey",
        ],
        "lists",
        true,
    ),
    (
        &["ZADD", "ks:k:{acme}:by_owner", "1", "garbage"],
        "lists",
        true,
    ),
    (&["DEL", "ks:tenants"], "lists", true),
    (&["ZADD", "ks:tenants", "0", "nobody"], "lists", true),
    (&["HSET", "ks:t:{acme}", "d", "7"], "tenant", true),
    (&["HSET", "ks:t:{acme}", "v", "7"], "tenant", true),
    (&["DEL", "ks:i:{L}"], "index", true),
    (&["HSET", "ks:i:{L}", "t", "globex"], "index", true),
    (&["HSET", "ks:i:{L}", "v", "1"], "index", true),
    (&["HSET", "ks:i:{L}", "b", "garbage"], "index", true),
    (&["SET", "ks:i:{L}", "no hash"], "index", true),
    (
        &["SET", "ks:i:{00000000000000000000000000000000}", "x"],
        "index",
        true,
    ),
    (&["HDEL", "ks:k:{acme}:keys", "K"], "key", false),
    (&["HSET", "ks:k:{acme}:keys", "K", "garbage"], "key", false),
    (&["DEL", "ks:k:{acme}:keys"], "key", false),
    (
        &["DEL", "ks:k:{acme}:keys", "ks:k:{acme}:ids"],
        "key",
        false,
    ),
];

fn check(place: &Place, more: &[&str]) -> (Ended, Value) {
    let args = ["store", "check", "-c", "keystile.yaml", "-o", "json"];
    let ended = place.run(&[&args[..], more].concat());
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr));
    (ended, report)
}

/// The kinds of entries that were found, and what came of them.
fn found(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    findings
        .map(|finding| (text(finding, "entry"), text(finding, "outcome")))
        .collect()
}

/// Where the only index entry is that was not there before.
fn lookup_of_new(redis: &RedisServer, before: &str) -> String {
    let now = redis.cli(&["KEYS", "ks:i:*"]);
    let new = now.lines().find(|name| !before.contains(*name)).unwrap();
    let digits = new.trim_start_matches("ks:i:{").trim_end_matches('}');
    digits.to_owned()
}

/// A key and where its index entry is.
pub(super) fn new_key(fleet: &Fleet, redis: &RedisServer) -> (Key, String) {
    let before = redis.cli(&["KEYS", "ks:i:*"]);
    let key = fleet.create_key();
    (key, lookup_of_new(redis, &before))
}

async fn harm_and_repair(
    (fleet, redis): (&Fleet, &RedisServer),
    (command, entry, works): Harmed,
    (key, lookup): &(Key, String),
) {
    let words = command.iter().map(|word| match *word {
        "K" => key.id.clone(),
        word => word.replace("{L}", &format!("{{{lookup}}}")),
    });
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    redis.cli(&words);

    let (ended, report) = check(&fleet.control, &[]);
    assert_eq!(ended.code, 1, "{command:?}: {report}");
    let kinds: Vec<_> = found(&report).into_iter().map(|(entry, _)| entry).collect();
    assert!(
        kinds.iter().any(|kind| kind == entry),
        "{command:?}: {report}"
    );

    // A second repair sees to what only shows when the first is done.
    check(&fleet.control, &["--repair"]);
    check(&fleet.control, &["--repair"]);
    let (ended, report) = check(&fleet.control, &[]);
    assert_eq!(ended.code, 0, "{command:?}: {report} {}", ended.stderr);

    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    let status = if works { 200 } else { 401 };
    super::ask_until(&sidecar, &key.token, status).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_was_harmed_and_a_repair_leaves_nothing_to_find() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let (ended, report) = check(&fleet.control, &[]);
    assert_eq!(ended.code, 0, "{report} {}", ended.stderr);
    let place = (&fleet, &redis);
    let lasting = new_key(&fleet, &redis);
    for row in HARMED.iter().filter(|(.., works)| *works) {
        harm_and_repair(place, *row, &lasting).await;
    }
    fleet.revoke(&lasting.0);
    for row in HARMED.iter().filter(|(.., works)| !works) {
        harm_and_repair(place, *row, &new_key(&fleet, &redis)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_record_that_is_lost_is_named_and_nothing_of_it_is_touched() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let key = fleet.create_key();
    redis.cli(&["RENAME", "ks:t:{acme}", "kept:{acme}"]);
    for more in [&[][..], &["--repair"]] {
        let (ended, report) = check(&fleet.control, more);
        assert_eq!(ended.code, 1, "{report}");
        let by_hand = ("tenant".to_owned(), "by_hand".to_owned());
        assert!(found(&report).contains(&by_hand), "{report}");
    }
    redis.cli(&["RENAME", "kept:{acme}", "ks:t:{acme}"]);
    let (ended, report) = check(&fleet.control, &["--repair"]);
    assert_eq!(ended.code, 0, "{report} {}", ended.stderr);
    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    super::ask_until(&sidecar, &key.token, 200).await;
}

/// The marker of the slot of a name.
fn marker_beside(redis: &RedisCluster, name: &str) -> String {
    let slot = redis.slot_of(name).to_string();
    let names = redis
        .primary_of(name)
        .cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
    let marker = names.lines().find(|name| name.starts_with("ks:root:{"));
    marker.expect("each slot has one").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_slot_marker_is_put_back_where_its_data_is_there_and_else_is_named() {
    let redis = RedisCluster::start();
    let fields = format!("mode: cluster, url: \"{}\"", redis.urls()[0]);
    let fleet = Fleet::start(&fields, &fields);
    let key = fleet.create_key();
    let sidecar = client::tcp(fleet.sidecars[0].authz).await;
    assert_eq!(super::ask(&sidecar, super::UNKNOWN).await, 401);
    let marker = marker_beside(&redis, "ks:t:{acme}");
    assert_eq!(redis.cli(&["DEL", &marker]), "1");
    // It is met by who reads the tenant.
    assert_eq!(super::ask(&sidecar, &key.token).await, 503);
    super::ask_until(&sidecar, super::UNKNOWN, 503).await;

    let lists = |outcome: &str| ("lists".to_owned(), outcome.to_owned());
    let (ended, report) = check(&fleet.control, &[]);
    assert_eq!((ended.code, &report["unrepaired"]), (1, &1.into()));
    assert_eq!(found(&report), [lists("repairable")], "{report}");
    assert_eq!(
        redis.cli(&["EXISTS", &marker]),
        "0",
        "a check writes nothing"
    );
    let (ended, report) = check(&fleet.control, &["--repair"]);
    assert_eq!(found(&report), [lists("repaired")], "{report}");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(redis.cli(&["EXISTS", &marker]), "1");
    let (ended, report) = check(&fleet.control, &[]);
    assert_eq!(ended.code, 0, "{report} {}", ended.stderr);
    super::ask_until(&sidecar, super::UNKNOWN, 401).await;
    super::ask_until(&sidecar, &key.token, 200).await;

    // The tenant's record is lost with the marker: what is not there is no answer.
    redis.cli(&["RENAME", "ks:t:{acme}", "kept:{acme}"]);
    redis.cli(&["DEL", &marker]);
    for more in [&[][..], &["--repair"]] {
        let (ended, report) = check(&fleet.control, more);
        assert_eq!(found(&report), [lists("by_hand")], "{report}");
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert_eq!(redis.cli(&["EXISTS", &marker]), "0");
    }
    redis.cli(&["RENAME", "kept:{acme}", "ks:t:{acme}"]);
    let (_, report) = check(&fleet.control, &["--repair"]);
    assert_eq!(found(&report), [lists("repaired")], "{report}");

    // A primary that has nothing left.
    let names: Vec<_> = ('a'..='z').map(|id| format!("ks:t:{{{id}}}")).collect();
    let with_root = redis.primary_of("ks:root").port();
    let with_lists = redis.primary_of("ks:tenants").port();
    let emptied = names.iter().map(|name| redis.primary_of(name));
    let mut emptied = emptied.filter(|one| ![with_root, with_lists].contains(&one.port()));
    emptied.next().expect("there are three").flush();
    let (ended, report) = check(&fleet.control, &["--repair"]);
    assert_eq!(found(&report), [lists("by_hand")], "{report}");
    assert_eq!(ended.code, 1, "{}", ended.stderr);
}

#[test]
fn an_embedded_store_is_checked_while_nobody_serves_it() {
    let place = Place::bootstrapped();
    let (ended, report) = check(&place, &["--repair"]);
    assert_eq!(ended.code, 0, "{report} {}", ended.stderr);
    assert_eq!(
        (&report["tenants"], &report["keys"]),
        (&1.into(), &1.into())
    );
    let _running = place.serve();
    let refused = place.run(&["store", "check", "-c", "keystile.yaml"]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("keystile serve"),
        "{}",
        refused.stderr
    );
}
