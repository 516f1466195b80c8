//! Counts what a store has, from its records and from its own counters.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Findings, PAGE, TENANTS_AT_ONCE, tenants};
use crate::crypto::digest::LookupKey;
use crate::crypto::envelope::DataKey;
use crate::crypto::keyring::Keyring;
use crate::domain::key::Key;
use crate::domain::name::TenantId;
use crate::store::records::{self, RecordError};
use crate::store::{KeyRow, Store, StoreError, TenantRow};

/// How many of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Tenants.
    pub tenants: u64,
    /// Keys, revoked ones among them.
    pub keys: u64,
    /// Keys that are not revoked, as the store has counted them.
    pub live_keys: u64,
    /// Index entries of the generations of all keys.
    pub index_entries: u64,
    /// Audit entries.
    pub audit_entries: u64,
}

/// Of one tenant; and what is wrong with it.
#[derive(Default)]
struct Counted {
    keys: u64,
    index_entries: u64,
    audit_entries: u64,
    live_of_owner: BTreeMap<[u8; 16], u64>,
    wrong: Option<String>,
}

/// `side` is what the store is called.
pub(super) async fn count(
    side: &str,
    store: &dyn Store,
    keyring: &Keyring,
    lookup: &LookupKey,
) -> Result<(Census, Findings), StoreError> {
    let mut all = Census::default();
    let mut findings = Findings::new();
    let mut counted = tenants(store)
        .map_ok(
            |row| async move { Ok((count_tenant(store, keyring, lookup, &row).await?, row.id)) },
        )
        .try_buffer_unordered(TENANTS_AT_ONCE)
        .boxed_local();
    let mut any = None;
    while let Some((tenant, id)) = counted.try_next().await? {
        all.tenants += 1;
        all.keys += tenant.keys;
        all.index_entries += tenant.index_entries;
        all.audit_entries += tenant.audit_entries;
        any = Some(id.clone());
        if let Some(wrong) = tenant.wrong {
            findings.insert(id, format!("at the {side} {wrong}"));
        }
    }
    if let Some(any) = any {
        all.live_keys = store.live_keys(&any, [0; 16]).await?.1;
    }
    Ok((all, findings))
}

async fn count_tenant(
    store: &dyn Store,
    keyring: &Keyring,
    lookup: &LookupKey,
    row: &TenantRow,
) -> Result<Counted, StoreError> {
    let mut counted = Counted::default();
    let newest = store.audit(&row.id, 1).await?;
    counted.audit_entries = newest.first().map_or(0, |(number, _)| *number);
    let data_key = match records::open_tenant(keyring, row) {
        Ok((_, data_key)) => Some(data_key),
        Err(error) => {
            counted.cannot_use(&error);
            None
        }
    };
    let mut after = None;
    loop {
        let page = store.keys(&row.id, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        counted.keys += page.len() as u64;
        if let Some(data_key) = &data_key {
            let keys = counted.open(data_key, &row.id, &page);
            counted.count_keys(store, lookup, &keys).await?;
        }
    }
    counted.check_owners(store, &row.id).await?;
    Ok(counted)
}

impl Counted {
    fn cannot_use(&mut self, error: &RecordError) {
        let wrong = || format!("a record cannot be used: {error}");
        self.wrong.get_or_insert_with(wrong);
    }

    fn open(&mut self, data_key: &DataKey, tenant: &TenantId, page: &[KeyRow]) -> Vec<Key> {
        let mut keys = Vec::with_capacity(page.len());
        for row in page {
            match records::open_key(data_key, tenant, row) {
                Ok(key) => keys.push(key),
                Err(error) => self.cannot_use(&error),
            }
        }
        keys
    }

    async fn count_keys(
        &mut self,
        store: &dyn Store,
        lookup: &LookupKey,
        keys: &[Key],
    ) -> Result<(), StoreError> {
        for key in keys.iter().filter(|key| key.is_live()) {
            let tag = records::owner_tag(lookup, key);
            *self.live_of_owner.entry(tag).or_default() += 1;
        }
        let generations = keys.iter().flat_map(|key| &key.generations);
        let entries = generations.map(|generation| store.index(generation.lookup_id));
        let entries = try_join_all(entries).await?;
        self.index_entries += entries.iter().flatten().count() as u64;
        Ok(())
    }

    /// Whether the store has counted as many live keys of each owner as there are.
    async fn check_owners(
        &mut self,
        store: &dyn Store,
        tenant: &TenantId,
    ) -> Result<(), StoreError> {
        for (tag, found) in &self.live_of_owner {
            let (counted, _) = store.live_keys(tenant, *tag).await?;
            if counted != *found {
                let wrong =
                    format!("an owner has {found} live keys, and the store has counted {counted}");
                self.wrong.get_or_insert(wrong);
            }
        }
        Ok(())
    }
}
