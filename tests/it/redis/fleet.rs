//! Processes on one Redis: each hears what another has changed, and says so when asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keystile::clock::Timestamp;
use keystile::domain::key::LookupId;
use keystile::domain::name::TenantId;
use keystile::store::redis::{Access, RedisStore, Settings, Topology};
use keystile::store::{SidecarReport, Watcher};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::write_and_wait;
use crate::harness::redis::RedisServer;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::RedisSentinel;
use crate::store_contract::world::*;
use crate::store_contract::{cluster_topology, redis_address, sentinel_topology};

/// Far below the interval at which anything polls.
const AT_ONCE: Duration = Duration::from_millis(200);
pub(super) const SOON: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Heard {
    index: Mutex<BTreeSet<LookupId>>,
    tenants: Mutex<BTreeSet<TenantId>>,
    gaps: Mutex<Vec<&'static str>>,
}

impl Watcher for Heard {
    fn index_changed(&self, lookup_id: LookupId) {
        self.index.lock().insert(lookup_id);
    }

    fn tenant_changed(&self, tenant: &TenantId) {
        self.tenants.lock().insert(tenant.clone());
    }

    fn tracking_lost(&self) {
        self.gaps.lock().push("deaf");
    }

    fn tracking_restored(&self) {
        self.gaps.lock().push("hearing");
    }
}

