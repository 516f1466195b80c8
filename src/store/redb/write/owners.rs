//! The owner index is written with each key; until which change that was done is written beside it.

use redb::{ReadableTable as _, StorageError};

use super::Tables;
use super::repair::expect;
use crate::domain::name::TenantId;
use crate::store::KeyCommit;
use crate::store::owners::OwnerEntry;
use crate::store::redb::operation::{Stop, Touched};

impl Tables<'_> {
    pub(super) fn write_owner(&mut self, commit: &KeyCommit) -> Result<(), StorageError> {
        let at = (
            commit.tenant.as_str(),
            &commit.owner_tag,
            commit.row.id.as_str(),
        );
        self.by_owner.insert(at, ()).map(drop)
    }

    /// A tenant that is new has no keys: all of them are in the index.
    pub(super) fn begin_owners(&mut self, tenant: &TenantId, dek_id: u64) -> Result<(), Stop> {
        if !self.has_keys(tenant.as_str())? {
            // What an earlier version left of one of that name.
            self.delete_owners(tenant.as_str())?;
            let number = self.last_audit(tenant)?;
            self.by_owner_whole
                .insert(tenant.as_str(), (dek_id, number))?;
        }
        Ok(())
    }

    /// What was whole before an audit entry is whole after it.
    pub(super) fn follow_audit(
        &mut self,
        tenant: &TenantId,
        before: u64,
        after: u64,
    ) -> Result<(), StorageError> {
        let marked = self.by_owner_whole.get(tenant.as_str())?;
        let marked = marked.map(|marked| marked.value());
        if let Some((dek_id, _)) = marked.filter(|(_, number)| *number == before) {
            self.by_owner_whole
                .insert(tenant.as_str(), (dek_id, after))?;
        }
        Ok(())
    }

    pub(super) fn delete_owners(&mut self, tenant: &str) -> Result<(), StorageError> {
        let end = format!("{tenant}\0");
        let (first, end) = ((tenant, &[0; 16], ""), (end.as_str(), &[0; 16], ""));
        self.by_owner.retain_in(first..end, |_, ()| false)?;
        self.by_owner_whole.remove(tenant).map(drop)
    }

    /// Puts and removes entries; the index is not whole until somebody says so again.
    pub(super) fn change_owners(
        &mut self,
        tenant: &TenantId,
        dek_id: u64,
        put: &[OwnerEntry],
        remove: &[OwnerEntry],
    ) -> Result<Touched, Stop> {
        self.expect_data_key(tenant, dek_id)?;
        let tenant = tenant.as_str();
        self.by_owner_whole.remove(tenant)?;
        for entry in put {
            let at = (tenant, &entry.owner_tag, entry.key.as_str());
            self.by_owner.insert(at, ())?;
        }
        for entry in remove {
            let at = (tenant, &entry.owner_tag, entry.key.as_str());
            self.by_owner.remove(at)?;
        }
        Ok(Touched::default())
    }

    /// Whoever asks has put every key there that it knows, and removed what is no key's. Nobody else has made one since
    /// if there are as many entries as keys.
    pub(super) fn mark_owners_whole(
        &mut self,
        tenant: &TenantId,
        dek_id: u64,
    ) -> Result<Touched, Stop> {
        self.expect_data_key(tenant, dek_id)?;
        let id = tenant.as_str();
        let end = format!("{id}\0");
        let keys = self.keys.range((id, "")..(end.as_str(), ""))?.count();
        let of_tenant = (id, &[0; 16], "")..(end.as_str(), &[0; 16], "");
        let entries = self.by_owner.range(of_tenant)?.count();
        expect(keys == entries)?;
        let number = self.last_audit(tenant)?;
        self.by_owner_whole.insert(id, (dek_id, number))?;
        Ok(Touched::default())
    }
}
