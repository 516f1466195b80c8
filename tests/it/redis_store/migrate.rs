//! `keystile store migrate`: from the embedded store to Redis and back.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::future::join_all;
use keystile::clock::SystemClock;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::name::{Description, DisplayName, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{NewKey, NewTenant, Registry, Settings};
use keystile::store::redb::EmbeddedStore;
use keystile::store::redis::{Access, RedisStore, Settings as RedisSettings};
use keystile::store::{Expected, IndexRow, KeyRow, Store, TenantCommit, TenantRow, records};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::ask;
use crate::harness::keystile::binary;
use crate::harness::process::without_our_environment;
use crate::harness::redis::RedisServer;
use crate::store_contract::redis_address;
use crate::support::client;
use crate::support::program::{Ended, Place};

const FILE: &str = "embedded:keystile.redb";

fn url(redis: &RedisServer) -> String {
    format!("redis://127.0.0.1:{}/0", redis.port())
}

fn args<'a>(from: &'a str, to: &'a str) -> [&'a str; 10] {
    let config = "keystile.yaml";
    [
        "store", "migrate", "--from", from, "--to", to, "-c", config, "-o", "json",
    ]
}

fn migrate(place: &Place, from: &str, to: &str) -> Ended {
    place.run(&args(from, to))
}

/// It must succeed; answers how many tenants, keys and audit entries it copied.
#[track_caller]
fn copied(place: &Place, from: &str, to: &str) -> [u64; 3] {
    let ended = migrate(place, from, to);
    assert_eq!(ended.code, 0, "{from} to {to}: {ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["source"], report["destination"]);
    ["tenants", "keys", "audit_entries"].map(|what| report["copied"][what].as_u64().unwrap())
}

fn keyring(place: &Place) -> Arc<Keyring> {
    let path = place.path("keys/data.keyring");
    Arc::new(keystile::keyfile::load_file(&path, Ring::Data).unwrap())
}

fn file(place: &Place, name: &str) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::open(&place.path(name)).unwrap())
}

async fn on_redis(redis: &RedisServer) -> (Arc<dyn Store>, JoinHandle<()>) {
    let settings = RedisSettings::standalone(redis_address(redis.port()));
    let store = RedisStore::new(settings, Access::Write);
    store.connect().await.unwrap();
    let running = tokio::spawn(Arc::clone(&store).run());
    (store, running)
}

/// All that a store has of a tenant.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    tenant: TenantRow,
    keys: Vec<KeyRow>,
    index: Vec<Option<IndexRow>>,
    live_of_owner: Vec<u64>,
    audit: Vec<(u64, Vec<u8>)>,
}

/// All that a store has, and how many live keys it has counted.
async fn all(store: &Arc<dyn Store>, keyring: &Keyring) -> (Vec<Rows>, u64) {
    let lookup = keyring.lookup_key().unwrap();
    let (mut all, mut live) = (Vec::new(), 0);
    for row in store.tenants(None, 10_000).await.unwrap() {
        let (_, data_key) = records::open_tenant(keyring, &row).unwrap();
        let keys = store.keys(&row.id, None, 10_000).await.unwrap();
        let (mut index, mut live_of_owner) = (Vec::new(), Vec::new());
        for key in &keys {
            let key = records::open_key(&data_key, &row.id, key).unwrap();
            for generation in &key.generations {
                index.push(store.index(generation.lookup_id).await.unwrap());
            }
            let tag = records::owner_tag(&lookup, &key);
            let counted = store.live_keys(&row.id, tag).await.unwrap();
            live_of_owner.push(counted.0);
            live = counted.1;
        }
        assert!(index.iter().all(Option::is_some));
        all.push(Rows {
            keys,
            index,
            live_of_owner,
            audit: store.audit_after(&row.id, 0, 10_000).await.unwrap(),
            tenant: row,
        });
    }
    (all, live)
}

async fn all_in_redis(redis: &RedisServer, keyring: &Keyring) -> (Vec<Rows>, u64) {
    let (store, running) = on_redis(redis).await;
    let rows = all(&store, keyring).await;
    running.abort();
    rows
}

/// Tenants `t000…` with three keys each of two owners; one of them revoked, and every tenth tenant suspended.
async fn fill(place: &Place, tenants: usize) {
    let keyring = keyring(place);
    let store = file(place, "keystile.redb");
    store.keyring_id(keyring.id()).await.unwrap();
    let lookup = Arc::new(keyring.lookup_key().unwrap());
    let clock = Arc::new(SystemClock);
    let registry = Registry::new(store, keyring, None, lookup, clock, Settings::default());
    join_all((0..tenants).map(|number| fill_one(&registry, number))).await;
}

