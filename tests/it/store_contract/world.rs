//! Commits to start from, and all that a store shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use keystile::domain::key::LookupId;
use keystile::domain::name::{KeyId, TenantId};
use keystile::store::{
    CommitError, CountChange, Expected, IndexRow, KeyCommit, KeyRow, Store, TenantCommit, TenantRow,
};

pub(crate) type Shared = Arc<dyn Store>;

pub(crate) const DEK: u64 = 11;
pub(crate) const ALICE: [u8; 16] = [0xA1; 16];
pub(crate) const BOB: [u8; 16] = [0xB0; 16];

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

pub(crate) fn key(number: u64) -> KeyId {
    KeyId::parse(&format!("key{number:08}")).unwrap()
}

pub(crate) fn lookup(number: u64) -> LookupId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    LookupId(id)
}

pub(crate) fn entry(number: u64, version: u64, body: &str) -> IndexRow {
    IndexRow {
        lookup_id: lookup(number),
        version: version.into(),
        revoked: body == "revoked",
        body: body.into(),
    }
}

/// Makes the tenant, version 1.
pub(crate) fn new_tenant(id: &str) -> TenantCommit {
    TenantCommit {
        expected: Expected::New,
        row: TenantRow {
            id: tenant(id),
            version: 1.into(),
            dek_id: DEK,
            data_dek: format!("data key of {id}").into(),
            vault_dek: format!("vault key of {id}").into(),
            body: format!("{id} v1").into(),
        },
        audit: format!("make {id}").into(),
        request: None,
    }
}

/// Suspends the tenant: version 2.
pub(crate) fn suspend(made: &TenantCommit) -> TenantCommit {
    let mut commit = made.clone();
    commit.expected = Expected::Version(1.into());
    commit.row.version = 2.into();
    commit.row.body = b"suspended".to_vec();
    commit.audit = b"suspend".to_vec();
    commit
}

/// Makes key `number` of ALICE with one index entry of the same number.
pub(crate) fn new_key(of: &str, number: u64) -> KeyCommit {
    KeyCommit {
        tenant: tenant(of),
        dek_id: DEK,
        expected: Expected::New,
        row: KeyRow {
            id: key(number),
            version: 1.into(),
            body: format!("key {number} live").into(),
        },
        index: vec![entry(number, 1, "live")],
        drop: Vec::new(),
        owner_tag: ALICE,
        count: CountChange::Add {
            per_owner: 1_000_000,
            total: None,
        },
        audit: format!("create {number}").into(),
        request: None,
    }
}

/// Revokes what `new_key` made: version 2.
pub(crate) fn revoke(made: &KeyCommit) -> KeyCommit {
    let mut commit = made.clone();
    commit.expected = Expected::Version(1.into());
    commit.row.version = 2.into();
    commit.row.body = b"revoked".to_vec();
    for entry in &mut commit.index {
        entry.version = 2.into();
        entry.revoked = true;
        entry.body = b"revoked".to_vec();
    }
    commit.count = CountChange::Remove;
    commit.audit = b"revoke".to_vec();
    commit
}

/// A store with these tenants in it.
pub(crate) async fn with_tenants(store: &Shared, ids: &[&str]) {
    for id in ids {
        store.commit_tenant(new_tenant(id)).await.unwrap();
    }
}

/// Which refusal, in a form to compare.
pub(crate) fn word(result: Result<(), CommitError>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// All that a store shows of some tenants and of the index entries with numbers below 32.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    tenants: Vec<TenantRow>,
    keys: BTreeMap<String, Vec<KeyRow>>,
    audit: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
    live: BTreeMap<String, [(u64, u64); 2]>,
    index: Vec<IndexRow>,
}

pub(crate) async fn contents(store: &Shared, ids: &[&str]) -> Contents {
    let mut all = Contents {
        tenants: store.tenants(None, 100).await.unwrap(),
        keys: BTreeMap::new(),
        audit: BTreeMap::new(),
        live: BTreeMap::new(),
        index: Vec::new(),
    };
    for id in ids {
        let (name, of) = ((*id).to_owned(), tenant(id));
        let keys = store.keys(&of, None, 100).await.unwrap();
        let audit = store.audit(&of, 100).await.unwrap();
        let live = [
            store.live_keys(&of, ALICE).await.unwrap(),
            store.live_keys(&of, BOB).await.unwrap(),
        ];
        all.keys.insert(name.clone(), keys);
        all.audit.insert(name.clone(), audit);
        all.live.insert(name, live);
    }
    for number in 0..32 {
        all.index.extend(store.index(lookup(number)).await.unwrap());
    }
    all
}

pub(crate) async fn texts_of_audit(store: &Shared, id: &str) -> Vec<(u64, String)> {
    let entries = store.audit(&tenant(id), 1000).await.unwrap();
    entries
        .into_iter()
        .map(|(number, body)| (number, String::from_utf8(body).unwrap()))
        .collect()
}

/// Makes all commits at once, each in a task, and answers them in the order given.
pub(crate) async fn commit_all(
    store: &Shared,
    commits: Vec<KeyCommit>,
) -> Vec<Result<(), CommitError>> {
    let tasks: Vec<_> = commits
        .into_iter()
        .map(|commit| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.commit_key(commit).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}
