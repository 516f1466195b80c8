//! What is as it lies in the file, for a check, and writes that hold only if it is still so.
//!
//! The file belongs to one process and a change to one transaction, so little can be wrong that is no damage of the file as
//! a whole: what a check compares here is what a faulty version or an editor of files has written.

use super::EmbeddedStore;
use super::operation::{Fix, Operation};
use super::tables as t;
use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};
use crate::store::repair::{Counted, Cursor, Found, Lists, Mode, Page, Repair, Seen};
use crate::store::{CommitError, IndexRow, KeyRow, StoreError, StoreFuture, TenantRow};

/// How many rows are read for one page.
pub(super) const PAGE: usize = 1000;

impl EmbeddedStore {
    /// Writes a repair. Answers whether what it was for was still there.
    pub(super) async fn fix(&self, fix: Fix) -> Result<bool, StoreError> {
        match self.writer.submit(Operation::Fix(fix)).await {
            Ok(()) => Ok(true),
            Err(CommitError::Store(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

fn next<T>(page: &[T], cursor: impl Fn(&T) -> String) -> Option<Cursor> {
    let last = page.last().filter(|_| page.len() == PAGE);
    last.map(|last| Cursor(cursor(last)))
}

fn lookup_id(cursor: Option<&Cursor>) -> Option<LookupId> {
    let bytes = data_encoding::HEXLOWER.decode(cursor?.0.as_bytes()).ok()?;
    Some(LookupId(bytes.try_into().ok()?))
}

impl Repair for EmbeddedStore {
    fn scan_tenants(&self, from: Option<Cursor>) -> StoreFuture<'_, Page<TenantId>> {
        Box::pin(async move {
            let from = from.map(|cursor| cursor.0).unwrap_or_default();
            let page = self
                .scan(move |txn| t::all_tenants(txn, &from, PAGE))
                .await?;
            let cursor = next(&page, ToString::to_string);
            Ok((page, cursor))
        })
    }

    fn scan_index(&self, from: Option<Cursor>) -> StoreFuture<'_, Page<LookupId>> {
        Box::pin(async move {
            let after = lookup_id(from.as_ref());
            let page = self
                .scan(move |txn| t::all_entries(txn, after, PAGE))
                .await?;
            let cursor = next(&page, ToString::to_string);
            Ok((page, cursor))
        })
    }

    fn scan_lookups<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<LookupId>> {
        Box::pin(async move {
            let (tenant, after) = (tenant.clone(), lookup_id(from.as_ref()));
            let page = self.scan(move |txn| t::lookups(txn, &tenant, after, PAGE));
            let page = page.await?;
            let cursor = next(&page, ToString::to_string);
            Ok((page, cursor))
        })
    }

    fn find_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> StoreFuture<'a, Option<Found<TenantRow>>> {
        Box::pin(async move {
            let seen = self.point(|txn| t::seen_tenant(txn, tenant))?;
            let row = self.point(|txn| t::tenant(txn, tenant))?;
            Ok(seen.map(|seen| Found {
                row,
                seen: Seen(seen),
            }))
        })
    }

    fn put_tenant(&self, row: TenantRow, seen: Seen) -> StoreFuture<'_, bool> {
        Box::pin(self.fix(Fix::Tenant { row, seen: seen.0 }))
    }

    fn has_keys<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let first = self.point(|txn| t::keys(txn, tenant, None, 1))?;
            Ok(!first.is_empty())
        })
    }

    fn find_key<'a>(
        &'a self,
        tenant: &'a TenantId,
        key: &'a KeyId,
    ) -> StoreFuture<'a, Option<Found<KeyRow>>> {
        Box::pin(async move {
            let seen = self.point(|txn| t::seen_key(txn, tenant, key))?;
            let row = self.point(|txn| t::key(txn, tenant, key))?;
            Ok(seen.map(|seen| Found {
                row,
                seen: Seen(seen),
            }))
        })
    }

    fn put_key<'a>(
        &'a self,
        tenant: &'a TenantId,
        row: KeyRow,
        seen: Seen,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.fix(Fix::Key {
            tenant: tenant.clone(),
            row,
            seen: seen.0,
        }))
    }

    /// There is no list beside the keys.
    fn unlist_key<'a>(&'a self, _: &'a TenantId, _: &'a KeyId) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    fn find_entry(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<Found<IndexRow>>> {
        Box::pin(async move {
            let seen = self.point(|txn| t::seen_entry(txn, lookup_id))?;
            let row = self.point(|txn| t::index(txn, lookup_id))?;
            Ok(seen.zip(row).map(|(seen, row)| Found {
                row: Some(row),
                seen: Seen(seen),
            }))
        })
    }

    fn drop_entry(&self, lookup_id: LookupId, seen: Seen) -> StoreFuture<'_, bool> {
        Box::pin(self.fix(Fix::DropEntry {
            lookup_id,
            seen: seen.0,
        }))
    }

    fn forbid_entry(&self, lookup_id: LookupId) -> StoreFuture<'_, bool> {
        Box::pin(self.fix(Fix::ForbidEntry(lookup_id)))
    }

    fn counted<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<Counted>> {
        Box::pin(async move {
            if self.point(|txn| t::tenant(txn, tenant))?.is_none() {
                return Ok(None);
            }
            let of = tenant.clone();
            let owners = self.scan(move |txn| t::counts(txn, &of)).await?;
            let newest = self.point(|txn| t::audit(txn, tenant, 1))?;
            let all = owners.iter().map(|(_, count)| count).sum();
            Ok(Some(Counted {
                owners,
                all: Some(all),
                published: Some(all),
                number: newest.first().map_or(0, |(number, _)| *number),
            }))
        })
    }

    fn put_counts<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        owners: &'a [([u8; 16], u64)],
        number: u64,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.fix(Fix::Counts {
            tenant: tenant.clone(),
            dek_id,
            owners: owners.to_vec(),
            number,
        }))
    }

    /// There are none beside the records.
    fn lists<'a>(&'a self, _: &'a TenantId, _: u64, _: Mode) -> StoreFuture<'a, Lists> {
        Box::pin(async { Ok(Lists::default()) })
    }

    fn forgotten_lookups<'a>(
        &'a self,
        tenant: &'a TenantId,
        _: u64,
        lookups: &'a [LookupId],
        mode: Mode,
    ) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let missing = self.point(|txn| t::not_remembered(txn, tenant, lookups))?;
            let count = missing.len() as u64;
            if count > 0 && mode == Mode::Repair {
                let tenant = tenant.clone();
                let lookups = missing;
                self.fix(Fix::Lookups { tenant, lookups }).await?;
            }
            Ok(count)
        })
    }

    fn is_sum_wrong(&self, mode: Mode) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let (sum, total) = self.scan(t::sum_of_counts).await?;
            if sum != total && mode == Mode::Repair {
                self.fix(Fix::Sum(sum)).await?;
            }
            Ok(sum != total)
        })
    }

    /// The list of tenants is their records.
    fn forget_tenant<'a>(&'a self, _: &'a TenantId, _: Mode) -> StoreFuture<'a, bool> {
        Box::pin(async { Ok(false) })
    }
}
