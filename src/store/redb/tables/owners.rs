//! Reads of the owner index.

use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction, TableDefinition, TableError};

use super::{BY_OWNER, BY_OWNER_WHOLE, KEYS, LIVE, TENANTS, audit, key_row, name};
use crate::domain::name::{KeyId, TenantId};
use crate::store::StoreError;
use crate::store::owners::{OwnerEntry, OwnersKeys};

/// Behind every owner tag and key id.
const LAST_TAG: [u8; 16] = [0xff; 16];
const BEHIND_IDS: &str = "\u{10FFFF}";

/// A table that a file of an earlier version does not have until the first write.
fn opened<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match txn.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

/// Whether every key of the tenant is in the index.
pub(in crate::store::redb) fn is_whole(
    txn: &ReadTransaction,
    tenant: &TenantId,
) -> Result<bool, StoreError> {
    let Some(whole) = opened(txn, BY_OWNER_WHOLE)? else {
        return Ok(false);
    };
    let Some(marked) = whole.get(tenant.as_str())? else {
        return Ok(false);
    };
    let record = txn.open_table(TENANTS)?.get(tenant.as_str())?;
    let newest = audit(txn, tenant, 1)?;
    let number = newest.first().map_or(0, |(number, _)| *number);
    Ok(record.is_some_and(|record| marked.value() == (record.value().1, number)))
}

pub(in crate::store::redb) fn page_of_owner(
    txn: &ReadTransaction,
    tenant: &TenantId,
    owner_tag: [u8; 16],
    after: Option<&KeyId>,
    limit: usize,
) -> Result<Option<OwnersKeys>, StoreError> {
    let Some(index) = opened(txn, BY_OWNER)? else {
        return Ok(None);
    };
    if !is_whole(txn, tenant)? {
        return Ok(None);
    }
    let (of, keys) = (tenant.as_str(), txn.open_table(KEYS)?);
    let from = (of, &owner_tag, after.map_or("", KeyId::as_str));
    let to = (of, &owner_tag, BEHIND_IDS);
    let range = (Bound::Excluded(from), Bound::Excluded(to));
    let mut page = OwnersKeys::default();
    for entry in index.range::<(&str, &[u8; 16], &str)>(range)?.take(limit) {
        let (at, _) = entry?;
        let (_, _, id) = at.value();
        let Some(value) = keys.get((of, id))? else {
            return Ok(None);
        };
        page.rows
            .push(key_row(name(KeyId::parse, id)?, value.value()));
    }
    let live = txn.open_table(LIVE)?.get((of, &owner_tag))?;
    page.live = live.map_or(0, |live| live.value());
    Ok(Some(page))
}

/// Those of the entries that are not in the index.
pub(in crate::store::redb) fn missing_owners(
    txn: &ReadTransaction,
    tenant: &TenantId,
    entries: &[OwnerEntry],
) -> Result<Vec<OwnerEntry>, StoreError> {
    let Some(index) = opened(txn, BY_OWNER)? else {
        return Ok(entries.to_vec());
    };
    let mut missing = Vec::new();
    for entry in entries {
        let at = (tenant.as_str(), &entry.owner_tag, entry.key.as_str());
        if index.get(at)?.is_none() {
            missing.push(entry.clone());
        }
    }
    Ok(missing)
}

/// Entries of a tenant in their order, after `after`.
pub(in crate::store::redb) fn owner_entries(
    txn: &ReadTransaction,
    tenant: &TenantId,
    after: Option<&OwnerEntry>,
    limit: usize,
) -> Result<Vec<OwnerEntry>, StoreError> {
    let Some(index) = opened(txn, BY_OWNER)? else {
        return Ok(Vec::new());
    };
    let of = tenant.as_str();
    let first = [0; 16];
    let from = after.map_or((of, &first, ""), |after| {
        (of, &after.owner_tag, after.key.as_str())
    });
    let to = (of, &LAST_TAG, BEHIND_IDS);
    let range = (Bound::Excluded(from), Bound::Excluded(to));
    index
        .range::<(&str, &[u8; 16], &str)>(range)?
        .take(limit)
        .map(|entry| {
            let (at, _) = entry?;
            let (_, tag, id) = at.value();
            Ok(OwnerEntry {
                owner_tag: *tag,
                key: name(KeyId::parse, id)?,
            })
        })
        .collect()
}
