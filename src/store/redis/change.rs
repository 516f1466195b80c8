//! A change of a key as the scripts take it: a list of texts. Its order is in `lua/keys.lua`.

use redis::Value;

use crate::domain::key::LookupId;
use crate::domain::name::KeyId;
use crate::domain::version::Version;
use crate::store::{CountChange, Expected, IdempotencyRecord, KeyCommit, StoreError};

/// Where the index entries begin.
const INDEX_AT: usize = 15;

/// The list.
#[derive(Clone, Debug)]
pub(super) struct Change(Vec<Vec<u8>>);

/// An index entry to be written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexWrite {
    pub(super) lookup_id: LookupId,
    /// Version, and whether it revokes.
    pub(super) version_tag: Vec<u8>,
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

/// A version as the scripts take and compare it: its order and, after a space, the id of the change.
pub(super) fn version_text(version: Version) -> String {
    match version.change {
        0 => version.order.to_string(),
        change => format!("{} {change}", version.order),
    }
}

/// The version of such a text.
pub(super) fn parse_version(text: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(text).ok()?;
    let (order, change) = text.split_once(' ').unwrap_or((text, "0"));
    Some(Version {
        order: order.parse().ok()?,
        change: change.parse().ok()?,
    })
}

/// The same of an index entry, and whether it revokes.
fn version_tag(version: Version, is_revoked: bool) -> Vec<u8> {
    match is_revoked {
        true => format!("{} {} r", version.order, version.change).into_bytes(),
        false => version_text(version).into_bytes(),
    }
}

/// The four texts of a request.
pub(super) fn request_args(request: Option<&IdempotencyRecord>) -> [Vec<u8>; 4] {
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
            Expected::Lost => b"lost".to_vec(),
            Expected::Version(version) => version_text(version).into_bytes(),
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
            version_text(commit.row.version).into_bytes(),
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
                version_tag(entry.version, entry.revoked),
                entry.body.clone(),
            ]);
        }
        for lookup_id in &commit.drop {
            let version = version_text(commit.row.version).into_bytes();
            list.extend([lookup_id.0.to_vec(), version, Vec::new()]);
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

    pub(super) fn version(&self) -> &[u8] {
        &self.0[3]
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
                    version_tag: entry[1].clone(),
                    key: self.key().to_vec(),
                    body: entry[2].clone(),
                    change: self.name().to_vec(),
                })
            })
            .collect()
    }
}

impl IndexWrite {
    /// Makes it a revocation, as all entries of a kept revocation are: those of before stamps said so too.
    pub(super) fn revoke(mut self) -> Result<Self, StoreError> {
        if !self.version_tag.ends_with(b" r") {
            let version =
                parse_version(&self.version_tag).ok_or_else(|| damaged("a version tag"))?;
            self.version_tag = version_tag(version, true);
        }
        Ok(self)
    }

    /// From the worker's list of what waits.
    pub(super) fn parse(value: &Value) -> Result<Self, StoreError> {
        let list: Vec<Vec<u8>> =
            redis::from_redis_value_ref(value).map_err(|_| damaged("an outbox entry"))?;
        let [id, version_tag, key, body, change]: [Vec<u8>; 5] =
            list.try_into().map_err(|_| damaged("an outbox entry"))?;
        Ok(Self {
            lookup_id: lookup_id(&id)?,
            version_tag,
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
