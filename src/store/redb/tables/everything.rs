//! Reads for a check: whole tables a page at a time, and values as they are.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::Bound;

use redb::ReadTransaction;

use super::{INDEX, INDEX_OF, KEYS, LIVE, TENANTS, TOTAL_LIVE, TOTALS, name};
use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};
use crate::store::StoreError;

/// A value as bytes that are others when anything of it is.
pub(in crate::store::redb) fn seen(value: &impl Debug) -> Vec<u8> {
    format!("{value:?}").into_bytes()
}

pub(in crate::store::redb) fn seen_tenant(
    txn: &ReadTransaction,
    id: &TenantId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let value = txn.open_table(TENANTS)?.get(id.as_str())?;
    Ok(value.map(|value| seen(&value.value())))
}

pub(in crate::store::redb) fn seen_key(
    txn: &ReadTransaction,
    tenant: &TenantId,
    id: &KeyId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let value = txn.open_table(KEYS)?.get((tenant.as_str(), id.as_str()))?;
    Ok(value.map(|value| seen(&value.value())))
}

pub(in crate::store::redb) fn seen_entry(
    txn: &ReadTransaction,
    lookup_id: LookupId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let value = txn.open_table(INDEX)?.get(&lookup_id.0)?;
    Ok(value.map(|value| seen(&value.value())))
}

/// Tenants with a record or with keys, in the order of their ids, after `after`.
pub(in crate::store::redb) fn all_tenants(
    txn: &ReadTransaction,
    after: &str,
    limit: usize,
) -> Result<Vec<TenantId>, StoreError> {
    let mut found = BTreeSet::new();
    let (tenants, keys) = (txn.open_table(TENANTS)?, txn.open_table(KEYS)?);
    let from = (Bound::Excluded(after), Bound::Unbounded);
    for entry in tenants.range::<&str>(from)?.take(limit) {
        found.insert(entry?.0.value().to_owned());
    }
    // From one tenant's keys to the next tenant's, without a look at the others.
    let mut last = after.to_owned();
    for _ in 0..limit {
        let behind = format!("{last}\0");
        let mut rest = keys.range::<(&str, &str)>((behind.as_str(), "")..)?;
        let Some(entry) = rest.next() else { break };
        last = entry?.0.value().0.to_owned();
        found.insert(last.clone());
    }
    let names = found.into_iter().take(limit);
    names.map(|id| name(TenantId::parse, &id)).collect()
}

pub(in crate::store::redb) fn all_entries(
    txn: &ReadTransaction,
    after: Option<LookupId>,
    limit: usize,
) -> Result<Vec<LookupId>, StoreError> {
    let after = after.as_ref().map(|id| &id.0);
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    txn.open_table(INDEX)?
        .range::<&[u8; 16]>((from, Bound::Unbounded))?
        .take(limit)
        .map(|entry| Ok(LookupId(*entry?.0.value())))
        .collect()
}

pub(in crate::store::redb) fn lookups(
    txn: &ReadTransaction,
    tenant: &TenantId,
    after: Option<LookupId>,
    limit: usize,
) -> Result<Vec<LookupId>, StoreError> {
    let (id, first) = (tenant.as_str(), [0; 16]);
    let from = match &after {
        Some(after) => Bound::Excluded((id, &after.0)),
        None => Bound::Included((id, &first)),
    };
    let to = Bound::Included((id, &[0xff; 16]));
    txn.open_table(INDEX_OF)?
        .range::<(&str, &[u8; 16])>((from, to))?
        .take(limit)
        .map(|entry| Ok(LookupId(*entry?.0.value().1)))
        .collect()
}

/// Those of the lookup ids that the tenant is not remembered to have.
pub(in crate::store::redb) fn not_remembered(
    txn: &ReadTransaction,
    tenant: &TenantId,
    lookups: &[LookupId],
) -> Result<Vec<LookupId>, StoreError> {
    let table = txn.open_table(INDEX_OF)?;
    let mut missing = Vec::new();
    for id in lookups {
        if table.get((tenant.as_str(), &id.0))?.is_none() {
            missing.push(*id);
        }
    }
    Ok(missing)
}

/// Live keys of each owner of a tenant.
pub(in crate::store::redb) fn counts(
    txn: &ReadTransaction,
    tenant: &TenantId,
) -> Result<Vec<([u8; 16], u64)>, StoreError> {
    let id = tenant.as_str();
    txn.open_table(LIVE)?
        .range::<(&str, &[u8; 16])>((id, &[0; 16])..=(id, &[0xff; 16]))?
        .map(|entry| {
            let (at, count) = entry?;
            Ok((*at.value().1, count.value()))
        })
        .collect()
}

/// The live keys of all owners together, and what they are counted to be.
pub(in crate::store::redb) fn sum_of_counts(
    txn: &ReadTransaction,
) -> Result<(u64, u64), StoreError> {
    let mut sum: u64 = 0;
    for entry in txn.open_table(LIVE)?.range::<(&str, &[u8; 16])>(..)? {
        sum = sum.saturating_add(entry?.1.value());
    }
    let total = txn.open_table(TOTALS)?.get(TOTAL_LIVE)?;
    Ok((sum, total.map_or(0, |total| total.value())))
}
