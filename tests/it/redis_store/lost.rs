//! A Redis that answers and has lost what was stored there: an outage, never "there is no such key".

use super::{Fleet, Key, UNKNOWN, ask, ask_until, at, metric};
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::{Options, RedisServer};
use crate::harness::wait_for;
use crate::support::client;
use crate::support::program::{Place, Running};

/// Copies every key from one database to another, which is emptied first.
const COPY_ALL: &str = "redis.call('SELECT', ARGV[2]) redis.call('FLUSHDB') \
    redis.call('SELECT', ARGV[1]) \
    for _, key in ipairs(redis.call('KEYS', '*')) do \
        redis.call('COPY', key, key, 'DB', ARGV[2], 'REPLACE') \
    end return 'copied'";

fn back_up(redis: &RedisServer) {
    assert_eq!(redis.cli(&["EVAL", COPY_ALL, "0", "0", "1"]), "copied");
}

fn restore(redis: &RedisServer) {
    assert_eq!(redis.cli(&["EVAL", COPY_ALL, "0", "1", "0"]), "copied");
}

fn wait_until_out(place: &Place) {
    wait_for("/readyz to say that the data is gone", || {
        let (status, text) = place.ops("/readyz")?;
        ((status, text.as_str()) == (503, "not ready: store data\n")).then_some(())
    });
    assert_eq!(metric(place, "keystile_store_lost"), 1.0);
    assert_eq!(metric(place, "keystile_store_up"), 0.0);
}

fn wait_until_ready(place: &Place) {
    wait_for("keystile to be ready", || place.is_ready().then_some(()));
}

fn errors(running: &Running) -> Vec<String> {
    let log = running.log();
    let errors = log.lines().filter(|line| line.contains("the store is out"));
    errors.map(str::to_owned).collect()
}

/// The store answers and has nothing: a key in memory works, any other is 503 and never 401, the operators hear why.
async fn assert_is_an_outage(fleet: &Fleet, cached: &Key, cold: &Key) {
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    for _ in 0..50 {
        assert_eq!(ask(&channel, &cold.token).await, 503);
        assert_eq!(ask(&channel, UNKNOWN).await, 503);
        assert_eq!(ask(&channel, &cached.token).await, 200);
    }
    wait_until_out(&fleet.sidecars[0]);
    wait_until_out(&fleet.control);
    for _ in 0..50 {
        assert_eq!(ask(&channel, &cold.token).await, 503);
        assert_eq!(ask(&channel, UNKNOWN).await, 503);
    }
    assert_eq!(
        ask(&channel, &cached.token).await,
        200,
        "until `cache.max_stale`"
    );
    assert_eq!(metric(&fleet.sidecars[0], "keystile_blocked_sources"), 0.0);
    for args in [
        &["tenant", "list"][..],
        &["tenant", "get", "acme"],
        &["tenant", "create", "globex"],
        &["key", "list", "acme"],
        &["key", "revoke", "acme", &cached.id],
        &["fleet"],
    ] {
        let refused = fleet.refused(args, "ks:root");
        let says_why = refused
            .stderr
            .contains("the key store cannot be used: Redis answers, but")
            && refused.stderr.contains("ks:root");
        assert!(says_why, "{args:?}: {}", refused.stderr);
    }
    for running in &fleet.running {
        let errors = errors(running);
        let [only] = errors.as_slice() else {
            panic!("one clear error each, not {errors:#?}");
        };
        assert!(only.contains("ks:root"), "{only}");
    }
}

struct Shared {
    fleet: Fleet,
    cached: Key,
    cold: Key,
}

