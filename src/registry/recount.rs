//! Counts of live keys that were lost or altered are made anew from the keys themselves.

use std::collections::BTreeMap;

use crate::domain::key::Key;
use crate::domain::name::{KeyId, TenantId};
use crate::registry::{Opened, Registry, RegistryError};
use crate::store::repair::Counted;
use crate::store::{CommitError, KeyCommit, StoreError, records};

/// How many keys are read at a time.
const PAGE: usize = 500;
/// How often the count is begun again because something was changed meanwhile.
const ATTEMPTS_MAX: usize = 8;

/// Live keys by owner tag.
type Live = BTreeMap<[u8; 16], u64>;

impl Registry {
    /// Makes the commit. Where nobody knows how many live keys the tenant has, they are counted first.
    pub(super) async fn commit_counted(
        &self,
        opened: &Opened,
        commit: KeyCommit,
    ) -> Result<(), CommitError> {
        match self.store.commit_key(commit.clone()).await {
            Err(CommitError::Uncounted) => {
                self.recount(opened).await?;
                self.store.commit_key(commit).await
            }
            done => done,
        }
    }

    async fn recount(&self, opened: &Opened) -> Result<(), StoreError> {
        let tenant = &opened.tenant.id;
        for _ in 0..ATTEMPTS_MAX {
            let Some((counted, live)) = self.count(opened).await? else {
                return Ok(());
            };
            let owners: Vec<_> = live.into_iter().collect();
            let (dek_id, number) = (opened.data_key.id(), counted.number);
            let repair = self.store.repair();
            if repair.put_counts(tenant, dek_id, &owners, number).await? {
                tracing::warn!(%tenant, "the counts of live keys were lost and are made anew");
                return Ok(());
            }
        }
        let busy = "the keys of the tenant change too fast to be counted; try again";
        Err(StoreError::Unavailable(busy.into()))
    }

    /// What is counted of a tenant, and what there is. None: it is gone.
    async fn count(&self, opened: &Opened) -> Result<Option<(Counted, Live)>, StoreError> {
        let tenant = &opened.tenant.id;
        let Some(counted) = self.store.repair().counted(tenant).await? else {
            return Ok(None);
        };
        let mut live = Live::new();
        let mut after: Option<KeyId> = None;
        loop {
            let page = self.store.keys(tenant, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            let keys = page
                .iter()
                .map(|row| records::open_key(&opened.data_key, tenant, row));
            for key in keys.flatten().filter(Key::is_live) {
                *live
                    .entry(records::owner_tag(&self.lookup, &key))
                    .or_default() += 1;
            }
        }
        Ok(Some((counted, live)))
    }

    /// The counts of a tenant that are not as its keys are. None: they are.
    pub async fn miscounted(&self, tenant: &TenantId) -> Result<Option<String>, RegistryError> {
        let opened = self.open(tenant).await?;
        for _ in 0..ATTEMPTS_MAX {
            let Some((counted, live)) = self.count(&opened).await? else {
                return Ok(None);
            };
            let wrong = wrong(&counted, live);
            // What was changed meanwhile may be what differs.
            let again = self.store.repair().counted(tenant).await?;
            if wrong.is_none() || again.is_some_and(|now| now.number == counted.number) {
                return Ok(wrong);
            }
        }
        Ok(None)
    }

    /// Counts the live keys of a tenant anew.
    pub async fn count_anew(&self, tenant: &TenantId) -> Result<(), RegistryError> {
        let opened = self.open(tenant).await?;
        Ok(self.recount(&opened).await?)
    }
}

fn wrong(counted: &Counted, live: Live) -> Option<String> {
    let all: u64 = live.values().sum();
    let owners: Vec<_> = live.into_iter().collect();
    // A tenant that has never had a key has no count.
    if counted.all.unwrap_or(0) != all {
        let there = counted
            .all
            .map_or_else(|| "no".to_owned(), |all| all.to_string());
        return Some(format!(
            "{there} live keys are counted, and {all} are there"
        ));
    }
    if counted.owners != owners {
        return Some("the live keys of an owner are not as many as are counted".to_owned());
    }
    if counted.published.unwrap_or(0) != all {
        return Some("the sum of all tenants has another number of its live keys".to_owned());
    }
    None
}
