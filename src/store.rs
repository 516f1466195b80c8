//! Where records live. What every backend promises, and nothing of what is inside a record.
//!
//! A backend stores sealed bytes, versions and counters. It cannot open a record and does not need to. Every
//! promise below is held by one contract-test suite that runs on each backend.
//!
//! - A commit is atomic: record, index entries, counters and audit entry together, or none of it.
//! - A commit is durable when it returns, and watchers have been told before it returns.
//! - A version that is expected and not found is a [`CommitError::Conflict`]; nothing is written.
//! - A request is done once: see [`IdempotencyRecord`].
#![warn(missing_docs)]

pub mod budgets;
pub mod codec;
pub mod damage;
pub mod owners;
pub mod records;
pub mod redb;
pub mod redis;
pub mod repair;
mod sidecar;
mod write;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::block::{Block, Source};
use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::version::Version;
use budgets::{Settle, Settled};
use damage::Damage;
use owners::OwnerIndex;
use repair::Repair;

/// A store's answer, to be awaited.
pub type StoreFuture<'a, T, E = StoreError> =
    Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Why a store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or did not answer in time; trying again may help.
    #[error("the store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answers and refuses what it was asked. The text is the operator's: why, and what to do.
    #[error("the key store cannot be used: {0}")]
    Unusable(String),
    /// It answers and has lost its data, or is not our store. Whoever can write to it could bring that about.
    #[error("the key store cannot be used: {0}")]
    Lost(String),
    /// What it holds cannot be right; trying again does not help.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether it has lost its data, or is not our store.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

/// Which limit on the number of keys was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountScope {
    /// Live keys of one owner.
    Owner,
    /// Live keys of all tenants together.
    Total,
}

/// Why a commit was refused; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else changed the record since it was read.
    #[error("the record was modified concurrently")]
    Conflict,
    /// The record that was to be new is there already.
    #[error("the record exists already")]
    Exists,
    /// The request was done before; see [`IdempotencyRecord`].
    #[error("the request was done before")]
    Repeated,
    /// An index entry of the key is revoked, and this change would not be a revocation: the key's own record is of an
    /// earlier state. Whoever tries revokes the key again, so that both agree.
    #[error("the key is revoked")]
    Revoked,
    /// Nobody knows how many live keys the tenant has: its counts were lost.
    #[error("the live keys of the tenant are not counted")]
    Uncounted,
    /// The tenant or key is not there (any more).
    #[error("the record does not exist")]
    NotFound,
    /// One more live key would be too many.
    #[error("the limit of {limit} keys is reached")]
    CountLimit {
        /// Whose limit.
        scope: CountScope,
        /// The limit.
        limit: u64,
        /// How many there are.
        current: u64,
    },
    /// The store itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A tenant as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRow {
    /// Whose.
    pub id: TenantId,
    /// The change that it comes from.
    pub version: Version,
    /// The id of its data key; a tenant made again under an old name has another.
    pub dek_id: u64,
    /// The data key, wrapped by the `data` keyring.
    pub data_dek: Vec<u8>,
    /// The vault data key, wrapped by the `vault` keyring; empty when tokens are not kept.
    pub vault_dek: Vec<u8>,
    /// The sealed tenant.
    pub body: Vec<u8>,
}

/// A key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Which.
    pub id: KeyId,
    /// The change that it comes from.
    pub version: Version,
    /// The sealed key.
    pub body: Vec<u8>,
}

/// What a Check needs of one generation, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Where it is found.
    pub lookup_id: LookupId,
    /// The version of the key it was derived from.
    pub version: Version,
    /// Whether the key is revoked, for who cannot open the record. It is believed when it says so: then the key is
    /// refused, whatever the record says.
    pub revoked: bool,
    /// The sealed access record.
    pub body: Vec<u8>,
}

/// Remembers that a request was done, and what came of it, so that its caller may repeat it.
///
/// It is written with the commit that does the request. While the tenant has one with that tag which does not
/// expire until `made_at`, the commit is [`CommitError::Repeated`] and writes nothing. Expired rows are removed
/// in time; until then they may still be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Stands for the caller and the request.
    pub tag: [u8; 16],
    /// The time of the commit.
    pub made_at: Timestamp,
    /// From when on it is as if it were not there.
    pub expires_at: Timestamp,
    /// The sealed answer.
    pub body: Vec<u8>,
}

/// What must be there before a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the record is new.
    New,
    /// For a key: nothing, and the tenant has never had a key (for `keystile bootstrap`).
    FirstOfTenant,
    /// This version, of the same change.
    Version(Version),
    /// For a key: none that can be read. Its record was lost or altered, and its index entries are there.
    Lost,
}

/// How a commit changes the number of live keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountChange {
    /// The number stays.
    None,
    /// One more, if the limits allow it.
    Add {
        /// The most live keys of the owner.
        per_owner: u64,
        /// The most live keys of all tenants together, if limited.
        total: Option<u64>,
    },
    /// One less. Where none is counted it stays so: counts that were lost keep nobody from revoking a key.
    Remove,
}