pub(super) struct Process {
    pub(super) store: Arc<RedisStore>,
    heard: Arc<Heard>,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub(super) fn report() -> SidecarReport {
    SidecarReport {
        version: "1.2.3".to_owned(),
        started_at: Timestamp::from_millis(1_000),
        lag: Duration::from_micros(5),
        cached_keys: 7,
    }
}

/// A process on servers that it shares with other tests; one with a name is a sidecar.
pub(super) async fn start(topology: Topology, prefix: &str, sidecar: Option<&str>) -> Process {
    let settings = Settings {
        topology,
        prefix: prefix.to_owned(),
        ..Settings::standalone(redis_address(1))
    };
    let access = sidecar.map_or(Access::Write, |_| Access::Read);
    let store = RedisStore::new(settings, access);
    let heard = Arc::new(Heard::default());
    keystile::store::Invalidations::watch(store.as_ref(), Arc::<Heard>::clone(&heard));
    if let Some(id) = sidecar {
        store.join_fleet(id.to_owned(), report);
    }
    store.connect().await.unwrap();
    let running = tokio::spawn(Arc::clone(&store).run());
    until("it hears every primary", SOON, || store.hears().is_ok()).await;
    Process {
        store,
        heard,
        running,
    }
}

#[track_caller]
fn until(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let begun = Instant::now();
    async move {
        while !holds() {
            assert!(begun.elapsed() < within, "waited in vain until {what}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(super) async fn until_live(control: &Shared, ids: &[&str]) {
    let begun = Instant::now();
    loop {
        let live = control.sidecars().await.unwrap();
        let live: Vec<_> = live.iter().map(|sidecar| sidecar.id.as_str()).collect();
        if live == ids {
            return;
        }
        assert!(begun.elapsed() < SOON, "{live:?} live, not {ids:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn every_process_hears_and_confirms(topology: Topology) {
    let prefix = format!("f{:x}:", rand::random::<u64>());
    let control = start(topology.clone(), &prefix, None).await;
    let one = start(topology.clone(), &prefix, Some("one")).await;
    let two = start(topology, &prefix, Some("two")).await;
    let store: Shared = Arc::<RedisStore>::clone(&control.store);
    until_live(&store, &["one", "two"]).await;
    let live = store.sidecars().await.unwrap();
    assert_eq!(live[0].report, report());

    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    for sidecar in [&one, &two] {
        let heard = &sidecar.heard;
        until("the tenant is heard of", AT_ONCE, || {
            heard.tenants.lock().contains(&tenant("acme"))
        })
        .await;
        until("the key is heard of", AT_ONCE, || {
            heard.index.lock().contains(&lookup(1))
        })
        .await;
        heard.index.lock().clear();
    }

    store.commit_key(revoke(&new_key("acme", 1))).await.unwrap();
    let begun = Instant::now();
    let late = store.late(&[lookup(1)], SOON).await.unwrap().late;
    assert_eq!(late, Vec::<String>::new());
    assert!(
        begun.elapsed() < AT_ONCE,
        "confirmed after {:?}",
        begun.elapsed()
    );
    // Not only confirmed: each had heard of it before it said so.
    for sidecar in [&one, &two] {
        assert!(sidecar.heard.index.lock().contains(&lookup(1)));
    }
    drop(two);
    let late = store.late(&[lookup(1)], AT_ONCE).await.unwrap().late;
    assert_eq!(
        late,
        ["two"],
        "it was live a moment ago and does not answer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_hears_and_confirms_on_one_server() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    every_process_hears_and_confirms(topology).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_hears_and_confirms_on_a_cluster() {
    every_process_hears_and_confirms(cluster_topology(&RedisCluster::start())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_hears_and_confirms_under_sentinel() {
    every_process_hears_and_confirms(sentinel_topology(&RedisSentinel::start())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_server_makes_deaf_and_its_return_puts_all_in_doubt() {
    let mut server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let sidecar = start(topology, "ks:", Some("one")).await;
    sidecar.heard.gaps.lock().clear();
    tokio::task::block_in_place(|| server.kill());
    let heard = Arc::clone(&sidecar.heard);
    until("it is deaf", AT_ONCE, || *heard.gaps.lock() == ["deaf"]).await;
    assert!(sidecar.store.hears().is_err());
    tokio::task::block_in_place(|| server.restart());
    let back = || *heard.gaps.lock() == ["deaf", "hearing"];
    until("it hears again", SOON, back).await;
    assert_eq!(sidecar.store.gaps(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flushing_a_server_puts_all_in_doubt() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let sidecar = start(topology, "ks:", Some("one")).await;
    sidecar.heard.gaps.lock().clear();
    tokio::task::block_in_place(|| server.flush());
    let heard = Arc::clone(&sidecar.heard);
    until("all is in doubt", AT_ONCE, || {
        *heard.gaps.lock() == ["deaf", "hearing"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_under_sentinel_is_followed() {
    let mut servers = RedisSentinel::start();
    let topology = sentinel_topology(&servers);
    let control = start(topology, "ks:", None).await;
    let store: Shared = Arc::<RedisStore>::clone(&control.store);
    with_tenants(&store, &["acme"]).await;
    tokio::task::block_in_place(|| {
        write_and_wait(servers.primary(), "behind_all_others");
        servers.kill_primary();
        servers.wait_for_failover();
    });
    write_again(&store).await;
    until("it hears the new primary", SOON, || {
        control.store.hears().is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_in_a_cluster_is_followed() {
    let mut servers = RedisCluster::start();
    let control = start(cluster_topology(&servers), "ks:", None).await;
    let store: Shared = Arc::<RedisStore>::clone(&control.store);
    with_tenants(&store, &["acme"]).await;
    tokio::task::block_in_place(|| {
        let primary = servers.primary_of("ks:t:{acme}");
        write_and_wait(primary, "behind_all_others_of:{acme}");
        servers.kill_primary_of("ks:t:{acme}");
        servers.wait_for_failover("ks:t:{acme}");
    });
    write_again(&store).await;
    until("it hears the new primary", SOON, || {
        control.store.hears().is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_heard_while_a_slot_moves_and_after() {
    let servers = RedisCluster::start();
    let control = start(cluster_topology(&servers), "ks:", None).await;
    let sidecar = start(cluster_topology(&servers), "ks:", Some("one")).await;
    let store: Shared = Arc::<RedisStore>::clone(&control.store);
    with_tenants(&store, &["acme"]).await;
    let made = new_key("acme", 1);
    store.commit_key(made.clone()).await.unwrap();
    until_live(&store, &["one"]).await;

    let name = format!("ks:i:{{{}}}", lookup(1));
    let moving = tokio::task::block_in_place(|| servers.start_move(&name));
    sidecar.heard.index.lock().clear();
    store.commit_key(revoke(&made)).await.unwrap();
    until("it is heard of while the slot moves", AT_ONCE, || {
        sidecar.heard.index.lock().contains(&lookup(1))
    })
    .await;

    tokio::task::block_in_place(|| servers.finish_move(&moving));
    assert_eq!(store.late(&[lookup(1)], SOON).await.unwrap().late, [""; 0]);
    let index = store.index(lookup(1)).await.unwrap().unwrap();
    assert_eq!(index.body, b"revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_has_forgotten_its_scripts_is_sent_them_again() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let control = start(topology, "ks:", None).await;
    let store: Shared = Arc::<RedisStore>::clone(&control.store);
    with_tenants(&store, &["acme"]).await;
    tokio::task::block_in_place(|| server.cli(&["SCRIPT", "FLUSH"]));
    with_tenants(&store, &["globex"]).await;
}

/// After a while, without any help.
async fn write_again(store: &Shared) {
    let begun = Instant::now();
    let mut number = 1;
    while let Err(error) = store.commit_key(new_key("acme", number)).await {
        assert!(begun.elapsed() < SOON, "{error:?}");
        number += 1;
        sleep(Duration::from_millis(50)).await;
    }
    assert!(store.index(lookup(number)).await.unwrap().is_some());
}
