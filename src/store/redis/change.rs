//! A change of a key as the scripts take it: a list of texts. Its order is in `lua/keys.lua`.

use redis::Value;

use crate::domain::key::LookupId;
use crate::domain::name::KeyId;
use crate::store::{CountChange, Expected, KeyCommit, RequestRow, StoreError};

/// Where the index entries begin.
const INDEX_AT: usize = 15;

/// The list.
#[derive(Clone, Debug)]
pub(super) struct Change(Vec<Vec<u8>>);

/// An index entry to be written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexWrite {
    pub(super) lookup_id: LookupId,
    pub(super) version: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// Empty: the entry is to be removed. A sealed one never is.
    pub(super) body: Vec<u8>,
    /// The change that it came with, which may have claimed the lookup id.
    pub(super) change: Vec<u8>,
}

fn number(number: impl Into<i128>) -> Vec<u8> {
    number.into().to_string().into_bytes()
}

pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what} is not what this version writes"))
}

/// The four texts of a request.
pub(super) fn request_args(request: Option<&RequestRow>) -> [Vec<u8>; 4] {
    request.map_or_else(
        || [Vec::new(), number(0), number(0), Vec::new()],
        |request| {
            [
                request.tag.to_vec(),
                number(request.made_at.as_millis()),
                number(request.expires_at.as_millis()),
                request.body.clone(),
            ]
        },
    )
}

impl Change {
    pub(super) fn new(commit: &KeyCommit, begun: u64, name: &str) -> Self {
        let expected = match commit.expected {
            Expected::New => b"new".to_vec(),
            Expected::FirstOfTenant => b"first".to_vec(),
            Expected::Version(version) => number(version),
        };
        let (count, per_owner) = match commit.count {
            CountChange::None => ("", 0),
            CountChange::Add { per_owner, .. } => ("add", per_owner),
            CountChange::Remove => ("remove", 0),
        };
        let [tag, made_at, expires_at, answer] = request_args(commit.request.as_ref());
        let mut list = vec![
            number(commit.dek_id),
            expected,
            commit.row.id.as_str().as_bytes().to_vec(),
            number(commit.row.version),
            commit.row.body.clone(),
            count.as_bytes().to_vec(),
            number(per_owner),
            commit.owner_tag.to_vec(),
            commit.audit.clone(),
            tag,
            made_at,
            expires_at,
            answer,
            number(begun),
            name.as_bytes().to_vec(),
        ];
        for entry in &commit.index {
            list.extend([
                entry.lookup_id.0.to_vec(),
                number(entry.version),
                entry.body.clone(),
            ]);
        }
        for lookup_id in &commit.drop {
            list.extend([lookup_id.0.to_vec(), number(commit.row.version), Vec::new()]);
        }
        Self(list)
    }

    /// The same from a script's answer.
    pub(super) fn parse(value: &Value) -> Result<Self, StoreError> {
        let list: Vec<Vec<u8>> =
            redis::from_redis_value_ref(value).map_err(|_| damaged("a kept revocation"))?;
        if list.len() < INDEX_AT || !(list.len() - INDEX_AT).is_multiple_of(3) {
            return Err(damaged("a kept revocation"));
        }
        Ok(Self(list))
    }

    pub(super) fn args(&self) -> &[Vec<u8>] {
        &self.0
    }

    pub(super) fn dek_id(&self) -> &[u8] {
        &self.0[0]
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0[2]
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.0[14]
    }

    pub(super) fn index(&self) -> Result<Vec<IndexWrite>, StoreError> {
        self.0[INDEX_AT..]
            .chunks_exact(3)
            .map(|entry| {
                Ok(IndexWrite {
                    lookup_id: lookup_id(&entry[0])?,
                    version: entry[1].clone(),
                    key: self.key().to_vec(),
                    body: entry[2].clone(),
                    change: self.name().to_vec(),
                })
            })
            .collect()
    }
}

impl IndexWrite {
    /// From the worker's list of what waits.
    pub(super) fn parse(value: &Value) -> Result<Self, StoreError> {
        let list: Vec<Vec<u8>> =
            redis::from_redis_value_ref(value).map_err(|_| damaged("an outbox entry"))?;
        let [id, version, key, body, change]: [Vec<u8>; 5] =
            list.try_into().map_err(|_| damaged("an outbox entry"))?;
        Ok(Self {
            lookup_id: lookup_id(&id)?,
            version,
            key,
            body,
            change,
        })
    }
}

fn lookup_id(bytes: &[u8]) -> Result<LookupId, StoreError> {
    let id = bytes.try_into().map_err(|_| damaged("a lookup id"))?;
    Ok(LookupId(id))
}

/// The key that a refused or kept change is of, for logs.
pub(super) fn key_of(change: &Change) -> Option<KeyId> {
    KeyId::parse(std::str::from_utf8(change.key()).ok()?).ok()
}
