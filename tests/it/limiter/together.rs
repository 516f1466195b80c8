//! Processes that share a budget.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keystile::domain::limit::{LimitName, Limits};
use keystile::limiter::{Counters, Mode};
use keystile::store::redb::EmbeddedStore;
use keystile::store::redis::Topology;
use tokio::task::JoinSet;

use super::{Process, ask, late, limits, prefix, storm};
use crate::harness::redis::RedisServer;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::RedisSentinel;
use crate::harness::{pass, wait_for, wait_until};
use crate::store_contract::{cluster_topology, redis_address, sentinel_topology};

const REQUESTS: usize = 2_000;

async fn processes(topology: &Topology, mode: Mode) -> Vec<Process> {
    let prefix = prefix();
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Process::start(topology, &prefix, mode).await);
    }
    all
}

/// How often less may pass than should.
const TRIES: usize = 5;

/// What a process leases and does not use within a second counts as spent, and a busy machine may keep it from running
/// for so long: not each time.
async fn at_least<F: Future<Output = usize>>(least: usize, mut passed: impl FnMut() -> F) {
    let mut found = Vec::new();
    while found.len() < TRIES {
        let passed = passed().await;
        if passed >= least {
            return;
        }
        found.push(passed);
    }
    panic!("{found:?}, each less than {least}");
}

