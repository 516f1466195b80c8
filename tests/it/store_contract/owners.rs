//! Keys are found by their owner, all of them or none.

use std::collections::BTreeMap;

use keystile::domain::name::KeyId;
use keystile::store::owners::{OwnerEntry, OwnerIndex, OwnersKeys};
use keystile::store::redb::EmbeddedStore;
use keystile::store::repair::Mode;
use redb::ReadableTable as _;

use super::world::*;

const ACME: &str = "acme";

fn index(store: &Shared) -> &dyn OwnerIndex {
    store.owner_index().expect("an index by owner")
}

/// Makes keys of both owners by turns: odd numbers are ALICE's.
async fn fill(store: &Shared, count: u64) {
    with_tenants(store, &[ACME, "globex"]).await;
    for number in 1..=count {
        let mut commit = new_key(ACME, number);
        if number.is_multiple_of(2) {
            commit.owner_tag = BOB;
        }
        store.commit_key(commit).await.unwrap();
    }
    store.commit_key(new_key("globex", 1_000)).await.unwrap();
}

async fn page(store: &Shared, after: Option<&KeyId>, limit: usize) -> Option<OwnersKeys> {
    let tenant = tenant(ACME);
    let page = index(store).page(&tenant, ALICE, after, limit).await;
    page.unwrap()
}

fn alices(number: u64) -> OwnerEntry {
    OwnerEntry {
        owner_tag: ALICE,
        key: key(number),
    }
}

async fn missing(store: &Shared, entries: &[OwnerEntry], mode: Mode) -> u64 {
    let tenant = tenant(ACME);
    let missing = index(store).missing(&tenant, DEK, entries, mode);
    missing.await.unwrap()
}

async fn is_whole(store: &Shared, mode: Mode) -> bool {
    index(store)
        .is_whole(&tenant(ACME), DEK, mode)
        .await
        .unwrap()
}

fn numbers(page: &OwnersKeys) -> Vec<KeyId> {
    page.rows.iter().map(|row| row.id.clone()).collect()
}

pub(super) async fn the_keys_of_an_owner_come_in_pages_and_nobody_elses(store: Shared) {
    fill(&store, 20).await;
    store.commit_key(revoke(&new_key(ACME, 3))).await.unwrap();
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let page = page(&store, after.as_ref(), 3).await.expect("it is whole");
        assert_eq!(page.live, 9);
        let Some(last) = page.rows.last() else { break };
        after = Some(last.id.clone());
        for row in page.rows {
            assert!(found.insert(row.id, row.body).is_none(), "once");
        }
    }
    let expected: Vec<_> = (1..=20).step_by(2).map(key).collect();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(found[&key(3)], b"revoked");
    assert_eq!(found[&key(5)], b"key 5 live");
    let nobodys = index(&store).page(&tenant(ACME), [9; 16], None, 3).await;
    assert_eq!(nobodys.unwrap(), Some(OwnersKeys::default()));
}

pub(super) async fn an_index_that_lacks_a_key_is_not_used_until_it_is_completed(store: Shared) {
    fill(&store, 6).await;
    let all = [alices(1), alices(3), alices(5)];
    assert_eq!(missing(&store, &all, Mode::Check).await, 0);
    let tenant = tenant(ACME);
    index(&store)
        .remove(&tenant, DEK, &[alices(3)])
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(page(&store, None, 100).await, None);
        assert!(!is_whole(&store, Mode::Check).await);
        assert_eq!(missing(&store, &all, Mode::Check).await, 1);
    }
    // Somebody's change does not make it whole, nor does another data key's repair.
    store.commit_key(new_key(ACME, 7)).await.unwrap();
    let other = index(&store).missing(&tenant, DEK + 1, &all, Mode::Repair);
    drop(other.await);
    assert_eq!(page(&store, None, 100).await, None);

    assert_eq!(missing(&store, &all, Mode::Repair).await, 1);
    assert!(is_whole(&store, Mode::Repair).await);
    let found = numbers(&page(&store, None, 100).await.unwrap());
    assert_eq!(found, [1, 3, 5, 7].map(key));
    store.commit_key(new_key(ACME, 9)).await.unwrap();
    let found = numbers(&page(&store, None, 100).await.unwrap());
    assert_eq!(found, [1, 3, 5, 7, 9].map(key));
}

