//! What a repair writes: each only if what was seen is still there.

use redb::ReadableTable as _;

use super::{Tables, expect_version};
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::redb::operation::{Fix, Stop, Touched};
use crate::store::redb::tables as t;
use crate::store::redb::version_prefix;
use crate::store::{CommitError, KeyRow, TenantRow};

pub(super) fn expect(is_as_seen: bool) -> Result<(), Stop> {
    match is_as_seen {
        true => Ok(()),
        false => Err(CommitError::Conflict.into()),
    }
}

impl Tables<'_> {
    pub(super) fn fix(&mut self, fix: &Fix) -> Result<Touched, Stop> {
        match fix {
            Fix::Tenant { row, seen } => self.put_tenant(row, seen),
            Fix::Key { tenant, row, seen } => self.put_key(tenant, row, seen),
            Fix::DropEntry { lookup_id, seen } => self.drop_entry(*lookup_id, seen),
            Fix::ForbidEntry(lookup_id) => self.forbid_entry(*lookup_id),
            Fix::Counts {
                tenant,
                dek_id,
                owners,
                number,
            } => self.put_counts(tenant, *dek_id, owners, *number),
            Fix::Lookups { tenant, lookups } => {
                for id in lookups {
                    self.index_of.insert((tenant.as_str(), &id.0), ())?;
                }
                Ok(Touched::default())
            }
            Fix::Sum(total) => {
                self.totals.insert(t::TOTAL_LIVE, total)?;
                Ok(Touched::default())
            }
            Fix::Owners {
                tenant,
                dek_id,
                put,
                remove,
            } => self.change_owners(tenant, *dek_id, put, remove),
            Fix::OwnersWhole { tenant, dek_id } => self.mark_owners_whole(tenant, *dek_id),
        }
    }

    fn put_tenant(&mut self, row: &TenantRow, seen: &[u8]) -> Result<Touched, Stop> {
        let id = row.id.as_str();
        let is_as_seen = self
            .tenants
            .get(id)?
            .is_some_and(|value| t::seen(&value.value()) == seen);
        expect(is_as_seen)?;
        let body = version_prefix::put(row.version, false, &row.body);
        let value = (
            row.version.order,
            row.dek_id,
            row.data_dek.as_slice(),
            row.vault_dek.as_slice(),
            body.as_slice(),
        );
        self.tenants.insert(id, value)?;
        Ok(Touched {
            index: Vec::new(),
            tenant: Some(row.id.clone()),
        })
    }

    fn put_key(&mut self, tenant: &TenantId, row: &KeyRow, seen: &[u8]) -> Result<Touched, Stop> {
        let at = (tenant.as_str(), row.id.as_str());
        let is_as_seen = self
            .keys
            .get(at)?
            .is_some_and(|value| t::seen(&value.value()) == seen);
        expect(is_as_seen)?;
        let body = version_prefix::put(row.version, false, &row.body);
        self.keys.insert(at, (row.version.order, body.as_slice()))?;
        Ok(Touched::default())
    }

    fn drop_entry(&mut self, lookup_id: LookupId, seen: &[u8]) -> Result<Touched, Stop> {
        let is_as_seen = self
            .index
            .get(&lookup_id.0)?
            .is_some_and(|value| t::seen(&value.value()) == seen);
        expect(is_as_seen)?;
        self.index.remove(&lookup_id.0)?;
        Ok(touched(lookup_id))
    }

    /// The place is kept, with nothing in it.
    fn forbid_entry(&mut self, lookup_id: LookupId) -> Result<Touched, Stop> {
        let Some(there) = self.index.get(&lookup_id.0)?.map(|value| {
            let (tenant, key, order, _) = value.value();
            (tenant.to_owned(), key.to_owned(), order)
        }) else {
            return Err(CommitError::NotFound.into());
        };
        let (tenant, key, order) = there;
        let nothing = version_prefix::put(order.into(), true, &[]);
        let value = (tenant.as_str(), key.as_str(), order, nothing.as_slice());
        self.index.insert(&lookup_id.0, value)?;
        Ok(touched(lookup_id))
    }

    fn put_counts(
        &mut self,
        tenant: &TenantId,
        dek_id: u64,
        owners: &[([u8; 16], u64)],
        number: u64,
    ) -> Result<Touched, Stop> {
        self.expect_data_key(tenant, dek_id)?;
        expect_version(number, Some(self.last_audit(tenant)?))?;
        let id = tenant.as_str();
        self.delete_counts(id, &format!("{id}\0"))?;
        let mut total = self.total()?;
        for (tag, count) in owners {
            self.live.insert((id, tag), count)?;
            total += count;
        }
        self.totals.insert(t::TOTAL_LIVE, total)?;
        Ok(Touched::default())
    }
}

fn touched(lookup_id: LookupId) -> Touched {
    Touched {
        index: vec![lookup_id],
        tenant: None,
    }
}
