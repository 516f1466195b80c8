//! The tables of the file, and how they are read. Names and types are stored: a change needs a new format version.

mod everything;
mod owners;

use std::ops::Bound;

use redb::{ReadTransaction, TableDefinition};

use crate::clock::Timestamp;
use crate::domain::key::LookupId;
use crate::domain::name::{InvalidName, KeyId, TenantId};
use crate::store::redb::version_prefix;
use crate::store::{IdempotencyRecord, IndexRow, KeyRow, StoreError, TenantRow};

pub(super) use everything::{
    all_entries, all_tenants, counts, lookups, not_remembered, seen, seen_entry, seen_key,
    seen_tenant, sum_of_counts,
};
pub(super) use owners::{is_whole, missing_owners, owner_entries, page_of_owner};

/// The version of what is below.
pub(super) const FORMAT: u32 = 1;

/// Facts about the store. The table and its `format` entry are the same in every version to come.
pub(super) const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_KEYRING: &str = "keyring_id";

/// Bodies have the change's id before them: [`version_prefix`]. A version is its order here.
///
/// version, data key id, wrapped data key, wrapped vault data key, sealed body
pub(super) type TenantValue = (u64, u64, &'static [u8], &'static [u8], &'static [u8]);
pub(super) const TENANTS: TableDefinition<'_, &str, TenantValue> = TableDefinition::new("tenants");

/// (tenant, key) -> version, sealed body
pub(super) const KEYS: TableDefinition<'_, (&str, &str), (u64, &[u8])> =
    TableDefinition::new("keys");

/// lookup id -> tenant, key, version, sealed body
pub(super) type IndexValue = (&'static str, &'static str, u64, &'static [u8]);
pub(super) const INDEX: TableDefinition<'_, &[u8; 16], IndexValue> = TableDefinition::new("index");

/// Which lookup ids a tenant has, so that they can be deleted with it.
pub(super) const INDEX_OF: TableDefinition<'_, (&str, &[u8; 16]), ()> =
    TableDefinition::new("index_of");

/// (tenant, owner tag) -> live keys; no entry for none
pub(super) const LIVE: TableDefinition<'_, (&str, &[u8; 16]), u64> = TableDefinition::new("live");

/// Sums over all tenants.
pub(super) const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
pub(super) const TOTAL_LIVE: &str = "live_keys";

/// (tenant, sequence number from 1) -> sealed entry
pub(super) const AUDIT: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("audit");

/// (tenant, tag) -> made at, expires at, sealed body. A file of an earlier version does not have it.
pub(super) type RequestValue = (i64, i64, &'static [u8]);
pub(super) const REQUESTS: TableDefinition<'_, (&str, &[u8; 16]), RequestValue> =
    TableDefinition::new("requests");

/// (expires at, tenant, tag): which requests can be forgotten.
pub(super) const REQUESTS_DUE: TableDefinition<'_, (i64, &str, &[u8; 16]), ()> =
    TableDefinition::new("requests_due");

/// (tenant, limit with its window and key) -> used, end of the window. A file of an earlier version does not have it.
pub(super) const QUOTAS: TableDefinition<'_, (&str, &str), (u64, i64)> =
    TableDefinition::new("quotas");

/// (tenant, owner tag, key): the owner index. A file of an earlier version does not have it.
pub(super) const BY_OWNER: TableDefinition<'_, (&str, &[u8; 16], &str), ()> =
    TableDefinition::new("by_owner");

/// tenant -> data key id, number of the last audit entry. As long as both are the tenant's, every key of it is in
/// [`BY_OWNER`]: a version that does not write that one has written nothing since.
pub(super) const BY_OWNER_WHOLE: TableDefinition<'_, &str, (u64, u64)> =
    TableDefinition::new("by_owner_whole");

/// `redb` does not say which of its errors pass: what it calls corrupted stays so, the rest may be the disk.
impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::Corrupted(problem) => Self::Damaged(problem),
            error @ (E::TableTypeMismatch { .. }
            | E::TableIsMultimap(_)
            | E::TableIsNotMultimap(_)
            | E::TypeDefinitionChanged { .. }
            | E::TableDoesNotExist(_)) => Self::Damaged(error.to_string()),
            error => Self::Unavailable(Box::new(error)),
        }
    }
}

macro_rules! store_error_from {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}
store_error_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

fn name<T>(parse: fn(&str) -> Result<T, InvalidName>, stored: &str) -> Result<T, StoreError> {
    parse(stored).map_err(|error| StoreError::Damaged(format!("a stored name: {error}")))
}

pub(super) fn format(txn: &ReadTransaction) -> Result<Option<String>, StoreError> {
    meta(txn, META_FORMAT)
}

pub(super) fn keyring_id(txn: &ReadTransaction) -> Result<Option<String>, StoreError> {
    meta(txn, META_KEYRING)
}

fn meta(txn: &ReadTransaction, entry: &str) -> Result<Option<String>, StoreError> {
    let value = txn.open_table(META)?.get(entry)?;
    Ok(value.map(|value| value.value().to_owned()))
}

