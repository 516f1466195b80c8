//! The index: entries that no key knows.

use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{Check, CheckError, Entry, Finding, Outcome};
use crate::crypto::envelope::DataKey;
use crate::domain::access::KeyAccess;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::repair::{Found, Seen};
use crate::store::{IndexRow, StoreError, records};

/// How many entries are looked at side by side.
const AT_ONCE: usize = 100;

/// Whose an entry is.
enum Whose {
    Access(Box<KeyAccess>),
    /// Of a tenant whose record is gone while its keys are there.
    Waits,
    Nobodys(&'static str),
}

impl Check {
    pub(super) async fn check_entries(&self) -> Result<(), CheckError> {
        let mut cursor = None;
        loop {
            let (ids, next) = self.store.repair().scan_index(cursor).await?;
            for ids in ids.chunks(AT_ONCE) {
                let begun = Instant::now();
                let entries = ids.iter().map(|id| self.store.repair().find_entry(*id));
                let entries = try_join_all(entries).await?;
                for (id, entry) in ids.iter().zip(entries) {
                    if let Some(entry) = entry {
                        self.check_entry(*id, entry).await?;
                    }
                }
                self.rest_since(begun).await;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    pub(super) async fn check_entry(
        &self,
        id: LookupId,
        entry: Found<IndexRow>,
    ) -> Result<(), CheckError> {
        self.report.lock().index_entries += 1;
        if self.reported.lock().contains(&id) {
            return Ok(());
        }
        let whose = match &entry.row {
            Some(row) => self.whose(row).await?,
            None => Whose::Nobodys("an index entry that cannot be read"),
        };
        match whose {
            Whose::Waits => Ok(()),
            Whose::Access(access) => self.check_owner(id, &access).await,
            Whose::Nobodys(problem) => self.remove(id, entry.seen, problem).await,
        }
    }

    async fn remove(&self, id: LookupId, seen: Seen, problem: &str) -> Result<(), CheckError> {
        let finding = Finding {
            entry: Entry::Index,
            tenant: None,
            key: None,
            lookup_id: Some(id),
            problem: format!("{problem}: nobody passes by it, and a repair removes it"),
            outcome: Outcome::Repairable,
        };
        let drop = async { Ok(self.store.repair().drop_entry(id, seen).await?) };
        self.put_right(finding, drop).await
    }

    async fn whose(&self, row: &IndexRow) -> Result<Whose, StoreError> {
        let Ok(tenant) = records::claimed_tenant(row) else {
            return Ok(Whose::Nobodys("an index entry that is no record"));
        };
        let Some(data_key) = self.data_key(&tenant).await? else {
            let is_there = self.store.repair().find_tenant(&tenant).await?.is_some();
            return Ok(
                match is_there || self.store.repair().has_keys(&tenant).await? {
                    true => Whose::Waits,
                    false => Whose::Nobodys("an index entry of a tenant that is not there"),
                },
            );
        };
        if !records::is_sealed_under(&data_key, row) {
            return Ok(Whose::Nobodys(
                "an index entry of a tenant that was deleted and made again",
            ));
        }
        Ok(match records::open_access(&data_key, &tenant, row) {
            Ok(access) => Whose::Access(Box::new(access)),
            Err(_) => Whose::Nobodys("an index entry whose seal is broken or of another place"),
        })
    }

    async fn data_key(&self, tenant: &TenantId) -> Result<Option<Arc<DataKey>>, StoreError> {
        if let Some(known) = self.open.lock().get(tenant) {
            return Ok(known.clone());
        }
        // Made while the check runs.
        let found = self.store.repair().find_tenant(tenant).await?;
        let row = found.and_then(|found| found.row);
        let opened = row.and_then(|row| records::open_tenant(&self.keyring, &row).ok());
        let data_key = opened.map(|(_, data_key)| Arc::new(data_key));
        self.open.lock().insert(tenant.clone(), data_key.clone());
        Ok(data_key)
    }

    /// An entry that opens: whether its key has a record, and knows it.
    async fn check_owner(&self, id: LookupId, access: &KeyAccess) -> Result<(), CheckError> {
        if access.revoked || access.forgotten {
            return Ok(());
        }
        let (tenant, key) = (&access.tenant, &access.key);
        let found = match self.registry.key(tenant, key).await {
            Ok(found) => found,
            Err(error) if error.is_of_a_lost_key() => {
                return self
                    .revoke_lost(tenant, key, "its record is gone or cannot be read")
                    .await;
            }
            Err(error) => return Err(error.into()),
        };
        let knows = found.generations.iter().any(|one| one.lookup_id == id);
        if !knows && !self.may_be_under_way(found.updated_at, 0).await {
            let problem =
                "a token of it works that its record does not know: rotate the key, or revoke it";
            let finding = Finding::of(Entry::Index, tenant, problem).key(key).at(id);
            self.report(finding.by_hand());
        }
        Ok(())
    }
}
