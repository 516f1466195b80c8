//! A tenant that is deleted and made again under its name: no key of the first acts for the second, whatever of it is
//! still in Redis and in the memory of sidecars.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use keystile::clock::Clock as _;
use keystile::domain::name::TenantId;
use keystile::store::redis::{RedisStore, Topology};
use keystile::store::{Records as _, Store};
use tokio::task::JoinSet;

use super::fleet::{Process, start};
use crate::harness::redis::RedisServer;
use crate::harness::redis::proxy::{Cut, Proxy};
use crate::harness::{PATIENCE, wait_until};
use crate::store_contract::redis_address;
use crate::support::world::{Made, Seen, World, acme};

const KEYS: usize = 100;

struct Place {
    world: World,
    control: Arc<dyn Store>,
    server: RedisServer,
    _processes: [Process; 2],
}

async fn place() -> Place {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let control = start(topology.clone(), "ks:", None).await;
    let sidecar = start(topology, "ks:", Some("one")).await;
    let writes: Arc<dyn Store> = Arc::<RedisStore>::clone(&control.store);
    let reads: Arc<dyn Store> = Arc::<RedisStore>::clone(&sidecar.store);
    Place {
        world: World::over(Arc::clone(&writes), reads).await,
        control: writes,
        server,
        _processes: [control, sidecar],
    }
}

impl Place {
    /// Keys that the sidecar has in memory.
    async fn known_keys(&self) -> Vec<Made> {
        let mut keys = Vec::new();
        for _ in 0..KEYS {
            let key = self.world.create_key().await;
            assert_eq!(self.world.get(&key).await, Seen::Works);
            keys.push(key);
        }
        keys
    }

    async fn incarnation(&self) -> u64 {
        self.control.tenant(&acme()).await.unwrap().unwrap().dek_id
    }
}

/// Whether the key lets somebody pass, for a tenant of another incarnation than its own.
async fn acts_for_another(world: &World, key: &Made, incarnation: u64) -> bool {
    let found = world.cache.get(key.lookup, world.clock.now(), PATIENCE);
    match found.await {
        Ok(Some(found)) => found.tenant.incarnation() != incarnation,
        Ok(None) | Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deleted_tenants_keys_never_act_for_one_that_is_made_again_under_checks() {
    let place = place().await;
    for _ in 0..5 {
        let keys = place.known_keys().await;
        let incarnation = place.incarnation().await;
        let (wrong, checks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut checking = JoinSet::new();
        for some in keys.chunks(KEYS / 4) {
            let (world, some) = (place.world.clone(), some.to_vec());
            let (wrong, checks) = (Arc::clone(&wrong), Arc::clone(&checks));
            let is_over = Arc::clone(&is_over);
            checking.spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    for key in &some {
                        let acts = acts_for_another(&world, key, incarnation).await;
                        wrong.fetch_add(usize::from(acts), Ordering::SeqCst);
                        checks.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        place.world.delete_tenant().await;
        place.world.create_tenant().await;
        let after = checks.load(Ordering::SeqCst) + 20 * KEYS;
        let enough = async || checks.load(Ordering::SeqCst) >= after;
        wait_until("checks go on", enough).await;
        is_over.store(true, Ordering::SeqCst);
        checking.join_all().await;
        assert_eq!(wrong.load(Ordering::SeqCst), 0);
        for key in &keys {
            assert_eq!(place.world.get(key).await, Seen::Unknown);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_when_the_control_plane_is_killed_right_after_the_deletion() {
    let place = place().await;
    let keys = place.known_keys().await;
    let incarnation = place.incarnation().await;
    // Its scripts are known to the server, so that commands can be counted.
    let warm = TenantId::parse("warm").unwrap();
    place.world.create_tenant_named(warm.clone()).await;
    let row = place.control.tenant(&warm).await;
    let row = row.unwrap().unwrap();
    let deleted = place
        .control
        .delete_tenant(&row.id, row.dek_id, row.version);
    deleted.await.unwrap();

    // On a slow machine the second command may be one that the control plane sends by itself: then once more.
    wait_until("it is killed right after the deletion", async || {
        let proxy = Proxy::start(place.server.port(), Cut::After).await;
        let topology = Topology::Standalone(redis_address(proxy.port()));
        let killed = start(topology, "ks:", None).await;
        let row = place.control.tenant(&acme()).await.unwrap().unwrap();
        proxy.arm(2);
        let answer = killed
            .store
            .delete_tenant(&row.id, row.dek_id, row.version)
            .await;
        assert!(answer.is_err() && proxy.disarm(), "{answer:?}");
        drop(killed);
        place.control.tenant(&acme()).await.unwrap().is_none()
    })
    .await;
    let left = place.control.index(keys[0].lookup).await.unwrap();
    assert!(left.is_some(), "its index entries are left behind");

    place.world.create_tenant().await;
    // Until another control plane has removed what was left behind.
    wait_until("what is left is removed", async || {
        for key in &keys {
            assert!(!acts_for_another(&place.world, key, incarnation).await);
        }
        let left = place.control.index(keys[KEYS - 1].lookup).await;
        left.unwrap().is_none()
    })
    .await;
    for key in &keys {
        assert_eq!(place.world.get(key).await, Seen::Unknown);
    }
}
