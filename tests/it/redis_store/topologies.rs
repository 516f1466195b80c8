//! The same over TLS, behind sentinels and on a cluster.

use std::path::Path;

use super::{Fleet, check_life_of_a_key};
use crate::harness::ca::Ca;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::RedisSentinel;
use crate::harness::redis::{Options, RedisServer, Tls};

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    crate::harness::write_secret(&path, text);
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_over_mutual_tls_with_a_password() {
    let ca = Ca::new("Redis CA");
    let redis = RedisServer::start_with(Options {
        tls: Tls::Mutual(&ca),
        users: &["ks on >pass ~* &* +@all"],
        password: Some("other"),
        ..Options::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let pair = ca.client("spiffe://mesh/keystile");
    let fields = format!(
        "url: \"rediss://ks@127.0.0.1:{}\", password_file: {}, ca_file: {}, cert_file: {}, key_file: {}",
        redis.port(),
        written(dir.path(), "password", "pass\n"),
        redis.ca_file().display(),
        written(dir.path(), "tls.crt", &pair.cert),
        written(dir.path(), "tls.key", &pair.key),
    );
    let fleet = Fleet::start(&fields, &fields);
    check_life_of_a_key(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_behind_sentinels() {
    let redis = RedisSentinel::start();
    let nodes: Vec<String> = redis
        .sentinel_addresses()
        .iter()
        .map(|at| format!("\"{at}\""))
        .collect();
    let service = crate::harness::redis::sentinel::NAME;
    let fields = format!(
        "mode: sentinel, service: {service}, nodes: [{}]",
        nodes.join(", ")
    );
    let fleet = Fleet::start(&fields, &fields);
    check_life_of_a_key(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_on_a_cluster() {
    let redis = RedisCluster::start();
    let urls = redis.urls();
    let fields = format!("mode: cluster, url: \"{}\"", urls[0]);
    let fleet = Fleet::start(&fields, &fields);
    check_life_of_a_key(&fleet).await;
}
