//! The limiter on real stores: what is counted once for all, whoever counts.

mod outage;
mod remade;
mod shared;
mod siblings;
mod together;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keystile::clock::SystemClock;
use keystile::domain::limit::{Limits, Quota, Rate};
use keystile::domain::name::TenantId;
use keystile::limiter::{Limiter, Mode, OnOutage, Settings, Subject, Verdict};
use keystile::store::Store;
use keystile::store::redis;
use keystile::store::redis::{Access, RedisStore, Topology};
use tokio::task::JoinSet;

use crate::harness::{pass, wait_until};
use crate::store_contract::redis_address;

/// Above what a check waits for the store by itself. On a busy machine both times end late, and the check's is still
/// looked at first: only one that waits for something else is found here.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// A process with a limiter.
pub(crate) struct Process {
    pub(crate) limiter: Arc<Limiter>,
    tasks: JoinSet<()>,
}

impl Process {
    /// On a store in Redis that it shares with those of the same prefix.
    pub(crate) async fn start(topology: &Topology, prefix: &str, mode: Mode) -> Self {
        let settings = redis::Settings {
            topology: topology.clone(),
            prefix: prefix.to_owned(),
            ..redis::Settings::standalone(redis_address(1))
        };
        let store = RedisStore::new(settings, Access::Read);
        store.connect().await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&store).run());
        Self::over(store, mode, tasks)
    }

    pub(crate) fn over(store: Arc<dyn Store>, mode: Mode, mut tasks: JoinSet<()>) -> Self {
        let settings = Settings {
            mode,
            // On a busy machine a store may be silent for so long that it counts as gone.
            on_outage: OnOutage::Deny,
        };
        let limiter = Limiter::new(store, Arc::new(SystemClock), settings);
        tasks.spawn(Arc::clone(&limiter).run());
        Self { limiter, tasks }
    }

    /// Ends it without a word.
    pub(crate) fn crash(&mut self) {
        self.tasks.abort_all();
    }
}

pub(crate) fn prefix() -> String {
    format!("t{:x}:", rand::random::<u64>())
}

pub(crate) fn limits(rate: &str, quota: &str) -> Limits {
    Limits {
        rate: (!rate.is_empty()).then(|| Rate::parse(rate).unwrap()),
        quota: (!quota.is_empty()).then(|| Quota::parse(quota).unwrap()),
    }
}

/// Asks for a request of a key of tenant `acme`.
pub(crate) async fn ask(
    limiter: &Limiter,
    key: &str,
    (tenant_limits, key_limits): (&Limits, &Limits),
    cost: u64,
) -> Verdict {
    let tenant = TenantId::parse("acme").unwrap();
    let subject = Subject {
        tenant: &tenant,
        incarnation: 1,
        tenant_limits,
        key,
        key_limits,
    };
    decide(limiter, &subject, cost).await
}

/// Asks until the store has answered: on a machine that is busy with tests it may be late.
async fn decide(limiter: &Limiter, subject: &Subject<'_>, cost: u64) -> Verdict {
    wait_until("an answer of the store", async || {
        tokio::select! {
            biased;
            checked = limiter.check(subject, cost, None) => checked,
            () = pass(ANSWERED_WITHIN, "the bound of a check") => panic!("a check that hangs"),
        }
    })
    .await
}

/// How many calls came too late, or not at all: what they charged did not pass.
pub(crate) fn late(processes: &[Process]) -> usize {
    let failed = |process: &Process| process.limiter.counters().failed.load(Ordering::Relaxed);
    let all: u64 = processes.iter().map(failed).sum();
    usize::try_from(all).unwrap()
}

/// Sends so many requests of a cost at once, dealt out to the processes; how many pass.
pub(crate) async fn storm(
    processes: &[Process],
    requests: usize,
    limits: (Limits, Limits),
    cost: u64,
) -> usize {
    let mut tasks = JoinSet::new();
    for at in 0..requests {
        let limiter = Arc::clone(&processes[at % processes.len()].limiter);
        tasks.spawn(async move {
            let verdict = ask(&limiter, "thekey", (&limits.0, &limits.1), cost).await;
            verdict.refused.is_none()
        });
    }
    let passed = tasks.join_all().await;
    passed.into_iter().filter(|passed| *passed).count()
}
