//! What a writer was told, and what a store must show for it.

use std::collections::BTreeMap;

use keystile::store::{CountChange, Expected, KeyCommit, KeyRow};

use crate::store_contract::world::*;

/// The generations that a key has at most.
const GENERATIONS: u64 = 3;

/// Where a generation of a key is found.
fn place(number: u64, generation: u64) -> u64 {
    number + (generation << 40)
}

/// What is done to a key after it was made.
#[derive(Clone, Copy)]
enum Step {
    Rotate,
    /// The same, and the oldest generation is forgotten.
    RotateAndForget,
    Revoke,
}

fn steps(number: u64) -> &'static [Step] {
    match number % 4 {
        0 => &[Step::Revoke],
        1 => &[Step::Rotate, Step::Revoke],
        2 => &[Step::Rotate, Step::RotateAndForget],
        _ => &[],
    }
}

/// What is in the index of a key of that version: generations and what is written there.
fn index_at(number: u64, version: u64) -> &'static [(u64, &'static str)] {
    let done = usize::try_from(version - 1).unwrap();
    match steps(number)[..done] {
        [] => &[(0, "live")],
        [Step::Rotate] => &[(0, "retiring"), (1, "live")],
        [Step::Rotate, Step::Revoke] => &[(0, "revoked"), (1, "revoked")],
        [Step::Revoke] => &[(0, "revoked")],
        _ => &[(1, "retiring"), (2, "live")],
    }
}

/// The commits of a key's life. Its body says its number and owner, so that rows alone show what must be counted.
pub(super) fn life(of: &str, number: u64) -> Vec<KeyCommit> {
    let mut made = new_key(of, number);
    let alices = number.is_multiple_of(2);
    let owner = if alices { "alice" } else { "bob" };
    made.owner_tag = if alices { ALICE } else { BOB };
    made.row.body = format!("{number} {owner}").into();
    let later = steps(number).iter().zip(2..).map(|(step, version)| {
        let mut commit = made.clone();
        commit.expected = Expected::Version((version - 1).into());
        commit.row.version = version.into();
        commit.index = index_at(number, version)
            .iter()
            .map(|(generation, body)| entry(place(number, *generation), version, body))
            .collect();
        commit.count = CountChange::None;
        commit.audit = format!("rotate {number} {owner}").into();
        match step {
            Step::Rotate => {}
            Step::RotateAndForget => commit.drop = vec![lookup(place(number, 0))],
            Step::Revoke => {
                commit.count = CountChange::Remove;
                commit.audit = format!("revoke {number} {owner}").into();
            }
        }
        commit
    });
    std::iter::once(made.clone()).chain(later).collect()
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
        if found {
            let row = row.unwrap_or_else(|| panic!("{id} {number} was committed"));
            assert!(row.version.order >= *version, "{id} {number} went back");
            continue;
        }
        assert_eq!(row, None, "{id} {number} is left over");
        for generation in 0..GENERATIONS {
            let left = store.index(lookup(place(*number, generation))).await;
            assert_eq!(
                left.unwrap(),
                None,
                "{id} {number} {generation} is left over"
            );
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
        let done = usize::try_from(row.version.order - 1).unwrap();
        let done = &steps(number)[..done];
        *live.get_mut(owner).unwrap() += 1;
        for step in done {
            let word = match step {
                Step::Rotate | Step::RotateAndForget => "rotate",
                Step::Revoke => {
                    *live.get_mut(owner).unwrap() -= 1;
                    "revoke"
                }
            };
            expected_audit.push(format!("{word} {number} {owner}"));
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
    let mut found = Vec::new();
    for generation in 0..GENERATIONS {
        let place = lookup(place(number, generation));
        found.extend(store.index(place).await.unwrap());
    }
    let expected: Vec<_> = index_at(number, row.version.order)
        .iter()
        .map(|(generation, body)| entry(place(number, *generation), row.version.order, body))
        .collect();
    assert_eq!(found, expected, "{number} at version {}", row.version);
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
