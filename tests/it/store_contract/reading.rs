//! What reads promise: order, pages, and the last commit.

use std::sync::Arc;

use keystile::domain::name::{KeyId, TenantId};

use super::world::*;

pub(super) async fn an_empty_store_has_nothing(store: Shared) {
    let acme = tenant("acme");
    assert_eq!(store.tenant(&acme).await.unwrap(), None);
    assert_eq!(store.key(&acme, &key(1)).await.unwrap(), None);
    assert_eq!(store.index(lookup(1)).await.unwrap(), None);
    assert!(store.tenants(None, 10).await.unwrap().is_empty());
    assert!(store.keys(&acme, None, 10).await.unwrap().is_empty());
    assert!(store.audit(&acme, 10).await.unwrap().is_empty());
    assert_eq!(store.live_keys(&acme, ALICE).await.unwrap(), (0, 0));
}

async fn all_tenants(store: &Shared, page_len: usize) -> Vec<TenantId> {
    let mut ids: Vec<TenantId> = Vec::new();
    loop {
        let page = store.tenants(ids.last(), page_len).await.unwrap();
        assert!(page.len() <= page_len);
        if page.is_empty() {
            return ids;
        }
        ids.extend(page.into_iter().map(|row| row.id));
    }
}

pub(super) async fn tenants_come_in_pages_in_the_order_of_their_ids(store: Shared) {
    let sorted = ["0", "a", "a-b", "a0", "aa", "b", "z9"];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.swap(1, 4);
    with_tenants(&store, &shuffled).await;
    for page_len in [1, 2, 3, 7, 100] {
        let ids = all_tenants(&store, page_len).await;
        let ids: Vec<&str> = ids.iter().map(TenantId::as_str).collect();
        assert_eq!(ids, sorted, "pages of {page_len}");
    }
    assert!(store.tenants(None, 0).await.unwrap().is_empty());
    let gone = tenant("a1");
    let after = store.tenants(Some(&gone), 1).await.unwrap();
    assert_eq!(after[0].id, tenant("aa"), "after an id that is not there");
}

async fn all_keys(store: &Shared, of: &str, page_len: usize) -> Vec<KeyId> {
    let of = tenant(of);
    let mut ids: Vec<KeyId> = Vec::new();
    loop {
        let page = store.keys(&of, ids.last(), page_len).await.unwrap();
        assert!(page.len() <= page_len);
        if page.is_empty() {
            return ids;
        }
        ids.extend(page.into_iter().map(|row| row.id));
    }
}

pub(super) async fn a_page_ends_with_the_tenant(store: Shared) {
    with_tenants(&store, &["a", "b", "c"]).await;
    for (of, number) in [("a", 9), ("b", 3), ("b", 1), ("b", 2), ("c", 0)] {
        store.commit_key(new_key(of, number)).await.unwrap();
    }
    let expected = vec![key(1), key(2), key(3)];
    for page_len in [1, 2, 3, 100] {
        assert_eq!(all_keys(&store, "b", page_len).await, expected);
    }
    assert!(store.keys(&tenant("b"), None, 0).await.unwrap().is_empty());
}

pub(super) async fn paging_neither_misses_nor_doubles_a_key_while_others_are_made(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let stable: Vec<u64> = (0..300).step_by(10).collect();
    let made = stable.iter().map(|n| new_key("acme", *n)).collect();
    for result in commit_all(&store, made).await {
        result.unwrap();
    }
    let others = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in (0..300).rev().filter(|n| n % 10 != 0) {
                store.commit_key(new_key("acme", number)).await.unwrap();
            }
        })
    };
    let mut rounds = 0;
    while !others.is_finished() || rounds == 0 {
        let seen = all_keys(&store, "acme", 7).await;
        assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
        for number in &stable {
            assert!(seen.contains(&key(*number)), "key {number} was missed");
        }
        rounds += 1;
    }
    others.await.unwrap();
    assert_eq!(all_keys(&store, "acme", 7).await.len(), 300);
}

pub(super) async fn audit_entries_are_numbered_in_the_order_of_their_commits(store: Shared) {
    with_tenants(&store, &["acme", "globex"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(new_key("globex", 2)).await.unwrap();
    store.commit_key(revoke(&new_key("acme", 1))).await.unwrap();
    store
        .commit_tenant(suspend(&new_tenant("acme")))
        .await
        .unwrap();

    let newest_first = [
        (4, "suspend"),
        (3, "revoke"),
        (2, "create 1"),
        (1, "make acme"),
    ];
    let expected = newest_first.map(|(number, text)| (number, text.to_owned()));
    assert_eq!(texts_of_audit(&store, "acme").await, expected);
    let newest = store.audit(&tenant("acme"), 2).await.unwrap();
    assert_eq!(newest.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(texts_of_audit(&store, "globex").await.len(), 2);

    let many = (10..110).map(|n| new_key("globex", n)).collect();
    commit_all(&store, many).await;
    let numbers: Vec<u64> = texts_of_audit(&store, "globex")
        .await
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers, (1..=102).rev().collect::<Vec<_>>());
}

pub(super) async fn a_point_read_sees_a_commit_that_has_returned(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let noise = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 1000..1100 {
                store.commit_key(new_key("acme", number)).await.unwrap();
            }
        })
    };
    for number in 0..50 {
        store.commit_key(new_key("acme", number)).await.unwrap();
        assert!(store.index(lookup(number)).await.unwrap().is_some());
    }
    noise.await.unwrap();
}

pub(super) async fn the_first_keyring_is_remembered(store: Shared) {
    assert_eq!(store.keyring_id("ring-1").await.unwrap(), "ring-1");
    assert_eq!(store.keyring_id("ring-2").await.unwrap(), "ring-1");
}

pub(super) async fn it_answers_a_ping_and_says_what_it_is(store: Shared) {
    store.ping().await.unwrap();
    let info = store.info();
    assert!(!info.kind.is_empty() && !info.location.is_empty());
}
