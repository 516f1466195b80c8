//! A store takes a whole platform in one go.

use std::sync::Arc;
use std::time::Duration;

use super::world::*;

const TENANTS: u64 = 10_000;
const LOADERS: usize = 64;

pub(super) async fn ten_thousand_tenants_with_a_key_each_load_within_a_minute(store: Shared) {
    let loaders: Vec<_> = (0..TENANTS)
        .take(LOADERS)
        .map(|loader| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in (loader..TENANTS).step_by(LOADERS) {
                    let id = format!("tenant-{number}");
                    store.commit_tenant(new_tenant(&id)).await.unwrap();
                    store.commit_key(new_key(&id, number)).await.unwrap();
                }
            })
        })
        .collect();
    let all = async {
        for loader in loaders {
            loader.await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("10,000 tenants must load within a minute");
    let live = store.live_keys(&tenant("tenant-0"), ALICE).await.unwrap();
    assert_eq!(live, (1, TENANTS));
}
