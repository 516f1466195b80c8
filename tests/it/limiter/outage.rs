//! The store goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use keystile::clock::SystemClock;
use keystile::domain::limit::Limits;
use keystile::domain::name::TenantId;
use keystile::limiter::{Limiter, Mode, OnOutage, Settings, Subject};
use keystile::store::redis::Topology;

use super::{Process, ask, late, limits, prefix, storm};
use crate::harness::redis::{Options, RedisServer};
use crate::harness::{pass, wait_until};
use crate::store_contract::redis_address;
use crate::support::fault_store::{FaultStore, Mood};

/// A process that goes on with its share of what was left.
async fn start(server: &RedisServer, mode: Mode) -> Process {
    let process = Process::start(&topology(server), &prefix(), mode).await;
    process.limiter.configure(Settings {
        mode,
        on_outage: OnOutage::Local,
    });
    process
}

fn topology(server: &RedisServer) -> Topology {
    Topology::Standalone(redis_address(server.port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_redis_what_was_left_is_shared_out_and_told_when_it_is_back() {
    for mode in [Mode::Strict, Mode::Leased] {
        let mut server = RedisServer::start_with(Options {
            append_only: true,
            ..Options::default()
        });
        let process = [start(&server, mode).await];
        let budget = (limits("1/h burst 100", "1000/month"), Limits::default());
        assert_eq!(storm(&process, 40, budget, 1).await, 40);
        // What came too late on a busy machine may be charged as well.
        let late = late(&process);
        server.kill();
        let alone = storm(&process, 200, budget, 1).await;
        assert!(
            (50..=60).contains(&alone) || late > 0 && alone <= 60,
            "{mode:?}: {alone} of the 60 that were left, {late} late"
        );
        let verdict = ask(&process[0].limiter, "thekey", (&budget.0, &budget.1), 1).await;
        let refusal = verdict.refused.expect("nothing is left");
        assert!(refusal.retry_after > Duration::from_secs(60));
        let state = verdict.states.iter().next().unwrap();
        assert_eq!(
            state.remaining, 0,
            "what the client is told is what it will see"
        );
        server.restart();
        // The debt is told, by itself or with the next request: then nothing is left in Redis either.
        let all_used = 40 + alone..=40 + alone + late;
        wait_until("the debt is told", async || {
            let used = server.cli(&["--scan", "--pattern", "*quota*"]);
            let used = server.cli(&["HGET", used.trim(), "l"]);
            let told = used.trim().parse().ok();
            let is_told = told.is_some_and(|told: usize| all_used.contains(&told));
            is_told.then_some(()).ok_or((mode, used, alone, late))
        })
        .await;
        let rest = storm(&process, 50, budget, 1).await;
        assert!(rest + alone <= 60, "{mode:?}: {rest} and {alone}");
        assert!(
            rest + alone + late >= 60,
            "{mode:?}: {rest}, {alone}, {late} late"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_happens_without_redis_is_the_operators_choice() {
    let mut server = RedisServer::start();
    let process = Process::start(&topology(&server), &prefix(), Mode::Leased).await;
    server.kill();
    let budget = limits("1/h burst 5", "");
    let tenant = TenantId::parse("acme").unwrap();
    for (on_outage, expected) in [
        (OnOutage::Local, [Some(5), Some(15)]),
        (OnOutage::Allow, [Some(20), Some(0)]),
        (OnOutage::Deny, [None, None]),
    ] {
        process.limiter.configure(Settings {
            mode: Mode::Leased,
            on_outage,
        });
        let (mut passed, mut refused, mut down) = (0, 0, 0);
        for _ in 0..20 {
            let subject = Subject {
                tenant: &tenant,
                incarnation: 1,
                tenant_limits: &budget,
                key: match on_outage {
                    OnOutage::Local => "one",
                    OnOutage::Allow | OnOutage::Deny => "another",
                },
                key_limits: &Limits::default(),
            };
            match process.limiter.check(&subject, 1, None).await {
                Ok(verdict) if verdict.refused.is_none() => passed += 1,
                Ok(_) => refused += 1,
                Err(_) => down += 1,
            }
        }
        match expected {
            [Some(passes), Some(refuses)] => assert_eq!((passed, refused), (passes, refuses)),
            _ => assert_eq!(down, 20, "{on_outage:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redis_that_does_not_answer_holds_nobody_up_for_long() {
    let server = RedisServer::start();
    let process = [start(&server, Mode::Strict).await];
    let budget = (limits("1/h burst 100", ""), Limits::default());
    // One after the other: what is known to be left is what the last answer says.
    for _ in 0..10 {
        assert_eq!(storm(&process, 1, budget, 1).await, 1);
    }
    let silent = Duration::from_millis(1_100);
    pass(silent, "a store that has just answered is late, not gone").await;
    server.pause();
    // None of them hangs: `ask` sees to it.
    let passed = storm(&process, 300, budget, 1).await;
    assert!(passed <= 90, "{passed}");
    server.unpause();
}

/// It is charged when the store is back, also where a call that was to tell it got no answer.
#[tokio::test]
async fn what_has_passed_without_the_store_is_charged_though_a_call_is_given_up() {
    let store = FaultStore::new();
    let settings = Settings {
        mode: Mode::Strict,
        on_outage: OnOutage::Local,
    };
    let limiter = Limiter::new(Arc::clone(&store) as _, Arc::new(SystemClock), settings);
    let budget = limits("", "20/month");
    let check = async || {
        let tenant = TenantId::parse("acme").unwrap();
        let subject = Subject {
            tenant: &tenant,
            incarnation: 1,
            tenant_limits: &budget,
            key: "thekey",
            key_limits: &Limits::default(),
        };
        limiter.check(&subject, 1, None).await
    };
    let remaining = async || {
        let verdict = check().await.unwrap();
        assert!(verdict.refused.is_none());
        verdict.states.iter().next().unwrap().remaining
    };
    assert_eq!(remaining().await, 19);
    store.be(Mood::Failing);
    for left in [18, 17, 16] {
        assert_eq!(remaining().await, left, "of its share");
    }
    store.be(Mood::Hanging);
    // Late, or gone: then it passes as well.
    let passed = u64::from(check().await.is_ok());
    store.be(Mood::Well);
    assert_eq!(remaining().await, 15 - passed);
}
