//! One change inside a write transaction that it shares with others.
//!
//! Every change is checked in full before its first write. A refused one has therefore written nothing, and the
//! others in the transaction stand.

mod owners;
mod repair;

use redb::{ReadableTable, Table, WriteTransaction};

use crate::clock::Timestamp;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::domain::version::Version;
use crate::store::redb::idempotency::Requests;
use crate::store::redb::operation::{Operation, QuotaRow, Stop, Touched};
use crate::store::redb::tables as t;
use crate::store::redb::version_prefix;
use crate::store::write::Write;
use crate::store::{
    CommitError, CountChange, CountScope, Expected, IndexRow, KeyCommit, Succession, TenantCommit,
};

/// All tables, open for writing.
pub(super) struct Tables<'txn> {
    meta: Table<'txn, &'static str, &'static str>,
    tenants: Table<'txn, &'static str, t::TenantValue>,
    keys: Table<'txn, (&'static str, &'static str), (u64, &'static [u8])>,
    index: Table<'txn, &'static [u8; 16], t::IndexValue>,
    index_of: Table<'txn, (&'static str, &'static [u8; 16]), ()>,
    live: Table<'txn, (&'static str, &'static [u8; 16]), u64>,
    totals: Table<'txn, &'static str, u64>,
    audit: Table<'txn, (&'static str, u64), &'static [u8]>,
    requests: Requests<'txn>,
    quotas: Table<'txn, (&'static str, &'static str), (u64, i64)>,
    by_owner: Table<'txn, (&'static str, &'static [u8; 16], &'static str), ()>,
    by_owner_whole: Table<'txn, &'static str, (u64, u64)>,
}

