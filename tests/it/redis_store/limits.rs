//! Budgets that real processes share, sidecars under the rules that `keystile redis-acl` prints.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Fleet, acl, ask, at};
use crate::harness::redis::RedisServer;
use crate::harness::{pass, wait_for};
use crate::support::client;
use crate::support::program::{Place, STORE_TIMEOUT};

const REQUESTS: usize = 2_000;

/// On a busy machine a store may be silent for so long that it counts as gone.
const DENY: &str = "failure_policy: {limiter_outage: deny}";

/// A fleet whose tenant `acme` has a budget, and a token of its.
fn fleet(
    redis: &RedisServer,
    dir: &tempfile::TempDir,
    mode: &str,
    on_outage: &str,
) -> (Fleet, String) {
    let config = format!("rate_limits: {{mode: {mode}}}\n{on_outage}");
    let fleet = acl::fleet_with(&at(redis), dir, &config);
    fleet
        .control
        .do_it(&["tenant", "update", "acme", "--rate", "1/h burst 100"]);
    let key = fleet.create_key();
    (fleet, key.token)
}

/// Sends so many requests at once, dealt out to all; how many pass, and how many nobody answers.
async fn count(channels: &[Channel], token: &str, requests: usize) -> (usize, usize) {
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
    let (mut passed, mut unanswered) = (0, 0);
    for answer in tasks.join_all().await {
        match answer {
            Some(200) => passed += 1,
            Some(429) => {}
            None => unanswered += 1,
            Some(other) => panic!("{other}"),
        }
    }
    (passed, unanswered)
}

/// The same where everybody answers.
async fn storm(channels: &[Channel], token: &str, requests: usize) -> usize {
    let (passed, unanswered) = count(channels, token, requests).await;
    assert_eq!(unanswered, 0);
    passed
}

