//! A rotation adds an index entry to a key and may remove old ones, in one commit.

use keystile::store::{CountChange, Expected, KeyCommit};

use super::world::*;

/// Where the generations of key `number` are found.
fn generation(number: u64, generation: u64) -> u64 {
    number + 10 * (generation - 1)
}

/// Rotates key `number` of `acme`, made by `new_key`, to its generation `next`: version `next`. The one before it
/// stays; of `forgotten` the index entry goes.
fn rotate(number: u64, next: u64, forgotten: &[u64]) -> KeyCommit {
    let mut commit = new_key("acme", number);
    commit.expected = Expected::Version((next - 1).into());
    commit.row.version = next.into();
    commit.row.body = format!("generation {next}").into();
    commit.index = vec![
        entry(generation(number, next - 1), next, "retiring"),
        entry(generation(number, next), next, "live"),
    ];
    commit.drop = forgotten
        .iter()
        .map(|old| lookup(generation(number, *old)))
        .collect();
    commit.count = CountChange::None;
    commit.audit = format!("rotate to {next}").into();
    commit
}

/// The generations of key 1 that are found, with what is there.
async fn found(store: &Shared) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    for number in 1..=3 {
        if let Some(row) = store.index(lookup(generation(1, number))).await.unwrap() {
            all.push((number, String::from_utf8(row.body).unwrap()));
        }
    }
    all
}

fn bodies(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter()
        .map(|(number, body)| (*number, (*body).to_owned()))
        .collect()
}

pub(super) async fn a_rotation_adds_an_entry_and_removes_those_it_names(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(rotate(1, 2, &[])).await.unwrap();
    let both = bodies(&[(1, "retiring"), (2, "live")]);
    assert_eq!(found(&store).await, both);

    store.commit_key(rotate(1, 3, &[1])).await.unwrap();
    let last = bodies(&[(2, "retiring"), (3, "live")]);
    assert_eq!(found(&store).await, last);
    let live = store.live_keys(&tenant("acme"), ALICE).await.unwrap();
    assert_eq!(live, (1, 1), "a rotation makes no key");
    let log = texts_of_audit(&store, "acme").await;
    assert_eq!(log[0], (4, "rotate to 3".to_owned()));
    // Dropping what is not there any more does no harm.
    let mut again = rotate(1, 4, &[1]);
    again.index = Vec::new();
    store.commit_key(again).await.unwrap();
    assert_eq!(found(&store).await, last);
}

pub(super) async fn what_belongs_to_another_key_is_not_removed(store: Shared) {
    with_tenants(&store, &["acme", "globex"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(new_key("acme", 2)).await.unwrap();
    store.commit_key(new_key("globex", 3)).await.unwrap();
    let mut commit = rotate(1, 2, &[]);
    commit.drop = vec![lookup(2), lookup(3), lookup(4)];
    store.commit_key(commit).await.unwrap();
    for number in [2, 3] {
        let kept = store.index(lookup(number)).await.unwrap();
        assert_eq!(kept, Some(entry(number, 1, "live")));
    }
}

pub(super) async fn a_refused_rotation_writes_and_removes_nothing(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(new_key("acme", 2)).await.unwrap();
    store.commit_key(rotate(1, 2, &[])).await.unwrap();
    let before = contents(&store, &["acme"]).await;
    let stale = KeyCommit {
        expected: Expected::Version(1.into()),
        ..rotate(1, 3, &[1])
    };
    let taken = KeyCommit {
        index: vec![entry(2, 3, "stolen")],
        ..rotate(1, 3, &[1])
    };
    for (commit, refusal) in [(stale, "Conflict"), (taken, "Exists")] {
        assert_eq!(word(store.commit_key(commit).await), refusal);
        assert_eq!(contents(&store, &["acme"]).await, before, "{refusal}");
    }
}

pub(super) async fn of_concurrent_rotations_one_succeeds_and_one_token_is_found(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let rotations = (0..16).map(|number| {
        let mut commit = rotate(1, 2, &[]);
        commit.index[1] = entry(5 + number, 2, "live");
        commit
    });
    let results = commit_all(&store, rotations.collect()).await;
    let winners: Vec<u64> = (0..16)
        .zip(results)
        .filter_map(|(number, result)| match word(result).as_str() {
            "done" => Some(number),
            refused => {
                assert_eq!(refused, "Conflict");
                None
            }
        })
        .collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    for number in 0..16 {
        let there = store.index(lookup(5 + number)).await.unwrap();
        assert_eq!(there.is_some(), number == winners[0], "{number}");
    }
}

pub(super) async fn a_revocation_reaches_every_generation_and_none_comes_back(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(rotate(1, 2, &[])).await.unwrap();
    let mut revocation = rotate(1, 3, &[]);
    revocation.count = CountChange::Remove;
    revocation.index = vec![entry(1, 3, "revoked"), entry(11, 3, "revoked")];
    store.commit_key(revocation).await.unwrap();
    let revoked = bodies(&[(1, "revoked"), (2, "revoked")]);
    assert_eq!(found(&store).await, revoked);
    let late = store.commit_key(rotate(1, 3, &[])).await;
    assert_eq!(word(late), "Conflict");
    assert_eq!(found(&store).await, revoked);
}

pub(super) async fn a_tenant_is_deleted_with_every_generation(store: Shared) {
    let empty = contents(&store, &["acme"]).await;
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(rotate(1, 2, &[])).await.unwrap();
    store.commit_key(rotate(1, 3, &[1])).await.unwrap();
    store
        .delete_tenant(&tenant("acme"), DEK, 1.into())
        .await
        .unwrap();
    assert_eq!(contents(&store, &["acme"]).await, empty);
}
