//! A tenant's audit: read in either order, and continued by who copies it from another store.

use redis::{Value, cmd};

use super::answer::{Answer, read};
use super::change::damaged;
use super::read::number;
use super::{RedisStore, scripts};
use crate::domain::name::TenantId;
use crate::store::{CommitError, StoreError};

type Entries = Vec<(u64, Vec<u8>)>;

impl RedisStore {
    pub(super) async fn newest_audit(
        &self,
        tenant: &TenantId,
        limit: usize,
    ) -> Result<Entries, StoreError> {
        let mut newest = cmd("XREVRANGE");
        let audit = self.names.of_tenant(tenant).audit();
        newest.arg(&audit);
        newest.arg("+").arg("-").arg("COUNT").arg(limit);
        parse(self.link.read(&audit, &newest).await?)
    }

    pub(super) async fn audit_page(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Entries, StoreError> {
        let mut page = cmd("XRANGE");
        let audit = self.names.of_tenant(tenant).audit();
        page.arg(&audit);
        page.arg(format!("({after}-0"));
        page.arg("+").arg("COUNT").arg(limit);
        parse(self.link.read(&audit, &page).await?)
    }

    /// One script on the tenant's slot: no other slot follows from the audit, so nothing has to be begun.
    pub(super) async fn continue_audit(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        after: u64,
        entries: &[Vec<u8>],
    ) -> Result<(), CommitError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.tenant.clone(), names.owners(), names.audit()];
        let (dek_id, after) = (dek_id.to_string(), after.to_string());
        let args: Vec<&[u8]> = [dek_id.as_bytes(), after.as_bytes()]
            .into_iter()
            .chain(entries.iter().map(Vec::as_slice))
            .collect();
        let answer: Vec<Value> = self.link.run(&scripts::APPEND_AUDIT, &keys, &args).await?;
        match read(&answer, || None)? {
            Answer::Done(..) => Ok(()),
            Answer::Refused(refused) => Err(refused),
            Answer::Revoking(_) => Err(damaged("a script's answer").into()),
        }
    }
}

fn parse(entries: Vec<(String, Vec<Vec<u8>>)>) -> Result<Entries, StoreError> {
    entries
        .into_iter()
        .map(|(id, fields)| {
            let at = id.split('-').next().unwrap_or_default();
            let entry = fields.into_iter().nth(1);
            let entry = entry.ok_or_else(|| damaged("an audit entry"))?;
            Ok((number(at.as_bytes(), "an audit entry's number")?, entry))
        })
        .collect()
}
