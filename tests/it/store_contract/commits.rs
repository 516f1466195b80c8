//! A commit is there whole, or refused and not there at all.

use std::future::poll_fn;
use std::task::Poll;

use keystile::store::{CountChange, Expected, KeyCommit, TenantCommit};

use super::world::*;

pub(super) async fn what_was_committed_is_read_back_whole(store: Shared) {
    let made = new_tenant("acme");
    store.commit_tenant(made.clone()).await.unwrap();
    let mut create = new_key("acme", 1);
    create.index.push(entry(2, 1, "other generation"));
    store.commit_key(create.clone()).await.unwrap();

    let acme = tenant("acme");
    assert_eq!(store.tenant(&acme).await.unwrap(), Some(made.row.clone()));
    assert_eq!(store.key(&acme, &key(1)).await.unwrap(), Some(create.row));
    for row in create.index {
        assert_eq!(store.index(row.lookup_id).await.unwrap(), Some(row));
    }
    assert_eq!(store.live_keys(&acme, ALICE).await.unwrap(), (1, 1));

    let changed = suspend(&made);
    store.commit_tenant(changed.clone()).await.unwrap();
    assert_eq!(store.tenant(&acme).await.unwrap(), Some(changed.row));
    let revoked = revoke(&new_key("acme", 1));
    store.commit_key(revoked.clone()).await.unwrap();
    assert_eq!(store.key(&acme, &key(1)).await.unwrap(), Some(revoked.row));
    assert_eq!(
        store.index(lookup(1)).await.unwrap(),
        revoked.index.into_iter().next()
    );
    assert_eq!(store.live_keys(&acme, ALICE).await.unwrap(), (0, 0));
}

fn changed(mut commit: KeyCommit, change: impl FnOnce(&mut KeyCommit)) -> KeyCommit {
    commit.audit = b"must not be seen".to_vec();
    change(&mut commit);
    commit
}

/// acme has key 1 (live) and key 2 (revoked), globex has key 3; all of ALICE.
fn refused_keys() -> Vec<(&'static str, KeyCommit, &'static str)> {
    let create = |number| new_key("acme", number);
    let limited = |per_owner, total| CountChange::Add { per_owner, total };
    let rows: Vec<(_, _, fn(&mut KeyCommit), _)> = vec![
        ("a key that is there", create(1), |_| {}, "Exists"),
        (
            "a first key that is there",
            create(1),
            |c| c.expected = Expected::FirstOfTenant,
            "Exists",
        ),
        (
            "a first key after others",
            create(9),
            |c| c.expected = Expected::FirstOfTenant,
            "Exists",
        ),
        (
            "a tenant that is not there",
            new_key("nobody", 9),
            |_| {},
            "NotFound",
        ),
        (
            "a data key of former times",
            create(9),
            |c| c.dek_id += 1,
            "NotFound",
        ),
        (
            "a change of no key",
            create(9),
            |c| c.expected = Expected::Version(1.into()),
            "NotFound",
        ),
        (
            "a change of an old version",
            revoke(&create(2)),
            |_| {},
            "Conflict",
        ),
        (
            "a change of a version to come",
            revoke(&create(1)),
            |c| c.expected = Expected::Version(7.into()),
            "Conflict",
        ),
        (
            "a change under a data key of former times",
            revoke(&create(1)),
            |c| c.dek_id += 1,
            "NotFound",
        ),
        (
            "an index entry of a key beside it",
            create(9),
            |c| c.index = vec![entry(1, 1, "x")],
            "Exists",
        ),
        (
            "an index entry of another tenant",
            create(9),
            |c| c.index = vec![entry(3, 1, "x")],
            "Exists",
        ),
        (
            "a second index entry that is taken",
            create(9),
            |c| c.index.push(entry(3, 1, "x")),
            "Exists",
        ),
        (
            "a change that takes another's index entry",
            revoke(&create(1)),
            |c| c.index.push(entry(3, 2, "x")),
            "Exists",
        ),
    ];
    let mut table: Vec<_> = rows
        .into_iter()
        .map(|(name, commit, change, expected)| (name, changed(commit, change), expected))
        .collect();
    table.push((
        "one more than the owner may have",
        changed(create(9), |c| c.count = limited(1, None)),
        "CountLimit { scope: Owner, limit: 1, current: 1 }",
    ));
    table.push((
        "one more than all may have",
        changed(create(9), |c| c.count = limited(100, Some(2))),
        "CountLimit { scope: Total, limit: 2, current: 2 }",
    ));
    table
}

