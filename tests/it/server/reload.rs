//! What a new configuration file changes while the process runs.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::harness::PATIENCE;
use crate::support::client;
use crate::support::program::Place;

/// Where `authz` ends in the configuration of these tests.
const END: &str = "  store_timeout: 5s\n";

async fn wait_until(channel: &Channel, key: &[(&str, &str)], status: i32) {
    let begun = Instant::now();
    loop {
        let found = client::ask_from(channel, key, "192.0.2.1").await;
        if found == status {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{found}, not {status}");
        sleep(Duration::from_millis(20)).await;
    }
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
    let begun = Instant::now();
    while !running
        .log()
        .contains("the new configuration cannot be used")
    {
        assert!(begun.elapsed() < PATIENCE, "{}", running.log());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(
        running.log().contains("authz.routes[0].mode"),
        "{}",
        running.log()
    );
    wait_until(&channel, &[], 200).await;
}