async fn start(redis: &RedisServer) -> Shared {
    let fleet = Fleet::start_with(&at(redis), &at(redis), "abuse: {max_failures: 3}");
    let (cached, cold) = (fleet.create_key(), fleet.create_key());
    back_up(redis);
    // A copy is pushed as a change. Who has heard of a later one has heard of it.
    fleet.wait_until_all_live();
    fleet.revoke_and_wait(&fleet.create_key());
    for channel in fleet.channels().await {
        assert_eq!(ask(&channel, &cached.token).await, 200);
        // The operators' own.
        assert_eq!(ask(&channel, &fleet.control.admin_token).await, 200);
    }
    fleet.control.do_it(&["tenant", "list"]);
    Shared {
        fleet,
        cached,
        cold,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_is_an_outage_and_a_restored_one_works_without_a_restart() {
    let redis = RedisServer::start();
    let Shared {
        fleet,
        cached,
        cold,
    } = start(&redis).await;
    redis.cli(&["FLUSHDB"]);
    assert_is_an_outage(&fleet, &cached, &cold).await;
    let names = redis.cli(&["KEYS", "*"]);
    let is_ours = |name: &str| name.starts_with("ks:fleet:") || name.starts_with("ks:n:");
    assert!(names.lines().all(is_ours), "nothing is made again: {names}");
    restore(&redis);
    wait_until_ready(&fleet.control);
    for channel in fleet.channels().await {
        ask_until(&channel, &cold.token, 200).await;
        ask_until(&channel, UNKNOWN, 401).await;
    }
    fleet.revoke(&cold);
    for channel in fleet.channels().await {
        ask_until(&channel, &cold.token, 401).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_persistence_that_restarted_is_an_outage() {
    let mut redis = RedisServer::start();
    let Shared {
        fleet,
        cached,
        cold,
    } = start(&redis).await;
    redis.restart();
    assert_is_an_outage(&fleet, &cached, &cold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_of_another_installation_is_an_outage() {
    let redis = RedisServer::start();
    let Shared {
        fleet,
        cached: _,
        cold,
    } = start(&redis).await;
    let root = redis.cli(&["HGET", "ks:root", "keyring_id"]);
    redis.cli(&["HSET", "ks:root", "keyring_id", "another"]);
    wait_until_out(&fleet.sidecars[0]);
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    assert_eq!(ask(&channel, &cold.token).await, 503);
    redis.cli(&["HSET", "ks:root", "keyring_id", &root]);
    ask_until(&channel, &cold.token, 200).await;
    let log = fleet.running[1].log();
    assert!(log.contains("another installation's store"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_is_not_made_anew_while_sidecars_of_the_old_one_run() {
    let redis = RedisServer::start();
    let Shared {
        mut fleet, cold, ..
    } = start(&redis).await;
    fleet.wait_until_all_live();
    redis.flush();
    wait_for("a sidecar to say that it lives", || {
        (redis.cli(&["EXISTS", "ks:fleet:{fleet}:live"]) == "1").then_some(())
    });
    let bootstrap = fleet.control.run(&["bootstrap", "-c", "keystile.yaml"]);
    assert_eq!(bootstrap.code, 1, "{}", bootstrap.stderr);
    let why = "is not made anew while anything of it is left";
    assert!(bootstrap.stderr.contains(why), "{}", bootstrap.stderr);
    assert_eq!(redis.cli(&["EXISTS", "ks:root"]), "0");

    // Somebody removes even that, and a control plane makes a new store: it is not the one that the sidecar knows.
    fleet.running[0].signal("KILL");
    fleet.running[0].wait_for_end();
    wait_for(
        "a store that nobody has written to since it was emptied",
        || {
            redis.flush();
            let made = fleet.control.run(&["bootstrap", "-c", "keystile.yaml"]);
            (made.code == 0).then_some(())
        },
    );
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    wait_for("the sidecar to see it", || {
        let log = fleet.running[1].log();
        log.contains("the store was made anew").then_some(())
    });
    assert_eq!(ask(&channel, &cold.token).await, 503);
    assert!(!fleet.sidecars[0].is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_its_root_record_is_for_its_own_keyring_alone() {
    let redis = RedisServer::start();
    let Shared {
        mut fleet, cold, ..
    } = start(&redis).await;
    redis.cli(&["DEL", "ks:root"]);
    wait_until_out(&fleet.control);
    fleet.running[0].signal("KILL");
    fleet.running[0].wait_for_end();
    let other = Place::with_keyrings();
    other.use_redis(&at(&redis));
    let refused = [
        other.serve_refused(),
        other.run(&["bootstrap", "-c", "keystile.yaml"]),
    ];
    for refused in refused {
        assert_eq!(refused.code, 78, "{}", refused.stderr);
        for text in ["opens none of its tenants", "nothing was changed"] {
            assert!(refused.stderr.contains(text), "{}", refused.stderr);
        }
        assert_eq!(redis.cli(&["EXISTS", "ks:root"]), "0");
    }
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    assert_eq!(ask(&channel, &cold.token).await, 503);
    let running = fleet.control.serve();
    ask_until(&channel, &cold.token, 200).await;
    wait_until_ready(&fleet.sidecars[0]);
    assert!(
        running.log().contains("it is put back"),
        "{}",
        running.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_record_is_lost_is_an_outage_for_its_keys_and_a_deleted_one_is_not() {
    let redis = RedisServer::start_with(Options::default());
    let Shared {
        fleet, cold: key, ..
    } = start(&redis).await;
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    redis.cli(&["DEL", "ks:t:{acme}"]);
    ask_until(&channel, &key.token, 503).await;
    for args in [
        &["tenant", "get", "acme"][..],
        &["tenant", "create", "acme"],
        &["key", "list", "acme"],
    ] {
        let why = "and others of it are there";
        let refused = fleet.refused(args, why);
        assert!(refused.stderr.contains(why), "{args:?}: {}", refused.stderr);
    }
    restore(&redis);
    ask_until(&channel, &key.token, 200).await;
    // What a deletion that was interrupted leaves is no damage.
    let entries = redis.cli(&["KEYS", "ks:i:*"]);
    fleet.control.do_it(&["tenant", "delete", "acme", "--yes"]);
    for entry in entries.lines() {
        redis.cli(&[
            "EVAL",
            "return redis.call('SELECT', 1) and redis.call('COPY', KEYS[1], KEYS[1], 'DB', 0)",
            "1",
            entry,
        ]);
    }
    assert_eq!(ask(&channel, &key.token).await, 401);
    fleet.control.do_it(&["tenant", "create", "acme"]);
    assert_eq!(ask(&channel, &key.token).await, 401);
    assert_eq!(redis.cli(&["TTL", "ks:t:{acme}"]), "-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_primary_of_a_cluster_that_lost_its_data_is_an_outage() {
    let redis = RedisCluster::start();
    let fields = format!("mode: cluster, url: \"{}\"", redis.urls()[0]);
    let fleet = Fleet::start(&fields, &fields);
    let keys: Vec<Key> = (0..9).map(|_| fleet.create_key()).collect();
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    assert_eq!(ask(&channel, UNKNOWN).await, 401);
    let with_root = redis.primary_of("ks:root").port();
    let emptied = ["ks:t:{a}", "ks:t:{b}", "ks:t:{c}", "ks:t:{d}", "ks:t:{e}"]
        .into_iter()
        .map(|name| redis.primary_of(name))
        .find(|primary| primary.port() != with_root)
        .expect("there are three primaries");
    emptied.flush();
    for key in &keys {
        let status = ask(&channel, &key.token).await;
        assert!(status == 200 || status == 503, "{status}");
    }
    wait_until_out(&fleet.sidecars[0]);
    assert_eq!(ask(&channel, UNKNOWN).await, 503);
    let log = fleet.running[1].log();
    assert!(log.contains("has lost its data"), "{log}");
}