impl<'txn> Tables<'txn> {
    /// Opens them, and makes those that are missing.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            meta: txn.open_table(t::META)?,
            tenants: txn.open_table(t::TENANTS)?,
            keys: txn.open_table(t::KEYS)?,
            index: txn.open_table(t::INDEX)?,
            index_of: txn.open_table(t::INDEX_OF)?,
            live: txn.open_table(t::LIVE)?,
            totals: txn.open_table(t::TOTALS)?,
            audit: txn.open_table(t::AUDIT)?,
            requests: Requests::open(txn)?,
            quotas: txn.open_table(t::QUOTAS)?,
            by_owner: txn.open_table(t::BY_OWNER)?,
            by_owner_whole: txn.open_table(t::BY_OWNER_WHOLE)?,
        })
    }

    /// Marks a new file as a store of this format.
    pub(super) fn mark_new(&mut self) -> Result<(), redb::StorageError> {
        let format = t::FORMAT.to_string();
        self.meta.insert(t::META_FORMAT, format.as_str()).map(drop)
    }

    pub(super) fn apply(&mut self, operation: &Operation) -> Result<Touched, Stop> {
        match operation {
            Operation::Write(write) => self.write(write),
            Operation::Fix(fix) => self.fix(fix),
            Operation::RememberKeyring(id) => self.remember_keyring(id),
            Operation::Quotas(rows, now) => self.write_quotas(rows, *now),
        }
    }

    fn write(&mut self, write: &Write) -> Result<Touched, Stop> {
        match write {
            Write::Tenant(commit) => self.write_tenant(commit),
            Write::Key(commit) => self.write_key(commit),
            Write::DeleteTenant {
                tenant,
                dek_id,
                expected,
            } => self.delete_tenant(tenant, *dek_id, *expected),
            Write::AppendAudit {
                tenant,
                dek_id,
                after,
                entries,
            } => self.continue_audit(tenant, *dek_id, *after, entries),
        }
    }

    fn remember_keyring(&mut self, id: &str) -> Result<Touched, Stop> {
        if self.meta.get(t::META_KEYRING)?.is_none() {
            self.meta.insert(t::META_KEYRING, id)?;
        }
        Ok(Touched::default())
    }

    /// Never less than was written before: calls are answered in another order than they are written.
    fn write_quotas(&mut self, rows: &[QuotaRow], now: Timestamp) -> Result<Touched, Stop> {
        for row in rows {
            let at = (row.tenant.as_str(), row.name.as_str());
            let before = self.quotas.get(at)?.map(|kept| kept.value().0);
            if before.is_none() {
                self.forget_quotas(&row.tenant, now)?;
            }
            let used = row.used.max(before.unwrap_or(0));
            self.quotas.insert(at, (used, row.until))?;
        }
        Ok(Touched::default())
    }

    /// When a window begins, the tenant's windows that have ended are of no use any more.
    fn forget_quotas(&mut self, tenant: &TenantId, now: Timestamp) -> Result<(), Stop> {
        let id = tenant.as_str();
        let end = format!("{id}\0");
        let of_tenant = (id, "")..(end.as_str(), "");
        self.quotas
            .retain_in(of_tenant, |_, (_, until)| until > now.as_millis())?;
        Ok(())
    }

    fn write_tenant(&mut self, commit: &TenantCommit) -> Result<Touched, Stop> {
        let row = &commit.row;
        self.requests
            .check(row.id.as_str(), commit.request.as_ref())?;
        let current = self.tenant_version(&row.id)?;
        // The data key tells a tenant from one that was made again under its name.
        let same = current.filter(|(_, dek_id)| *dek_id == row.dek_id);
        match commit.expected {
            Expected::New | Expected::FirstOfTenant => expect_none(current.is_some())?,
            Expected::Lost => return Err(CommitError::NotFound.into()),
            Expected::Version(version) => {
                expect_version(version, same.map(|(version, _)| version))?;
            }
        }
        let body = version_prefix::put(row.version, false, &row.body);
        let value = (
            row.version.order,
            row.dek_id,
            row.data_dek.as_slice(),
            row.vault_dek.as_slice(),
            body.as_slice(),
        );
        self.tenants.insert(row.id.as_str(), value)?;
        self.requests
            .write(row.id.as_str(), commit.request.as_ref())?;
        self.append_audit(&row.id, &commit.audit)?;
        if current.is_none() {
            self.begin_owners(&row.id, row.dek_id)?;
        }
        Ok(Touched {
            index: Vec::new(),
            tenant: Some(row.id.clone()),
        })
    }

    fn write_key(&mut self, commit: &KeyCommit) -> Result<Touched, Stop> {
        let (tenant, row) = (commit.tenant.as_str(), &commit.row);
        self.check_key(commit)?;
        let stale = self.check_index(commit)?;
        let counts = self.counts_after(commit)?;

        let body = version_prefix::put(row.version, false, &row.body);
        let value = (row.version.order, body.as_slice());
        self.keys.insert((tenant, row.id.as_str()), value)?;
        self.write_owner(commit)?;
        let fresh = commit.index.iter().zip(stale).filter(|(_, stale)| !stale);
        let mut touched = Touched::default();
        for (entry, _) in fresh {
            self.write_index(commit, entry)?;
            touched.index.push(entry.lookup_id);
        }
        for lookup_id in &commit.drop {
            if self.drop_index(commit, *lookup_id)? {
                touched.index.push(*lookup_id);
            }
        }
        if let Some((of_owner, total)) = counts {
            self.set_counts(commit, of_owner, total)?;
        }
        self.requests.write(tenant, commit.request.as_ref())?;
        self.append_audit(&commit.tenant, &commit.audit)?;
        Ok(touched)
    }

    fn check_key(&self, commit: &KeyCommit) -> Result<(), Stop> {
        let tenant = commit.tenant.as_str();
        self.expect_data_key(&commit.tenant, commit.dek_id)?;
        self.requests.check(tenant, commit.request.as_ref())?;
        let current = self.keys.get((tenant, commit.row.id.as_str()))?;
        let current = current.map(|value| {
            let (order, body) = value.value();
            version_prefix::read(order, body).0
        });
        match commit.expected {
            Expected::New => expect_none(current.is_some()),
            Expected::Lost if current.is_some() => Err(CommitError::Conflict.into()),
            Expected::Lost => Ok(()),
            Expected::FirstOfTenant => expect_none(self.has_keys(tenant)?),
            Expected::Version(version) => expect_version(version, current),
        }
    }

    fn has_keys(&self, tenant: &str) -> Result<bool, Stop> {
        let mut from_first = self.keys.range((tenant, "")..)?;
        let first = from_first.next().transpose()?;
        Ok(first.is_some_and(|(at, _)| at.value().0 == tenant))
    }

    /// For each index entry of the commit: whether one is there that is newer and stays.
    fn check_index(&self, commit: &KeyCommit) -> Result<Vec<bool>, Stop> {
        let ours = (commit.tenant.as_str(), commit.row.id.as_str());
        commit
            .index
            .iter()
            .map(|entry| {
                let Some(current) = self.index.get(&entry.lookup_id.0)? else {
                    return Ok(false);
                };
                let (tenant, key, order, body) = current.value();
                let update = matches!(commit.expected, Expected::Version(_));
                expect_none(!update || (tenant, key) != ours)?;
                let (there, is_revoked, _) = version_prefix::read(order, body);
                match entry.succeeds(there, is_revoked) {
                    Succession::Written => Ok(false),
                    Succession::Later => Ok(true),
                    Succession::Revoked => Err(CommitError::Revoked.into()),
                }
            })
            .collect()
    }

    /// The live keys of the owner and of all after the commit, if it changes them.
    fn counts_after(&self, commit: &KeyCommit) -> Result<Option<(u64, u64)>, Stop> {
        let owner = (commit.tenant.as_str(), &commit.owner_tag);
        let of_owner = self.live.get(owner)?.map_or(0, |count| count.value());
        let total = self.total()?;
        match commit.count {
            CountChange::None => Ok(None),
            CountChange::Add {
                per_owner,
                total: total_max,
            } => {
                expect_room(CountScope::Owner, per_owner, of_owner)?;
                expect_room(CountScope::Total, total_max.unwrap_or(u64::MAX), total)?;
                Ok(Some((of_owner + 1, total + 1)))
            }
            CountChange::Remove => Ok(Some((of_owner.saturating_sub(1), total.saturating_sub(1)))),
        }
    }

    fn set_counts(&mut self, commit: &KeyCommit, of_owner: u64, total: u64) -> Result<(), Stop> {
        let owner = (commit.tenant.as_str(), &commit.owner_tag);
        if of_owner == 0 {
            self.live.remove(owner)?;
        } else {
            self.live.insert(owner, of_owner)?;
        }
        self.totals.insert(t::TOTAL_LIVE, total)?;
        Ok(())
    }

    fn write_index(&mut self, commit: &KeyCommit, entry: &IndexRow) -> Result<(), Stop> {
        let (tenant, key) = (commit.tenant.as_str(), commit.row.id.as_str());
        let body = version_prefix::put(entry.version, entry.revoked, &entry.body);
        let value = (tenant, key, entry.version.order, body.as_slice());
        self.index.insert(&entry.lookup_id.0, value)?;
        self.index_of.insert((tenant, &entry.lookup_id.0), ())?;
        Ok(())
    }

    /// Removes an index entry of the key; answers whether there was one.
    fn drop_index(&mut self, commit: &KeyCommit, lookup_id: LookupId) -> Result<bool, Stop> {
        let (tenant, key) = (commit.tenant.as_str(), commit.row.id.as_str());
        let current = self.index.get(&lookup_id.0)?;
        let is_ours = current.is_some_and(|current| {
            let (its_tenant, its_key, ..) = current.value();
            (its_tenant, its_key) == (tenant, key)
        });
        if is_ours {
            self.index.remove(&lookup_id.0)?;
            self.index_of.remove((tenant, &lookup_id.0))?;
        }
        Ok(is_ours)
    }

    fn delete_tenant(
        &mut self,
        tenant: &TenantId,
        dek_id: u64,
        expected: Version,
    ) -> Result<Touched, Stop> {
        let current = self.tenant_version(tenant)?;
        let same = current.filter(|(_, current)| *current == dek_id);
        expect_version(expected, same.map(|(version, _)| version))?;

        let id = tenant.as_str();
        self.tenants.remove(id)?;
        // Each range ends at the first name that is no longer the tenant's: the id with a zero byte after it.
        let end = format!("{id}\0");
        let end = end.as_str();
        self.keys.retain_in((id, "")..(end, ""), |_, _| false)?;
        self.audit.retain_in((id, 0)..(end, 0), |_, _| false)?;
        let index = self.delete_index(id, end)?;
        self.delete_counts(id, end)?;
        self.delete_owners(id)?;
        self.requests.delete(id, end)?;
        self.quotas.retain_in((id, "")..(end, ""), |_, _| false)?;
        Ok(Touched {
            index,
            tenant: Some(tenant.clone()),
        })
    }

    fn delete_index(&mut self, tenant: &str, end: &str) -> Result<Vec<LookupId>, Stop> {
        let mut gone = Vec::new();
        self.index_of
            .retain_in((tenant, &[0; 16])..(end, &[0; 16]), |(_, lookup_id), ()| {
                gone.push(LookupId(*lookup_id));
                false
            })?;
        for lookup_id in &gone {
            self.index.remove(&lookup_id.0)?;
        }
        Ok(gone)
    }

    fn delete_counts(&mut self, tenant: &str, end: &str) -> Result<(), Stop> {
        let mut freed: u64 = 0;
        self.live
            .retain_in((tenant, &[0; 16])..(end, &[0; 16]), |_, count| {
                freed = freed.saturating_add(count);
                false
            })?;
        let total = self.total()?.saturating_sub(freed);
        self.totals.insert(t::TOTAL_LIVE, total)?;
        Ok(())
    }

    fn continue_audit(
        &mut self,
        tenant: &TenantId,
        dek_id: u64,
        after: u64,
        entries: &[Vec<u8>],
    ) -> Result<Touched, Stop> {
        self.expect_data_key(tenant, dek_id)?;
        expect_version(after, Some(self.last_audit(tenant)?))?;
        for (number, entry) in (after + 1..).zip(entries) {
            self.audit
                .insert((tenant.as_str(), number), entry.as_slice())?;
        }
        self.follow_audit(tenant, after, after + entries.len() as u64)?;
        Ok(Touched::default())
    }

    fn append_audit(&mut self, tenant: &TenantId, entry: &[u8]) -> Result<(), Stop> {
        let number = self.last_audit(tenant)? + 1;
        self.audit.insert((tenant.as_str(), number), entry)?;
        self.follow_audit(tenant, number - 1, number)?;
        Ok(())
    }

    /// The number of the last audit entry; 0 when there is none.
    fn last_audit(&self, tenant: &TenantId) -> Result<u64, Stop> {
        let id = tenant.as_str();
        let last = self.audit.range((id, 0)..=(id, u64::MAX))?.next_back();
        Ok(last.transpose()?.map_or(0, |(at, _)| at.value().1))
    }

    fn expect_data_key(&self, tenant: &TenantId, wanted: u64) -> Result<(), Stop> {
        match self.tenant_version(tenant)? {
            Some((_, dek_id)) if dek_id == wanted => Ok(()),
            Some(_) | None => Err(CommitError::NotFound.into()),
        }
    }

    fn tenant_version(&self, tenant: &TenantId) -> Result<Option<(Version, u64)>, Stop> {
        let value = self.tenants.get(tenant.as_str())?;
        Ok(value.map(|value| {
            let (order, dek_id, _, _, body) = value.value();
            (version_prefix::read(order, body).0, dek_id)
        }))
    }

    fn total(&self) -> Result<u64, Stop> {
        let total = self.totals.get(t::TOTAL_LIVE)?;
        Ok(total.map_or(0, |count| count.value()))
    }
}

fn expect_none(found: bool) -> Result<(), Stop> {
    if found {
        return Err(CommitError::Exists.into());
    }
    Ok(())
}

fn expect_version<V: Copy + PartialEq>(expected: V, current: Option<V>) -> Result<(), Stop> {
    match current {
        None => Err(CommitError::NotFound.into()),
        Some(current) if current != expected => Err(CommitError::Conflict.into()),
        Some(_) => Ok(()),
    }
}

fn expect_room(scope: CountScope, limit: u64, current: u64) -> Result<(), Stop> {
    if current >= limit {
        return Err(CommitError::CountLimit {
            scope,
            limit,
            current,
        }
        .into());
    }
    Ok(())
}
