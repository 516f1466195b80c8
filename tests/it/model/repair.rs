//! Damage is not in the model: nobody repairs what a fallen-back store lacks, and a revocation that would need it is
//! refused, not acknowledged. `redis::damage` holds what is repaired on a real Redis.

use keystile::domain::key::LookupId;
use keystile::domain::name::{KeyId, TenantId};
use keystile::store::repair::{Counted, Cursor, Found, Lists, Mode, Page, Repair, Seen};
use keystile::store::{IndexRow, KeyRow, StoreError, StoreFuture, TenantRow};

use super::cluster::View;

fn no<'a, T: Send + 'a>() -> StoreFuture<'a, T> {
    Box::pin(async { Err(StoreError::Damaged("this is not in the model".to_owned())) })
}

impl Repair for View {
    fn scan_tenants(&self, _: Option<Cursor>) -> StoreFuture<'_, Page<TenantId>> {
        no()
    }

    fn scan_index(&self, _: Option<Cursor>) -> StoreFuture<'_, Page<LookupId>> {
        no()
    }

    fn scan_lookups<'a>(
        &'a self,
        _: &'a TenantId,
        _: Option<Cursor>,
    ) -> StoreFuture<'a, Page<LookupId>> {
        no()
    }

    fn find_tenant<'a>(&'a self, _: &'a TenantId) -> StoreFuture<'a, Option<Found<TenantRow>>> {
        no()
    }

    fn put_tenant(&self, _: TenantRow, _: Seen) -> StoreFuture<'_, bool> {
        no()
    }

    fn has_keys<'a>(&'a self, _: &'a TenantId) -> StoreFuture<'a, bool> {
        no()
    }

    fn find_key<'a>(
        &'a self,
        _: &'a TenantId,
        _: &'a KeyId,
    ) -> StoreFuture<'a, Option<Found<KeyRow>>> {
        no()
    }

    fn put_key<'a>(&'a self, _: &'a TenantId, _: KeyRow, _: Seen) -> StoreFuture<'a, bool> {
        no()
    }

    fn unlist_key<'a>(&'a self, _: &'a TenantId, _: &'a KeyId) -> StoreFuture<'a, bool> {
        no()
    }

    fn find_entry(&self, _: LookupId) -> StoreFuture<'_, Option<Found<IndexRow>>> {
        no()
    }

    fn drop_entry(&self, _: LookupId, _: Seen) -> StoreFuture<'_, bool> {
        no()
    }

    fn forbid_entry(&self, _: LookupId) -> StoreFuture<'_, bool> {
        no()
    }

    fn counted<'a>(&'a self, _: &'a TenantId) -> StoreFuture<'a, Option<Counted>> {
        no()
    }

    fn put_counts<'a>(
        &'a self,
        _: &'a TenantId,
        _: u64,
        _: &'a [([u8; 16], u64)],
        _: u64,
    ) -> StoreFuture<'a, bool> {
        no()
    }

    fn lists<'a>(&'a self, _: &'a TenantId, _: u64, _: Mode) -> StoreFuture<'a, Lists> {
        no()
    }

    fn forgotten_lookups<'a>(
        &'a self,
        _: &'a TenantId,
        _: u64,
        _: &'a [LookupId],
        _: Mode,
    ) -> StoreFuture<'a, u64> {
        no()
    }

    fn is_sum_wrong(&self, _: Mode) -> StoreFuture<'_, bool> {
        no()
    }

    fn forget_tenant<'a>(&'a self, _: &'a TenantId, _: Mode) -> StoreFuture<'a, bool> {
        no()
    }
}
