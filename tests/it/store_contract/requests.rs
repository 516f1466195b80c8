//! A request is done once, and remembered until it expires.

use keystile::clock::Timestamp;
use keystile::store::{IdempotencyRecord, KeyCommit, TenantCommit};

use super::world::*;

const DAY: i64 = 86_400_000;

fn request(tag: u8, made_at: i64) -> IdempotencyRecord {
    IdempotencyRecord {
        tag: [tag; 16],
        made_at: Timestamp::from_millis(made_at),
        expires_at: Timestamp::from_millis(made_at + DAY),
        body: format!("answer {tag} of {made_at}").into(),
    }
}

fn key_by(of: &str, number: u64, request: IdempotencyRecord) -> KeyCommit {
    KeyCommit {
        request: Some(request),
        ..new_key(of, number)
    }
}

fn tenant_by(id: &str, request: IdempotencyRecord) -> TenantCommit {
    TenantCommit {
        request: Some(request),
        ..new_tenant(id)
    }
}

async fn remembered(store: &Shared, of: &str, tag: u8) -> Option<IdempotencyRecord> {
    store.request(&tenant(of), [tag; 16]).await.unwrap()
}

pub(super) async fn a_request_is_remembered_with_the_commit_that_does_it(store: Shared) {
    assert_eq!(remembered(&store, "acme", 1).await, None);
    let (make, create) = (request(1, 5), request(2, 6));
    store
        .commit_tenant(tenant_by("acme", make.clone()))
        .await
        .unwrap();
    store
        .commit_key(key_by("acme", 1, create.clone()))
        .await
        .unwrap();
    assert_eq!(remembered(&store, "acme", 1).await, Some(make));
    assert_eq!(remembered(&store, "acme", 2).await, Some(create));
    store
        .delete_tenant(&tenant("acme"), DEK, 1.into())
        .await
        .unwrap();
    assert_eq!(remembered(&store, "acme", 1).await, None);
    assert_eq!(remembered(&store, "acme", 2).await, None);
}

pub(super) async fn a_request_that_was_done_is_refused_and_writes_nothing(store: Shared) {
    let ids = ["acme"];
    let make = tenant_by("acme", request(1, 5));
    store.commit_tenant(make.clone()).await.unwrap();
    store
        .commit_key(key_by("acme", 1, request(2, 5)))
        .await
        .unwrap();

    let before = contents(&store, &ids).await;
    for (name, commit) in [
        ("the same key", key_by("acme", 1, request(2, 6))),
        ("another key", key_by("acme", 2, request(2, 4 + DAY))),
    ] {
        assert_eq!(word(store.commit_key(commit).await), "Repeated", "{name}");
        assert_eq!(contents(&store, &ids).await, before, "{name}");
    }
    assert_eq!(word(store.commit_tenant(make).await), "Repeated");
    assert_eq!(contents(&store, &ids).await, before);
    assert_eq!(remembered(&store, "acme", 2).await, Some(request(2, 5)));
}

pub(super) async fn of_many_commits_of_one_request_one_is_done(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let commits = (0..16).map(|number| key_by("acme", number, request(1, 5)));
    let mut done = 0;
    for result in commit_all(&store, commits.collect()).await {
        match word(result).as_str() {
            "done" => done += 1,
            refused => assert_eq!(refused, "Repeated"),
        }
    }
    assert_eq!(done, 1);
    let keys = store.keys(&tenant("acme"), None, 100).await.unwrap();
    assert_eq!(keys.len(), 1);
}

pub(super) async fn an_expired_request_can_be_done_again_and_goes_in_time(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    for tag in 1..=20 {
        let number = u64::from(tag);
        store
            .commit_key(key_by("acme", number, request(tag, 5)))
            .await
            .unwrap();
    }
    let again = request(1, 5 + DAY);
    store
        .commit_key(key_by("acme", 21, again.clone()))
        .await
        .unwrap();
    assert_eq!(remembered(&store, "acme", 1).await, Some(again));
    for tag in 101..=110 {
        let number = u64::from(tag);
        store
            .commit_key(key_by("acme", number, request(tag, 6 + DAY)))
            .await
            .unwrap();
    }
    for tag in 2..=20 {
        assert_eq!(remembered(&store, "acme", tag).await, None, "{tag}");
    }
    for tag in (1..=1).chain(101..=110) {
        assert!(remembered(&store, "acme", tag).await.is_some(), "{tag}");
    }
}

pub(super) async fn a_request_of_another_tenant_is_another_request(store: Shared) {
    with_tenants(&store, &["acme", "globex"]).await;
    store
        .commit_key(key_by("acme", 1, request(1, 5)))
        .await
        .unwrap();
    assert_eq!(remembered(&store, "globex", 1).await, None);
    store
        .commit_key(key_by("globex", 2, request(1, 6)))
        .await
        .unwrap();
    assert_eq!(remembered(&store, "acme", 1).await, Some(request(1, 5)));
    store
        .delete_tenant(&tenant("acme"), DEK, 1.into())
        .await
        .unwrap();
    assert_eq!(remembered(&store, "globex", 1).await, Some(request(1, 6)));
}

pub(super) async fn a_refused_commit_does_not_use_its_request_up(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let refused = store.commit_key(key_by("acme", 1, request(1, 5))).await;
    assert_eq!(word(refused), "Exists");
    assert_eq!(remembered(&store, "acme", 1).await, None);
    store
        .commit_key(key_by("acme", 2, request(1, 5)))
        .await
        .unwrap();
}
