//! The stored form of records: what is inside the seals.
//!
//! Protobuf by derive, apart from `domain` and from the admin API, so that each can change alone. Field numbers
//! are stored: never reuse one. A reader refuses what it cannot understand in full where security rests on it.

mod actor;
mod change;
mod generation;
mod key_limits;
mod pause;
mod reader;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::clock::Timestamp;
use crate::domain::access::KeyAccess;
use crate::domain::key::{Key, KeyKind, KeyStatus, LookupId};
use crate::domain::limit::{Own, Quota, Rate};
use crate::domain::name::{
    Description, DisplayName, Feature, KeyId, MetadataName, Owner, PlanName, Scope, TenantId,
};
use crate::domain::role::{AdminAccess, Role};
use crate::domain::tenant::{Tenant, TenantStatus};
use crate::domain::version::Version;

use actor::StoredActor;
use generation::{StoredGeneration, decode_generation, stored_generation};
use key_limits::StoredKeyLimits;
use pause::{StoredPause, StoredPaused, read_end, stored_end};
use reader::Reader;

pub use change::{FirstAnswer, decode_done, encode_change, encode_done};

/// A record that opened and yet cannot be read: written by a later version, or by a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored {what} is not understood: {problem}")]
pub struct DecodeError {
    /// Which kind of record.
    pub what: &'static str,
    /// Which part of it.
    pub problem: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredTenant {
    #[prost(string, tag = "1")]
    display_name: String,
    #[prost(bool, tag = "2")]
    suspended: bool,
    #[prost(string, tag = "3")]
    plan: String,
    #[prost(string, repeated, tag = "4")]
    features: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    denied_features: Vec<String>,
    #[prost(btree_map = "string, string", tag = "6")]
    metadata: BTreeMap<String, String>,
    #[prost(int64, tag = "7")]
    created_at: i64,
    #[prost(int64, tag = "8")]
    updated_at: i64,
    #[prost(uint64, tag = "9")]
    version: u64,
    /// As people write it; empty: the plan's.
    #[prost(string, tag = "10")]
    rate: String,
    #[prost(string, tag = "11")]
    quota: String,
    /// Absent: none was set at run time.
    #[prost(message, optional, tag = "12")]
    key_limits: Option<StoredKeyLimits>,
    /// The change that `version` is the order of; 0 in records of before there were ids.
    #[prost(fixed64, tag = "30")]
    change: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredFeatures {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredAccess {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(bool, tag = "3")]
    revoked: bool,
    #[prost(int64, optional, tag = "4")]
    expires_at: Option<i64>,
    #[prost(string, tag = "5")]
    owner: String,
    #[prost(uint32, tag = "6")]
    role: u32,
    #[prost(string, repeated, tag = "7")]
    scopes: Vec<String>,
    #[prost(message, optional, tag = "8")]
    features: Option<StoredFeatures>,
    #[prost(string, repeated, tag = "9")]
    networks: Vec<String>,
    /// As people write it; empty: none.
    #[prost(string, tag = "10")]
    rate: String,
    #[prost(string, tag = "11")]
    quota: String,
    /// The change that `version` is the order of; 0 in records of before there were ids.
    #[prost(fixed64, tag = "30")]
    change: u64,
    /// Lookup ids of the key's other generations.
    #[prost(bytes = "vec", repeated, tag = "31")]
    others: Vec<Vec<u8>>,
    #[prost(bool, tag = "32")]
    forgotten: bool,
    /// The key whose budgets it spends from; empty: its own.
    #[prost(string, tag = "20")]
    budget: String,
    /// A lookup id.
    #[prost(bytes = "vec", optional, tag = "33")]
    elder: Option<Vec<u8>>,
    #[prost(message, optional, tag = "34")]
    paused: Option<StoredPaused>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredKey {
    #[prost(string, tag = "1")]
    display_name: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, tag = "3")]
    owner: String,
    #[prost(uint32, tag = "4")]
    role: u32,
    #[prost(uint32, tag = "5")]
    kind: u32,
    #[prost(int64, optional, tag = "6")]
    revoked_at: Option<i64>,
    #[prost(string, tag = "7")]
    revoke_reason: String,
    #[prost(string, repeated, tag = "8")]
    scopes: Vec<String>,
    #[prost(message, optional, tag = "9")]
    features: Option<StoredFeatures>,
    #[prost(string, repeated, tag = "10")]
    networks: Vec<String>,
    #[prost(int64, optional, tag = "11")]
    expires_at: Option<i64>,
    #[prost(message, repeated, tag = "12")]
    generations: Vec<StoredGeneration>,
    #[prost(int64, tag = "13")]
    created_at: i64,
    #[prost(int64, tag = "14")]
    updated_at: i64,
    #[prost(uint64, tag = "15")]
    version: u64,
    /// As people write it; empty: none.
    #[prost(string, tag = "16")]
    rate: String,
    #[prost(string, tag = "17")]
    quota: String,
    /// 0 what its role gives, 1 itself, 2 none: what was stored before there was a choice has it all.
    #[prost(uint32, tag = "21")]
    admin_access: u32,
    /// Absent in records of before it was kept.
    #[prost(message, optional, tag = "22")]
    created_by: Option<StoredActor>,
    /// The key whose budgets it spends from; empty: its own.
    #[prost(string, tag = "23")]
    budget: String,
    #[prost(message, optional, tag = "24")]
    pause: Option<StoredPause>,
    /// Lookup ids, 16 bytes each.
    #[prost(bytes = "vec", repeated, tag = "20")]
    forgotten: Vec<Vec<u8>>,
    /// The change that `version` is the order of; 0 in records of before there were ids.
    #[prost(fixed64, tag = "30")]
    change: u64,
}

fn version(order: u64, change: u64) -> Version {
    Version { order, change }
}

fn role_number(role: Role) -> u32 {
    match role {
        Role::User => 1,
        Role::TenantAdmin => 2,
        Role::GlobalAdmin => 3,
    }
}

fn optional(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn text(item: Option<impl ToString>) -> String {
    item.map(|item| item.to_string()).unwrap_or_default()
}

fn texts<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    items.into_iter().map(ToString::to_string).collect()
}

fn stored_features(features: Option<&BTreeSet<Feature>>) -> Option<StoredFeatures> {
    features.map(|features| StoredFeatures {
        names: texts(features),
    })
}

/// The bytes of a tenant.
pub fn encode_tenant(tenant: &Tenant) -> Vec<u8> {
    let metadata = tenant
        .metadata
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    StoredTenant {
        display_name: tenant.display_name.to_string(),
        suspended: matches!(tenant.status, TenantStatus::Suspended),
        plan: text(tenant.plan.as_ref()),
        features: texts(&tenant.features),
        denied_features: texts(&tenant.denied_features),
        metadata: metadata.collect(),
        created_at: tenant.created_at.as_millis(),
        updated_at: tenant.updated_at.as_millis(),
        version: tenant.version.order,
        change: tenant.version.change,
        rate: tenant.rate.to_string(),
        quota: tenant.quota.to_string(),
        key_limits: StoredKeyLimits::of(&tenant.key_limits),
    }
    .encode_to_vec()
}

/// The tenant `id` of these bytes, which its data key `incarnation` has opened.
pub fn decode_tenant(id: &TenantId, incarnation: u64, bytes: &[u8]) -> Result<Tenant, DecodeError> {
    let read = Reader("tenant");
    let stored: StoredTenant = read.message(bytes)?;
    let metadata = stored.metadata.iter().map(|(name, value)| {
        Ok((
            read.name(MetadataName::parse, name)?,
            read.name(Description::stored, value)?,
        ))
    });
    Ok(Tenant {
        id: id.clone(),
        incarnation,
        display_name: read.name(DisplayName::stored, &stored.display_name)?,
        status: if stored.suspended {
            TenantStatus::Suspended
        } else {
            TenantStatus::Active
        },
        plan: optional(&stored.plan)
            .map(|text| read.name(PlanName::parse, text))
            .transpose()?,
        features: read.names(Feature::parse, &stored.features)?,
        denied_features: read.names(Feature::parse, &stored.denied_features)?,
        rate: read.name(|text| Own::parse(text, Rate::parse), &stored.rate)?,
        quota: read.name(|text| Own::parse(text, Quota::parse), &stored.quota)?,
        key_limits: StoredKeyLimits::read(stored.key_limits.as_ref(), &read)?,
        metadata: metadata.collect::<Result<_, _>>()?,
        created_at: Timestamp::from_millis(stored.created_at),
        updated_at: Timestamp::from_millis(stored.updated_at),
        version: version(stored.version, stored.change),
    })
}

/// The bytes of an access record; tenant, key and generation are in the seal, not here.
pub fn encode_access(access: &KeyAccess) -> Vec<u8> {
    let (expires_at, paused) = stored_end(access.expires_at, access.paused);
    StoredAccess {
        digest: access.digest.to_vec(),
        version: access.version.order,
        change: access.version.change,
        others: access.others.iter().map(|id| id.0.to_vec()).collect(),
        revoked: access.revoked,
        forgotten: access.forgotten,
        elder: access.elder.map(|id| id.0.to_vec()),
        budget: text(access.budget.as_ref()),
        expires_at,
        paused,
        owner: access.owner.to_string(),
        role: role_number(access.role),
        scopes: texts(&access.scopes),
        features: stored_features(access.features.as_ref()),
        networks: texts(&access.networks),
        rate: text(access.limits.rate),
        quota: text(access.limits.quota),
    }
    .encode_to_vec()
}

/// The access record of these bytes, for the place that the seal proved.
pub fn decode_access(
    tenant: &TenantId,
    key: &KeyId,
    generation: u32,
    bytes: &[u8],
) -> Result<KeyAccess, DecodeError> {
    let read = Reader("access record");
    let stored: StoredAccess = read.message(bytes)?;
    let elder = stored.elder.as_deref();
    let elder = elder.map(|id| Ok(LookupId(read.array(id)?)));
    let others = stored.others.iter();
    let others = others.map(|id| Ok(LookupId(read.array(id)?)));
    let (expires_at, paused) = read_end(stored.expires_at, stored.paused);
    Ok(KeyAccess {
        tenant: tenant.clone(),
        key: key.clone(),
        generation,
        digest: read.array(&stored.digest)?,
        version: version(stored.version, stored.change),
        others: others.collect::<Result<_, _>>()?,
        revoked: stored.revoked,
        forgotten: stored.forgotten,
        elder: elder.transpose()?,
        expires_at,
        paused,
        owner: read.name(Owner::parse, &stored.owner)?,
        role: read.role(stored.role)?,
        scopes: read.names(Scope::parse, &stored.scopes)?,
        features: read.features(stored.features.as_ref())?,
        networks: read.networks(&stored.networks)?,
        limits: read.limits(&stored.rate, &stored.quota)?,
        budget: read.key(&stored.budget)?,
    })
}

/// The bytes of a key.
pub fn encode_key(key: &Key) -> Vec<u8> {
    let (revoked_at, revoke_reason) = match &key.status {
        KeyStatus::Active => (None, String::new()),
        KeyStatus::Revoked { at, reason } => (Some(at.as_millis()), reason.to_string()),
    };
    StoredKey {
        display_name: key.display_name.to_string(),
        description: key.description.to_string(),
        owner: key.owner.to_string(),
        role: role_number(key.role),
        admin_access: match key.admin_access {
            AdminAccess::Role => 0,
            AdminAccess::Itself => 1,
            AdminAccess::None => 2,
        },
        kind: match key.kind {
            KeyKind::Live => 1,
            KeyKind::Test => 2,
            KeyKind::Imported => 3,
        },
        revoked_at,
        revoke_reason,
        pause: key.pause.as_deref().map(StoredPause::of),
        scopes: texts(&key.scopes),
        features: stored_features(key.features.as_ref()),
        networks: texts(&key.networks),
        expires_at: key.expires_at.map(Timestamp::as_millis),
        generations: key.generations.iter().map(stored_generation).collect(),
        created_at: key.created_at.as_millis(),
        updated_at: key.updated_at.as_millis(),
        version: key.version.order,
        change: key.version.change,
        rate: text(key.limits.rate),
        quota: text(key.limits.quota),
        forgotten: key.forgotten.iter().map(|id| id.0.to_vec()).collect(),
        created_by: key.created_by.as_ref().map(StoredActor::of),
        budget: text(key.budget.as_ref()),
    }
    .encode_to_vec()
}

/// The key `id` of these bytes.
pub fn decode_key(tenant: &TenantId, id: &KeyId, bytes: &[u8]) -> Result<Key, DecodeError> {
    let read = Reader("key");
    let stored: StoredKey = read.message(bytes)?;
    if stored.generations.is_empty() {
        return Err(read.fail("no generation"));
    }
    let reason = read.name(Description::stored, &stored.revoke_reason)?;
    let generations = stored
        .generations
        .iter()
        .map(|generation| decode_generation(&read, generation));
    let created_by = stored.created_by.as_ref().map(|actor| actor.read(&read));
    let pause = stored.pause.as_ref().map(|pause| pause.read(&read));
    let forgotten = stored.forgotten.iter();
    let forgotten = forgotten.map(|id| Ok(LookupId(read.array(id)?)));
    Ok(Key {
        tenant: tenant.clone(),
        id: id.clone(),
        display_name: read.name(DisplayName::stored, &stored.display_name)?,
        description: read.name(Description::stored, &stored.description)?,
        owner: read.name(Owner::parse, &stored.owner)?,
        role: read.role(stored.role)?,
        admin_access: match stored.admin_access {
            0 => AdminAccess::Role,
            1 => AdminAccess::Itself,
            2 => AdminAccess::None,
            _ => return Err(read.fail("admin access")),
        },
        kind: match stored.kind {
            1 => KeyKind::Live,
            2 => KeyKind::Test,
            3 => KeyKind::Imported,
            _ => return Err(read.fail("kind")),
        },
        status: match stored.revoked_at {
            None => KeyStatus::Active,
            Some(at) => KeyStatus::Revoked {
                at: Timestamp::from_millis(at),
                reason,
            },
        },
        scopes: read.names(Scope::parse, &stored.scopes)?,
        features: read.features(stored.features.as_ref())?,
        networks: read.networks(&stored.networks)?,
        limits: read.limits(&stored.rate, &stored.quota)?,
        expires_at: stored.expires_at.map(Timestamp::from_millis),
        generations: generations.collect::<Result<_, _>>()?,
        forgotten: forgotten.collect::<Result<_, _>>()?,
        created_by: created_by.transpose()?,
        pause: pause.transpose()?.map(Box::new),
        budget: read.key(&stored.budget)?,
        created_at: Timestamp::from_millis(stored.created_at),
        updated_at: Timestamp::from_millis(stored.updated_at),
        version: version(stored.version, stored.change),
    })
}
