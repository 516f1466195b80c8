//! A writer that dies between any two commands leaves a state that is safe at once and whole soon after.
//!
//! Each change is made through a proxy that cuts the writer off before or after its nth command, for every n. What
//! the change should have led to is asked of the embedded store, which does it in one transaction.

use std::sync::Arc;

use keystile::store::redb::EmbeddedStore;
use keystile::store::redis::{Access, RedisStore, Settings};
use keystile::store::{CommitError, CountChange, Expected, KeyCommit};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::harness::redis::RedisServer;
use crate::harness::redis::proxy::{Cut, Proxy};
use crate::harness::{PATIENCE, wait_until};
use crate::store_contract::redis_address;
use crate::store_contract::world::*;

/// More commands than any change has.
const COMMANDS_MAX: i64 = 16;
/// How many cases run side by side.
const AT_ONCE: usize = 8;

/// The changes, each of a world with tenant `acme` and its keys 1 (live), 2 (revoked) and 4 (live, rotated once).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    CreateTenant,
    UpdateTenant,
    DeleteTenant,
    CreateKey,
    UpdateKey,
    RotateKey,
    RevokeKey,
    RevokeRotated,
}

const ALL: [Operation; 8] = [
    Operation::CreateTenant,
    Operation::UpdateTenant,
    Operation::DeleteTenant,
    Operation::CreateKey,
    Operation::UpdateKey,
    Operation::RotateKey,
    Operation::RevokeKey,
    Operation::RevokeRotated,
];

/// Version `version` of key 4, with a generation that retires and one that is current.
fn rotated(version: u64, [retiring, current]: [u64; 2], forgotten: &[u64]) -> KeyCommit {
    let mut commit = new_key("acme", 4);
    commit.expected = Expected::Version((version - 1).into());
    commit.row.version = version.into();
    commit.row.body = format!("key 4 version {version}").into();
    commit.index = vec![
        entry(retiring, version, "retiring"),
        entry(current, version, "current"),
    ];
    commit.drop = forgotten.iter().map(|number| lookup(*number)).collect();
    commit.count = CountChange::None;
    commit
}

async fn begin(store: &Shared) {
    with_tenants(store, &["acme"]).await;
    for number in [1, 2] {
        store.commit_key(new_key("acme", number)).await.unwrap();
    }
    store.commit_key(revoke(&new_key("acme", 2))).await.unwrap();
    let mut first = new_key("acme", 4);
    first.index = vec![entry(7, 1, "current")];
    store.commit_key(first).await.unwrap();
    store.commit_key(rotated(2, [7, 8], &[])).await.unwrap();
}

impl Operation {
    async fn make(self, store: &Shared) -> Result<(), CommitError> {
        let mut update = revoke(&new_key("acme", 1));
        update.count = CountChange::None;
        update.row.body = b"changed".to_vec();
        update.index[0].body = b"changed".to_vec();
        update.index[0].revoked = false;
        match self {
            Self::CreateTenant => store.commit_tenant(new_tenant("globex")).await,
            Self::UpdateTenant => store.commit_tenant(suspend(&new_tenant("acme"))).await,
            Self::DeleteTenant => store.delete_tenant(&tenant("acme"), DEK, 1.into()).await,
            Self::CreateKey => store.commit_key(new_key("acme", 3)).await,
            Self::UpdateKey => store.commit_key(update).await,
            // The third generation comes, the first is forgotten.
            Self::RotateKey => store.commit_key(rotated(3, [8, 9], &[7])).await,
            Self::RevokeRotated => {
                let mut commit = rotated(3, [7, 8], &[]);
                commit.row.body = b"revoked".to_vec();
                for entry in &mut commit.index {
                    entry.body = b"revoked".to_vec();
                    entry.revoked = true;
                }
                commit.count = CountChange::Remove;
                store.commit_key(commit).await
            }
            Self::RevokeKey => store.commit_key(revoke(&new_key("acme", 1))).await,
        }
    }