fn refused_tenants() -> Vec<(&'static str, TenantCommit, &'static str)> {
    let made = new_tenant("acme");
    let with = |expected, dek_id, id: &str| {
        let mut commit = suspend(&made);
        commit.expected = expected;
        commit.row.dek_id = dek_id;
        commit.row.id = tenant(id);
        commit
    };
    vec![
        ("a tenant that is there", made.clone(), "Exists"),
        (
            "an old version",
            with(Expected::Version(0.into()), DEK, "acme"),
            "Conflict",
        ),
        (
            "a version to come",
            with(Expected::Version(2.into()), DEK, "acme"),
            "Conflict",
        ),
        (
            "no tenant",
            with(Expected::Version(1.into()), DEK, "nobody"),
            "NotFound",
        ),
        (
            "another data key",
            with(Expected::Version(1.into()), DEK + 1, "acme"),
            "NotFound",
        ),
    ]
}

pub(super) async fn a_refused_commit_writes_nothing_at_all(store: Shared) {
    let ids = ["acme", "globex", "nobody"];
    with_tenants(&store, &ids[..2]).await;
    for made in [new_key("acme", 1), new_key("acme", 2), new_key("globex", 3)] {
        store.commit_key(made).await.unwrap();
    }
    store.commit_key(revoke(&new_key("acme", 2))).await.unwrap();

    let before = contents(&store, &ids).await;
    for (name, commit, expected) in refused_keys() {
        assert_eq!(word(store.commit_key(commit).await), expected, "{name}");
        assert_eq!(contents(&store, &ids).await, before, "{name}");
    }
    for (name, commit, expected) in refused_tenants() {
        assert_eq!(word(store.commit_tenant(commit).await), expected, "{name}");
        assert_eq!(contents(&store, &ids).await, before, "{name}");
    }
    for (id, version, expected) in [("acme", 2, "Conflict"), ("nobody", 1, "NotFound")] {
        let refused = store.delete_tenant(&tenant(id), DEK, version.into()).await;
        assert_eq!(word(refused), expected, "delete {id}");
        assert_eq!(contents(&store, &ids).await, before, "delete {id}");
    }
}

pub(super) async fn the_first_key_of_a_tenant_is_made_once(store: Shared) {
    with_tenants(&store, &["acme", "globex"]).await;
    let first = |of, number| {
        let mut commit = new_key(of, number);
        commit.expected = Expected::FirstOfTenant;
        commit
    };
    let commits = (0..16).map(|number| first("acme", number)).collect();
    let made = commit_all(&store, commits).await;
    assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 1);
    // Another tenant's keys do not count, before or after it in the order of ids.
    store.commit_key(first("globex", 20)).await.unwrap();
}

/// Changes key `number` of `acme`, made by `new_key`, to version `version`.
fn update(number: u64, version: u64, body: &str) -> KeyCommit {
    changed(new_key("acme", number), |c| {
        c.expected = Expected::Version((version - 1).into());
        c.row.version = version.into();
        c.index = vec![entry(number, version, body)];
        c.count = CountChange::None;
    })
}

pub(super) async fn a_newer_index_entry_stays_under_an_older_one(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    store.commit_key(update(1, 2, "newer")).await.unwrap();

    let mut late = revoke(&new_key("acme", 1));
    late.expected = Expected::Version(2.into());
    late.row.version = 3.into();
    late.count = CountChange::None;
    late.index = vec![entry(1, 1, "live again"), entry(2, 3, "beside it")];
    store.commit_key(late).await.unwrap();

    let kept = store.index(lookup(1)).await.unwrap().unwrap();
    assert_eq!(
        (kept.version, kept.body.as_slice()),
        (2.into(), &b"newer"[..])
    );
    let beside = store.index(lookup(2)).await.unwrap();
    assert_eq!(beside, Some(entry(2, 3, "beside it")));
}

