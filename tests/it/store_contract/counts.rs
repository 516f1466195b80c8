//! Live keys are counted exactly, whoever creates and revokes at the same time.

use keystile::store::{CountChange, KeyCommit};

use super::world::*;

fn limited(of: &str, number: u64, per_owner: u64, total: Option<u64>) -> KeyCommit {
    let mut commit = new_key(of, number);
    commit.count = CountChange::Add { per_owner, total };
    commit
}

async fn live(store: &Shared, of: &str) -> (u64, u64) {
    store.live_keys(&tenant(of), ALICE).await.unwrap()
}

pub(super) async fn a_limit_of_ten_lets_ten_of_sixteen_concurrent_creates_through(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let commits = (0..16).map(|n| limited("acme", n, 10, None)).collect();
    let mut words: Vec<_> = commit_all(&store, commits)
        .await
        .into_iter()
        .map(word)
        .collect();
    words.sort();
    let refused = "CountLimit { scope: Owner, limit: 10, current: 10 }";
    assert_eq!(words[..6], vec![refused.to_owned(); 6]);
    assert_eq!(words[6..], vec!["done".to_owned(); 10]);
    assert_eq!(live(&store, "acme").await, (10, 10));
    let rows = store.keys(&tenant("acme"), None, 100).await.unwrap();
    assert_eq!(rows.len(), 10);
}

pub(super) async fn the_total_limit_holds_over_tenants(store: Shared) {
    let ids = ["a", "b", "c", "d"];
    with_tenants(&store, &ids).await;
    let commits = (0..16u64)
        .zip(ids.iter().cycle())
        .map(|(n, id)| limited(id, n, 10, Some(7)))
        .collect();
    let results = commit_all(&store, commits).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 7);
    let refused = "CountLimit { scope: Total, limit: 7, current: 7 }";
    let words = results.into_iter().map(word);
    assert_eq!(words.filter(|word| word == refused).count(), 9);
    let mut sum = 0;
    for id in ids {
        let (of_owner, total) = live(&store, id).await;
        assert_eq!(total, 7);
        sum += of_owner;
    }
    assert_eq!(sum, 7);
}

pub(super) async fn a_revoked_key_makes_room(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    for number in 0..3 {
        let commit = limited("acme", number, 3, Some(3));
        store.commit_key(commit).await.unwrap();
    }
    assert!(
        store
            .commit_key(limited("acme", 3, 3, Some(3)))
            .await
            .is_err()
    );
    store.commit_key(revoke(&new_key("acme", 1))).await.unwrap();
    assert_eq!(live(&store, "acme").await, (2, 2));
    store
        .commit_key(limited("acme", 3, 3, Some(3)))
        .await
        .unwrap();
    assert_eq!(live(&store, "acme").await, (3, 3));
}

pub(super) async fn an_owner_is_counted_within_its_tenant(store: Shared) {
    with_tenants(&store, &["acme", "globex"]).await;
    store.commit_key(limited("acme", 1, 1, None)).await.unwrap();
    store
        .commit_key(limited("globex", 2, 1, None))
        .await
        .unwrap();
    let mut bobs = limited("acme", 3, 1, None);
    bobs.owner_tag = BOB;
    store.commit_key(bobs).await.unwrap();

    let mut uncounted = new_key("acme", 4);
    uncounted.count = CountChange::None;
    store.commit_key(uncounted).await.unwrap();

    let acme = tenant("acme");
    assert_eq!(live(&store, "acme").await, (1, 3));
    assert_eq!(live(&store, "globex").await, (1, 3));
    assert_eq!(store.live_keys(&acme, BOB).await.unwrap(), (1, 3));
    assert_eq!(store.live_keys(&acme, [9; 16]).await.unwrap(), (0, 3));
}

pub(super) async fn a_key_that_is_not_counted_can_be_revoked_and_no_count_goes_below_none(
    store: Shared,
) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let mut of_bob = revoke(&new_key("acme", 1));
    of_bob.owner_tag = BOB;
    store.commit_key(of_bob).await.unwrap();
    let index = store.index(lookup(1)).await.unwrap().unwrap();
    assert_eq!(index.body, b"revoked");
    let bobs = store.live_keys(&tenant("acme"), BOB).await.unwrap();
    assert_eq!(bobs, (0, 0));
}