    /// All that a store shows without and with the change.
    async fn outcomes(self) -> [Contents; 2] {
        let store: Shared = Arc::new(EmbeddedStore::in_memory().unwrap());
        begin(&store).await;
        let before = contents(&store, &TENANTS).await;
        self.make(&store).await.unwrap();
        [before, contents(&store, &TENANTS).await]
    }
}

const TENANTS: [&str; 2] = ["acme", "globex"];

fn start(port: u16, prefix: &str) -> (Arc<RedisStore>, JoinHandle<()>) {
    let settings = Settings {
        prefix: prefix.to_owned(),
        ..Settings::standalone(redis_address(port))
    };
    let store = RedisStore::new(settings, Access::Write);
    let running = tokio::spawn(Arc::clone(&store).run());
    (store, running)
}

/// Holds at every moment: what is revoked opens nothing, and nothing opens that is not there.
async fn assert_safe(store: &Shared, case: &str) {
    let acme = tenant("acme");
    // Keys, and where they are found.
    for (number, place) in [(1, 1), (2, 2), (3, 3), (4, 7), (4, 8)] {
        // The truth first: it may only be behind the index, never before it, where a revocation is concerned.
        let key = store.key(&acme, &key(number)).await.unwrap();
        let index = store.index(lookup(place)).await.unwrap();
        let is_revoked = key.as_ref().is_some_and(|key| key.body == b"revoked");
        if is_revoked {
            let index = index.as_ref().unwrap();
            assert_eq!(index.body, b"revoked", "{case}: key {number} is revoked");
        }
        let tenant = store.tenant(&acme).await.unwrap();
        if index.is_some() && tenant.is_some() {
            assert!(key.is_some(), "{case}: an entry without a key {number}");
        }
    }
}

/// Answers whether the writer was cut off.
async fn interrupt(port: u16, operation: Operation, number: i64, cut: Cut) -> bool {
    let case = format!("{operation:?} cut {cut:?} command {number}");
    let prefix = format!("{operation:?}{cut:?}{number}:");
    let (healthy, healthy_runs) = start(port, &prefix);
    healthy.connect().await.unwrap();
    let healthy: Shared = healthy;
    begin(&healthy).await;

    let proxy = Proxy::start(port, cut).await;
    let (writer, writer_runs) = start(proxy.port(), &prefix);
    writer.connect().await.unwrap();
    let writer: Shared = writer;
    proxy.arm(number);
    let ended = async {
        tokio::select! {
            biased;
            answer = operation.make(&writer) => Some(answer),
            () = proxy.cut() => None,
        }
    };
    let answered = timeout(PATIENCE, ended).await;
    let is_cut = proxy.disarm();
    writer_runs.abort();
    let is_done = matches!(answered, Ok(Some(Ok(()))));
    assert!(is_cut || is_done, "{case}: {answered:?}");
    assert_safe(&healthy, &case).await;

    let [before, after] = operation.outcomes().await;
    let expected = format!("{case}: one of\n{before:#?}\nor\n{after:#?}");
    wait_until(&expected, async || {
        let now = contents(&healthy, &TENANTS).await;
        let is_whole = now == after || (!is_done && now == before);
        assert_safe(&healthy, &case).await;
        is_whole.then_some(()).ok_or(now)
    })
    .await;
    healthy_runs.abort();
    is_cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_that_dies_at_any_command_leaves_nothing_half_done() {
    let server = RedisServer::start();
    let port = server.port();
    let mut cases = JoinSet::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for operation in ALL {
        for cut in [Cut::Before, Cut::After] {
            for number in 1..=COMMANDS_MAX {
                let places = Arc::clone(&places);
                cases.spawn(async move {
                    let _place = places.acquire().await.unwrap();
                    (operation, interrupt(port, operation, number, cut).await)
                });
            }
        }
    }
    let mut cuts = Vec::new();
    while let Some(case) = cases.join_next().await {
        cuts.push(case.unwrap());
    }
    for operation in ALL {
        let of = |cut| {
            cuts.iter()
                .filter(|case| **case == (operation, cut))
                .count()
        };
        assert!(
            of(true) >= 6,
            "{operation:?} has too few commands: {}",
            of(true)
        );
        assert!(
            of(false) >= 2,
            "{operation:?} has more commands than were tried"
        );
    }
}