fn metric(process: &Place, name: &str) -> usize {
    let (_, metrics) = process.ops("/metrics").unwrap();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    count
        .unwrap_or_else(|| panic!("no {name}: {metrics}"))
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_sidecars_let_pass_what_the_budget_holds_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, least) in [("strict", 100), ("leased", 90)] {
        let redis = acl::guarded();
        let (fleet, token) = fleet(&redis, &dir, mode, DENY);
        let channels = fleet.channels().await;
        let passed = storm(&channels, &token, REQUESTS).await;
        // What a busy machine answers too late is charged and does not pass.
        let late: usize = [&fleet.control, &fleet.sidecars[0], &fleet.sidecars[1]]
            .map(|process| metric(process, "keystile_limits_store_failures_total"))
            .iter()
            .sum();
        assert!(passed <= 100, "{mode}: {passed}");
        assert!(passed + late >= least, "{mode}: {passed}, {late} late");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_killed_in_the_middle_takes_little_of_the_budget_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let redis = acl::guarded();
    let (mut fleet, token) = fleet(&redis, &dir, "leased", DENY);
    let channels = fleet.channels().await;
    let first = storm(&channels, &token, 30).await;
    assert_eq!(first, 30);
    let ((middle, unanswered), ()) = tokio::join!(count(&channels, &token, 300), async {
        pass(Duration::from_millis(10), "some requests are under way").await;
        fleet.running[2].signal("KILL");
    });
    // What the dead one was lent counts as spent. Whether it had let those pass whose answers are lost, nobody knows.
    let passed = first + middle + storm(&channels[..2], &token, REQUESTS).await;
    assert!(passed <= 100, "{passed}");
    assert!(
        passed + unanswered >= 90,
        "{passed} and {unanswered} unanswered"
    );
    wait_for("the killed process to be reaped", || {
        fleet.running[2].ended()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_goes_on_with_its_share_and_headers_stay_true() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = acl::guarded();
    let (fleet, token) = fleet(&redis, &dir, "leased", "");
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
            let key = [("x-api-key", token.as_str())];
            let (status, remaining) =
                at_once(channel, Box::pin(client::ask_left(channel, &key))).await;
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

/// An answer that does not wait for the store, compared with one that needs none and is asked for at the same time: on a
/// busy machine both come late.
async fn at_once<T>(channel: &Channel, answer: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let with_key = async { (answer.await, begun.elapsed()) };
    let without = Box::pin(client::ask(channel, &[]));
    let without = async { (without.await, begun.elapsed()) };
    let ((answer, took), (status, needed)) = tokio::join!(with_key, without);
    assert_eq!(status, 401);
    let later = took.saturating_sub(needed);
    assert!(later < STORE_TIMEOUT / 2, "{later:?}");
    answer
}

/// How many requests of a rate are lent to processes.
const LENT: &str = "local lent = 0 for _, name in ipairs(redis.call('KEYS', 'ks:n:{acme}:rl:*')) do \
                    lent = lent + tonumber(redis.call('HGET', name, 'h')) end return lent";

/// What an operator chose for an outage is what happens in one, to the first request and to the last, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_sidecar_does_as_it_is_configured() {
    for (policy, passes, otherwise) in [
        ("local", 20..=25, 429),
        ("allow", 60..=60, 429),
        ("deny", 0..=0, 503),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut redis = acl::guarded();
        let config = format!("failure_policy: {{limiter_outage: {policy}}}");
        let fleet = acl::fleet_with(&at(&redis), &dir, &config);
        let update = [
            "tenant",
            "update",
            "acme",
            "--rate",
            "1/h burst 75",
            "--quota",
            "1000/day",
        ];
        fleet.control.do_it(&update);
        let key = fleet.create_key();
        fleet.wait_until_all_live();
        let process = &fleet.sidecars[0];
        wait_for("it to count three", || {
            let (_, metrics) = process.ops("/metrics")?;
            metrics.contains("keystile_limits_sidecars 3").then_some(())
        });
        let channel = client::tcp(process.authz).await;
        assert_eq!(ask(&channel, &key.token).await, 200);
        wait_for("it to give back what it was lent", || {
            let lent = redis.cli(&["EVAL", LENT, "0"]);
            (lent.trim() == "0").then_some(()).ok_or(lent)
        });
        redis.kill();
        let mut passed = 0;
        for _ in 0..60 {
            match at_once(&channel, Box::pin(ask(&channel, &key.token))).await {
                200 => passed += 1,
                other => assert_eq!(other, otherwise, "{policy}"),
            }
        }
        assert!(passes.contains(&passed), "{policy}: {passed}");
        let (_, metrics) = process.ops("/metrics").unwrap();
        let counted = metrics.contains("keystile_limits_without_store_total 0");
        assert_eq!(counted, policy == "deny", "{policy}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_being_used_up_is_told_once_by_one_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let redis = acl::guarded();
    let fleet = acl::fleet_with(&at(&redis), &dir, "rate_limits: {mode: strict}");
    let update = ["tenant", "update", "acme", "--quota", "10/day"];
    fleet.control.do_it(&update);
    let key = fleet.create_key();
    let channels = fleet.channels().await;
    let processes = [&fleet.control, &fleet.sidecars[0], &fleet.sidecars[1]];
    let told = |percent: u8| -> usize {
        let name = format!("keystile_quota_warnings_total{{percent=\"{percent}\"}}");
        processes.map(|process| metric(process, &name)).iter().sum()
    };
    for (requests, passes, expected) in [
        (7, 7, (0, 0)),
        (1, 1, (1, 0)),
        (9, 2, (1, 1)),
        (9, 0, (1, 1)),
    ] {
        assert_eq!(storm(&channels, &key.token, requests).await, passes);
        assert_eq!((told(80), told(100)), expected, "after {requests} more");
    }
    let log: String = fleet.running.iter().map(|running| running.log()).collect();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a quota is being used up"))
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines
            .iter()
            .all(|line| line.contains("acme") && line.contains("tenant-day")),
        "{lines:?}"
    );
    assert!(!log.contains(&key.token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_of_a_sidecar_is_explained_to_operators() {
    let dir = tempfile::tempdir().unwrap();
    let redis = acl::guarded();
    let fleet = acl::fleet_with(&at(&redis), &dir, "abuse: {}");
    let (_, metrics) = fleet.sidecars[0].ops("/metrics").unwrap();
    let operations = include_str!("../../../docs/OPERATIONS.md");
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 20, "{metrics}");
    let unknown = |name: &&&str| !operations.contains(&format!("| `{name}` |"));
    let unknown: Vec<_> = names.iter().filter(unknown).collect();
    assert!(unknown.is_empty(), "not in docs/OPERATIONS.md: {unknown:?}");
}