async fn fill_one(registry: &Registry, number: usize) {
    let id = TenantId::parse(&format!("t{number:03}")).unwrap();
    let name = |text| DisplayName::parse(text).unwrap();
    let none = Description::parse("").unwrap();
    let tenant = NewTenant::named(id.clone(), name("A tenant"));
    let by = &Actor::Operator;
    registry.create_tenant(by, tenant).await.unwrap();
    for owner in ["alice", "alice", "bob"] {
        let key = NewKey::named(name("ci"), Owner::parse(owner).unwrap(), Role::User);
        let made = registry.create_key(by, &id, key).await.unwrap();
        if owner == "bob" {
            let revoked = registry.revoke_key(by, &id, &made.key.id, None, &none);
            revoked.await.unwrap();
        }
    }
    if number.is_multiple_of(10) {
        let suspended = registry.suspend_tenant(by, &id, None, &none).await;
        suspended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_is_what_it_was_and_twice_changes_nothing() {
    let place = Place::with_keyrings();
    fill(&place, 30).await;
    let keyring = keyring(&place);
    let before = all(&file(&place, "keystile.redb"), &keyring).await;
    assert_eq!((before.0.len(), before.1), (30, 60));
    let bytes = fs::read(place.path("keystile.redb")).unwrap();
    let redis = RedisServer::start();
    let redis_url = url(&redis);

    // Tenant, three keys and a revocation each, and three that were suspended.
    let everything = [30, 90, 30 * 5 + 3];
    assert_eq!(copied(&place, FILE, &redis_url), everything);
    assert_eq!(all_in_redis(&redis, &keyring).await, before);
    assert_eq!(copied(&place, FILE, &redis_url), [0, 0, 0]);
    assert_eq!(all_in_redis(&redis, &keyring).await, before);
    let after = fs::read(place.path("keystile.redb")).unwrap();
    assert!(after == bytes, "the source was written to");

    for expected in [everything, [0, 0, 0]] {
        assert_eq!(copied(&place, &redis_url, "embedded:back.redb"), expected);
        let back = all(&file(&place, "back.redb"), &keyring).await;
        assert_eq!(back, before);
    }
    assert_eq!(all_in_redis(&redis, &keyring).await, before);
}

/// Starts a copy and kills it soon after it has begun; answers whether it was killed in time.
fn interrupt(place: &Place, from: &str, to: &str) -> bool {
    let mut command = Command::new(binary());
    without_our_environment(&mut command);
    let mut running = command
        .args(args(from, to))
        .current_dir(place.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(running.stderr.take().unwrap()).lines();
    for line in lines.map(Result::unwrap) {
        let counts = line
            .strip_prefix("done: ")
            .unwrap_or_else(|| panic!("{line}"));
        let (done, total) = counts.split_once(" of ").unwrap();
        let number = |text: &str| text.parse::<usize>().unwrap();
        if number(done) * 10 > number(total) {
            break;
        }
    }
    // SIGKILL.
    running.kill().unwrap();
    running.wait().unwrap().code().is_none()
}

/// How many keys were left to copy after the kill. A copy that was faster than the kill is made anew.
fn interrupt_and_go_on(place: &Place, redis: &RedisServer, from: &str, to: &str) -> u64 {
    for _ in 0..5 {
        match to.strip_prefix("embedded:") {
            Some(name) => fs::remove_file(place.path(name)).unwrap_or_default(),
            None => redis.flush(),
        }
        let is_killed = interrupt(place, from, to);
        let [_, keys, _] = copied(place, from, to);
        if is_killed && keys > 0 {
            return keys;
        }
    }
    panic!("{from}: a copy is always faster than its kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_killed_is_gone_on_with() {
    let place = Place::with_keyrings();
    fill(&place, 300).await;
    let keyring = keyring(&place);
    let before = all(&file(&place, "keystile.redb"), &keyring).await;
    let redis = RedisServer::start();
    let redis_url = url(&redis);
    for (from, to) in [
        (FILE, redis_url.as_str()),
        (&redis_url, "embedded:back.redb"),
    ] {
        let keys = interrupt_and_go_on(&place, &redis, from, to);
        assert!(keys < 900, "{from}: {keys}");
        let there = match to.starts_with("embedded:") {
            true => all(&file(&place, "back.redb"), &keyring).await,
            false => all_in_redis(&redis, &keyring).await,
        };
        assert_eq!(there, before, "{from}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_differs_is_named_and_left_alone() {
    let place = Place::with_keyrings();
    fill(&place, 5).await;
    let keyring = keyring(&place);
    let redis = RedisServer::start();
    copied(&place, FILE, &url(&redis));
    // At the destination: one has changed, one is missing and one was made again.
    let (store, running) = on_redis(&redis).await;
    let id = |name| TenantId::parse(name).unwrap();
    let row = async |name| store.tenant(&id(name)).await.unwrap().unwrap();
    let mut changed = row("t001").await;
    let before = changed.version;
    changed.version.order += 1;
    let commit = TenantCommit {
        expected: Expected::Version(before),
        row: changed,
        audit: b"changed".to_vec(),
        request: None,
    };
    store.commit_tenant(commit).await.unwrap();
    for name in ["t002", "t003"] {
        let gone = row(name).await;
        let deleted = store.delete_tenant(&gone.id, gone.dek_id, gone.version);
        deleted.await.unwrap();
        if name == "t003" {
            let row = TenantRow {
                dek_id: gone.dek_id + 1,
                ..gone
            };
            let again = TenantCommit {
                expected: Expected::New,
                row,
                audit: b"made again".to_vec(),
                request: None,
            };
            store.commit_tenant(again).await.unwrap();
        }
    }
    let (t001, t003) = (row("t001").await, row("t003").await);
    running.abort();

    let ended = migrate(&place, FILE, &url(&redis));
    assert_eq!(ended.code, 1, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let differing: Vec<&Value> = report["differing"].as_array().unwrap().iter().collect();
    let named: Vec<&str> = differing
        .iter()
        .map(|one| one["tenant"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["t001", "t003"], "{report}");
    assert_eq!(report["copied"]["tenants"], 1);
    for says in [
        "tenant t001: it has version",
        "tenant t003: another tenant",
        "2 tenants are not",
    ] {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    let (store, _running) = on_redis(&redis).await;
    let row = async |name| store.tenant(&id(name)).await.unwrap();
    assert_eq!(row("t001").await, Some(t001));
    assert_eq!(row("t003").await, Some(t003));
    let source = file(&place, "keystile.redb");
    assert_eq!(row("t002").await, source.tenant(&id("t002")).await.unwrap());
    drop(keyring);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_work_at_the_destination_and_revoked_ones_do_not() {
    let place = Place::bootstrapped();
    let redis = RedisServer::start();
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    let [live, revoked] = ["live", "revoked"].map(|name| {
        let made = place.do_it(&[
            "key", "create", "acme", "--name", name, "--owner", "alice", "-o", "json",
        ]);
        let made: Value = serde_json::from_str(&made).unwrap();
        let id = made["key"]["name"].as_str().unwrap().rsplit('/').next();
        (
            id.unwrap().to_owned(),
            made["plaintext"].as_str().unwrap().to_owned(),
        )
    });
    place.do_it(&["key", "revoke", "acme", &revoked.0]);
    let in_use = migrate(&place, FILE, &url(&redis));
    assert_eq!(in_use.code, 1, "{in_use:?}");
    assert!(in_use.stderr.contains("stop its"), "{}", in_use.stderr);
    running.stop("TERM");

    copied(&place, FILE, &url(&redis));
    place.use_redis(&super::at(&redis));
    let _running = place.serve();
    let channel = client::tcp(place.authz).await;
    assert_eq!(ask(&channel, &live.1).await, 200);
    assert_eq!(ask(&channel, &revoked.1).await, 401);
    place.do_it(&["key", "revoke", "acme", &live.0]);
    super::ask_until(&channel, &live.1, 401).await;
}

#[test]
fn what_cannot_be_copied_is_refused_and_nothing_is_written() {
    let place = Place::bootstrapped();
    let (redis, stranger) = (RedisServer::start(), Place::bootstrapped());
    let redis_url = url(&redis);
    let dry = |to: &str| {
        let dry = place.run(&[&args(FILE, to)[..], &["--dry-run"]].concat());
        assert_eq!(dry.code, 0, "{dry:?}");
        let report: Value = serde_json::from_str(&dry.stdout).unwrap();
        assert_eq!(report["copied"]["keys"], 1, "{report}");
        assert_eq!(report["destination"]["keys"], 0, "{report}");
    };
    dry(&redis_url);
    dry("embedded:new.redb");
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    assert!(!place.path("new.redb").exists());

    let foreign = format!("embedded:{}", stranger.path("keystile.redb").display());
    let bytes = fs::read(stranger.path("keystile.redb")).unwrap();
    fs::write(place.path("not.yaml"), "store: {knd: redis}\n").unwrap();
    let closed = "redis://127.0.0.1:1";
    #[rustfmt::skip]
    let rows: &[(&str, &str, i32, &str)] = &[
        (FILE, &foreign, 78, "was made with keyring"),
        (&foreign, &redis_url, 78, "was made with keyring"),
        (FILE, FILE, 2, "the same store"),
        (FILE, closed, 1, "--to: cannot use the Redis store"),
        (&redis_url, "embedded:new.redb", 1, "nothing is stored here yet"),
        ("embedded:none.redb", &redis_url, 1, "there is no store at none.redb"),
        ("not.yaml", &redis_url, 78, "did you mean"),
        ("redis://me:secret@h:1", &redis_url, 2, "password_file"),
    ];
    for (from, to, code, says) in rows {
        let refused = migrate(&place, from, to);
        assert_eq!(refused.code, *code, "{from} {to}: {refused:?}");
        assert!(
            refused.stderr.contains(says),
            "{from} {to}: {}",
            refused.stderr
        );
    }
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    assert!(!place.path("new.redb").exists());
    let after = fs::read(stranger.path("keystile.redb")).unwrap();
    assert!(after == bytes, "a foreign store was written to");
}
