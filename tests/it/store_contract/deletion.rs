//! A deleted tenant is gone with all that it had, and nothing else is.

use keystile::store::{KeyCommit, TenantCommit};

use super::world::*;

/// Three keys, the last one revoked.
async fn fill(store: &Shared, of: &str, first: u64) {
    for number in first..first + 3 {
        store.commit_key(new_key(of, number)).await.unwrap();
    }
    let last = new_key(of, first + 2);
    store.commit_key(revoke(&last)).await.unwrap();
}

fn under_new_data_key(mut commit: TenantCommit) -> TenantCommit {
    commit.row.dek_id = DEK + 1;
    commit.row.data_dek = b"another data key".to_vec();
    commit
}

pub(super) async fn a_deleted_tenant_leaves_nothing_and_can_be_made_again(store: Shared) {
    let ids = ["acme"];
    let empty = contents(&store, &ids).await;
    with_tenants(&store, &ids).await;
    fill(&store, "acme", 1).await;
    store
        .delete_tenant(&tenant("acme"), DEK, 1.into())
        .await
        .unwrap();
    assert_eq!(contents(&store, &ids).await, empty);
    let again = store.delete_tenant(&tenant("acme"), DEK, 1.into()).await;
    assert_eq!(word(again), "NotFound");

    let made = under_new_data_key(new_tenant("acme"));
    store.commit_tenant(made.clone()).await.unwrap();
    assert_eq!(store.tenant(&tenant("acme")).await.unwrap(), Some(made.row));
    let log = texts_of_audit(&store, "acme").await;
    assert_eq!(log, vec![(1, "make acme".to_owned())]);
    // The same key and the same token, for example an imported one, are free again.
    let key: KeyCommit = KeyCommit {
        dek_id: DEK + 1,
        ..new_key("acme", 1)
    };
    store.commit_key(key).await.unwrap();
    let live = store.live_keys(&tenant("acme"), ALICE).await.unwrap();
    assert_eq!(live, (1, 1));
}

pub(super) async fn a_deleted_tenant_takes_nothing_of_a_neighbour(store: Shared) {
    // Ids that begin alike, before and after it in the order of bytes.
    let ids = ["a", "acm", "acme-1", "acme0", "acmf"];
    with_tenants(&store, &ids).await;
    for (first, id) in (10..).step_by(4).zip(&ids) {
        fill(&store, id, first).await;
    }
    let before = contents(&store, &ids).await;
    with_tenants(&store, &["acme"]).await;
    fill(&store, "acme", 1).await;
    assert_ne!(contents(&store, &ids).await, before);
    store
        .delete_tenant(&tenant("acme"), DEK, 1.into())
        .await
        .unwrap();
    assert_eq!(contents(&store, &ids).await, before);
}

pub(super) async fn what_was_sealed_for_a_deleted_tenant_does_not_reach_its_successor(
    store: Shared,
) {
    let ids = ["acme"];
    with_tenants(&store, &ids).await;
    store
        .delete_tenant(&tenant("acme"), DEK, 1.into())
        .await
        .unwrap();
    let made = under_new_data_key(new_tenant("acme"));
    store.commit_tenant(made).await.unwrap();

    let before = contents(&store, &ids).await;
    let late_key = store.commit_key(new_key("acme", 1)).await;
    assert_eq!(word(late_key), "NotFound");
    let late_delete = store.delete_tenant(&tenant("acme"), DEK, 1.into()).await;
    assert_eq!(word(late_delete), "NotFound");
    let late_change = store.commit_tenant(suspend(&new_tenant("acme"))).await;
    assert_eq!(word(late_change), "NotFound");
    assert_eq!(contents(&store, &ids).await, before);
}
