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
        let verdict = decide(limiter, &subject, 1).await;
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
            let check = async |making, requests, expected| {
                let passed = passed(&process.limiter, making, requests).await;
                // What a busy machine answers too late is charged and does not pass.
                let late = late(std::slice::from_ref(&process));
                let fits = passed <= expected && passed + late >= expected;
                assert!(fits, "{case}, {making}: {passed}, {late} late");
            };
            check(1, 8, 5).await;
            check(2, 8, 5).await;
            // What the deleted one is charged late is not its successor's either.
            check(1, 2, 0).await;
            check(3, 8, 5).await;
        }
    }
}