/// A change of one tenant, to be committed.
///
/// With [`Expected::Version`] the data key of `row` is that of the stored tenant. If the tenant has another by
/// now, it was deleted and made again: [`CommitError::NotFound`].
#[derive(Clone, Debug)]
pub struct TenantCommit {
    /// What must be there now.
    pub expected: Expected,
    /// What shall be there.
    pub row: TenantRow,
    /// The sealed audit entry.
    pub audit: Vec<u8>,
    /// The request that is done, if it may be repeated.
    pub request: Option<IdempotencyRecord>,
}

/// A change of one key, to be committed.
#[derive(Clone, Debug)]
pub struct KeyCommit {
    /// Whose.
    pub tenant: TenantId,
    /// The data key that everything here is sealed under. If the tenant has another by now, it was deleted
    /// and made again: [`CommitError::NotFound`].
    pub dek_id: u64,
    /// What must be there now.
    pub expected: Expected,
    /// What shall be there.
    pub row: KeyRow,
    /// Index entries to write. *Revoked* is final: a revoked entry is written over whatever is there of the key, and
    /// an entry that is not does not take the place of one that is: [`CommitError::Revoked`]. Else one that is there
    /// with a greater order stays as it is.
    /// For a new key an entry that is there already, under any tenant, is [`CommitError::Exists`]; so is an
    /// entry of another key, always.
    pub index: Vec<IndexRow>,
    /// Index entries of the key to remove; another's stays. A backend may keep their places for a while, so that a
    /// write that was held up puts nothing back: until then the lookup ids are taken.
    pub drop: Vec<LookupId>,
    /// Stands for the owner in the counters and the owner index. It is that of the key for good.
    pub owner_tag: [u8; 16],
    /// What happens to the counters.
    pub count: CountChange,
    /// The sealed audit entry.
    pub audit: Vec<u8>,
    /// The request that is done, if it may be repeated.
    pub request: Option<IdempotencyRecord>,
}

impl KeyCommit {
    /// Whether it revokes the key, or repeats that it is revoked.
    pub fn is_revocation(&self) -> bool {
        !self.index.is_empty() && self.index.iter().all(|entry| entry.revoked)
    }
}

/// What becomes of an index entry that is to be written where one of the same key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// It is written.
    Written,
    /// A later one is there and stays.
    Later,
    /// A revoked one is there and stays.
    Revoked,
}

impl IndexRow {
    /// What becomes of this entry where there is one of the same tenant, key and data key with that version. Every
    /// backend decides so; `lua/write_index.lua` is the same in Lua.
    pub fn succeeds(&self, there: Version, is_revoked_there: bool) -> Succession {
        if self.revoked {
            Succession::Written
        } else if is_revoked_there {
            Succession::Revoked
        } else if there.order > self.version.order {
            Succession::Later
        } else {
            Succession::Written
        }
    }
}

/// Facts about the store itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// The backend's word, for example `embedded`.
    pub kind: &'static str,
    /// Where it is, without credentials.
    pub location: String,
}

pub use sidecar::{Sidecar, SidecarReport};

/// Whether a key is refused, to be awaited.
pub type Refuses<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Receives an invalidation for every change, before the commit returns.
pub trait Watcher: Send + Sync + 'static {
    /// An index entry was written or removed.
    fn index_changed(&self, lookup_id: LookupId);
    /// A tenant was written or removed.
    fn tenant_changed(&self, tenant: &TenantId);
    /// Looks at once at an index entry that may have changed, and answers whether its key is refused from now on,
    /// whatever becomes of the store. Who keeps nothing has nothing to look at.
    fn refuses(&self, _lookup_id: LookupId, _now: Timestamp) -> Refuses<'_> {
        Box::pin(std::future::ready(true))
    }
    /// Blocks of this part of all sources were written or removed.
    fn blocks_changed(&self, _part: u8) {}
    /// From now on invalidations may be lost.
    fn tracking_lost(&self);
    /// No invalidation is lost from now on. What was read before may have changed meanwhile.
    fn tracking_restored(&self);
}

/// Who of the live sidecars has applied a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// How many have.
    pub by: usize,
    /// The ids of those that have not, in order.
    pub late: Vec<String>,
}

/// A store: all of the traits below. Code that needs one of them takes that trait.
pub trait Store: Records + BlockStore + BudgetStore + Leases {
    /// What and where it is.
    fn info(&self) -> StoreInfo;

    /// What a check and a repair need beside what is here.
    fn repair(&self) -> &dyn Repair;

    /// Remembers which keyring the store is sealed with at first use, and compares ever after.
    /// Answers the id that it remembers.
    fn keyring_id<'a>(&'a self, id_if_new: &'a str) -> StoreFuture<'a, String>;

    /// Whether it can answer; for readiness.
    fn ping(&self) -> StoreFuture<'_, ()>;
}

