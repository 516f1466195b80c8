//! Processes on one Redis: each hears what another has changed, and says so when asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keystile::clock::{Clock as _, SystemClock, Timestamp};
use keystile::domain::key::LookupId;
use keystile::domain::name::TenantId;
use keystile::store::redis::{Access, RedisStore, Settings, Topology};
use keystile::store::{SidecarReport, Watcher};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::write_and_wait;
use crate::harness::redis::RedisServer;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::RedisSentinel;
use crate::harness::{PATIENCE, wait_until};
use crate::store_contract::world::*;
use crate::store_contract::{cluster_topology, redis_address, sentinel_topology};

/// Far below the interval at which anything polls.
const AT_ONCE: Duration = Duration::from_millis(200);

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
        self.gaps.lock().push("lost");
    }

    fn tracking_restored(&self) {
        self.gaps.lock().push("restored");
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
    let tracks = async || store.tracks().is_ok();
    wait_until("it hears every primary", tracks).await;
    Process {
        store,
        heard,
        running,
    }
}

pub(super) async fn until_live(control: &Shared, ids: &[&str]) {
    wait_until("the live sidecars", async || {
        let live = control.sidecars().await.unwrap();
        let live: Vec<_> = live.into_iter().map(|sidecar| sidecar.id).collect();
        if live == ids { Ok(()) } else { Err(live) }
    })
    .await;
}

/// How often it is measured how soon something follows.
const ROUNDS: u64 = 5;

/// How soon something followed in each round, compared with how long took what it follows from: on a busy machine both
/// take longer.
#[derive(Debug, Default)]
struct Delays(Vec<Duration>);

impl Delays {
    async fn measure(&mut self, cause: impl Future, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        cause.await;
        let (took, caused) = (begun.elapsed(), Instant::now());
        wait_until(what, async || holds()).await;
        self.0.push(caused.elapsed().saturating_sub(took));
    }

    /// A pause of the machine moves some, never half of them.
    #[track_caller]
    fn check(mut self) {
        self.0.sort_unstable();
        let median = self.0[self.0.len() / 2];
        assert!(median < AT_ONCE, "{self:?}");
    }
}

/// `cli` sends a command to the server that has the fleet.
async fn every_process_hears_and_confirms(topology: Topology, cli: impl Fn(&[&str]) -> String) {
    let prefix = format!("f{:x}:", rand::random::<u64>());
    let control = start(topology.clone(), &prefix, None).await;
    let one = start(topology.clone(), &prefix, Some("one")).await;
    let two = start(topology, &prefix, Some("two")).await;
    let store: Shared = Arc::<RedisStore>::clone(&control.store);
    until_live(&store, &["one", "two"]).await;
    let live = store.sidecars().await.unwrap();
    assert_eq!(live[0].report, report());

    let both = [&one.heard, &two.heard];
    let (mut tenants, mut keys) = (Delays::default(), Delays::default());
    let mut confirmed = Vec::new();
    for number in 1..=ROUNDS {
        let name = format!("acme-{number}");
        let names = [name.as_str()];
        let create = with_tenants(&store, &names);
        let is_heard = |heard: &Arc<Heard>| heard.tenants.lock().contains(&tenant(&name));
        let all = || both.into_iter().all(is_heard);
        tenants.measure(create, "the tenant is heard of", all).await;

        let create = async { store.commit_key(new_key(&name, number)).await.unwrap() };
        let is_heard = |heard: &Arc<Heard>| heard.index.lock().contains(&lookup(number));
        let all = || both.into_iter().all(is_heard);
        keys.measure(create, "the key is heard of", all).await;
        for heard in both {
            heard.index.lock().clear();
        }

        let begun = Instant::now();
        let commit = revoke(&new_key(&name, number));
        store.commit_key(commit).await.unwrap();
        let (took, written) = (begun.elapsed(), Instant::now());
        let late = store.late(&[lookup(number)], PATIENCE).await.unwrap().late;
        confirmed.push(written.elapsed().saturating_sub(took));
        assert_eq!(late, Vec::<String>::new());
        // Not only confirmed: each had heard of it before it said so.
        assert!(all(), "{number}");
    }
    for delays in [tenants, keys, Delays(confirmed)] {
        delays.check();
    }
    drop(two);
    // It stays live: this machine may be slower than a heartbeat's age.
    let later = SystemClock.now().as_millis() + 3_600_000;
    let live = format!("{prefix}fleet:{{fleet}}:live");
    tokio::task::block_in_place(|| cli(&["ZADD", &live, &later.to_string(), "two"]));
    wait_until("the other confirms", async || {
        let late = store.late(&[lookup(1)], AT_ONCE).await.unwrap().late;
        assert!(late.contains(&"two".to_owned()), "it answers: {late:?}");
        if late == ["two"] { Ok(()) } else { Err(late) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_hears_and_confirms_on_one_server() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    every_process_hears_and_confirms(topology, |args| server.cli(args)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_hears_and_confirms_on_a_cluster() {
    let servers = RedisCluster::start();
    every_process_hears_and_confirms(cluster_topology(&servers), |args| servers.cli(args)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_hears_and_confirms_under_sentinel() {
    let servers = RedisSentinel::start();
    let cli = |args: &[&str]| servers.primary().cli(args);
    every_process_hears_and_confirms(sentinel_topology(&servers), cli).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_server_ends_tracking_and_its_return_begins_a_new_epoch() {
    let mut server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let sidecar = start(topology, "ks:", Some("one")).await;
    let heard = &sidecar.heard;
    let mut delays = Delays::default();
    for round in 1..=ROUNDS {
        heard.gaps.lock().clear();
        let kill = async { tokio::task::block_in_place(|| server.kill()) };
        let is_deaf = || *heard.gaps.lock() == ["lost"];
        delays.measure(kill, "tracking is lost", is_deaf).await;
        assert!(sidecar.store.tracks().is_err());
        tokio::task::block_in_place(|| server.restart());
        let back = async || *heard.gaps.lock() == ["lost", "restored"];
        wait_until("it hears again", back).await;
        assert_eq!(sidecar.store.gaps(), round);
    }
    delays.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flushing_a_server_puts_all_in_doubt() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let sidecar = start(topology, "ks:", Some("one")).await;
    let heard = &sidecar.heard;
    let mut delays = Delays::default();
    for _ in 0..ROUNDS {
        heard.gaps.lock().clear();
        let flush = async { tokio::task::block_in_place(|| server.flush()) };
        let in_doubt = || *heard.gaps.lock() == ["lost", "restored"];
        delays.measure(flush, "all is in doubt", in_doubt).await;
    }
    delays.check();
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
    let tracks = async || control.store.tracks().is_ok();
    wait_until("it hears the new primary", tracks).await;
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
    let tracks = async || control.store.tracks().is_ok();
    wait_until("it hears the new primary", tracks).await;
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
    let is_heard = async || sidecar.heard.index.lock().contains(&lookup(1));
    wait_until("it is heard of while the slot moves", is_heard).await;

    tokio::task::block_in_place(|| servers.finish_move(&moving));
    let late = store.late(&[lookup(1)], PATIENCE).await.unwrap().late;
    assert_eq!(late, [""; 0]);
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
    let mut numbers = 1..;
    let number = wait_until("it can be written again", || {
        let number = numbers.next().unwrap();
        let commit = new_key("acme", number);
        async move { store.commit_key(commit).await.map(|()| number) }
    })
    .await;
    assert!(store.index(lookup(number)).await.unwrap().is_some());
}
