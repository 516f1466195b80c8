//! A tenant that is made again under the name of a deleted one starts with whole limits, however they are counted.

use keystile::limiter::{Limiter, Mode, Subject};
use keystile::store::redb::EmbeddedStore;
use keystile::store::redis::Topology;

use super::*;
use crate::harness::redis::RedisServer;

/// How many of so many requests pass for a incarnation of tenant `acme`, which may send five a day.
async fn passed(limiter: &Limiter, incarnation: u64, requests: usize) -> usize {
    let tenant = TenantId::parse("acme").unwrap();
    let tenant_limits = limits("5/h", "5/day");
    let subject = Subject {
        tenant: &tenant,
        incarnation,
        tenant_limits: &tenant_limits,
        key: "thekey",
        key_limits: &Limits::default(),
    };
    let mut passed = 0;
    for _ in 0..requests {
        let mut tries = 0..ATTEMPTS;
        let verdict = loop {
            match limiter.check(&subject, 1, None).await {
                // As in `ask`.
                Err(LimiterDown::Late) if tries.next().is_some() => {}
                decided => break decided.unwrap(),
            }
        };
        passed += usize::from(verdict.refused.is_none());
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_deleted_tenant_has_used_is_not_charged_to_its_successor() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    for mode in [Mode::Strict, Mode::Leased, Mode::Local] {
        let embedded = Arc::new(EmbeddedStore::in_memory().unwrap());
        for (what, process) in [
            ("embedded", Process::over(embedded, mode, JoinSet::new())),
            ("redis", Process::start(&topology, &prefix(), mode).await),
        ] {
            let case = format!("{what}, {mode:?}");
            assert_eq!(passed(&process.limiter, 1, 8).await, 5, "{case}");
            assert_eq!(passed(&process.limiter, 2, 8).await, 5, "{case}: again");
            // What the deleted one is charged late is not its successor's either.
            assert_eq!(passed(&process.limiter, 1, 2).await, 0, "{case}");
            assert_eq!(passed(&process.limiter, 3, 8).await, 5, "{case}: once more");
        }
    }
}
