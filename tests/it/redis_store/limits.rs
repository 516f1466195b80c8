//! Budgets that real processes share, sidecars under the rules that `keystile redis-acl` prints.

use std::time::Duration;

use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Fleet, acl, ask, at};
use crate::harness::redis::RedisServer;
use crate::harness::wait_for;
use crate::support::client;

const REQUESTS: usize = 2_000;

/// A fleet whose tenant `acme` has a budget, and a token of its.
fn fleet(redis: &RedisServer, dir: &tempfile::TempDir, mode: &str) -> (Fleet, String) {
    let config = format!("rate_limits: {{mode: {mode}}}");
    let fleet = acl::fleet_with(&at(redis), dir, &config);
    fleet
        .control
        .do_it(&["tenant", "update", "acme", "--rate", "1/h burst 100"]);
    let key = fleet.create_key();
    (fleet, key.token)
}

/// Sends so many requests at once, dealt out to all; how many pass. Who is gone answers nobody.
async fn storm(channels: &[Channel], token: &str, requests: usize) -> usize {
    let mut tasks = JoinSet::new();
    for at in 0..requests {
        let (channel, token) = (channels[at % channels.len()].clone(), token.to_owned());
        tasks.spawn(async move {
            loop {
                let answer = client::try_ask(&channel, &[("x-api-key", &token)]).await;
                // As its clients do: a machine that is busy with tests answers late.
                if answer != Some(503) {
                    return answer;
                }
            }
        });
    }
    let answers = tasks.join_all().await;
    let mut passed = 0;
    for answer in answers.into_iter().flatten() {
        match answer {
            200 => passed += 1,
            429 => {}
            other => panic!("{other}"),
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_sidecars_let_pass_what_the_budget_holds_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, least) in [("strict", 100), ("leased", 90)] {
        let redis = acl::guarded();
        let (fleet, token) = fleet(&redis, &dir, mode);
        let channels = fleet.channels().await;
        let passed = storm(&channels, &token, REQUESTS).await;
        assert!((least..=100).contains(&passed), "{mode}: {passed}");
        for process in [&fleet.control, &fleet.sidecars[0], &fleet.sidecars[1]] {
            let (_, metrics) = process.ops("/metrics").unwrap();
            let failures = "keystile_limits_store_failures_total 0";
            assert!(metrics.contains(failures), "{mode}: {metrics}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_killed_in_the_middle_takes_little_of_the_budget_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let redis = acl::guarded();
    let (mut fleet, token) = fleet(&redis, &dir, "leased");
    let channels = fleet.channels().await;
    let mut passed = storm(&channels, &token, 30).await;
    assert_eq!(passed, 30);
    let (before, killed) = tokio::join!(storm(&channels, &token, 300), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        fleet.running[2].signal("KILL");
    });
    passed += before;
    let () = killed;
    // What the dead one was lent counts as spent; whether its last answers arrived, nobody knows.
    passed += storm(&channels[..2], &token, REQUESTS).await;
    assert!((80..=100).contains(&passed), "{passed}");
    wait_for("the killed process to be reaped", || {
        fleet.running[2].ended()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_goes_on_with_its_share_and_headers_stay_true() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = acl::guarded();
    let (fleet, token) = fleet(&redis, &dir, "leased");
    fleet.wait_until_all_live();
    for process in [&fleet.control, &fleet.sidecars[0], &fleet.sidecars[1]] {
        wait_for("every process to count three", || {
            let (_, metrics) = process.ops("/metrics")?;
            let counted = metrics.contains("keystile_limits_sidecars 3");
            counted.then_some(())
        });
    }
    let channels = fleet.channels().await;
    for channel in &channels {
        assert_eq!(ask(channel, &token).await, 200);
    }
    redis.kill();
    let mut passed = 0;
    for channel in &channels {
        let mut left = None;
        for _ in 0..60 {
            let begun = std::time::Instant::now();
            let (status, remaining) = client::ask_left(channel, &[("x-api-key", &token)]).await;
            assert!(
                begun.elapsed() < Duration::from_secs(1),
                "{:?}",
                begun.elapsed()
            );
            match status {
                200 => passed += 1,
                429 => assert_eq!(remaining, Some(0)),
                other => panic!("{other}"),
            }
            if let (Some(before), Some(now)) = (left, remaining) {
                assert!(now <= before, "{before} then {now}");
            }
            left = remaining;
        }
    }
    assert!((80..=97).contains(&passed), "{passed}");
}
