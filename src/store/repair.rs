//! What a check and a repair of a store need beside [`super::Store`].
//!
//! Everything as it lies there, whatever it is, and writes that hold only if nobody else has written meanwhile: safe beside
//! running control planes.

use super::{IndexRow, KeyRow, StoreFuture, TenantRow};
use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};

/// Where a scan goes on; only the store that gave it knows what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) String);

/// What a scan has found, and where it goes on; none at its end.
pub type Page<T> = (Vec<T>, Option<Cursor>);

/// What was seen in a place: a write that names it holds only if it is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen(pub(super) Vec<u8>);

/// What is in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The record, if one can be read.
    pub row: Option<T>,
    /// What was seen.
    pub seen: Seen,
}

/// The live keys of a tenant as they are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By owner tag, in their order, without owners that have none.
    pub owners: Vec<([u8; 16], u64)>,
    /// Of all owners; none if that is not known.
    pub all: Option<u64>,
    /// What the sum over all tenants was told of this one.
    pub published: Option<u64>,
    /// The number of the last change: as long as it is the same, nothing was changed.
    pub number: u64,
}

/// How the lists by which a tenant and its keys are found differ from its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// The list of tenants does not name it.
    pub unlisted: bool,
    /// It counts as deleted.
    pub forgotten: bool,
    /// Keys that the list of keys does not name, or names without a key.
    pub keys: u64,
    /// Changes that wait for the index.
    pub waiting: u64,
    /// Entries that are of another type than ours.
    pub types: u64,
}

/// Markers that are lost. On a Cluster each slot has one, by which a server that has lost its data is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostMarkers {
    /// How many can be put back, or were: the data of their slots is there.
    pub alone: u64,
    /// How many cannot: data was lost with them.
    pub with_data: u64,
}

/// Whether something is only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is written.
    Check,
    /// What can be put right is.
    Repair,
}

/// Sees and puts right what the store itself cannot: which record is right, its caller knows.
pub trait Repair: Send + Sync {
    /// Markers that are lost. Where any are, nothing else can be read.
    fn lost_markers(&self, _mode: Mode) -> StoreFuture<'_, LostMarkers> {
        Box::pin(async { Ok(LostMarkers::default()) })
    }

    /// Tenants of which anything is stored: a record, keys, counts, or a name in the list. Some more than once.
    fn scan_tenants(&self, from: Option<Cursor>) -> StoreFuture<'_, Page<TenantId>>;

    /// Lookup ids that have an index entry, whatever is in it. Some more than once.
    fn scan_index(&self, from: Option<Cursor>) -> StoreFuture<'_, Page<LookupId>>;

    /// Lookup ids that a tenant is remembered to have.
    fn scan_lookups<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<LookupId>>;

    /// A tenant's record.
    fn find_tenant<'a>(&'a self, tenant: &'a TenantId)
    -> StoreFuture<'a, Option<Found<TenantRow>>>;

    /// Puts a tenant's record in the place of what was seen.
    fn put_tenant(&self, row: TenantRow, seen: Seen) -> StoreFuture<'_, bool>;

    /// Whether a tenant has keys, with or without a record.
    fn has_keys<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, bool>;

    /// A key's record.
    fn find_key<'a>(
        &'a self,
        tenant: &'a TenantId,
        key: &'a KeyId,
    ) -> StoreFuture<'a, Option<Found<KeyRow>>>;

    /// Puts a key's record in the place of what was seen.
    fn put_key<'a>(
        &'a self,
        tenant: &'a TenantId,
        row: KeyRow,
        seen: Seen,
    ) -> StoreFuture<'a, bool>;

    /// Takes a key that is not there out of the list of keys.
    fn unlist_key<'a>(&'a self, tenant: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, bool>;

    /// What is in the place of an index entry. None: nothing, or what is left of one that was removed.
    fn find_entry(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<Found<IndexRow>>>;

    /// Removes what was seen in the place of an index entry.
    fn drop_entry(&self, lookup_id: LookupId, seen: Seen) -> StoreFuture<'_, bool>;

    /// Lets nobody pass by the entry at a lookup id any more, whatever it is and whosever. Answers whether there was one.
    fn forbid_entry(&self, lookup_id: LookupId) -> StoreFuture<'_, bool>;

    /// What is counted of a tenant. None: it has no record.
    fn counted<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<Counted>>;

    /// Counts the live keys of a tenant anew, and the sum with them, unless it was changed after `number`.
    fn put_counts<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        owners: &'a [([u8; 16], u64)],
        number: u64,
    ) -> StoreFuture<'a, bool>;

    /// Compares the lists of a tenant with its records.
    fn lists<'a>(&'a self, tenant: &'a TenantId, dek_id: u64, mode: Mode)
    -> StoreFuture<'a, Lists>;

    /// How many of these lookup ids the tenant is not remembered to have.
    fn forgotten_lookups<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        lookups: &'a [LookupId],
        mode: Mode,
    ) -> StoreFuture<'a, u64>;

    /// Whether the sum over all tenants is not that of what it was told.
    fn is_sum_wrong(&self, mode: Mode) -> StoreFuture<'_, bool>;

    /// Takes what is left of a tenant that has neither a record nor keys out of the list and the sum.
    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, mode: Mode) -> StoreFuture<'a, bool>;
}