/// Tenants, keys, index entries and audit.
pub trait Records: Invalidations {
    /// The damage that was met in it.
    fn damage(&self) -> &Damage;

    /// The index entry of a lookup id.
    fn index(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<IndexRow>>;

    /// A tenant.
    fn tenant<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<TenantRow>>;

    /// Whether a tenant that is not there was deleted, and not lost. A store that changes as a whole loses none alone.
    fn was_deleted<'a>(&'a self, _tenant: &'a TenantId) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    /// Tenants in the order of their ids, after `after`, at most `limit`.
    fn tenants<'a>(
        &'a self,
        after: Option<&'a TenantId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<TenantRow>>;

    /// A key of a tenant.
    fn key<'a>(&'a self, tenant: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, Option<KeyRow>>;

    /// Keys of a tenant in the order of their ids, after `after`, at most `limit`.
    fn keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<KeyRow>>;

    /// Keys of a tenant by their owners. None: the store keeps no such index.
    fn owner_index(&self) -> Option<&dyn OwnerIndex> {
        None
    }

    /// How many live keys the owner behind the tag has, and how many all tenants have together.
    fn live_keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
    ) -> StoreFuture<'a, (u64, u64)>;

    /// The newest audit entries of a tenant with their sequence numbers, newest first, at most `limit`.
    /// A tenant's entries are numbered from 1, without gaps, in the order of their commits.
    fn audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>>;

    /// Audit entries of a tenant as [`Self::audit`] numbers them, oldest first, after `after`, at most `limit`.
    fn audit_after<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>>;

    /// What is remembered of a request. What was committed with it is in the index when this answers.
    fn request<'a>(
        &'a self,
        tenant: &'a TenantId,
        tag: [u8; 16],
    ) -> StoreFuture<'a, Option<IdempotencyRecord>>;

    /// Writes a tenant. Making a tenant that exists is [`CommitError::Exists`].
    fn commit_tenant(&self, commit: TenantCommit) -> StoreFuture<'_, (), CommitError>;

    /// Writes a key with its index entries, counters and audit entry.
    fn commit_key(&self, commit: KeyCommit) -> StoreFuture<'_, (), CommitError>;

    /// Continues the audit of a tenant that is copied from another store: appends `entries` if the last one that is
    /// there has the number `after`, else [`CommitError::Conflict`]. If the tenant has another data key than
    /// `dek_id` or is not there: [`CommitError::NotFound`].
    fn append_audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        after: u64,
        entries: Vec<Vec<u8>>,
    ) -> StoreFuture<'a, (), CommitError>;

    /// Deletes a tenant with all that it has: its data keys first of all, so that nothing opens any more
    /// whatever else is left, then keys, index entries, counters, requests and audit. `expected` is the version,
    /// `dek_id` the data key: if the tenant has another by now, it was deleted and made again, and is left alone:
    /// [`CommitError::NotFound`].
    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        expected: Version,
    ) -> StoreFuture<'a, (), CommitError>;
}

/// Pushes of what was changed.
pub trait Invalidations: fmt::Debug + Send + Sync + 'static {
    /// Tells `watcher` of every change from now on.
    fn watch(&self, watcher: Arc<dyn Watcher>);
}

/// The sidecars that share the store.
pub trait Fleet: fmt::Debug + Send + Sync + 'static {
    /// The other processes that live and check requests from this store, in the order of their ids.
    fn sidecars(&self) -> StoreFuture<'_, Vec<Sidecar>>;

    /// Waits until every live sidecar has looked at these index entries and refuses their keys from then on, for `within`
    /// at most.
    fn late<'a>(
        &'a self,
        lookup_ids: &'a [LookupId],
        within: Duration,
    ) -> StoreFuture<'a, Confirmed>;
}

/// Blocks that sidecars share.
pub trait BlockStore: Invalidations {
    /// Whether other processes see the blocks that are put here. A store of one process keeps none.
    fn shares_blocks(&self) -> bool {
        false
    }

    /// Tells other processes of a block.
    fn put_block(&self, _block: Block) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// The blocks of one part of all sources, those that are over and not yet removed among them.
    fn blocks(&self, _part: u8) -> StoreFuture<'_, Vec<Block>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Removes the block of one source, or of all.
    fn drop_blocks(&self, _only: Option<Source>) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Budgets of rates and quotas.
pub trait BudgetStore: Fleet {
    /// Charges a request to the budgets of a tenant, and settles leases on them. The buckets of a quota live at least as
    /// long as their window; what a store loses of them, it loses as a whole process crashes or fails over.
    fn settle<'a>(&'a self, tenant: &'a TenantId, call: &'a Settle) -> StoreFuture<'a, Settled>;
}

/// Which control plane leads.
pub trait Leases: fmt::Debug + Send + Sync + 'static {
    /// Whether `holder` has the lease of that name for so long from now: nobody else has it, or it had it before. A
    /// store of one process gives it always.
    fn lease<'a>(
        &'a self,
        _name: &'a str,
        _holder: &'a str,
        _length: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(true) })
    }
}