pub(super) async fn an_index_with_a_key_too_many_is_not_used_until_that_is_removed(store: Shared) {
    fill(&store, 4).await;
    let nobodys = alices(77);
    let put = missing(&store, std::slice::from_ref(&nobodys), Mode::Repair);
    assert_eq!(put.await, 1);
    assert!(!is_whole(&store, Mode::Repair).await);
    assert_eq!(page(&store, None, 100).await, None);

    let tenant = tenant(ACME);
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let (entries, next) = index(&store).scan(&tenant, cursor).await.unwrap();
        found.extend(entries);
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    found.sort();
    let tags = [(1, ALICE), (3, ALICE), (77, ALICE), (2, BOB), (4, BOB)];
    let expected = tags.map(|(number, owner_tag)| OwnerEntry {
        owner_tag,
        key: key(number),
    });
    assert_eq!(found, expected);
    let remove = index(&store).remove(&tenant, DEK, &[nobodys]).await;
    remove.unwrap();
    assert!(is_whole(&store, Mode::Repair).await);
    let found = numbers(&page(&store, None, 100).await.unwrap());
    assert_eq!(found, [1, 3].map(key));
}

pub(super) async fn a_tenant_that_is_made_again_has_nothing_of_the_one_before(store: Shared) {
    fill(&store, 4).await;
    let id = tenant(ACME);
    store.delete_tenant(&id, DEK, 1.into()).await.unwrap();
    assert_eq!(
        index(&store).scan(&id, None).await.unwrap(),
        (Vec::new(), None)
    );
    with_tenants(&store, &[ACME]).await;
    assert_eq!(page(&store, None, 100).await, Some(OwnersKeys::default()));
    store.commit_key(new_key(ACME, 5)).await.unwrap();
    let found = numbers(&page(&store, None, 100).await.unwrap());
    assert_eq!(found, [key(5)]);
}

/// What an earlier version does to a file: it knows nothing of the index.
fn as_an_earlier_version(path: &std::path::Path, write: impl Fn(&redb::WriteTransaction)) {
    let database = redb::Database::open(path).unwrap();
    let change = database.begin_write().unwrap();
    write(&change);
    change.commit().unwrap();
}

#[tokio::test]
async fn a_file_that_an_earlier_version_wrote_lists_no_key_too_few() {
    const BY_OWNER: redb::TableDefinition<'_, (&str, &[u8; 16], &str), ()> =
        redb::TableDefinition::new("by_owner");
    const WHOLE: redb::TableDefinition<'_, &str, (u64, u64)> =
        redb::TableDefinition::new("by_owner_whole");
    const AUDIT: redb::TableDefinition<'_, (&str, u64), &[u8]> =
        redb::TableDefinition::new("audit");
    const KEYS: redb::TableDefinition<'_, (&str, &str), (u64, &[u8])> =
        redb::TableDefinition::new("keys");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystile.redb");
    let open = || -> Shared { std::sync::Arc::new(EmbeddedStore::open(&path).unwrap()) };
    let store = open();
    fill(&store, 6).await;
    drop(store);

    as_an_earlier_version(&path, |change| {
        change.delete_table(BY_OWNER).unwrap();
        change.delete_table(WHOLE).unwrap();
    });
    let store = open();
    assert_eq!(page(&store, None, 100).await, None);
    assert!(!is_whole(&store, Mode::Check).await);
    assert!(!is_whole(&store, Mode::Repair).await);
    let mut all: Vec<_> = [1, 3, 5].map(alices).to_vec();
    all.extend([2, 4, 6].map(|number| OwnerEntry {
        owner_tag: BOB,
        ..alices(number)
    }));
    assert_eq!(missing(&store, &all, Mode::Repair).await, 6);
    assert!(is_whole(&store, Mode::Repair).await);
    assert_eq!(page(&store, None, 100).await.unwrap().rows.len(), 3);
    drop(store);

    // It is used again for a while, and makes a key.
    as_an_earlier_version(&path, |change| {
        let mut keys = change.open_table(KEYS).unwrap();
        let row = {
            let there = keys.get((ACME, key(1).as_str())).unwrap().unwrap();
            let (order, body) = there.value();
            (order, body.to_vec())
        };
        keys.insert((ACME, key(8).as_str()), (row.0, row.1.as_slice()))
            .unwrap();
        let mut audit = change.open_table(AUDIT).unwrap();
        audit
            .insert((ACME, 8), &b"made by another version"[..])
            .unwrap();
    });
    let store = open();
    assert_eq!(page(&store, None, 100).await, None);
    store.commit_key(new_key(ACME, 9)).await.unwrap();
    assert_eq!(page(&store, None, 100).await, None);
}
