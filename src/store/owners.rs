//! The owner index: which keys of a tenant are whose, so that a listing of one owner reads no others.
//!
//! It is derived from the keys and written with them. A store that an earlier version wrote has none, or not of every key,
//! until it is completed: then it is not *whole*, and nobody lists by it.

use super::repair::{Cursor, Mode, Page};
use super::{KeyRow, StoreFuture};
use crate::domain::name::{KeyId, TenantId};

/// One key in the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerEntry {
    /// Stands for the owner.
    pub owner_tag: [u8; 16],
    /// Which key.
    pub key: KeyId,
}

/// Keys of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnersKeys {
    /// Some of them, in the order of their ids. One whose record is lost or cannot be read has no body.
    pub rows: Vec<KeyRow>,
    /// How many live keys the owner has as they are counted.
    pub live: u64,
}

/// Finds keys by their owner.
pub trait OwnerIndex: Send + Sync {
    /// Keys of an owner in the order of their ids, after `after`, at most `limit`. None: the index is not whole.
    fn page<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Option<OwnersKeys>>;

    /// How many of these entries are missing. A repair puts them there.
    fn missing<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
        mode: Mode,
    ) -> StoreFuture<'a, u64>;

    /// All entries of a tenant. Some more than once.
    fn scan<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<OwnerEntry>>;

    /// Removes entries that are no key's.
    fn remove<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
    ) -> StoreFuture<'a, ()>;

    /// Whether every key of the tenant has its entry, and there is no other. A repair that has made it so says so by this,
    /// and from then on it is listed by.
    fn is_whole<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        mode: Mode,
    ) -> StoreFuture<'a, bool>;
}
