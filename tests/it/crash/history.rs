//! What a writer was told, and what a store must show for it.

use std::collections::BTreeMap;

use keystile::store::{KeyCommit, KeyRow};

use crate::store_contract::world::*;

/// A key whose body says its number and owner, so that rows alone show what must be counted.
pub(super) fn owned_key(of: &str, number: u64) -> KeyCommit {
    let mut commit = new_key(of, number);
    let alices = number.is_multiple_of(2);
    commit.owner_tag = if alices { ALICE } else { BOB };
    commit.row.body = format!("{number} {}", if alices { "alice" } else { "bob" }).into();
    commit
}

pub(super) fn owned_revoke(made: &KeyCommit) -> KeyCommit {
    let mut commit = revoke(made);
    commit.row.body.clone_from(&made.row.body);
    let audit = [b"revoke ", &made.row.body[..]].concat();
    commit.audit = audit;
    commit
}

#[derive(Default)]
struct Told {
    /// The highest version of each key.
    keys: BTreeMap<u64, u64>,
    deleting: bool,
    deleted: bool,
}

/// All commits that any writer was told of.
#[derive(Default)]
pub(super) struct History {
    tenants: BTreeMap<String, Told>,
    commits: usize,
}

impl History {
    pub(super) fn commits(&self) -> usize {
        self.commits
    }

    pub(super) fn extend(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["tenant", id] => drop(self.told(id)),
                ["key", id, number, version] => {
                    let number = number.parse().unwrap();
                    let version = version.parse().unwrap();
                    self.told(id).keys.insert(number, version);
                }
                ["deleting", id] => self.tenants.entry(id.to_owned()).or_default().deleting = true,
                ["deleted", id] => self.told(id).deleted = true,
                // What the test runner says.
                _ => {}
            }
        }
    }

    fn told(&mut self, id: &str) -> &mut Told {
        self.commits += 1;
        self.tenants.entry(id.to_owned()).or_default()
    }

    pub(super) async fn check(&self, store: &Shared) {
        let rows = store.tenants(None, usize::MAX).await.unwrap();
        let there: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let mut live = 0;
        for id in &there {
            live += check_whole(store, id).await;
        }
        let (_, total) = store.live_keys(&tenant("any"), ALICE).await.unwrap();
        assert_eq!(total, live, "the count of all keys is that of the rows");
        for (id, told) in &self.tenants {
            let found = there.contains(&id.as_str());
            assert!(!(told.deleted && found), "{id} was deleted");
            assert!(found || told.deleting, "{id} was committed");
            check_keys(store, id, told, found).await;
        }
    }
}

/// What was told of the tenant's keys holds.
async fn check_keys(store: &Shared, id: &str, told: &Told, found: bool) {
    for (number, version) in &told.keys {
        let row = store.key(&tenant(id), &key(*number)).await.unwrap();
        let index = store.index(lookup(*number)).await.unwrap();
        if found {
            let row = row.unwrap_or_else(|| panic!("{id} {number} was committed"));
            assert!(row.version >= *version, "{id} {number} went back");
        } else {
            assert_eq!((row, index), (None, None), "{id} {number} is left over");
        }
    }
}

/// Rows, index, counts and audit of a tenant belong together. Answers how many keys are live.
async fn check_whole(store: &Shared, id: &str) -> u64 {
    let of = tenant(id);
    let rows = store.keys(&of, None, usize::MAX).await.unwrap();
    let mut expected_audit = vec![format!("make {id}")];
    let mut live = BTreeMap::from([("alice", 0), ("bob", 0)]);
    for row in &rows {
        let (number, owner) = parts(row);
        check_index(store, row, number).await;
        expected_audit.push(format!("create {number}"));
        if row.version == 1 {
            *live.get_mut(owner).unwrap() += 1;
        } else {
            expected_audit.push(format!("revoke {number} {owner}"));
        }
    }
    for (tag, owner) in [(ALICE, "alice"), (BOB, "bob")] {
        let (count, _) = store.live_keys(&of, tag).await.unwrap();
        assert_eq!(count, live[owner], "the count of {owner} in {id}");
    }
    check_audit(store, id, expected_audit).await;
    live.values().sum()
}

fn parts(row: &KeyRow) -> (u64, &str) {
    let body = std::str::from_utf8(&row.body).unwrap();
    let (number, owner) = body.split_once(' ').unwrap();
    (number.parse().unwrap(), owner)
}

async fn check_index(store: &Shared, row: &KeyRow, number: u64) {
    let body = if row.version == 1 { "live" } else { "revoked" };
    let index = store.index(lookup(number)).await.unwrap();
    assert_eq!(index, Some(entry(number, row.version, body)));
}

async fn check_audit(store: &Shared, id: &str, mut expected: Vec<String>) {
    let (numbers, mut texts): (Vec<u64>, Vec<String>) =
        texts_of_audit(store, id).await.into_iter().unzip();
    let len = u64::try_from(expected.len()).unwrap();
    assert_eq!(numbers, (1..=len).rev().collect::<Vec<_>>(), "{id}");
    texts.sort();
    expected.sort();
    assert_eq!(texts, expected, "{id}");
}
