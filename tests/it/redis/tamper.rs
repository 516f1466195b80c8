//! Somebody who can write to Redis: what is moved, cut, edited or put back never lets a wrong key pass, and what
//! lies there tells them nothing.

use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use keystile::store::Store;
use keystile::store::redis::{RedisStore, Topology};
use sha2::{Digest as _, Sha256};

use super::fleet::{Process, start};
use crate::harness::redis::{RedisServer, somebody};
use crate::store_contract::redis_address;
use crate::support::world::{Made, Seen, World};

const TENANT: &str = "ks:t:{acme}";

fn index(key: &Made) -> String {
    format!("ks:i:{{{}}}", key.lookup)
}

/// A control plane, a sidecar, and somebody else on one Redis.
struct Place {
    server: RedisServer,
    world: World,
    somebody: MultiplexedConnection,
    _processes: [Process; 2],
}

async fn place() -> Place {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let control = start(topology.clone(), "ks:", None).await;
    let sidecar = start(topology, "ks:", Some("one")).await;
    let [writes, reads] = [&control, &sidecar].map(|process| {
        let store: Arc<dyn Store> = Arc::<RedisStore>::clone(&process.store);
        store
    });
    Place {
        somebody: somebody(server.port()).await,
        server,
        world: World::over(writes, reads).await,
        _processes: [control, sidecar],
    }
}

impl Place {
    /// What the sidecar makes of a key when it asks anew.
    async fn see(&self, key: &Made) -> Seen {
        self.world.let_ttl_pass();
        self.world.get(key).await
    }

    async fn get(&self, name: &str, field: &str) -> Vec<u8> {
        let mut get = ::redis::cmd("HGET");
        get.arg(name).arg(field);
        get.query_async(&mut self.somebody.clone()).await.unwrap()
    }

    async fn set(&self, name: &str, field: &str, value: &[u8]) {
        let mut set = ::redis::cmd("HSET");
        set.arg(name).arg(field).arg(value);
        set.exec_async(&mut self.somebody.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_moved_cut_or_edited_record_never_lets_a_key_pass() {
    let place = place().await;
    let (mine, other) = (
        place.world.create_key().await,
        place.world.create_key().await,
    );
    place.world.revoke(&mine).await;
    assert_eq!(place.see(&mine).await, Seen::Revoked);
    assert_eq!(place.see(&other).await, Seen::Works);
    let revoked = place.get(&index(&mine), "b").await;
    let live = place.get(&index(&other), "b").await;
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("the record of a live key".to_owned(), live.clone()),
        ("nothing".to_owned(), Vec::new()),
    ];
    for len in [1, 12, revoked.len() / 2, revoked.len() - 1] {
        cases.push((format!("its first {len} bytes"), revoked[..len].to_vec()));
    }
    for at in 0..revoked.len() {
        let mut edited = revoked.clone();
        edited[at] ^= 1;
        cases.push((format!("a flipped bit in byte {at}"), edited));
    }
    for (what, bytes) in cases {
        place.set(&index(&mine), "b", &bytes).await;
        for version in ["1", "2", "3"] {
            place.set(&index(&mine), "v", version.as_bytes()).await;
            let seen = place.see(&mine).await;
            let is_refused = matches!(seen, Seen::Refused | Seen::Unknown | Seen::Revoked);
            assert!(is_refused, "{what}, version {version}: {seen:?}");
        }
    }
    assert_eq!(
        place.see(&other).await,
        Seen::Works,
        "the others are not harmed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_put_back_is_refused_by_a_sidecar_that_has_seen_the_newer() {
    let place = place().await;
    let key = place.world.create_key().await;
    let mut old = Vec::new();
    for field in ["v", "n", "b"] {
        old.push((field, place.get(&index(&key), field).await));
    }
    place.world.revoke(&key).await;
    assert_eq!(place.see(&key).await, Seen::Revoked);
    for (field, value) in &old {
        place.set(&index(&key), field, value).await;
    }
    tokio::task::block_in_place(|| place.server.cli(&["HDEL", &index(&key), "r"]));
    for _ in 0..2 {
        assert_eq!(place.see(&key).await, Seen::Revoked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenant_that_is_put_back_is_refused_by_a_sidecar_that_has_seen_the_newer() {
    let place = place().await;
    let key = place.world.create_key().await;
    let mut old = Vec::new();
    for field in ["v", "n", "d", "k", "w", "b"] {
        old.push((field, place.get(TENANT, field).await));
    }
    place.world.suspend().await;
    assert_eq!(place.see(&key).await, Seen::Suspended);
    for (field, value) in &old {
        place.set(TENANT, field, value).await;
    }
    assert_eq!(place.see(&key).await, Seen::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_that_lies_in_redis_tells_no_token_and_no_name() {
    let place = place().await;
    let keys = [
        place.world.create_key().await,
        place.world.create_key().await,
    ];
    place.world.revoke(&keys[1]).await;
    let dump = tokio::task::block_in_place(|| place.server.dump());
    let has = |what: &[u8]| dump.windows(what.len()).any(|at| at == what);
    assert!(has(TENANT.as_bytes()), "the dump has what is there");
    let mut secret = vec![b"alice".to_vec(), b"Acme".to_vec()];
    for key in &keys {
        let token = key.token.as_bytes();
        secret.push(token.to_vec());
        // The secret part, and what anybody could compute from a token without a key.
        secret.push(token[8..8 + 16].to_vec());
        let digest = Sha256::digest(token);
        secret.push(digest[..16].to_vec());
        secret.push(hex(&digest[..16]));
    }
    for what in secret {
        assert!(
            !has(&what),
            "{:?} is in Redis",
            String::from_utf8_lossy(&what)
        );
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in bytes {
        text.extend(format!("{byte:02x}").into_bytes());
    }
    text
}