pub(super) fn index(
    txn: &ReadTransaction,
    lookup_id: LookupId,
) -> Result<Option<IndexRow>, StoreError> {
    let value = txn.open_table(INDEX)?.get(&lookup_id.0)?;
    Ok(value.map(|value| {
        let (_, _, order, body) = value.value();
        let (version, revoked, body) = version_prefix::read(order, body);
        IndexRow {
            lookup_id,
            version,
            revoked,
            body: body.to_vec(),
        }
    }))
}

fn tenant_row(id: TenantId, value: (u64, u64, &'_ [u8], &'_ [u8], &'_ [u8])) -> TenantRow {
    let (order, dek_id, data_dek, vault_dek, body) = value;
    let (version, _, body) = version_prefix::read(order, body);
    TenantRow {
        id,
        version,
        dek_id,
        data_dek: data_dek.to_vec(),
        vault_dek: vault_dek.to_vec(),
        body: body.to_vec(),
    }
}

pub(super) fn tenant(
    txn: &ReadTransaction,
    id: &TenantId,
) -> Result<Option<TenantRow>, StoreError> {
    let value = txn.open_table(TENANTS)?.get(id.as_str())?;
    Ok(value.map(|value| tenant_row(id.clone(), value.value())))
}

pub(super) fn tenants(
    txn: &ReadTransaction,
    after: Option<&TenantId>,
    limit: usize,
) -> Result<Vec<TenantRow>, StoreError> {
    let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
    txn.open_table(TENANTS)?
        .range::<&str>((from, Bound::Unbounded))?
        .take(limit)
        .map(|entry| {
            let (id, value) = entry?;
            Ok(tenant_row(
                name(TenantId::parse, id.value())?,
                value.value(),
            ))
        })
        .collect()
}

pub(super) fn key(
    txn: &ReadTransaction,
    tenant: &TenantId,
    id: &KeyId,
) -> Result<Option<KeyRow>, StoreError> {
    let value = txn.open_table(KEYS)?.get((tenant.as_str(), id.as_str()))?;
    Ok(value.map(|value| key_row(id.clone(), value.value())))
}

fn key_row(id: KeyId, (order, body): (u64, &[u8])) -> KeyRow {
    let (version, _, body) = version_prefix::read(order, body);
    KeyRow {
        id,
        version,
        body: body.to_vec(),
    }
}

pub(super) fn keys(
    txn: &ReadTransaction,
    tenant: &TenantId,
    after: Option<&KeyId>,
    limit: usize,
) -> Result<Vec<KeyRow>, StoreError> {
    // No key id is empty, so excluding it starts at the tenant's first key.
    let from = (tenant.as_str(), after.map_or("", KeyId::as_str));
    let mut rows = Vec::new();
    for entry in txn
        .open_table(KEYS)?
        .range::<(&str, &str)>((Bound::Excluded(from), Bound::Unbounded))?
        .take(limit)
    {
        let (at, value) = entry?;
        let (of, id) = at.value();
        if of != tenant.as_str() {
            break;
        }
        rows.push(key_row(name(KeyId::parse, id)?, value.value()));
    }
    Ok(rows)
}

pub(super) fn live_keys(
    txn: &ReadTransaction,
    tenant: &TenantId,
    owner_tag: [u8; 16],
) -> Result<(u64, u64), StoreError> {
    let of_owner = txn.open_table(LIVE)?.get((tenant.as_str(), &owner_tag))?;
    let total = txn.open_table(TOTALS)?.get(TOTAL_LIVE)?;
    Ok((
        of_owner.map_or(0, |count| count.value()),
        total.map_or(0, |count| count.value()),
    ))
}

/// What is used of a quota.
pub(super) fn quota(
    txn: &ReadTransaction,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    let table = match txn.open_table(QUOTAS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let row = table.get((tenant.as_str(), name))?;
    Ok(row.map(|row| row.value().0))
}

pub(super) fn audit(
    txn: &ReadTransaction,
    tenant: &TenantId,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    txn.open_table(AUDIT)?
        .range((tenant.as_str(), 0)..=(tenant.as_str(), u64::MAX))?
        .rev()
        .take(limit)
        .map(|entry| {
            let (at, value) = entry?;
            Ok((at.value().1, value.value().to_vec()))
        })
        .collect()
}

pub(super) fn audit_after(
    txn: &ReadTransaction,
    tenant: &TenantId,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let (after, last) = ((tenant.as_str(), after), (tenant.as_str(), u64::MAX));
    txn.open_table(AUDIT)?
        .range::<(&str, u64)>((Bound::Excluded(after), Bound::Included(last)))?
        .take(limit)
        .map(|entry| {
            let (at, value) = entry?;
            Ok((at.value().1, value.value().to_vec()))
        })
        .collect()
}

pub(super) fn request(
    txn: &ReadTransaction,
    tenant: &TenantId,
    tag: [u8; 16],
) -> Result<Option<IdempotencyRecord>, StoreError> {
    let table = match txn.open_table(REQUESTS) {
        // The first write makes it.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let value = table.get((tenant.as_str(), &tag))?;
    Ok(value.map(|value| {
        let (made_at, expires_at, body) = value.value();
        IdempotencyRecord {
            tag,
            made_at: Timestamp::from_millis(made_at),
            expires_at: Timestamp::from_millis(expires_at),
            body: body.to_vec(),
        }
    }))
}