fn standalone(server: &RedisServer) -> Topology {
    Topology::Standalone(redis_address(server.port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_budget_of_100_strict_lets_exactly_100_pass_and_leased_no_more_and_at_least_90() {
    let server = RedisServer::start();
    for (mode, least) in [(Mode::Strict, 100), (Mode::Leased, 90)] {
        for (rate, quota) in [
            ("1/h burst 100", ""),
            ("", "100/month"),
            ("1/h burst 100", "100/day"),
        ] {
            at_least(least, async || {
                let all = processes(&standalone(&server), mode).await;
                let budget = (limits(rate, quota), Limits::default());
                let passed = storm(&all, REQUESTS, budget, 1).await;
                assert!(passed <= 100, "{mode:?} {rate} {quota}: {passed}");
                passed + late(&all)
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_crashes_takes_no_more_with_it_than_it_held() {
    let server = RedisServer::start();
    at_least(90, async || {
        let mut all = processes(&standalone(&server), Mode::Leased).await;
        let budget = (limits("1/h burst 100", ""), Limits::default());
        // Slowly at first, so that there are slices.
        let first = storm(&all, 20, budget, 1).await;
        let mut gone = all.pop().unwrap();
        gone.crash();
        let passed = first + storm(&all, REQUESTS, budget, 1).await;
        let longer = Duration::from_millis(2_500);
        pass(longer, "its lease ends in Redis, and counts as spent").await;
        let passed = passed + storm(&all, REQUESTS, budget, 1).await;
        assert!(passed <= 100, "{passed}");
        passed + late(&all)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tenant_and_key_are_charged_together_or_not_at_all_across_a_cluster() {
    let servers = RedisCluster::start();
    for mode in [Mode::Strict, Mode::Leased] {
        let all = processes(&cluster_topology(&servers), mode).await;
        let tenant = limits("1/h burst 60", "1000/day");
        let key = limits("1/h burst 20", "");
        // Of weight 4: the key has room for five.
        let passed = storm(&all, 200, (tenant, key), 4).await;
        assert_eq!(passed, 5, "{mode:?}");
        // What the key has refused has cost the tenant nothing: 60 - 20 are left for its other keys.
        let mut rest = 0;
        for _ in 0..50 {
            let limits = (&tenant, &Limits::default());
            let verdict = ask(&all[0].limiter, "another", limits, 1).await;
            rest += usize::from(verdict.refused.is_none());
            if let Some(refusal) = verdict.refused {
                assert_eq!(refusal.limit, LimitName::TenantRate);
            }
        }
        let least = if mode == Mode::Strict { 40 } else { 36 };
        assert!((least..=40).contains(&rest), "{mode:?}: {rest}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hot_tenant_costs_few_commands() {
    let server = RedisServer::start();
    let prefix = prefix();
    let mut tasks = JoinSet::new();
    let budget = limits("1000000/s", "");
    let begun = Instant::now();
    let mut all = Vec::new();
    for _ in 0..2 {
        let process = Process::start(&standalone(&server), &prefix, Mode::Leased).await;
        let limiter = Arc::clone(&process.limiter);
        all.push(process);
        tasks.spawn(async move {
            let mut passed = 0;
            // For a while, and on a slow machine for as long as it takes to be a load.
            while begun.elapsed() < Duration::from_secs(2) || passed <= 10_000 {
                for _ in 0..100 {
                    let limits = (&budget, &Limits::default());
                    passed += u64::from(ask(&limiter, "k", limits, 1).await.refused.is_none());
                }
                tokio::task::yield_now().await;
            }
            passed
        });
    }
    let passed: u64 = tasks.join_all().await.into_iter().sum();
    let calls = server.calls();
    let scripts = calls.get("evalsha").copied().unwrap_or(0);
    let seconds = begun.elapsed().as_secs();
    assert!(
        scripts < 300 * seconds,
        "{scripts} calls in {seconds} s for {passed} requests"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_that_is_changed_holds_at_once_and_what_is_used_stays_used() {
    let server = RedisServer::start();
    for mode in [Mode::Strict, Mode::Leased, Mode::Local] {
        let process = Process::start(&standalone(&server), &prefix(), mode).await;
        let process = [process];
        let of = |rate: &str| (limits(rate, ""), Limits::default());
        assert_eq!(
            storm(&process, 50, of("1/h burst 30"), 1).await,
            30,
            "{mode:?}"
        );
        // Raised by 20; then in another period; then lowered below what is used.
        assert_eq!(
            storm(&process, 50, of("1/h burst 50"), 1).await,
            20,
            "{mode:?}"
        );
        assert_eq!(
            storm(&process, 50, of("1/m burst 60"), 1).await,
            10,
            "{mode:?}"
        );
        assert_eq!(
            storm(&process, 50, of("1/h burst 10"), 1).await,
            0,
            "{mode:?}"
        );
    }
}

#[tokio::test]
async fn a_quota_survives_a_restart_of_the_embedded_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let budget = (limits("", "10/day, 100/month"), limits("", "7/month"));
    let mut passed = 0;
    for _ in 0..3 {
        // The file is let go of by the last task that holds it.
        let open = async || EmbeddedStore::open(&path);
        let store = Arc::new(wait_until("the file is free", open).await);
        let process = Process::over(store, Mode::Leased, JoinSet::new());
        let all = [process];
        passed += storm(&all, 4, budget, 1).await;
        let [mut process] = all;
        process.limiter.give_back().await;
        process.crash();
    }
    assert_eq!(passed, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strict_is_one_call_a_check_and_a_slice_is_none() {
    let server = RedisServer::start();
    let tenant = limits("1000000/s", "1000000000/day, 1000000000/month");
    let key = limits("1000000/s", "1000000000/day, 1000000000/month");
    let mut calls = Vec::new();
    for mode in [Mode::Strict, Mode::Leased] {
        let process = Process::start(&standalone(&server), &prefix(), mode).await;
        let check = async || {
            for _ in 0..500 {
                let verdict = ask(&process.limiter, "k", (&tenant, &key), 1).await;
                assert!(verdict.refused.is_none());
            }
        };
        check().await;
        let before = server.calls().remove("evalsha").unwrap_or(0);
        check().await;
        calls.push(server.calls().remove("evalsha").unwrap_or(0) - before);
    }
    assert_eq!(calls[0], 500, "all six limits by one script");
    assert!(calls[1] < 50, "slices ahead of need: {calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_takes_over_counts_on() {
    let mut servers = RedisSentinel::start();
    let topology = sentinel_topology(&servers);
    let prefix = prefix();
    let budget = (limits("1/h burst 200", "100/month"), Limits::default());
    for mode in [Mode::Strict, Mode::Leased] {
        let process = Process::start(&topology, &prefix, mode).await;
        let passed = storm(&[process], 30, budget, 1).await;
        assert_eq!(passed, 30, "{mode:?}");
    }
    wait_for("the replica to have it", || {
        servers.is_in_sync().then_some(())
    });
    servers.kill_primary();
    servers.wait_for_failover();
    let process = Process::start(&topology, &prefix, Mode::Strict).await;
    let passed = storm(&[process], 100, budget, 1).await;
    // The second process ended without a word: what it had leased counts as spent.
    assert!((30..=40).contains(&passed), "{passed}");
}

/// How often the processes have told of 80 and of 100 %.
fn warnings(processes: &[Process]) -> (u64, u64) {
    let count = |which: fn(&Counters) -> &AtomicU64| -> u64 {
        let all = processes
            .iter()
            .map(|process| which(process.limiter.counters()));
        all.map(|count| count.load(Ordering::Relaxed)).sum()
    };
    (
        count(|counters| &counters.quota_nearly_used_up),
        count(|counters| &counters.quota_used_up),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_quota_80_and_100_percent_are_told_once_for_all() {
    let server = RedisServer::start();
    for mode in [Mode::Strict, Mode::Leased, Mode::Local] {
        let mut all = processes(&standalone(&server), mode).await;
        if mode == Mode::Local {
            all.truncate(1);
        }
        let budget = |quota: &str| (limits("", quota), Limits::default());
        let until = async |all: &[Process], expected| {
            wait_until("the warnings", async || {
                let found = warnings(all);
                let is_so = found == expected;
                is_so.then_some(()).ok_or((mode, found, expected))
            })
            .await;
        };
        assert_eq!(
            storm(&all, 79, budget("100/month"), 1).await,
            79,
            "{mode:?}"
        );
        for process in &all {
            process.limiter.give_back().await;
        }
        assert_eq!(warnings(&all), (0, 0), "{mode:?}");
        assert_eq!(storm(&all, 1, budget("100/month"), 1).await, 1);
        until(&all, (1, 0)).await;
        let rest = storm(&all, 200, budget("100/month"), 1).await;
        for process in &all {
            process.limiter.give_back().await;
        }
        let rest = rest + storm(&all, 20, budget("100/month"), 1).await;
        assert_eq!(rest, 20, "{mode:?}");
        until(&all, (1, 1)).await;
        storm(&all, 20, budget("100/month"), 1).await;
        // Who was raised is told again.
        assert_eq!(
            storm(&all, 61, budget("200/month"), 1).await,
            61,
            "{mode:?}"
        );
        until(&all, (2, 1)).await;
    }
}

#[tokio::test]
async fn what_a_limit_in_shadow_would_refuse_passes_and_is_told() {
    let server = RedisServer::start();
    for mode in [Mode::Strict, Mode::Leased, Mode::Local] {
        let process = Process::start(&standalone(&server), &prefix(), mode).await;
        let shadow = limits("1/h burst 3 shadow", "");
        let key = limits("1/h burst 5", "");
        let mut told = 0;
        for at in 0..8 {
            let verdict = ask(&process.limiter, "k", (&shadow, &key), 1).await;
            assert_eq!(
                verdict.refused.is_none(),
                at < 5,
                "{mode:?} {at}: {verdict:?}"
            );
            told += usize::from(verdict.shadow == Some(LimitName::TenantRate));
        }
        assert!((2..=5).contains(&told), "{mode:?}: {told}");
    }
}

/// By how much a time in whole milliseconds may be off.
const SOONER: Duration = Duration::from_millis(10);

#[tokio::test]
async fn a_refused_request_passes_after_the_time_it_is_told_and_not_before() {
    let server = RedisServer::start();
    for mode in [Mode::Strict, Mode::Leased, Mode::Local] {
        let process = Process::start(&standalone(&server), &prefix(), mode).await;
        let budget = limits("2/s burst 2", "");
        let every = Duration::from_millis(1_000);
        // From before the last request that passed.
        let last_passed: Cell<Option<Instant>> = Cell::new(None);
        let asked = async || {
            let begun = Instant::now();
            let limits = (&budget, &Limits::default());
            let refused = ask(&process.limiter, "k", limits, 2).await.refused;
            let since = last_passed.get().map(|last| last.elapsed() + SOONER);
            match &refused {
                None => {
                    assert!(
                        since.is_none_or(|since| since >= every),
                        "{mode:?}: {since:?}"
                    );
                    last_passed.set(Some(begun));
                }
                // What it waits is what is left since.
                Some(refusal) => {
                    let wait = refusal.retry_after;
                    assert!(wait <= every + SOONER, "{mode:?}: {wait:?}");
                    let whole = since.is_none_or(|since| since + wait >= every);
                    assert!(whole, "{mode:?}: {wait:?} and {since:?}");
                }
            }
            refused
        };
        // The first passes, and on a busy machine perhaps some more.
        let refusal = wait_until("a refusal", &asked).await;
        let told = Instant::now();
        let until = |time: Duration| (told + time).saturating_duration_since(Instant::now());
        let sooner = until(
            refusal
                .retry_after
                .saturating_sub(Duration::from_millis(300)),
        );
        pass(sooner, "most of the time that the client is told to wait").await;
        // Unless this machine was busy for as long, too soon.
        if asked().await.is_some() {
            let rest = until(refusal.retry_after + SOONER);
            pass(rest, "the time that the client is told to wait").await;
            // An answer that came late may have been paid for.
            let late = process.limiter.counters().failed.load(Ordering::Relaxed);
            let passes = asked().await.is_none();
            assert!(passes || late > 0, "{mode:?}: {refusal:?}");
        }
    }
}
