//! What a new configuration file changes while the process runs.

use tonic::transport::Channel;

use crate::harness;
use crate::support::client;
use crate::support::program::Place;

/// Where `authz` ends in the configuration of these tests.
const END: &str = "  store_timeout: 10s\n";

async fn wait_until(channel: &Channel, key: &[(&str, &str)], status: i32) {
    harness::wait_until(&format!("an answer of {status}"), async || {
        let found = client::ask_from(channel, key, "192.0.2.1").await;
        (found == status).then_some(()).ok_or(found)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_limits_on_failures_are_taken_and_a_bad_file_is_not() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 1000000}");
    let running = place.serve();
    let channel = client::tcp(place.authz).await;
    let unknown = [("x-api-key", "short")];
    wait_until(&channel, &[], 401).await;
    wait_until(&channel, &unknown, 401).await;

    let open = format!("{END}  routes: [{{path: \"/{{*rest}}\", mode: optional}}]\n");
    place.edit_config(END, &open);
    place.edit_config("max_failures: 1000000", "max_failures: 1");
    running.signal("HUP");
    wait_until(&channel, &[], 200).await;
    wait_until(&channel, &unknown, 429).await;

    place.edit_config("mode: optional", "mode: of");
    running.signal("HUP");
    harness::wait_until("it is rejected", async || {
        let log = running.log();
        let is_rejected = log.contains("rejected the new configuration");
        is_rejected.then_some(()).ok_or(log)
    })
    .await;
    assert!(
        running.log().contains("authz.routes[0].mode"),
        "{}",
        running.log()
    );
    wait_until(&channel, &[], 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plans_limit_is_taken_while_it_is_used() {
    let place = Place::bootstrapped();
    place.add_config("plans: {pro: {rate: 2/h}}");
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme", "--plan", "pro"]);
    let made = place.do_it(&["key", "create", "acme", "--name", "ci", "-o", "json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let token = made["plaintext"].as_str().unwrap();
    let channel = client::tcp(place.authz).await;
    let key = [("x-api-key", token)];
    for left in [1, 0] {
        assert_eq!(client::ask_left(&channel, &key).await, (200, Some(left)));
    }
    assert_eq!(client::ask_left(&channel, &key).await, (429, Some(0)));

    place.edit_config("rate: 2/h", "rate: 5/h");
    running.signal("HUP");
    wait_until(&channel, &key, 200).await;
    let (_, left) = client::ask_left(&channel, &key).await;
    assert_eq!(left, Some(1), "what was used stays used");
    place.edit_config("rate: 5/h", "rate: 1/h, shadow: true");
    running.signal("HUP");
    let shown = || place.do_it(&["tenant", "get", "acme"]);
    harness::wait_for("the plan's new limit", || {
        let shown = shown();
        let is_new = shown.contains("1/h shadow (plan)");
        is_new.then_some(()).ok_or(shown)
    });
    for _ in 0..3 {
        assert_eq!(client::ask_left(&channel, &key).await, (200, Some(0)));
    }
}
