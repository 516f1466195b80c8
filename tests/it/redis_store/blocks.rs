//! Blocks by real processes: counted on one sidecar, in force on all, shown and ended by an operator.

use serde_json::Value;

use super::{Fleet, at};
use crate::harness::redis::RedisServer;
use crate::harness::{self, wait_for};
use crate::support::client;
use crate::support::program::Place;

pub(super) const GUESSER: &str = "192.0.2.66";

/// A control plane and a sidecar that block after three failures.
fn strict(servers: &str) -> (Place, Place) {
    let mut control = Place::with_keyrings();
    control.add_config("abuse: {max_failures: 3}");
    control.use_redis(servers);
    control.bootstrap();
    let sidecar = control.sidecar();
    sidecar.add_config("abuse: {max_failures: 3}");
    sidecar.use_redis(servers);
    (control, sidecar)
}

pub(super) fn listed(control: &Place) -> Vec<String> {
    let listed = control.do_it(&["blocks", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let blocks = listed["blocks"].as_array().cloned().unwrap_or_default();
    let source = |block: &Value| block["source"].as_str().unwrap().to_owned();
    blocks.iter().map(source).collect()
}

pub(super) async fn wait_until(channel: &tonic::transport::Channel, status: i32, from: &str) {
    harness::wait_until(&format!("an answer of {status}"), async || {
        let found = client::ask_from(channel, &[("x-api-key", "short")], from).await;
        (found == status).then_some(()).ok_or(found)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_in_force_everywhere_until_an_operator_ends_it() {
    let redis = RedisServer::start();
    let (control, sidecar) = strict(&at(&redis));
    let _running = [control.serve(), sidecar.serve()];
    let here = client::tcp(sidecar.authz).await;
    let there = client::tcp(control.authz).await;
    for _ in 0..3 {
        let status = client::ask_from(&here, &[("x-api-key", "short")], GUESSER).await;
        assert_eq!(status, 401);
    }
    wait_until(&here, 429, GUESSER).await;
    wait_until(&there, 429, GUESSER).await;
    let other = client::ask_from(&here, &[("x-api-key", "short")], "192.0.2.67").await;
    assert_eq!(other, 401);
    let token = control.admin_token.as_str();
    let valid = client::ask_from(&there, &[("x-api-key", token)], GUESSER).await;
    assert!([200, 429].contains(&valid), "in memory or not: {valid}");
    assert_eq!(listed(&control), [GUESSER]);
    let (_, metrics) = sidecar.ops("/metrics").unwrap();
    for line in ["keystile_blocked_sources 1", "keystile_blocks_total 1"] {
        assert!(metrics.contains(line), "{metrics}");
    }

    let answer = control.do_it(&["blocks", "clear", GUESSER]);
    assert_eq!(answer.trim(), "blocks ended: 1");
    wait_until(&here, 401, GUESSER).await;
    assert_eq!(listed(&control), Vec::<String>::new());
    let refused = control.run(&["blocks", "clear"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let refused = control.run(&["blocks", "clear", "somebody"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("must be an IP address"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        control.do_it(&["blocks", "clear", "--all"]).trim(),
        "blocks ended: 0"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_has_the_blocks_of_its_process() {
    let mut place = Place::with_keyrings();
    place.add_config("abuse: {max_failures: 3, known_keys: block}");
    place.bootstrap();
    let _running = place.serve();
    let channel = client::tcp(place.authz).await;
    for _ in 0..3 {
        client::ask_from(&channel, &[("x-api-key", "short")], "2001:db8::7").await;
    }
    let token = place.admin_token.as_str();
    let refused = client::ask_from(&channel, &[("x-api-key", token)], "2001:db8::8").await;
    assert_eq!(refused, 429, "a neighbour in the /64");
    assert_eq!(listed(&place), ["2001:db8::/64"]);
    assert_eq!(
        place.do_it(&["blocks", "clear", "--all"]).trim(),
        "blocks ended: 1"
    );
    let allowed = client::ask_from(&channel, &[("x-api-key", token)], "2001:db8::8").await;
    assert_eq!(allowed, 200);
}

/// Behind a proxy of one's own: whom it names is counted, and nobody whom a client names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_proxy_its_word_counts_and_a_clients_does_not() {
    const PROXY: &str = "10.0.0.1";
    let mut place = Place::with_keyrings();
    place.add_config("abuse: {max_failures: 3, trusted_hops: 1}");
    place.bootstrap();
    let _running = place.serve();
    let channel = client::tcp(place.authz).await;
    let ask = async |forwarded: &str| {
        let headers = [("x-api-key", "short"), ("x-forwarded-for", forwarded)];
        client::ask_from(&channel, &headers, PROXY).await
    };
    for _ in 0..3 {
        let guess = format!("192.0.2.1, {GUESSER}");
        assert_eq!(ask(&guess).await, 401);
    }
    assert_eq!(listed(&place), [GUESSER]);
    let another_name = format!("192.0.2.2, {GUESSER}");
    assert_eq!(ask(&another_name).await, 429, "whatever it says it is");
    assert_eq!(ask("192.0.2.1").await, 401, "whom it named before");
    let beside_it = format!("{GUESSER}, 192.0.2.67");
    assert_eq!(ask(&beside_it).await, 401, "who only names it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_without_the_section_blocks_nobody() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    for _ in 0..30 {
        let status = client::ask_from(&channel, &[("x-api-key", "short")], GUESSER).await;
        assert_eq!(status, 401);
    }
    wait_for("the list to be empty", || {
        listed(&fleet.control).is_empty().then_some(())
    });
}
