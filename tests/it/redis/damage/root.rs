//! What says whose store it is: the root record, and on a Cluster the marker of each slot. Harmed, it is an outage or
//! nothing at all: no revoked key passes, a key that is there is never said not to exist, and once it is put back all
//! goes on.

use std::sync::Arc;

use ::redis::{FromRedisValue, Value, cmd};
use keystile::store::Store as _;
use keystile::store::redis::Topology;

use super::super::fleet::{Process, start};
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::{RedisServer, somebody};
use crate::harness::{PATIENCE, wait_until};
use crate::store_contract::{cluster_topology, redis_address, world::Shared};
use crate::support::world::{Made, Seen, World};

/// The names that are harmed here; `R` is a tag in the slot.
pub(super) const NAMES: [&str; 2] = ["ks:root", "ks:root:{R}"];

const KEYRING: &str = "ours";

/// Words of a command; `N` is the name.
type Harm = &'static [&'static str];

const OF_ROOT: &[Harm] = &[
    &["DEL", "N"],
    &["HDEL", "N", "keyring_id"],
    &["HDEL", "N", "store_id"],
    &["HDEL", "N", "format"],
    &["HDEL", "N", "slots_marked"],
    &["HSET", "N", "keyring_id", "another"],
    &["HSET", "N", "keyring_id", ""],
    &["HSET", "N", "store_id", "another"],
    &["HSET", "N", "format", "99"],
    &["HSET", "N", "format", "no number"],
    &["SET", "N", "another type"],
];

const OF_MARKER: &[Harm] = &[
    &["DEL", "N"],
    &["HDEL", "N", "store_id"],
    &["HSET", "N", "store_id", "another"],
    &["HSET", "N", "store_id", ""],
    &["SET", "N", "another type"],
];

struct Place {
    world: World,
    somebody: ::redis::aio::MultiplexedConnection,
    processes: [Process; 2],
}

impl Place {
    /// A control plane and a sidecar that know whose store it is; somebody else talks to the server on `port`.
    async fn new(topology: Topology, port: u16) -> Self {
        let control = start(topology.clone(), "ks:", None).await;
        let store: Shared = Arc::clone(&control.store) as _;
        store.keyring_id(KEYRING).await.unwrap();
        let sidecar = start(topology, "ks:", Some("one")).await;
        for process in [&control, &sidecar] {
            process.store.belongs_to(KEYRING);
            let mut problem = process.store.problem();
            let is_ours = problem.wait_for(Option::is_none);
            tokio::time::timeout(PATIENCE, is_ours)
                .await
                .unwrap()
                .unwrap();
        }
        Self {
            world: World::over(store, Arc::clone(&sidecar.store) as _).await,
            somebody: somebody(port).await,
            processes: [control, sidecar],
        }
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async(&mut self.somebody.clone()).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn see(&self, key: &Made) -> Seen {
        self.world.let_ttl_pass();
        self.world.get(key).await
    }

    async fn until_it_works(&self, what: &str, key: &Made) {
        let works = async || self.see(key).await == Seen::Works && self.processes[0].store.is_up();
        wait_until(&format!("{what}: put back, it works again"), works).await;
    }

    /// Harms what is under that name. Answers how often it was an outage.
    async fn harm(&self, name: &str, harms: &[Harm]) -> usize {
        let revoked = self.world.create_key().await;
        self.world.revoke(&revoked).await;
        let mut outages = 0;
        for harm in harms {
            let words: Vec<&str> = harm
                .iter()
                .map(|word| if *word == "N" { name } else { word })
                .collect();
            let what = words.join(" ");
            let live = self.world.create_key().await;
            let mut dump = cmd("DUMP");
            let before: Vec<u8> = dump
                .arg(name)
                .query_async(&mut self.somebody.clone())
                .await
                .unwrap();
            let _: Value = self.ask(&words).await;
            // As often as it takes that each process has looked.
            for _ in 0..50 {
                let seen = self.see(&live).await;
                assert!(
                    matches!(seen, Seen::Works | Seen::Outage | Seen::Refused),
                    "{what}: {seen:?}"
                );
                outages += usize::from(seen != Seen::Works);
                let seen = self.see(&revoked).await;
                assert!(
                    matches!(seen, Seen::Revoked | Seen::Outage | Seen::Refused),
                    "{what}: {seen:?}"
                );
            }
            let mut restore = cmd("RESTORE");
            restore.arg(name).arg(0).arg(before).arg("REPLACE");
            let restored = restore.exec_async(&mut self.somebody.clone()).await;
            restored.unwrap();
            self.until_it_works(&what, &live).await;
            assert_eq!(self.see(&revoked).await, Seen::Revoked, "{what}");
            self.world.revoke(&live).await;
            assert_eq!(self.see(&live).await, Seen::Revoked, "{what}");
        }
        outages
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_root_record_that_is_harmed_is_an_outage_and_lets_no_wrong_key_pass() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let place = Place::new(topology, server.port()).await;
    let outages = place.harm("ks:root", OF_ROOT).await;
    assert!(outages > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_marker_of_a_slot_that_is_harmed_is_an_outage_and_lets_no_wrong_key_pass() {
    let cluster = RedisCluster::start();
    let tenant = "ks:t:{acme}";
    let port = cluster.primary_of(tenant).port();
    let place = Place::new(cluster_topology(&cluster), port).await;
    // The one beside the tenant's record.
    let slot = cluster.slot_of(tenant);
    let of_slot: Vec<String> = place
        .ask(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100"])
        .await;
    let mut markers = of_slot.iter().filter(|name| name.starts_with("ks:root:"));
    let marker = markers.next().expect("each slot has a marker");
    let outages = place.harm(marker, OF_MARKER).await;
    assert!(outages > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_on_something_else_in_place_of_the_root_is_told_which_entry_and_what_to_do() {
    let server = RedisServer::start();
    let topology = || Topology::Standalone(redis_address(server.port()));
    let first = start(topology(), "ks:", None).await;
    first.store.keyring_id(KEYRING).await.unwrap();
    let mut somebody = somebody(server.port()).await;
    let set = cmd("SET").arg("ks:root").arg("something").to_owned();
    let _: Value = set.query_async(&mut somebody).await.unwrap();
    let next = start(topology(), "ks:", None).await;
    let refused = next.store.keyring_id(KEYRING).await.unwrap_err();
    let refused = keystile::telemetry::chain(&refused).to_string();
    for part in ["ks:root is not the hash", "WRONGTYPE", "`DEL ks:root`"] {
        assert!(refused.contains(part), "{refused}");
    }
}
