//! Revoked is final, and a version is of one change alone: whatever state a store has fallen back to.

use keystile::domain::version::Version;
use keystile::store::{CountChange, Expected, KeyCommit};

use super::world::*;

/// A change of key 1 of `acme` from version `from`, with these index entries.
fn change(from: u64, index: &[(u64, u64, &str)]) -> KeyCommit {
    let mut commit = new_key("acme", 1);
    commit.expected = Expected::Version(from.into());
    commit.row.version = (from + 1).into();
    commit.row.body = format!("changed from {from}").into();
    commit.index = index
        .iter()
        .map(|(place, version, body)| entry(*place, *version, body))
        .collect();
    commit.count = CountChange::None;
    commit
}

async fn is_revoked(store: &Shared, place: u64) -> bool {
    let row = store.index(lookup(place)).await.unwrap();
    row.is_some_and(|row| row.revoked)
}

pub(super) async fn a_revocation_is_written_over_whatever_is_there(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    // The index is ahead of the key, as when the key's slot has lost writes that the index keeps.
    let ahead = change(1, &[(1, 9, "live")]);
    store.commit_key(ahead).await.unwrap();
    let mut revocation = change(2, &[(1, 3, "revoked")]);
    revocation.count = CountChange::Remove;
    store.commit_key(revocation).await.unwrap();
    let there = store.index(lookup(1)).await.unwrap();
    assert_eq!(there, Some(entry(1, 3, "revoked")));
    // And again, as often as somebody asks for it.
    store
        .commit_key(change(3, &[(1, 4, "revoked")]))
        .await
        .unwrap();
    let there = store.index(lookup(1)).await.unwrap();
    assert_eq!(there, Some(entry(1, 4, "revoked")));
    let live = store.live_keys(&tenant("acme"), ALICE).await.unwrap();
    assert_eq!(live, (0, 0));
}

pub(super) async fn no_change_takes_the_place_of_a_revoked_entry(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    // The index has it revoked and the key's own record does not say so.
    store
        .commit_key(change(1, &[(1, 2, "revoked")]))
        .await
        .unwrap();
    let before = contents(&store, &["acme"]).await;
    for (what, index) in [
        ("an update", vec![(1, 3, "live")]),
        ("one that comes much later", vec![(1, 99, "live")]),
        ("a rotation", vec![(1, 3, "retiring"), (11, 3, "live")]),
    ] {
        let refused = store.commit_key(change(2, &index)).await;
        assert_eq!(word(refused), "Revoked", "{what}");
        assert_eq!(contents(&store, &["acme"]).await, before, "{what}");
        assert!(is_revoked(&store, 1).await, "{what}");
    }
    // Revoking it brings both into line.
    let mut revocation = change(2, &[(1, 3, "revoked")]);
    revocation.count = CountChange::Remove;
    store.commit_key(revocation).await.unwrap();
    assert!(is_revoked(&store, 1).await);
}

pub(super) async fn the_same_order_of_another_change_is_a_conflict(store: Shared) {
    let at = |order, change| Version { order, change };
    let mut made = new_tenant("acme");
    made.row.version = at(5, 1);
    store.commit_tenant(made.clone()).await.unwrap();
    let mut key = new_key("acme", 1);
    key.row.version = at(5, 1);
    key.index[0].version = at(5, 1);
    store.commit_key(key.clone()).await.unwrap();
    let before = contents(&store, &["acme"]).await;
    for lost in [at(5, 2), at(5, 0), at(4, 1)] {
        let mut update = suspend(&made);
        update.expected = Expected::Version(lost);
        assert_eq!(word(store.commit_tenant(update).await), "Conflict");
        let deleted = store.delete_tenant(&tenant("acme"), DEK, lost).await;
        assert_eq!(word(deleted), "Conflict");
        let mut change = change(5, &[(1, 6, "live")]);
        change.expected = Expected::Version(lost);
        assert_eq!(word(store.commit_key(change).await), "Conflict");
        assert_eq!(contents(&store, &["acme"]).await, before, "{lost}");
    }
    let mut change = change(5, &[(1, 6, "live")]);
    change.expected = Expected::Version(at(5, 1));
    change.row.version = at(6, 3);
    change.index[0].version = at(6, 3);
    store.commit_key(change.clone()).await.unwrap();
    let row = store.key(&tenant("acme"), &key.row.id).await.unwrap();
    assert_eq!(row, Some(change.row));
    let row = store.index(lookup(1)).await.unwrap();
    assert_eq!(row.as_ref(), change.index.first());
    store
        .delete_tenant(&tenant("acme"), DEK, at(5, 1))
        .await
        .unwrap();
}
