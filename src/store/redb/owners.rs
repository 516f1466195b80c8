//! The owner index: a table that is written with each key.

use super::EmbeddedStore;
use super::operation::Fix;
use super::repair::PAGE;
use super::tables as t;
use crate::domain::name::{KeyId, TenantId};
use crate::store::owners::{OwnerEntry, OwnerIndex, OwnersKeys};
use crate::store::repair::{Cursor, Mode, Page};
use crate::store::{StoreError, StoreFuture};

impl EmbeddedStore {
    async fn missing_owners(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        entries: &[OwnerEntry],
        mode: Mode,
    ) -> Result<u64, StoreError> {
        let (of, some) = (tenant.clone(), entries.to_vec());
        let missing = self.scan(move |txn| t::missing_owners(txn, &of, &some));
        let missing = missing.await?;
        let count = missing.len() as u64;
        if count > 0 && mode == Mode::Repair {
            self.fix(Fix::Owners {
                tenant: tenant.clone(),
                dek_id,
                put: missing,
                remove: Vec::new(),
            })
            .await?;
        }
        Ok(count)
    }
}

fn cursor(entry: &OwnerEntry) -> Cursor {
    let tag = data_encoding::HEXLOWER.encode(&entry.owner_tag);
    Cursor(format!("{tag}/{}", entry.key))
}

fn entry(cursor: &Cursor) -> Option<OwnerEntry> {
    let (tag, key) = cursor.0.split_once('/')?;
    let tag = data_encoding::HEXLOWER.decode(tag.as_bytes()).ok()?;
    Some(OwnerEntry {
        owner_tag: tag.try_into().ok()?,
        key: KeyId::parse(key).ok()?,
    })
}

impl OwnerIndex for EmbeddedStore {
    fn page<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Option<OwnersKeys>> {
        let (tenant, after) = (tenant.clone(), after.cloned());
        Box::pin(
            self.scan(move |txn| t::page_of_owner(txn, &tenant, owner_tag, after.as_ref(), limit)),
        )
    }

    fn missing<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
        mode: Mode,
    ) -> StoreFuture<'a, u64> {
        Box::pin(self.missing_owners(tenant, dek_id, entries, mode))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<OwnerEntry>> {
        Box::pin(async move {
            let (tenant, after) = (tenant.clone(), from.as_ref().and_then(entry));
            let page = self.scan(move |txn| t::owner_entries(txn, &tenant, after.as_ref(), PAGE));
            let page = page.await?;
            let last = page.last().filter(|_| page.len() == PAGE);
            let next = last.map(cursor);
            Ok((page, next))
        })
    }

    fn remove<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let remove = Fix::Owners {
                tenant: tenant.clone(),
                dek_id,
                put: Vec::new(),
                remove: entries.to_vec(),
            };
            self.fix(remove).await.map(drop)
        })
    }

    fn is_whole<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        mode: Mode,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            if mode == Mode::Repair {
                let tenant = tenant.clone();
                return self.fix(Fix::OwnersWhole { tenant, dek_id }).await;
            }
            let of = tenant.clone();
            self.scan(move |txn| t::is_whole(txn, &of)).await
        })
    }
}
