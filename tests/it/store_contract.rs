//! What every store promises, tested once and run on each.
//!
//! A promise is an `async fn` that takes a store with nothing in it. To add a promise, list it below; to add a
//! backend, add a line to `for_each_store!`.

mod audit;
mod commits;
mod counts;
mod deletion;
mod load;
mod owners;
mod reading;
mod requests;
mod revocation;
mod rotation;
mod watching;
pub(crate) mod world;

use std::sync::{Arc, LazyLock};

use keystile::store::Store;
use keystile::store::redb::EmbeddedStore;
use keystile::store::redis::{Access, Address, RedisStore, Settings, Topology};

use crate::harness::redis::RedisServer;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::{self, RedisSentinel};

/// An empty store, and what must outlive it.
struct Place {
    store: Arc<dyn Store>,
    _folder: Option<tempfile::TempDir>,
}

async fn in_memory() -> Place {
    Place {
        store: Arc::new(EmbeddedStore::in_memory().unwrap()),
        _folder: None,
    }
}

async fn on_redis() -> Place {
    static SERVER: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
    over_redis(Topology::Standalone(redis_address(SERVER.port()))).await
}

async fn on_sentinel() -> Place {
    static SERVERS: LazyLock<RedisSentinel> = LazyLock::new(RedisSentinel::start);
    over_redis(sentinel_topology(&SERVERS)).await
}

async fn on_cluster() -> Place {
    static SERVERS: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);
    over_redis(cluster_topology(&SERVERS)).await
}

pub(crate) fn redis_address(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn addresses(urls: &[String]) -> Vec<Address> {
    let port = |url: &String| url.rsplit(':').next().unwrap().parse().unwrap();
    urls.iter().map(|url| redis_address(port(url))).collect()
}

pub(crate) fn sentinel_topology(servers: &RedisSentinel) -> Topology {
    Topology::Sentinel {
        sentinels: addresses(&servers.sentinel_addresses()),
        service: sentinel::NAME.to_owned(),
        login: Default::default(),
    }
}

pub(crate) fn cluster_topology(servers: &RedisCluster) -> Topology {
    Topology::Cluster {
        nodes: addresses(&servers.urls()),
    }
}

/// A store that shares its servers with others and no name with any.
async fn over_redis(topology: Topology) -> Place {
    let settings = Settings {
        topology,
        prefix: format!("t{:x}:", rand::random::<u64>()),
        ..Settings::standalone(redis_address(1))
    };
    let store = RedisStore::new(settings, Access::Write);
    store.connect().await.unwrap();
    tokio::spawn(Arc::clone(&store).run());
    Place {
        store,
        _folder: None,
    }
}

async fn on_file() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystile.redb");
    Place {
        store: Arc::new(EmbeddedStore::open(&path).unwrap()),
        _folder: Some(folder),
    }
}

macro_rules! on_store {
    ($backend:ident: $($module:ident::$promise:ident,)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $promise() {
                    let place = super::$backend().await;
                    super::$module::$promise(std::sync::Arc::clone(&place.store)).await;
                }
            )*
        }
    };
}

macro_rules! for_each_store {
    ($($promises:tt)*) => {
        on_store!(in_memory: $($promises)*);
        on_store!(on_file: $($promises)*);
        on_store!(on_redis: $($promises)*);
        on_store!(on_sentinel: $($promises)*);
        on_store!(on_cluster: $($promises)*);
    };
}

for_each_store! {
    audit::entries_are_read_in_pages_oldest_first,
    audit::what_is_appended_continues_the_numbers,
    audit::entries_are_appended_where_the_last_is_the_expected_one,
    audit::of_concurrent_appends_after_one_entry_one_succeeds,
    commits::what_was_committed_is_read_back_whole,
    commits::a_refused_commit_writes_nothing_at_all,
    commits::the_first_key_of_a_tenant_is_made_once,
    commits::a_newer_index_entry_stays_under_an_older_one,
    commits::an_index_entry_of_the_same_version_is_written_again,
    commits::of_concurrent_creates_of_one_key_one_succeeds,
    commits::of_concurrent_changes_of_one_version_one_succeeds,
    commits::refused_commits_do_not_spoil_those_beside_them,
    commits::a_commit_that_nobody_waits_for_is_whole_or_not_there,
    counts::a_limit_of_ten_lets_ten_of_sixteen_concurrent_creates_through,
    counts::the_total_limit_holds_over_tenants,
    counts::a_revoked_key_makes_room,
    counts::an_owner_is_counted_within_its_tenant,
    counts::a_key_that_is_not_counted_can_be_revoked_and_no_count_goes_below_none,
    deletion::a_deleted_tenant_leaves_nothing_and_can_be_made_again,
    deletion::a_deleted_tenant_takes_nothing_of_a_neighbour,
    deletion::what_was_sealed_for_a_deleted_tenant_does_not_reach_its_successor,
    owners::the_keys_of_an_owner_come_in_pages_and_nobody_elses,
    owners::an_index_that_lacks_a_key_is_not_used_until_it_is_completed,
    owners::an_index_with_a_key_too_many_is_not_used_until_that_is_removed,
    owners::a_tenant_that_is_made_again_has_nothing_of_the_one_before,
    reading::an_empty_store_has_nothing,
    reading::tenants_come_in_pages_in_the_order_of_their_ids,
    reading::a_page_ends_with_the_tenant,
    reading::paging_neither_misses_nor_doubles_a_key_while_others_are_made,
    reading::audit_entries_are_numbered_in_the_order_of_their_commits,
    reading::a_point_read_sees_a_commit_that_has_returned,
    reading::the_first_keyring_is_remembered,
    reading::it_answers_a_ping_and_says_what_it_is,
    requests::a_request_is_remembered_with_the_commit_that_does_it,
    requests::a_request_that_was_done_is_refused_and_writes_nothing,
    requests::of_many_commits_of_one_request_one_is_done,
    requests::an_expired_request_can_be_done_again_and_goes_in_time,
    requests::a_request_of_another_tenant_is_another_request,
    requests::a_refused_commit_does_not_use_its_request_up,
    revocation::a_revocation_is_written_over_whatever_is_there,
    revocation::no_change_takes_the_place_of_a_revoked_entry,
    revocation::the_same_order_of_another_change_is_a_conflict,
    rotation::a_rotation_adds_an_entry_and_removes_those_it_names,
    rotation::what_belongs_to_another_key_is_not_removed,
    rotation::a_refused_rotation_writes_and_removes_nothing,
    rotation::of_concurrent_rotations_one_succeeds_and_one_token_is_found,
    rotation::a_revocation_reaches_every_generation_and_none_comes_back,
    rotation::a_tenant_is_deleted_with_every_generation,
    watching::a_watcher_has_been_told_when_a_commit_returns,
    watching::every_watcher_is_told_from_when_it_watches,
    load::ten_thousand_tenants_with_a_key_each_load_within_a_minute,
}

/// A store that shares its servers hears of more than its own commits.
mod of_its_own {
    #[tokio::test]
    async fn a_watcher_is_not_told_of_a_refused_commit() {
        let place = super::in_memory().await;
        super::watching::a_watcher_is_not_told_of_a_refused_commit(place.store).await;
    }
}
