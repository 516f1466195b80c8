//! Many tenants, many keys: loaded in time, and paged through while they change.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use keystile::crypto::envelope::DataKey;
use keystile::domain::key::Key;
use keystile::domain::name::{KeyId, TenantId};
use keystile::proto::admin as pb;
use keystile::store::redb::EmbeddedStore;
use keystile::store::{CountChange, Expected, KeyCommit, Store, records};

use super::server::AdminServer;
use super::{ROOT, create, create_key};
use crate::harness::{ALONE, Stopwatch};

async fn on_disk(folder: &tempfile::TempDir) -> (AdminServer, Arc<dyn Store>) {
    let path = folder.path().join("keystile.redb");
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&path).unwrap());
    let server = AdminServer::over(Arc::clone(&store), true).await;
    (server.with_tenant("platform").await, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tenants_with_a_key_each_load_within_a_minute() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = on_disk(&folder).await;
    let (mut tenants, mut keys) = (server.tenants(ROOT), server.keys(ROOT));
    let begun = Stopwatch::start(&[]);
    let ids: Vec<_> = (0..10_000).map(|number| format!("t{number}")).collect();
    for ids in ids.chunks(1000) {
        let requests = ids.iter().map(|id| create(id)).collect();
        let batch = pb::BatchCreateTenantsRequest { requests };
        let made = tenants
            .batch_create_tenants(batch)
            .await
            .unwrap()
            .into_inner();
        assert!(made.results.iter().all(|made| matches!(
            made.result,
            Some(pb::batch_create_tenants_result::Result::Tenant(_))
        )));
        let requests = ids.iter().map(|id| create_key(id, "first")).collect();
        let parent = "tenants/-".into();
        let batch = pb::BatchCreateKeysRequest { parent, requests };
        let made = keys.batch_create_keys(batch).await.unwrap().into_inner();
        assert!(made.results.iter().all(|made| matches!(
            made.result,
            Some(pb::batch_create_keys_result::Result::Created(_))
        )));
    }
    let took = begun.unhurried();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// By how much a tenant with its key takes longer than the disk takes for two commits: the median of 50.
async fn median_of_fifty(server: &AdminServer, disk: &mut File, round: usize) -> Duration {
    let (mut tenants, mut keys) = (server.tenants(ROOT), server.keys(ROOT));
    let mut times = Vec::new();
    for number in 0..50 {
        let id = format!("t{round}-{number}");
        let begun = Stopwatch::start(&[]);
        tenants.create_tenant(create(&id)).await.unwrap();
        keys.create_key(create_key(&id, "first")).await.unwrap();
        let took = begun.unhurried();
        let begun = Stopwatch::start(&[]);
        for _ in 0..2 {
            disk.write_all(&[0; 4096]).unwrap();
            disk.sync_data().unwrap();
        }
        times.push(took.saturating_sub(begun.unhurried()));
    }
    times.sort();
    times[25]
}

#[tokio::test]
async fn one_tenant_with_its_first_key_takes_less_than_20_ms() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = on_disk(&folder).await;
    // Without what a busy processor and a busy disk take; and of some rounds the best.
    let mut disk = File::create(folder.path().join("disk")).unwrap();
    let mut best = Duration::MAX;
    for round in 0..20 {
        best = best.min(median_of_fifty(&server, &mut disk, round).await);
        if best < Duration::from_millis(20) {
            return;
        }
    }
    panic!("{best:?}");
}

const STABLE: usize = 50_000;

fn bare_commit(data_key: &DataKey, key: &Key) -> KeyCommit {
    KeyCommit {
        tenant: key.tenant.clone(),
        dek_id: data_key.id(),
        expected: Expected::New,
        row: records::seal_key(data_key, key, &mut rand::rng()),
        index: Vec::new(),
        drop: Vec::new(),
        owner_tag: [0; 16],
        count: CountChange::None,
        audit: Vec::new(),
        request: None,
    }
}

/// Puts copies of a key into its tenant, as the registry would but for counters and tokens.
async fn fill(
    server: &AdminServer,
    store: &Arc<dyn Store>,
    like: &pb::Key,
) -> BTreeMap<String, u32> {
    let tenant = TenantId::parse(&like.tenant_id).unwrap();
    let row = store.tenant(&tenant).await.unwrap().unwrap();
    let (_, data_key) = records::open_tenant(&server.data, &row).unwrap();
    let id = KeyId::parse(&like.key_id).unwrap();
    let data_key = Arc::new(data_key);
    let key = server.registry.key(&tenant, &id).await.unwrap();
    let mut seen = BTreeMap::new();
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..STABLE {
        // Spread over the ids that the registry makes, so that new ones come between.
        let text = format!(
            "{:05x}stable{number:05}",
            number.wrapping_mul(7919) % 0xfffff
        );
        let id = KeyId::parse(&text).unwrap();
        seen.insert(text, 0);
        let (store, data_key) = (Arc::clone(store), Arc::clone(&data_key));
        let key = Key { id, ..key.clone() };
        under_way.spawn(async move { store.commit_key(bare_commit(&data_key, &key)).await });
        if under_way.len() >= 256 {
            under_way.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap().unwrap();
    }
    seen
}

/// Makes keys and revokes every other one, until it is stopped; answers how many it made.
async fn churn(server: &AdminServer, stop: &tokio::sync::Notify) -> usize {
    let mut keys = server.keys(ROOT);
    let mut made = 0;
    let work = async {
        loop {
            let parent = "tenants/acme".to_owned();
            let requests = vec![create_key("acme", "passing"); 20];
            let batch = pb::BatchCreateKeysRequest { parent, requests };
            let answer = keys.batch_create_keys(batch).await.unwrap().into_inner();
            for result in answer.results.into_iter().step_by(2) {
                let Some(pb::batch_create_keys_result::Result::Created(created)) = result.result
                else {
                    panic!("{result:?}")
                };
                let name = created.key.unwrap().name;
                let revoke = pb::RevokeKeyRequest {
                    name,
                    ..Default::default()
                };
                keys.revoke_key(revoke).await.unwrap();
            }
            made += 20;
        }
    };
    tokio::select! {
        _ = work => {}
        () = stop.notified() => {}
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paging_through_fifty_thousand_keys_misses_and_doubles_none_while_others_come_and_go() {
    let _alone = ALONE.lock().await;
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().unwrap());
    let server = AdminServer::over(Arc::clone(&store), true).await;
    let server = server.with_tenant("platform").await;
    server
        .tenants(ROOT)
        .create_tenant(create("acme"))
        .await
        .unwrap();
    let first = server
        .keys(ROOT)
        .create_key(create_key("acme", "stable"))
        .await
        .unwrap();
    let mut seen = fill(&server, &store, &first.into_inner().key.unwrap()).await;

    let stop = tokio::sync::Notify::new();
    let pages = async {
        let (mut keys, mut page_token) = (server.keys(ROOT), String::new());
        loop {
            let list = pb::ListKeysRequest {
                parent: "tenants/acme".into(),
                page_size: 1000,
                page_token,
                ..Default::default()
            };
            let page = keys.list_keys(list).await.unwrap().into_inner();
            for key in page.keys {
                if let Some(times) = seen.get_mut(&key.key_id) {
                    *times += 1;
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        stop.notify_one();
    };
    let ((), made) = tokio::join!(pages, churn(&server, &stop));
    assert_eq!(seen.len(), STABLE);
    let wrong: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(made > 0, "keys came and went meanwhile");
}