pub(super) async fn an_index_entry_of_the_same_version_is_written_again(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let mut again = revoke(&new_key("acme", 1));
    again.index = vec![entry(1, 1, "sealed anew")];
    store.commit_key(again).await.unwrap();
    let found = store.index(lookup(1)).await.unwrap();
    assert_eq!(found, Some(entry(1, 1, "sealed anew")));
}

pub(super) async fn of_concurrent_creates_of_one_key_one_succeeds(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let same_id = |number| {
        changed(new_key("acme", 1), |c| {
            c.index = vec![entry(number, 1, "x")];
        })
    };
    let results = commit_all(&store, (0..16).map(same_id).collect()).await;
    let winners: Vec<u64> = (0..16)
        .zip(&results)
        .filter_map(|(number, result)| result.is_ok().then_some(number))
        .collect();
    let [winner] = winners[..] else {
        panic!("one must win: {winners:?}");
    };
    for (number, result) in (0..16).zip(results) {
        let found = store.index(lookup(number)).await.unwrap();
        assert_eq!(found.is_some(), number == winner);
        assert_eq!(
            word(result),
            if number == winner { "done" } else { "Exists" }
        );
    }
    assert_eq!(
        store.live_keys(&tenant("acme"), ALICE).await.unwrap(),
        (1, 1)
    );
    assert_eq!(texts_of_audit(&store, "acme").await.len(), 2);
}

pub(super) async fn of_concurrent_changes_of_one_version_one_succeeds(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let commits = vec![revoke(&new_key("acme", 1)); 16];
    let mut words: Vec<_> = commit_all(&store, commits)
        .await
        .into_iter()
        .map(word)
        .collect();
    words.sort();
    assert_eq!(words[..15], vec!["Conflict".to_owned(); 15]);
    assert_eq!(words[15], "done");
    assert_eq!(
        store.live_keys(&tenant("acme"), ALICE).await.unwrap(),
        (0, 0)
    );
    assert_eq!(texts_of_audit(&store, "acme").await.len(), 3);
}

pub(super) async fn refused_commits_do_not_spoil_those_beside_them(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let good_or_bad = |number| match number % 4 {
        0 => changed(new_key("acme", number), |c| c.dek_id += 1),
        1 => changed(new_key("acme", number), |c| {
            c.expected = Expected::Version(4.into());
        }),
        2 => changed(new_key("acme", number), |c| {
            c.count = CountChange::Add {
                per_owner: 0,
                total: None,
            }
        }),
        _ => new_key("acme", number),
    };
    let results = commit_all(&store, (0..200).map(good_or_bad).collect()).await;
    for (number, result) in (0..200u64).zip(results) {
        let expected = match number % 4 {
            0 | 1 => "NotFound",
            2 => "CountLimit { scope: Owner, limit: 0",
            _ => "done",
        };
        assert!(word(result).starts_with(expected), "{number}");
        let found = store.key(&tenant("acme"), &key(number)).await.unwrap();
        assert_eq!(found.is_some(), number % 4 == 3, "{number}");
    }
    assert_eq!(
        store.live_keys(&tenant("acme"), ALICE).await.unwrap(),
        (50, 50)
    );
}

pub(super) async fn a_commit_that_nobody_waits_for_is_whole_or_not_there(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    let acme = tenant("acme");
    for number in 0..20 {
        let mut abandoned = store.commit_key(new_key("acme", number));
        poll_fn(|context| {
            drop(abandoned.as_mut().poll(context));
            Poll::Ready(())
        })
        .await;
        drop(abandoned);
    }
    // What was queued before is done when this one is.
    store.commit_key(new_key("acme", 30)).await.unwrap();

    let mut there = 1;
    for number in 0..20 {
        let in_index = store.index(lookup(number)).await.unwrap().is_some();
        let row = store.key(&acme, &key(number)).await.unwrap();
        assert_eq!(row.is_some(), in_index, "{number}");
        there += u64::from(in_index);
    }
    assert_eq!(store.live_keys(&acme, ALICE).await.unwrap(), (there, there));
    let audit = texts_of_audit(&store, "acme").await;
    assert_eq!(audit.len() as u64, there + 1, "{audit:?}");
}
