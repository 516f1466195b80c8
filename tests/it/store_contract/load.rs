//! A store takes a whole platform in one go.

use std::sync::Arc;
use std::time::Duration;

use keystile::store::{CommitError, StoreError};

use super::world::*;
use crate::harness::{PATIENCE, Stopwatch};

const TENANTS: u64 = 10_000;
const LOADERS: usize = 64;
const ATTEMPTS: usize = 20;

/// On a busy machine an answer may be lost, and what it was about is made all the same.
async fn until_made<F: Future<Output = Result<(), CommitError>>>(commit: impl Fn() -> F) {
    let mut lost = false;
    for _ in 0..ATTEMPTS {
        match commit().await {
            Err(CommitError::Store(StoreError::Unavailable(_))) => lost = true,
            Err(CommitError::Exists | CommitError::Conflict) if lost => return,
            made => return made.unwrap(),
        }
    }
    panic!("lost again and again");
}

pub(super) async fn ten_thousand_tenants_with_a_key_each_load_within_a_minute(store: Shared) {
    let loaders: Vec<_> = (0..TENANTS)
        .take(LOADERS)
        .map(|loader| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in (loader..TENANTS).step_by(LOADERS) {
                    let id = format!("tenant-{number}");
                    until_made(async || store.commit_tenant(new_tenant(&id)).await).await;
                    until_made(async || store.commit_key(new_key(&id, number)).await).await;
                }
            })
        })
        .collect();
    let all = async {
        for loader in loaders {
            loader.await.unwrap();
        }
    };
    let begun = Stopwatch::start(&[]);
    tokio::time::timeout(10 * PATIENCE, all)
        .await
        .expect("an end");
    let took = begun.unhurried();
    assert!(
        took < Duration::from_secs(60),
        "10,000 tenants took {took:?}"
    );
    let live = store.live_keys(&tenant("tenant-0"), ALICE).await.unwrap();
    assert_eq!(live, (1, TENANTS));
}
