//! The owner index: one sorted set in the tenant's slot, written by the scripts that write keys.

use redis::cmd;

use super::change::damaged;
use super::read::key_or_nothing;
use super::{Access, RedisStore, scripts};
use crate::domain::name::{KeyId, TenantId};
use crate::store::damage::Entry;
use crate::store::owners::{OwnerEntry, OwnerIndex, OwnersKeys};
use crate::store::repair::{Cursor, Mode, Page};
use crate::store::{StoreError, StoreFuture};

/// How long an owner tag is.
const TAG_LEN: usize = 16;

fn member(entry: &OwnerEntry) -> Vec<u8> {
    [&entry.owner_tag[..], entry.key.as_str().as_bytes()].concat()
}

/// None: it is none of ours.
fn entry(member: &[u8]) -> Option<OwnerEntry> {
    let (tag, id) = member.split_at_checked(TAG_LEN)?;
    Some(OwnerEntry {
        owner_tag: tag.try_into().ok()?,
        key: KeyId::parse(std::str::from_utf8(id).ok()?).ok()?,
    })
}

fn owners_keys(page: &[Vec<u8>]) -> Result<Option<OwnersKeys>, StoreError> {
    let Some((live, rows)) = page.split_first() else {
        return Ok(None);
    };
    // What is no count is one that cannot be right.
    let live = std::str::from_utf8(live).ok();
    let live = live.and_then(|text| text.parse().ok()).unwrap_or(0);
    let row = |pair: &[Vec<u8>]| {
        let id = std::str::from_utf8(&pair[0]).ok();
        let id = id.and_then(|id| KeyId::parse(id).ok());
        let id = id.ok_or_else(|| damaged("a key id in the owner index"))?;
        Ok(key_or_nothing(id, &pair[1]))
    };
    let rows: Result<Vec<_>, StoreError> = rows.chunks_exact(2).map(row).collect();
    Ok(Some(OwnersKeys { rows: rows?, live }))
}

impl RedisStore {
    async fn page_of_owner(
        &self,
        tenant: &TenantId,
        owner_tag: [u8; TAG_LEN],
        after: Option<&KeyId>,
        limit: usize,
    ) -> Result<Option<OwnersKeys>, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.by_owner(), names.ids(), names.keys(), names.owners()];
        let (after, limit) = (after.map_or("", KeyId::as_str), limit.to_string());
        let args = [&owner_tag[..], after.as_bytes(), limit.as_bytes()];
        let page = self.link.read_by(&scripts::PAGE_OF_OWNER, &keys, &args);
        let page: Result<Vec<Vec<u8>>, StoreError> = page.await;
        match page.and_then(|page| owners_keys(&page)) {
            Err(StoreError::Damaged(met)) => {
                self.damage.met(Entry::Lists, Some(tenant), &met);
                Ok(None)
            }
            page => page,
        }
    }

    async fn missing_owners(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        entries: &[OwnerEntry],
        mode: Mode,
    ) -> Result<u64, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.tenant.clone(), names.by_owner()];
        let dek_id = dek_id.to_string();
        let members: Vec<_> = entries.iter().map(member).collect();
        let mut args = vec![dek_id.as_bytes(), mode.arg()];
        args.extend(members.iter().map(Vec::as_slice));
        match self.link.run(&scripts::MISSING_OWNERS, &keys, &args).await {
            // Of another type than ours: none of them is there.
            Err(StoreError::Damaged(_)) if mode == Mode::Check => Ok(entries.len() as u64),
            Err(StoreError::Damaged(_)) => {
                self.mend(tenant, &[]).await?;
                self.link.run(&scripts::MISSING_OWNERS, &keys, &args).await
            }
            missing => missing,
        }
    }

    async fn scan_owners(
        &self,
        tenant: &TenantId,
        from: Option<Cursor>,
    ) -> Result<Page<OwnerEntry>, StoreError> {
        let by_owner = self.names.of_tenant(tenant).by_owner();
        let (members, next) = self.scan_members(&by_owner, from).await?;
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for member in members {
            match entry(&member) {
                Some(entry) => ours.push(entry),
                None => others.push(member),
            }
        }
        if !others.is_empty() && self.access == Access::Write {
            let mut remove = cmd("ZREM");
            remove.arg(by_owner).arg(others);
            self.link.ask::<u64>(&remove).await?;
        }
        Ok((ours, next))
    }

    async fn remove_owners(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        entries: &[OwnerEntry],
    ) -> Result<(), StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.tenant.clone(), names.by_owner()];
        let dek_id = dek_id.to_string();
        let members: Vec<_> = entries.iter().map(member).collect();
        let mut args = vec![dek_id.as_bytes()];
        args.extend(members.iter().map(Vec::as_slice));
        let removed = self.link.run(&scripts::REMOVE_OWNERS, &keys, &args);
        removed.await.map(|_count: u64| ())
    }
}

impl OwnerIndex for RedisStore {
    fn page<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; TAG_LEN],
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Option<OwnersKeys>> {
        Box::pin(self.page_of_owner(tenant, owner_tag, after, limit))
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
        Box::pin(self.scan_owners(tenant, from))
    }

    fn remove<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.remove_owners(tenant, dek_id, entries))
    }

    /// It is compared with the list of ids at every listing: there is nothing to say.
    fn is_whole<'a>(
        &'a self,
        tenant: &'a TenantId,
        _dek_id: u64,
        _mode: Mode,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let page = self.page_of_owner(tenant, [0; TAG_LEN], None, 0).await?;
            Ok(page.is_some())
        })
    }
}
